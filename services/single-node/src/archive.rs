//! What is in a backup: a gzipped tar of a manifest, the databases, and the files that cannot be made again.

use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

use crate::data_dir::{PIPELINES_DATABASE, RUNNER_DATABASE};

/// The version of the archive's layout.
pub(crate) const FORMAT: u32 = 1;
/// The first member.
pub(crate) const MANIFEST: &str = "backup.json";
/// In this order: what the pipelines service knows of a workload, the runner knows too in a later copy, so that no
/// step of a restored run starts a second time.
pub(crate) const DATABASES: [&str; 2] = [PIPELINES_DATABASE, RUNNER_DATABASE];
/// Files and trees, relative to the data directory. Python environments, tools and the agent are made again.
pub(crate) const TREES: [&str; 5] = [NODE, FOLDERS[0], FOLDERS[1], FOLDERS[2], FOLDERS[3]];
/// The file that says which machine the runner speaks for.
const NODE: &str = "runner/node";
/// What steps write into.
const FOLDERS: [&str; 4] = [
    "runner/workloads",
    "runner/volumes",
    "runner/workspaces",
    "artifacts",
];

/// The content of [`MANIFEST`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) format: u32,
    /// The version of the program that wrote it.
    pub(crate) version: String,
    /// When, in microseconds since 1970.
    pub(crate) created_us: i64,
    /// What stored paths begin with.
    pub(crate) path: String,
}

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Folder,
    Link,
}

/// Checks that a member may be in an archive, and be what it is; `kind` is none for what no archive of ours has. What is
/// wrong is said in words. Databases and [`NODE`] are opened by path, so they must be files; links are only where steps
/// make them.
pub(crate) fn check(name: &Path, kind: Option<Kind>) -> Result<Kind, String> {
    if !is_plain(name) {
        return Err(format!("`{}` leads out of it", name.display()));
    }
    let Some(kind) = kind else {
        return Err(format!(
            "`{}` is neither file, folder nor symbolic link",
            name.display()
        ));
    };
    let single = DATABASES.contains(&name.to_str().unwrap_or_default()) || name == Path::new(NODE);
    let folder = name == Path::new("runner") || FOLDERS.iter().any(|tree| name == Path::new(tree));
    let inside = FOLDERS.iter().any(|tree| name.starts_with(tree));
    let (fits, must) = match kind {
        _ if single => (kind == Kind::File, "be a file"),
        _ if folder => (kind == Kind::Folder, "be a folder"),
        _ => (inside, "not be in a backup"),
    };
    if fits {
        Ok(kind)
    } else {
        Err(format!("`{}` must {must}", name.display()))
    }
}

/// Whether a path leads downwards only, component by component.
pub(crate) fn is_plain(path: &Path) -> bool {
    let mut components = path.components().peekable();
    components.peek().is_some()
        && components.all(|component| matches!(component, Component::Normal(_)))
}

/// Whether the link `link` with this target stays beneath the root, wherever other such links lead: it may go up at its
/// beginning only, and not above the root. `link` is relative to the root and plain, and no folder above it is a link.
pub(crate) fn stays_inside(link: &Path, target: &Path) -> bool {
    let depth = link.components().count().saturating_sub(1);
    let mut up = 0;
    let mut down = false;
    for component in target.components() {
        match component {
            Component::ParentDir if down => return false,
            Component::ParentDir => up += 1,
            Component::Normal(_) => down = true,
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    up <= depth && target.components().next().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_lead_downwards() {
        for good in ["a", "a/b", "a/./b"] {
            assert!(is_plain(Path::new(good)), "{good}");
        }
        for bad in ["", "/a", "../a", "a/../b", "."] {
            assert!(!is_plain(Path::new(bad)), "{bad}");
        }
    }

    #[test]
    fn members_are_where_backups_have_them_and_what_they_are_there() {
        use Kind::{File, Folder, Link};
        let table = [
            (PIPELINES_DATABASE, [true, false, false]),
            (RUNNER_DATABASE, [true, false, false]),
            ("runner/node", [true, false, false]),
            ("runner", [false, true, false]),
            ("runner/workloads", [false, true, false]),
            ("artifacts", [false, true, false]),
            ("artifacts/a", [true, true, true]),
            ("runner/workloads/0/a/work/x", [true, true, true]),
            ("runner/other", [false, false, false]),
            ("flumina.json", [false, false, false]),
            ("runner.sqlite-wal", [false, false, false]),
            ("artifacts2/a", [false, false, false]),
        ];
        for (name, expected) in table {
            let found = [File, Folder, Link].map(|kind| check(Path::new(name), Some(kind)).is_ok());
            assert_eq!(found, expected, "{name}");
        }
        assert!(check(Path::new("artifacts/a"), None).is_err());
    }

    #[test]
    fn links_stay_in_the_tree() {
        let link = Path::new("artifacts/run/link");
        for good in ["x", "./x", "../x", "../../x", "../../runner/x"] {
            assert!(stays_inside(link, Path::new(good)), "{good}");
        }
        for bad in ["", "/etc/passwd", "../../../x", "x/../../y", "x/.."] {
            assert!(!stays_inside(link, Path::new(bad)), "{bad}");
        }
    }
}
