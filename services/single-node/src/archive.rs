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
pub(crate) const TREES: [&str; 3] = ["runner/node", "runner/workloads", "artifacts"];

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

/// Whether a path leads downwards only, component by component.
pub(crate) fn is_plain(path: &Path) -> bool {
    let mut components = path.components().peekable();
    components.peek().is_some()
        && components.all(|component| matches!(component, Component::Normal(_)))
}

/// Whether the link `link` with this target stays in its tree, wherever other such links lead: it may go up at its
/// beginning only, and not above the root. `link` is relative to the root and plain.
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
