//! Temporary folders and free ports.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

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

/// A port of loopback that nobody listened on a moment ago. Prefer port 0 where the program reports its address.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("the port's address").port()
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
        assert!(TcpListener::bind((Ipv4Addr::LOCALHOST, free_port())).is_ok());
    }
}
