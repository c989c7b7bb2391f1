//! The content of an artifact: its size and digest, and making it durable.
//!
//! Links within an artifact are never followed: a link counts by the text of its target, so that a digest covers exactly what the artifact
//! itself holds. What is neither file, directory nor link (a pipe, a socket) is refused.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::sys;

/// Above this number of files, one sync of the file system is cheaper than one of each.
const SYNC_ONE_BY_ONE: usize = 16;

/// What an artifact holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) size: u64,
    /// SHA-256 in hexadecimal; of a directory, of its list of `digest, two blanks, relative path, newline`, sorted by path.
    pub(crate) sha256: String,
    pub(crate) directory: bool,
}

/// Reads an artifact and writes it through to the disk; `None` when there is nothing at the path.
pub(crate) fn record(path: &Path) -> io::Result<Option<Content>> {
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    if !meta.is_dir() {
        let (size, sha256) = entry(path, &meta, true)?;
        return Ok(Some(Content {
            size,
            sha256,
            directory: false,
        }));
    }
    let mut paths = Vec::new();
    let mut dirs = Vec::new();
    walk(path, &mut paths, &mut dirs)?;
    paths.sort_unstable();
    let one_by_one = paths.len() + dirs.len() <= SYNC_ONE_BY_ONE;
    let mut content = Content {
        directory: true,
        ..Content::default()
    };
    let mut list = Sha256::new();
    for file in &paths {
        let (size, sha256) = entry(file, &fs::symlink_metadata(file)?, one_by_one)?;
        content.size += size;
        list.update(sha256.as_bytes());
        list.update(b"  ");
        list.update(
            file.strip_prefix(path)
                .unwrap_or(file)
                .as_os_str()
                .as_bytes(),
        );
        list.update(b"\n");
    }
    if one_by_one {
        dirs.iter().try_for_each(|dir| sync_dir(dir))?;
    } else {
        sys::sync_file_system(&File::open(path)?)?;
    }
    content.sha256 = hex(&list.finalize());
    Ok(Some(content))
}

/// Writes a directory's entries through to the disk.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Puts a copy of a file or a tree at `to`, in place of what is there. Is `from` itself a link, then what it leads to is
/// copied; links within a tree are copied as links.
pub(crate) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let from = fs::canonicalize(from)?;
    let (Some(parent), Some(name)) = (to.parent(), to.file_name()) else {
        return Err(io::Error::other("it is not the path of a file"));
    };
    fs::create_dir_all(parent)?;
    let parent = fs::canonicalize(parent)?;
    let to = parent.join(name);
    if from == to {
        return Ok(());
    }
    if to.starts_with(&from) {
        return Err(io::Error::other(format!(
            "{} cannot be copied into itself",
            from.display()
        )));
    }
    // Beside the target first: what is copied may lie within what is replaced.
    let mut part = std::ffi::OsString::from(".");
    part.push(name);
    part.push(format!(".{}", std::process::id()));
    let part = parent.join(part);
    let copied = copy_tree(&from, &part)
        .and_then(|()| remove(&to))
        .and_then(|()| fs::rename(&part, &to));
    if copied.is_err() {
        remove(&part).ok();
    }
    copied
}

fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    let meta = fs::symlink_metadata(from)?;
    if meta.is_symlink() {
        return std::os::unix::fs::symlink(fs::read_link(from)?, to);
    }
    if meta.is_file() {
        return fs::copy(from, to).map(drop);
    }
    if !meta.is_dir() {
        return Err(unsupported(from));
    }
    fs::create_dir(to)?;
    for child in fs::read_dir(from)? {
        let child = child?;
        copy_tree(&child.path(), &to.join(child.file_name()))?;
    }
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    removed.or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    })
}

fn unsupported(path: &Path) -> io::Error {
    io::Error::other(format!("{} is neither file nor directory", path.display()))
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn walk(dir: &Path, files: &mut Vec<PathBuf>, dirs: &mut Vec<PathBuf>) -> io::Result<()> {
    dirs.push(dir.to_owned());
    for child in fs::read_dir(dir)? {
        let child = child?;
        if child.file_type()?.is_dir() {
            walk(&child.path(), files, dirs)?;
        } else {
            files.push(child.path());
        }
    }
    Ok(())
}

fn entry(path: &Path, meta: &fs::Metadata, sync: bool) -> io::Result<(u64, String)> {
    if meta.is_symlink() {
        let target = fs::read_link(path)?;
        let text = [b"link:", target.as_os_str().as_bytes()].concat();
        return Ok((0, sha256(&text)));
    }
    if !meta.is_file() {
        return Err(unsupported(path));
    }
    // A path may have become something else since it was looked at.
    let mut file = File::options()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)?;
    let mut digest = Sha256::new();
    let mut size = 0;
    let mut buffer = vec![0; buffer_size(meta.len())];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => {
                digest.update(&buffer[..read]);
                size += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    if sync {
        file.sync_all()?;
    }
    Ok((size, hex(&digest.finalize())))
}

/// Small files must not cost a large allocation.
fn buffer_size(length: u64) -> usize {
    usize::try_from(length)
        .unwrap_or(usize::MAX)
        .saturating_add(1)
        .clamp(4096, 256 * 1024)
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| {
            [
                DIGITS[usize::from(byte >> 4)],
                DIGITS[usize::from(byte & 15)],
            ]
        })
        .map(char::from)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn files_and_directories_have_the_documented_digest() {
        let dir = testkit::temp_dir();
        let file = dir.path().join("file");
        fs::write(&file, "abc").unwrap();
        let content = record(&file).unwrap().unwrap();
        assert_eq!(
            content.sha256,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!((content.size, content.directory), (3, false));

        let tree = dir.path().join("tree");
        fs::create_dir_all(tree.join("b/c")).unwrap();
        fs::write(tree.join("b/c/x"), "abc").unwrap();
        fs::write(tree.join("a"), "").unwrap();
        let list = format!("{}  a\n{}  b/c/x\n", sha256(b""), sha256(b"abc"));
        let content = record(&tree).unwrap().unwrap();
        assert_eq!(content.sha256, sha256(list.as_bytes()));
        assert_eq!((content.size, content.directory), (3, true));
        assert_eq!(record(&dir.path().join("none")).unwrap(), None);
        assert_eq!(record(&file.join("below")).unwrap(), None);
    }

    #[test]
    fn many_files_have_the_same_digest_as_few() {
        let dir = testkit::temp_dir();
        let mut list = String::new();
        for number in 10..99 {
            fs::write(dir.path().join(number.to_string()), "x").unwrap();
            list += &format!("{}  {number}\n", sha256(b"x"));
        }
        assert_eq!(
            record(dir.path()).unwrap().unwrap().sha256,
            sha256(list.as_bytes())
        );
    }

    #[test]
    fn links_are_not_followed() {
        let dir = testkit::temp_dir();
        let tree = dir.path().join("tree");
        fs::create_dir(&tree).unwrap();
        symlink("/etc", tree.join("out")).unwrap();
        symlink("/nowhere", tree.join("broken")).unwrap();
        let before = record(&tree).unwrap().unwrap();
        assert_eq!(before.size, 0);
        let copy_of = dir.path().join("copy");
        copy(&tree, &copy_of).unwrap();
        assert_eq!(record(&copy_of).unwrap().unwrap(), before);
        assert_eq!(
            record(&tree.join("out")).unwrap().unwrap().sha256,
            sha256(b"link:/etc")
        );
    }

    #[test]
    fn a_copy_follows_the_link_that_it_was_given_and_replaces_what_is_there() {
        let dir = testkit::temp_dir();
        let (tree, link, to) = (
            dir.path().join("tree"),
            dir.path().join("link"),
            dir.path().join("made/to"),
        );
        fs::create_dir(&tree).unwrap();
        fs::write(tree.join("new"), "new").unwrap();
        symlink(&tree, &link).unwrap();
        fs::create_dir_all(&to).unwrap();
        fs::write(to.join("old"), "old").unwrap();
        copy(&link, &to).unwrap();
        let content = record(&to).unwrap().unwrap();
        assert_eq!(content, record(&tree).unwrap().unwrap());
        // A file in place of a directory, from within what is replaced.
        copy(&to.join("new"), &to).unwrap();
        assert_eq!(fs::read_to_string(&to).unwrap(), "new");
        // The target leads to the source, and the source to the target.
        fs::remove_file(&to).unwrap();
        symlink(tree.join("new"), &to).unwrap();
        copy(&tree.join("new"), &to).unwrap();
        assert!(fs::symlink_metadata(&to).unwrap().is_file());
        fs::remove_file(&link).unwrap();
        symlink(&to, &link).unwrap();
        copy(&link, &to).unwrap();
        assert_eq!(fs::read_to_string(&to).unwrap(), "new");
        let left = fs::read_dir(dir.path().join("made")).unwrap().count();
        assert_eq!(left, 1);
        assert!(copy(dir.path(), &to).is_err());
    }

    #[test]
    fn pipes_are_refused_without_waiting() {
        let dir = testkit::temp_dir();
        let path = dir.path().join("pipe");
        let made = std::process::Command::new("mkfifo")
            .arg(&path)
            .status()
            .unwrap();
        assert!(made.success());
        assert!(record(&path).is_err());
        assert!(record(dir.path()).is_err());
        assert!(copy(&path, &dir.path().join("copy")).is_err());
        assert!(!dir.path().join("copy").exists());
    }
}
