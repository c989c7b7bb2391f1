//! Programs of the machine that tests start: found, or installed from Debian's packages when we are root.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// The oldest Python that the pinned package lists resolve for.
const PYTHON: (u32, u32) = (3, 11);

/// A program that something needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tool {
    Python,
    Postgres,
    Chromium,
    Strace,
    Node,
    Npm,
    Go,
    Javac,
    Maven,
}

impl Tool {
    /// What the line to the user calls it.
    fn name(self) -> &'static str {
        match self {
            Self::Python => "Python 3.11 or later with venv",
            Self::Postgres => "PostgreSQL's server programs",
            Self::Chromium => "Chromium",
            Self::Strace => "strace",
            Self::Node => "Node.js",
            Self::Npm => "npm",
            Self::Go => "Go",
            Self::Javac => "a JDK",
            Self::Maven => "Maven",
        }
    }

    /// The Debian packages that bring it.
    fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Python => &["python3", "python3-venv"],
            Self::Postgres => &["postgresql"],
            Self::Chromium => &["chromium"],
            Self::Strace => &["strace"],
            Self::Node => &["nodejs"],
            Self::Npm => &["npm"],
            Self::Go => &["golang-go"],
            Self::Javac => &["default-jdk-headless"],
            Self::Maven => &["maven"],
        }
    }

    /// Where it is. PostgreSQL's answer is the folder of `initdb`, which Debian keeps off the path.
    pub(crate) fn find(self) -> Option<PathBuf> {
        match self {
            Self::Python => python(),
            Self::Postgres => postgres(Path::new("/usr/lib/postgresql")),
            Self::Chromium => on_path("chromium").or_else(|| on_path("chromium-browser")),
            Self::Strace => on_path("strace"),
            Self::Node => on_path("node"),
            Self::Npm => on_path("npm"),
            Self::Go => on_path("go"),
            Self::Javac => on_path("javac"),
            Self::Maven => on_path("mvn"),
        }
    }

    pub(crate) fn get(self) -> Result<PathBuf> {
        self.find()
            .with_context(|| format!("{} is missing", self.name()))
    }
}

/// Installs what is missing, or says in one line what to install.
pub(crate) fn provide(tools: &[Tool]) -> Result<()> {
    let missing: Vec<Tool> = tools
        .iter()
        .copied()
        .filter(|tool| tool.find().is_none())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    if is_root() && on_path("apt-get").is_some() {
        install(&packages(&missing))?;
    }
    match advice(missing.into_iter().filter(|tool| tool.find().is_none())) {
        Some(line) => bail!(line),
        None => Ok(()),
    }
}

fn packages(tools: &[Tool]) -> Vec<&'static str> {
    tools
        .iter()
        .flat_map(|tool| tool.packages())
        .copied()
        .collect()
}

/// The line that names everything missing and the command that brings it.
fn advice(missing: impl Iterator<Item = Tool>) -> Option<String> {
    let missing: Vec<Tool> = missing.collect();
    let names: Vec<&str> = missing.iter().map(|tool| tool.name()).collect();
    (!missing.is_empty()).then(|| {
        format!(
            "missing: {}; as root run `apt-get install -y {}`, or bring them on the PATH another way",
            names.join(", "),
            packages(&missing).join(" ")
        )
    })
}

fn install(packages: &[&str]) -> Result<()> {
    let apt = |args: &[&str]| -> Result<std::process::Output> {
        Command::new("apt-get")
            .args(args)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .output()
            .context("cannot run apt-get")
    };
    let mut args = vec!["install", "-y", "--no-install-recommends"];
    args.extend_from_slice(packages);
    // A machine that never asked for the package lists, or has old ones, needs them first.
    if apt(&args)?.status.success() {
        return Ok(());
    }
    apt(&["update"])?;
    let output = apt(&args)?;
    ensure!(
        output.status.success(),
        "apt-get install {} failed\n{}",
        packages.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// Whether this process may install packages.
fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0)
}

/// The program's path, as a shell would find it.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| {
            std::fs::metadata(file)
                .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
        })
}

fn postgres(debian: &Path) -> Option<PathBuf> {
    let newest = std::fs::read_dir(debian).ok().and_then(|versions| {
        versions
            .filter_map(|version| Some(version.ok()?.path().join("bin")))
            .filter(|bin| bin.join("initdb").is_file() && bin.join("postgres").is_file())
            .max_by_key(|bin| {
                let version = bin.parent().and_then(Path::file_name);
                version.and_then(|name| name.to_str()?.parse::<u32>().ok())
            })
    });
    let beside = || on_path("initdb").filter(|initdb| initdb.with_file_name("postgres").is_file());
    newest.or_else(|| beside()?.parent().map(Path::to_path_buf))
}

/// An interpreter that can make environments. The exact version that the lists were resolved for goes first.
fn python() -> Option<PathBuf> {
    ["python3.11", "python3.12", "python3.13", "python3"]
        .iter()
        .find_map(|name| interpreter(&on_path(name)?))
}

/// The real interpreter behind a shim, if it is new enough and has venv and pip's wheel.
fn interpreter(shim: &Path) -> Option<PathBuf> {
    let script = "import sys, venv, ensurepip; print(*sys.version_info[:2], sys.executable)";
    let output = Command::new(shim).args(["-c", script]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let mut words = text.trim().splitn(3, ' ');
    let major: u32 = words.next()?.parse().ok()?;
    let minor: u32 = words.next()?.parse().ok()?;
    let path = PathBuf::from(words.next()?);
    (output.status.success() && (major, minor) >= PYTHON).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::{Scratch, write_atomically};

    #[test]
    fn the_advice_names_every_missing_tool_on_one_line() {
        let line = advice([Tool::Postgres, Tool::Chromium].into_iter()).unwrap();
        assert!(
            line.contains("apt-get install -y postgresql chromium"),
            "{line}"
        );
        assert_eq!(line.lines().count(), 1);
        assert_eq!(advice(std::iter::empty()), None);
    }

    #[test]
    fn the_newest_server_wins_by_number() {
        let scratch = Scratch::new("postgres").unwrap();
        for version in ["9", "15", "7"] {
            for program in ["initdb", "postgres"] {
                write_atomically(&scratch.path().join(version).join("bin").join(program), "")
                    .unwrap();
            }
        }
        assert_eq!(
            postgres(scratch.path()),
            Some(scratch.path().join("15/bin"))
        );
    }

    #[test]
    fn a_program_that_is_not_python_is_not_an_interpreter() {
        assert_eq!(interpreter(Path::new("/bin/echo")), None);
        assert_eq!(interpreter(Path::new("/nowhere/python3")), None);
    }
}
