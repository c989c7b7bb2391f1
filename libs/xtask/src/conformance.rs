//! Suites of real clients in other languages: `integration-tests/conformance/*`.
//!
//! A suite is a Python script `NAME.py` whose first line says `# python: ENVIRONMENT`, or a folder `NAME/` with an
//! executable `run`. It starts what it needs, finds programs in the file that `FLUMINA_TESTENV` names, and closes
//! with the line `N passed, N failed`. Without that line it counts as one test that its exit code decides.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::report::{Counts, Ran, Report};
use crate::setup::TestEnv;
use crate::workspace::Workspace;

/// The environment of a script that names none.
const DEFAULT: &str = "tools";

#[derive(Debug, PartialEq, Eq)]
struct Suite {
    name: String,
    path: PathBuf,
    /// The Python environment of a script; `None` for a program of its own.
    python: Option<String>,
}

pub(crate) fn run(
    workspace: &Workspace,
    report: &mut Report,
    env: &TestEnv,
    file: &Path,
) -> Result<()> {
    let folder = workspace.root.join("integration-tests/conformance");
    for suite in suites(&folder)? {
        let mut command = match &suite.python {
            Some(python) => {
                let mut command = Command::new(env.python(python)?);
                command.arg(&suite.path);
                command
            }
            None => Command::new(&suite.path),
        };
        command
            .current_dir(&workspace.root)
            .env("FLUMINA_TESTENV", file)
            .env("PATH", env.path()?);
        report.tests(&suite.name, &mut command, count, str::to_owned)?;
    }
    Ok(())
}

/// The suites of a folder, which may be missing, by name.
fn suites(folder: &Path) -> Result<Vec<Suite>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let stem = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .unwrap_or_default();
        // A leading underscore marks a module that suites share.
        if stem.is_empty() || stem.starts_with('_') {
            continue;
        }
        let name = format!("conformance/{stem}");
        if path.extension().is_some_and(|extension| extension == "py") {
            let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            let python = text
                .lines()
                .next()
                .and_then(|line| line.strip_prefix("# python: "));
            found.push(Suite {
                name,
                python: Some(python.unwrap_or(DEFAULT).trim().to_owned()),
                path,
            });
        } else if path.join("run").is_file() {
            found.push(Suite {
                name,
                path: path.join("run"),
                python: None,
            });
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// Reads the last line of the form `N passed, N failed`.
fn count(ran: &Ran) -> Counts {
    let parse = |line: &str| {
        let (passed, failed) = line.trim().split_once(", ")?;
        Some(Counts {
            passed: passed.strip_suffix(" passed")?.parse().ok()?,
            failed: failed.strip_suffix(" failed")?.parse().ok()?,
        })
    };
    let one = Counts {
        passed: u64::from(ran.success),
        failed: u64::from(!ran.success),
    };
    ran.output.lines().rev().find_map(parse).unwrap_or(one)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::{Scratch, write_atomically};

    #[test]
    fn scripts_and_folders_are_suites() {
        let scratch = Scratch::new("suites").unwrap();
        let root = scratch.path();
        write_atomically(&root.join("kfp_old.py"), "# python: kfp-2.4\n").unwrap();
        write_atomically(&root.join("grpc.py"), "import grpc\n").unwrap();
        write_atomically(&root.join("_shared.py"), "").unwrap();
        write_atomically(&root.join("go/run"), "#!/bin/sh\n").unwrap();
        write_atomically(&root.join("notes/readme.md"), "").unwrap();
        let found = suites(root).unwrap();
        let found: Vec<(&str, Option<&str>)> = found
            .iter()
            .map(|suite| (suite.name.as_str(), suite.python.as_deref()))
            .collect();
        assert_eq!(
            found,
            [
                ("conformance/go", None),
                ("conformance/grpc", Some("tools")),
                ("conformance/kfp_old", Some("kfp-2.4")),
            ]
        );
        assert!(suites(&root.join("gone")).unwrap().is_empty());
    }

    #[test]
    fn the_closing_line_counts_and_without_one_the_exit_code_does() {
        let ran = |success, output: &str| Ran {
            success,
            output: output.to_owned(),
        };
        assert_eq!(
            count(&ran(false, "x\n7 passed, 2 failed\n")),
            Counts {
                passed: 7,
                failed: 2
            }
        );
        assert_eq!(
            count(&ran(true, "fine")),
            Counts {
                passed: 1,
                failed: 0
            }
        );
        assert_eq!(
            count(&ran(false, "Traceback")),
            Counts {
                passed: 0,
                failed: 1
            }
        );
    }
}
