//! `cargo xtask codegen`: the contract crates from `proto/`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::files::{self, Scratch};
use crate::workspace::Workspace;

/// Generates in place.
pub(crate) fn write(workspace: &Workspace) -> Result<()> {
    generate(workspace, &workspace.root)
}

/// Generates into a temporary folder and compares with what is committed.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let scratch = Scratch::new("codegen")?;
    generate(workspace, scratch.path())?;
    let stale = stale(scratch.path(), &workspace.root)?;
    if stale.is_empty() {
        return Ok(());
    }
    bail!(
        "generated code is stale; run `cargo xtask codegen`:\n  {}",
        stale.join("\n  ")
    )
}

fn generate(workspace: &Workspace, out: &Path) -> Result<()> {
    let output = workspace
        .cargo()
        .args(["run", "--quiet", "--locked", "-p", "flumina-codegen", "--"])
        .args([workspace.root.as_path(), out])
        .output()
        .context("cannot run the generator")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the generator failed\n{errors}");
    Ok(())
}

/// Files that differ between two trees, looking only at the folders that the generator wrote.
fn stale(fresh: &Path, committed: &Path) -> Result<Vec<String>> {
    let written = files::walk(fresh)?;
    let folders: BTreeSet<PathBuf> = written
        .iter()
        .filter_map(|file| file.parent().map(Path::to_path_buf))
        .collect();
    ensure!(!folders.is_empty(), "the generator wrote nothing");
    let mut names: BTreeSet<PathBuf> = written.into_iter().collect();
    for folder in folders {
        let path = committed.join(&folder);
        if path.is_dir() {
            names.extend(
                files::walk(&path)?
                    .into_iter()
                    .map(|file| folder.join(file)),
            );
        }
    }
    let read = |root: &Path, name: &Path| fs::read(root.join(name)).ok();
    Ok(names
        .into_iter()
        .filter(|name| read(fresh, name) != read(committed, name))
        .map(|name| name.display().to_string())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::write_atomically;

    fn trees(fresh: &[(&str, &str)], committed: &[(&str, &str)]) -> Vec<String> {
        let (a, b) = (
            Scratch::new("fresh").unwrap(),
            Scratch::new("committed").unwrap(),
        );
        for (root, tree) in [(&a, fresh), (&b, committed)] {
            for (name, text) in tree {
                write_atomically(&root.path().join(name), text).unwrap();
            }
        }
        stale(a.path(), b.path()).unwrap()
    }

    #[test]
    fn equal_trees_are_not_stale() {
        assert!(
            trees(
                &[("x/gen/a.rs", "1")],
                &[("x/gen/a.rs", "1"), ("x/lib.rs", "hand")]
            )
            .is_empty()
        );
    }

    #[test]
    fn a_changed_a_missing_and_a_left_over_file_are_stale() {
        let stale = trees(
            &[("x/gen/a.rs", "2"), ("x/gen/b.rs", "1")],
            &[("x/gen/a.rs", "1"), ("x/gen/old.rs", "1")],
        );
        assert_eq!(stale, ["x/gen/a.rs", "x/gen/b.rs", "x/gen/old.rs"]);
    }
}
