//! The accelerators that a machine has, where the configuration does not say.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::domain::accelerators::{DEVICES, Pool};

const NVIDIA: &str = "nvidia.com/gpu";
/// How long the driver's program may take; a start of the runner does not wait longer.
const LIMIT: Duration = Duration::from_secs(5);

/// Finds NVIDIA devices: by their files below `dev`, else by the driver's own program. Programs count the devices that they
/// can open from 0, whatever the numbers of the files are: a container that was given the third device has `nvidia2`
/// and counts it as 0. Where the runner itself was told which devices to use, it gives no others to its programs.
pub(crate) async fn detect(dev: &Path, environment: &[(String, String)]) -> Vec<Pool> {
    let value = |wanted: &str| {
        let found = environment.iter().find(|(name, _)| name == wanted);
        found.map(|(_, value)| value.as_str())
    };
    // What the runtime of containers was told by number is in numbers of the machine outside; names are the same everywhere.
    let named: Vec<&str> = value("NVIDIA_VISIBLE_DEVICES")
        .filter(|own| own.split(',').all(|id| id.trim().starts_with("GPU-")))
        .map(|own| own.split(',').map(str::trim).collect())
        .unwrap_or_default();
    let mut ids = count(files(dev));
    if (ids.is_empty() || !named.is_empty())
        && let Some(program) = find("nvidia-smi", value("PATH").unwrap_or_default())
    {
        let asked = tokio::task::spawn_blocking(move || ask(&program));
        match tokio::time::timeout(LIMIT, asked).await {
            Ok(Ok(found)) if !found.is_empty() => ids = visible(&found, &named),
            Ok(_) => {}
            Err(_) => tracing::warn!("nvidia-smi does not answer"),
        }
    }
    if let Some(own) = value("CUDA_VISIBLE_DEVICES") {
        ids = chosen(own, &ids);
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

/// How many files `nvidia0`, `nvidia1`, … there are, without `nvidiactl` and the like.
fn files(dev: &Path) -> usize {
    let Ok(entries) = fs::read_dir(dev) else {
        return 0;
    };
    let number = |name: &str| name.strip_prefix("nvidia")?.parse::<u32>().ok();
    let numbers = entries
        .flatten()
        .filter_map(|entry| number(entry.file_name().to_str()?));
    numbers.count()
}

fn count(there: usize) -> Vec<String> {
    (0..there).map(|number| number.to_string()).collect()
}

/// What of the driver's devices is meant, by the start of their names; all when none is named.
fn visible(found: &[(String, String)], named: &[&str]) -> Vec<String> {
    let wanted = |uuid: &str| named.is_empty() || named.iter().any(|name| uuid.starts_with(name));
    let kept = found.iter().filter(|(_, uuid)| wanted(uuid));
    kept.map(|(index, _)| index.clone()).collect()
}

/// What `CUDA_VISIBLE_DEVICES` leaves of the devices that are there, as CUDA reads it: numbers, names of devices and of their
/// parts, up to the first that is none of these.
fn chosen(own: &str, there: &[String]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    if there.is_empty() {
        return found;
    }
    for word in own.split(',').map(str::trim) {
        let named = ["GPU-", "MIG-"].iter().any(|start| word.starts_with(start));
        let id = match word.parse::<u32>() {
            Ok(number) => Some(number.to_string()).filter(|number| there.contains(number)),
            Err(_) => Some(word.to_owned())
                .filter(|_| named && word.bytes().all(|byte| byte.is_ascii_graphic())),
        };
        match id {
            Some(id) if !found.contains(&id) => found.push(id),
            _ => break,
        }
    }
    found
}

fn find(name: &str, path: &str) -> Option<PathBuf> {
    let dirs = path.split(':').filter(|dir| dir.starts_with('/'));
    dirs.map(|dir| Path::new(dir).join(name))
        .find(|path| path.is_file())
}

/// The numbers and names of the driver's devices.
fn ask(program: &Path) -> Vec<(String, String)> {
    let output = Command::new(program)
        .args(["--query-gpu=index,uuid", "--format=csv,noheader"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    let Ok(output) = output else {
        return Vec::new();
    };
    if !output.status.success() {
        return Vec::new();
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let device = |line: &str| {
        let (index, uuid) = line.split_once(',')?;
        let index: u32 = index.trim().parse().ok()?;
        Some((index.to_string(), uuid.trim().to_owned()))
    };
    text.lines().filter_map(device).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn ids(pools: &[Pool]) -> Vec<&str> {
        let ids = pools.iter().flat_map(|pool| &pool.ids);
        ids.map(String::as_str).collect()
    }

    fn own(name: &str, value: &str) -> [(String, String); 1] {
        [(name.to_owned(), value.to_owned())]
    }

    #[tokio::test]
    async fn devices_are_counted_by_their_files_as_programs_count_them() {
        let dev = testkit::temp_dir();
        assert!(detect(dev.path(), &[]).await.is_empty());
        for name in ["nvidia10", "nvidia2", "nvidiactl", "nvidia-uvm", "null"] {
            fs::write(dev.path().join(name), "").unwrap();
        }
        let found = detect(dev.path(), &[]).await;
        assert_eq!(
            (found[0].kind.as_str(), ids(&found)),
            (NVIDIA, vec!["0", "1"])
        );
        // The runtime of containers was told of the numbers outside.
        let outside = own("NVIDIA_VISIBLE_DEVICES", "2,10");
        assert_eq!(ids(&detect(dev.path(), &outside).await), ["0", "1"]);
        let second = own("CUDA_VISIBLE_DEVICES", "1");
        assert_eq!(ids(&detect(dev.path(), &second).await), ["1"]);
        let none = own("CUDA_VISIBLE_DEVICES", "-1");
        assert!(detect(dev.path(), &none).await.is_empty());
    }

    #[test]
    fn what_the_runner_may_use_is_read_as_cuda_does() {
        let there = count(4);
        let table: [(&str, &[&str]); 13] = [
            ("", &[]),
            ("-1", &[]),
            ("none", &[]),
            ("NoDevFiles", &[]),
            ("2", &["2"]),
            ("3, 1", &["3", "1"]),
            ("0,-1,1", &["0"]),
            ("1,4,2", &["1"]),
            ("02,2", &["2"]),
            ("0,,1", &["0"]),
            ("GPU-8932f937,GPU-11", &["GPU-8932f937", "GPU-11"]),
            ("MIG-GPU-8932f937/1/0", &["MIG-GPU-8932f937/1/0"]),
            ("MIG-5c1e,nonsense,GPU-1", &["MIG-5c1e"]),
        ];
        for (own, expected) in table {
            assert_eq!(chosen(own, &there), expected, "{own:?}");
        }
        assert!(chosen("0", &[]).is_empty());
    }

    #[tokio::test]
    async fn the_drivers_program_is_asked_where_there_are_no_files_or_names_are_wanted() {
        let dir = testkit::temp_dir();
        let program = dir.path().join("nvidia-smi");
        fs::write(
            &program,
            "#!/bin/sh\nprintf '0, GPU-aa11\\n1, GPU-bb22\\n'\n",
        )
        .unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let path = ("PATH".to_owned(), dir.path().display().to_string());
        let none = testkit::temp_dir();
        let mut environment = vec![path];
        assert_eq!(ids(&detect(none.path(), &environment).await), ["0", "1"]);
        // A privileged container sees every device, but is meant to use one.
        for number in 0..2 {
            fs::write(none.path().join(format!("nvidia{number}")), "").unwrap();
        }
        environment.extend(own("NVIDIA_VISIBLE_DEVICES", "GPU-bb22"));
        assert_eq!(ids(&detect(none.path(), &environment).await), ["1"]);
        let empty = testkit::temp_dir();
        fs::write(&program, "#!/bin/sh\nprintf 'no driver\\n'; exit 9\n").unwrap();
        assert!(detect(empty.path(), &environment).await.is_empty());
    }
}
