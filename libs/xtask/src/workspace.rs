//! Where things are: the checkout, the cache outside it, and the build folder in that cache.
//!
//! Build output is keyed by toolchain and lock file, so that checkouts share it and a change of either starts a
//! folder of its own; the three newest are kept. What one checkout built of our own crates is not taken for another's.
//! `CARGO_TARGET_DIR` overrides all of this.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};

use crate::{digest, files};

/// Build folders that are kept.
const KEPT_BUILDS: usize = 3;
/// Touched in a build folder whenever it is chosen.
const STAMP: &str = ".last-used";
/// Holds the checkout whose crates a build folder holds.
const CHECKOUT: &str = ".checkout";
/// What the names of our own crates begin with.
const OWN: &str = "flumina";

#[derive(Debug, Clone)]
pub(crate) struct Workspace {
    /// The checkout.
    pub(crate) root: PathBuf,
    /// Flumina's folder for what can be built again: `$XDG_CACHE_HOME/flumina` or `~/.cache/flumina`.
    pub(crate) cache: PathBuf,
    /// What every cargo that we start gets as `CARGO_TARGET_DIR`.
    pub(crate) target: PathBuf,
}

impl Workspace {
    pub(crate) fn open() -> Result<Self> {
        let root = root()?;
        let cache = xdg("XDG_CACHE_HOME", ".cache")?.join("flumina");
        let target = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(target) if !target.is_empty() => std::path::absolute(target)?,
            _ => build_folder(&root, &cache)?,
        };
        Ok(Self {
            root,
            cache,
            target,
        })
    }

    /// A cargo command in the checkout that builds into the cache.
    pub(crate) fn cargo(&self) -> Command {
        let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(program);
        command
            .current_dir(&self.root)
            .env("CARGO_TARGET_DIR", &self.target);
        // What `cargo run` tells us about xtask itself would make build scripts below believe that it changed.
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            let ours = [
                "CARGO_PKG_",
                "CARGO_MANIFEST_",
                "CARGO_BIN_",
                "CARGO_CRATE_",
            ];
            if ours.iter().any(|prefix| name.starts_with(prefix)) {
                command.env_remove(&*name);
            }
        }
        if in_ci() {
            command.env("CARGO_INCREMENTAL", "0");
        }
        command
    }

    /// A program as built by the profile's folder name, such as `debug`.
    pub(crate) fn binary(&self, profile: &str, name: &str) -> PathBuf {
        self.target.join(profile).join(name)
    }

    /// Where the logs of this checkout's last steps are.
    pub(crate) fn logs(&self) -> PathBuf {
        let key = digest::key([self.root.as_os_str().as_encoded_bytes()]);
        self.cache.join("logs").join(key)
    }
}

/// Whether nobody is watching: continuous integration.
pub(crate) fn in_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false")
}

/// A base folder of the XDG specification, which says that relative values are ignored.
pub(crate) fn xdg(variable: &str, under_home: &str) -> Result<PathBuf> {
    if let Some(value) = std::env::var_os(variable).map(PathBuf::from)
        && value.is_absolute()
    {
        return Ok(value);
    }
    let home = std::env::var_os("HOME").with_context(|| format!("set HOME or {variable}"))?;
    Ok(PathBuf::from(home).join(under_home))
}

fn root() -> Result<PathBuf> {
    let here = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    let root = here.ancestors().nth(2).map(Path::to_path_buf);
    root.with_context(|| format!("{} is not libs/xtask of a checkout", here.display()))
}

fn build_folder(root: &Path, cache: &Path) -> Result<PathBuf> {
    let lock = root.join("Cargo.lock");
    let lock = fs::read(&lock).with_context(|| lock.display().to_string())?;
    let builds = cache.join("build");
    let folder = builds.join(digest::key([toolchain(root)?, lock]));
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    fs::write(folder.join(STAMP), "")?;
    claim(&folder, root)?;
    prune(&builds, KEPT_BUILDS)?;
    Ok(folder)
}

/// Makes a build folder this checkout's. Cargo compares times of files and takes what was built from another checkout for
/// fresh when the files here are older, although its contents, and the paths in it, may be others: so our own crates are
/// forgotten. Those of others do not differ.
fn claim(folder: &Path, root: &Path) -> Result<()> {
    let mark = folder.join(CHECKOUT);
    let here = root.as_os_str().as_encoded_bytes();
    if fs::read(&mark).is_ok_and(|before| before == here) {
        return Ok(());
    }
    for profile in fs::read_dir(folder)? {
        let Ok(fingerprints) = fs::read_dir(profile?.path().join(".fingerprint")) else {
            continue;
        };
        for entry in fingerprints {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(OWN) {
                fs::remove_dir_all(entry.path())?;
            }
        }
    }
    fs::write(&mark, here).with_context(|| mark.display().to_string())
}

fn toolchain(root: &Path) -> Result<Vec<u8>> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("-vV").current_dir(root).output();
    let output = output.context("cannot run rustc")?;
    ensure!(output.status.success(), "rustc -vV failed");
    Ok(output.stdout)
}

/// Removes all but the `keep` folders that were chosen last. One in which a cargo is building stays.
fn prune(builds: &Path, keep: usize) -> Result<()> {
    let mut folders: Vec<(SystemTime, PathBuf)> = Vec::new();
    for entry in fs::read_dir(builds)? {
        let path = entry?.path();
        let used = fs::metadata(path.join(STAMP)).and_then(|stamp| stamp.modified());
        folders.push((used.unwrap_or(SystemTime::UNIX_EPOCH), path));
    }
    folders.sort_by(|a, b| b.cmp(a));
    for (_, folder) in folders.into_iter().skip(keep) {
        if !in_use(&folder) {
            files::remove_folder(&folder)?;
        }
    }
    Ok(())
}

/// Whether a cargo holds the folder's lock.
fn in_use(folder: &Path) -> bool {
    ["debug", "release"].iter().any(|profile| {
        File::open(folder.join(profile).join(".cargo-lock"))
            .is_ok_and(|lock| matches!(lock.try_lock(), Err(fs::TryLockError::WouldBlock)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Scratch;
    use std::time::Duration;

    fn build(builds: &Path, name: &str, age: u64) -> PathBuf {
        let folder = builds.join(name);
        fs::create_dir_all(folder.join("debug")).unwrap();
        let stamp = File::create(folder.join(STAMP)).unwrap();
        let used = SystemTime::now() - Duration::from_secs(age);
        stamp.set_modified(used).unwrap();
        File::create(folder.join("debug/.cargo-lock")).unwrap();
        folder
    }

    #[test]
    fn the_newest_builds_are_kept() {
        let scratch = Scratch::new("prune").unwrap();
        for (name, age) in [("a", 40), ("b", 10), ("c", 30), ("d", 20)] {
            build(scratch.path(), name, age);
        }
        prune(scratch.path(), 2).unwrap();
        let kept = |name: &str| scratch.path().join(name).exists();
        assert!(kept("b") && kept("d"));
        assert!(!kept("a") && !kept("c"));
    }

    #[test]
    fn own_crates_of_another_checkout_are_built_again() {
        let scratch = Scratch::new("claim").unwrap();
        let folder = build(scratch.path(), "one", 0);
        let own = folder.join("debug/.fingerprint/flumina-sql-1");
        let other = folder.join("debug/.fingerprint/serde-2");
        let make = || {
            fs::create_dir_all(&own).unwrap();
            fs::create_dir_all(&other).unwrap();
        };
        make();
        claim(&folder, Path::new("/checkout/a")).unwrap();
        assert!(!own.exists() && other.exists());
        make();
        claim(&folder, Path::new("/checkout/a")).unwrap();
        assert!(own.exists() && other.exists());
        claim(&folder, Path::new("/checkout/b")).unwrap();
        assert!(!own.exists() && other.exists());
    }

    #[test]
    fn a_build_that_a_cargo_works_in_is_kept() {
        let scratch = Scratch::new("prune-lock").unwrap();
        let old = build(scratch.path(), "old", 100);
        build(scratch.path(), "new", 1);
        let lock = File::open(old.join("debug/.cargo-lock")).unwrap();
        lock.lock().unwrap();
        prune(scratch.path(), 1).unwrap();
        assert!(old.exists());
        lock.unlock().unwrap();
        prune(scratch.path(), 1).unwrap();
        assert!(!old.exists());
    }
}
