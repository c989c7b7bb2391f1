//! Python environments and node modules by content: built once under the cache, whoever asks first.
//!
//! An environment counts only with its completion mark, which is written last; a build that was killed is thrown
//! away by the next. A lock beside it keeps builders apart.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};

use crate::{digest, files};

/// Written into a folder when it is complete.
const MARK: &str = ".complete";
/// Environments of one name that are kept.
const KEPT: usize = 3;

/// A folder of environments.
#[derive(Debug, Clone)]
pub(crate) struct Environments {
    root: PathBuf,
    lists: PathBuf,
}

impl Environments {
    /// Below `cache`, from the lists in `lists`.
    pub(crate) fn new(cache: &Path, lists: &Path) -> Self {
        Self {
            root: cache.join("env"),
            lists: lists.to_path_buf(),
        }
    }

    /// The `uv` program, from its wheel.
    pub(crate) fn uv(&self, python: &Path) -> Result<PathBuf> {
        let list = self.lists.join("uv.txt");
        let pinned = fs::read_to_string(&list).with_context(|| list.display().to_string())?;
        let version = version(python)?;
        let folder = self.provide("uv", &digest::key([&version, &pinned]), |folder| {
            run(Command::new(python).args(["-m", "venv"]).arg(folder))?;
            run(Command::new(folder.join("bin/python"))
                .args([
                    "-m",
                    "pip",
                    "install",
                    "--quiet",
                    "--disable-pip-version-check",
                    "-r",
                ])
                .arg(&list))
        })?;
        Ok(folder.join("bin/uv"))
    }

    /// The interpreter of the environment that `NAME.txt` describes.
    pub(crate) fn python(&self, uv: &Path, python: &Path, name: &str) -> Result<PathBuf> {
        let list = self.lists.join(format!("{name}.txt"));
        let pinned = fs::read_to_string(&list).with_context(|| list.display().to_string())?;
        let version = version(python)?;
        let folder = self.provide(name, &digest::key([&version, &pinned]), |folder| {
            run(uv_command(uv)
                .args(["venv", "--quiet", "--python"])
                .arg(python)
                .arg(folder))?;
            // Steps start this interpreter often, so its modules are compiled once, here.
            run(uv_command(uv)
                .args([
                    "pip",
                    "install",
                    "--quiet",
                    "--compile-bytecode",
                    "--python",
                ])
                .arg(folder)
                .arg("-r")
                .arg(&list))
        })?;
        Ok(folder.join("bin/python"))
    }

    /// The `node_modules` folder that the committed `package-lock.json` describes.
    pub(crate) fn node_modules(&self, npm: &Path) -> Result<PathBuf> {
        let manifest = self.lists.join("node");
        let names = ["package.json", "package-lock.json"];
        let texts: Vec<String> = names
            .iter()
            .map(|name| fs::read_to_string(manifest.join(name)).with_context(|| (*name).to_owned()))
            .collect::<Result<_>>()?;
        let folder = self.provide("node", &digest::key(&texts), |folder| {
            fs::create_dir_all(folder)?;
            for (name, text) in names.iter().zip(&texts) {
                fs::write(folder.join(name), text)?;
            }
            run(Command::new(npm)
                .args([
                    "ci",
                    "--ignore-scripts",
                    "--no-audit",
                    "--no-fund",
                    "--loglevel=error",
                ])
                .current_dir(folder))
        })?;
        Ok(folder.join("node_modules"))
    }

    /// The folder `NAME-KEY`, built by `build` unless it is complete.
    fn provide(
        &self,
        name: &str,
        key: &str,
        build: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        fs::create_dir_all(&self.root).with_context(|| self.root.display().to_string())?;
        let folder = self.root.join(format!("{name}-{key}"));
        if !complete(&folder) {
            let lock = File::create(self.root.join(format!("{name}-{key}.lock")))?;
            lock.lock().context("cannot lock the environment")?;
            // Whoever held the lock before may have built it.
            if !complete(&folder) {
                files::remove_folder(&folder)?;
                build(&folder).with_context(|| format!("cannot build the environment `{name}`"))?;
                fs::write(folder.join(MARK), "")?;
            }
        }
        drop(File::open(folder.join(MARK)).and_then(|mark| mark.set_modified(SystemTime::now())));
        self.prune(name)?;
        Ok(folder)
    }

    /// Removes the complete environments of this name that were used longest ago.
    fn prune(&self, name: &str) -> Result<()> {
        let mut found: Vec<(SystemTime, PathBuf)> = Vec::new();
        for entry in fs::read_dir(&self.root)? {
            let path = entry?.path();
            let file = path
                .file_name()
                .and_then(|file| file.to_str())
                .unwrap_or_default();
            let ours = file
                .rsplit_once('-')
                .is_some_and(|(stem, key)| stem == name && !key.contains('.'));
            if let (true, Ok(mark)) = (ours, fs::metadata(path.join(MARK))) {
                found.push((mark.modified()?, path));
            }
        }
        found.sort_by(|a, b| b.cmp(a));
        found
            .into_iter()
            .skip(KEPT)
            .try_for_each(|(_, path)| files::remove_folder(&path))
    }
}

fn complete(folder: &Path) -> bool {
    folder.join(MARK).is_file()
}

/// Version and build of an interpreter: environments of one do not work with another.
fn version(python: &Path) -> Result<String> {
    let script =
        "import sys, sysconfig; print(sys.executable, sys.version, sysconfig.get_platform())";
    let output = Command::new(python).args(["-c", script]).output();
    let output = output.with_context(|| python.display().to_string())?;
    ensure!(output.status.success(), "{} does not run", python.display());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// uv, told what pip was told: it reads neither pip's variables nor its certificates.
fn uv_command(uv: &Path) -> Command {
    let mut command = Command::new(uv);
    for (pip, ours) in [
        ("PIP_INDEX_URL", "UV_DEFAULT_INDEX"),
        ("PIP_EXTRA_INDEX_URL", "UV_INDEX"),
        ("PIP_CERT", "SSL_CERT_FILE"),
    ] {
        if let (Some(value), None) = (std::env::var_os(pip), std::env::var_os(ours)) {
            command.env(ours, value);
        }
    }
    command
        .env("UV_PYTHON_DOWNLOADS", "never")
        .env_remove("VIRTUAL_ENV");
    command
}

fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    ensure!(
        output.status.success(),
        "{program} failed\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Scratch;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn environments(scratch: &Scratch) -> Environments {
        Environments::new(scratch.path(), scratch.path())
    }

    fn make(folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).map_err(Into::into)
    }

    #[test]
    fn twenty_askers_build_once() {
        let scratch = Scratch::new("env-once").unwrap();
        let environments = environments(&scratch);
        let built = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| {
                    environments.provide("x", "1", |folder| {
                        built.fetch_add(1, Ordering::SeqCst);
                        make(folder)
                    })
                });
            }
        });
        assert_eq!(built.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_build_without_its_mark_is_done_again() {
        let scratch = Scratch::new("env-mark").unwrap();
        let environments = environments(&scratch);
        let failed = environments.provide("x", "1", |folder| {
            make(folder)?;
            fs::write(folder.join("half"), "")?;
            anyhow::bail!("killed")
        });
        assert!(failed.is_err());
        let folder = environments.provide("x", "1", make).unwrap();
        assert!(!folder.join("half").exists());
    }

    #[test]
    fn only_the_newest_of_a_name_are_kept() {
        let scratch = Scratch::new("env-prune").unwrap();
        let environments = environments(&scratch);
        let other = environments.provide("x-2", "1", make).unwrap();
        let folders: Vec<PathBuf> = (0..KEPT + 2)
            .map(|key| environments.provide("x", &key.to_string(), make).unwrap())
            .collect();
        assert!(other.exists());
        assert_eq!(
            folders.iter().filter(|folder| folder.exists()).count(),
            KEPT
        );
        assert!(folders.last().unwrap().exists());
    }
}
