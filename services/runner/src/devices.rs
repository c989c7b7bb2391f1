//! The accelerators that a machine has, where the configuration does not say.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::domain::accelerators::{DEVICES, Pool};

const NVIDIA: &str = "nvidia.com/gpu";
/// How long the driver's program may take; a start of the runner does not wait longer.
const LIMIT: Duration = Duration::from_secs(5);

/// Finds NVIDIA devices: by their files below `dev`, else by the driver's own program. Where the runner itself was told
/// which devices to use, it gives no others to its programs.
pub(crate) async fn detect(dev: &Path, environment: &[(String, String)]) -> Vec<Pool> {
    let value = |wanted: &str| {
        let found = environment.iter().find(|(name, _)| name == wanted);
        found.map(|(_, value)| value.as_str())
    };
    let mut ids = files(dev);
    if ids.is_empty()
        && let Some(program) = find("nvidia-smi", value("PATH").unwrap_or_default())
    {
        let asked = tokio::task::spawn_blocking(move || ask(&program));
        match tokio::time::timeout(LIMIT, asked).await {
            Ok(found) => ids = found.unwrap_or_default(),
            Err(_) => tracing::warn!("nvidia-smi does not answer: no accelerators are known"),
        }
    }
    if let Some(own) = value("CUDA_VISIBLE_DEVICES").filter(|_| !ids.is_empty()) {
        ids = words(own.split(','));
    }
    ids.truncate(DEVICES);
    if ids.is_empty() {
        return Vec::new();
    }
    tracing::info!(count = ids.len(), "found accelerators");
    vec![Pool {
        kind: NVIDIA.to_owned(),
        ids,
    }]
}

/// `nvidia0`, `nvidia1`, … and not `nvidiactl`.
fn files(dev: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dev) else {
        return Vec::new();
    };
    let number = |name: &str| name.strip_prefix("nvidia")?.parse::<u32>().ok();
    let mut numbers: Vec<u32> = entries
        .flatten()
        .filter_map(|entry| number(entry.file_name().to_str()?))
        .collect();
    numbers.sort_unstable();
    numbers
        .into_iter()
        .map(|number| number.to_string())
        .collect()
}

fn find(name: &str, path: &str) -> Option<PathBuf> {
    let dirs = path.split(':').filter(|dir| dir.starts_with('/'));
    dirs.map(|dir| Path::new(dir).join(name))
        .find(|path| path.is_file())
}

fn ask(program: &Path) -> Vec<String> {
    let output = Command::new(program)
        .args(["--query-gpu=index", "--format=csv,noheader"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    match output {
        Ok(output) if output.status.success() => {
            words(String::from_utf8_lossy(&output.stdout).lines())
        }
        _ => Vec::new(),
    }
}

fn words<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for text in texts.map(str::trim) {
        let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
        if !text.is_empty() && plain && !found.iter().any(|known| known == text) {
            found.push(text.to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn ids(pools: &[Pool]) -> Vec<&str> {
        let ids = pools.iter().flat_map(|pool| &pool.ids);
        ids.map(String::as_str).collect()
    }

    #[tokio::test]
    async fn devices_are_found_by_their_files_and_cut_to_those_of_the_runner() {
        let dev = testkit::temp_dir();
        assert!(detect(dev.path(), &[]).await.is_empty());
        for name in ["nvidia10", "nvidia2", "nvidiactl", "nvidia-uvm", "null"] {
            fs::write(dev.path().join(name), "").unwrap();
        }
        let found = detect(dev.path(), &[]).await;
        assert_eq!(
            (found[0].kind.as_str(), ids(&found)),
            (NVIDIA, vec!["2", "10"])
        );
        let own = |value: &str| [("CUDA_VISIBLE_DEVICES".to_owned(), value.to_owned())];
        assert_eq!(ids(&detect(dev.path(), &own("10")).await), ["10"]);
        assert!(detect(dev.path(), &own("")).await.is_empty());
    }

    #[tokio::test]
    async fn the_drivers_program_is_asked_where_there_are_no_files() {
        let dir = testkit::temp_dir();
        let program = dir.path().join("nvidia-smi");
        fs::write(&program, "#!/bin/sh\nprintf '0\\n1\\n'\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let path = [("PATH".to_owned(), dir.path().display().to_string())];
        let none = testkit::temp_dir();
        assert_eq!(ids(&detect(none.path(), &path).await), ["0", "1"]);
        fs::write(&program, "#!/bin/sh\nprintf 'no driver\\n'; exit 9\n").unwrap();
        assert!(detect(none.path(), &path).await.is_empty());
    }
}
