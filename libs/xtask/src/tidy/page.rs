//! The built web page is committed, so that cargo needs no Node; this notices when it was built from other sources.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::{digest, files};

const FOLDER: &str = "services/dashboard";
/// What a build is made from, as in `services/dashboard/tools/digest.mjs`.
const FILES: [&str; 5] = [
    "index.html",
    "package-lock.json",
    "package.json",
    "tsconfig.json",
    "vite.config.ts",
];
const FOLDERS: [&str; 2] = ["public", "src"];

/// What is wrong, if anything.
pub(super) fn check(root: &Path) -> Result<Option<String>> {
    let folder = root.join(FOLDER);
    let built = files::read_text(&folder.join("dist/SOURCES"))?;
    let fresh = key(&folder)?;
    Ok((built.as_deref().map(str::trim) != Some(fresh.as_str())).then(|| {
        format!("{FOLDER}/dist was built from other sources; run `npm ci && npm run build` in {FOLDER}")
    }))
}

fn key(folder: &Path) -> Result<String> {
    let mut names: Vec<PathBuf> = FILES.iter().map(PathBuf::from).collect();
    for inner in FOLDERS {
        let found = files::walk(&folder.join(inner))?;
        names.extend(found.into_iter().map(|name| Path::new(inner).join(name)));
    }
    names.sort_by(|a, b| a.as_os_str().cmp(b.as_os_str()));
    let mut parts: Vec<Vec<u8>> = Vec::new();
    for name in names {
        let path = folder.join(&name);
        let content = fs::read(&path).with_context(|| path.display().to_string())?;
        parts.push(name.into_os_string().into_encoded_bytes());
        parts.push(content);
    }
    Ok(digest::key(parts))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::{Scratch, write_atomically};

    #[test]
    fn a_page_built_from_other_sources_is_noticed() {
        let scratch = Scratch::new("page").unwrap();
        let folder = scratch.path().join(FOLDER);
        for name in FILES
            .iter()
            .chain(&["public/frame.html", "src/ui/a.tsx", "src/ui.ts"])
        {
            write_atomically(&folder.join(name), name).unwrap();
        }
        assert!(check(scratch.path()).unwrap().is_some());
        let built = key(&folder).unwrap();
        write_atomically(&folder.join("dist/SOURCES"), &format!("{built}\n")).unwrap();
        assert_eq!(check(scratch.path()).unwrap(), None);
        write_atomically(&folder.join("src/ui.ts"), "changed").unwrap();
        assert!(check(scratch.path()).unwrap().is_some());
    }
}
