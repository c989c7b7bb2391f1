//! Links of Markdown files that point into the repository.

use std::path::{Component, Path, PathBuf};

/// Links to files that are not there.
pub(crate) fn check(name: &Path, text: &str, exists: impl Fn(&Path) -> bool) -> Vec<String> {
    if name.extension().is_none_or(|extension| extension != "md") {
        return Vec::new();
    }
    let folder = name.parent().unwrap_or(Path::new(""));
    targets(text)
        .into_iter()
        .filter(|target| !exists(&resolve(folder, target)))
        .map(|target| format!("{}: the link to {target} leads nowhere", name.display()))
        .collect()
}

/// Targets of `[…](…)` that are files, outside code blocks.
fn targets(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        for part in line.split("](").skip(1) {
            let target = part.split([')', '#']).next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:") {
                found.push(target);
            }
        }
    }
    found
}

fn resolve(folder: &Path, target: &str) -> PathBuf {
    let mut path = PathBuf::new();
    for part in folder.join(target).components() {
        match part {
            Component::ParentDir => {
                path.pop();
            }
            Component::CurDir => {}
            other => path.push(other),
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_to_a_missing_file_is_refused() {
        let text = "[a](cli.md#top) [b](../README.md) [c](gone.md) [d](https://x.y/z)\n```\n[e](code.md)\n```\n[f](#here)";
        let there = ["docs/cli.md", "README.md"];
        let wrong = check(Path::new("docs/start.md"), text, |path| {
            there.iter().any(|file| path == Path::new(file))
        });
        assert_eq!(wrong, ["docs/start.md: the link to gone.md leads nowhere"]);
    }

    #[test]
    fn other_files_have_no_links() {
        assert!(check(Path::new("a.rs"), "[a](gone.md)", |_| false).is_empty());
    }
}
