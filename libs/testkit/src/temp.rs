//! Temporary folders and free ports.

use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};

/// Ports below those that Linux gives to outgoing connections unless told otherwise.
const FIXED: Range<u16> = 20_000..32_000;

/// A folder that is removed with the value, unless the environment says `FLUMINA_KEEP=1`.
#[derive(Debug)]
pub struct TempDir(tempfile::TempDir);

impl TempDir {
    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl AsRef<Path> for TempDir {
    fn as_ref(&self) -> &Path {
        self.path()
    }
}

/// A new, empty folder.
pub fn temp_dir() -> TempDir {
    let mut folder = tempfile::Builder::new()
        .prefix("flumina-test-")
        .tempdir()
        .expect("a temporary folder");
    if std::env::var_os("FLUMINA_KEEP").is_some() {
        folder.disable_cleanup(true);
        eprintln!("keeping {}", folder.path().display());
    }
    TempDir(folder)
}

/// A port of loopback for a program that listens there, also when it is started again. It is none of those that the
/// system gives to whoever asks for any, so that no connection takes it meanwhile, and no other caller in this process
/// gets it. Prefer port 0 where the program reports its address.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let span = FIXED.end - FIXED.start;
    // Processes that run at the same time begin elsewhere.
    let first = u16::try_from(std::process::id() % u32::from(span)).unwrap_or(0);
    for _ in 0..span {
        let offset = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIXED.start + (first + offset % span) % span;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no port between {} and {} is free", FIXED.start, FIXED.end);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_goes_with_its_value() {
        let folder = temp_dir();
        let path = folder.path().to_path_buf();
        std::fs::write(path.join("file"), "x").unwrap();
        drop(folder);
        assert!(!path.exists());
    }

    #[test]
    fn a_free_port_can_be_bound() {
        let (one, two) = (free_port(), free_port());
        assert_ne!(one, two);
        for port in [one, two] {
            assert!(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok());
        }
    }
}
