//! The files of an artifact that a program left, opened beneath its root.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags, openat2, statat};

use super::MAX_FILES;

/// Directories within each other.
const MAX_DEPTH: usize = 64;

/// What is at a path.
pub(super) enum Tree {
    /// Nothing.
    Nothing,
    /// A file.
    File(File),
    /// A directory.
    Directory(Root),
}

/// A directory, and the regular files in it by their relative paths.
pub(super) struct Root {
    dir: OwnedFd,
    pub(super) files: Vec<PathBuf>,
}

/// Opens an artifact. A link in a directory is taken for the file that it leads to, when that is in the directory too.
///
/// # Errors
/// A link that leads out or to a directory, what is neither file nor directory, a name that is not UTF-8, too many files.
pub(super) fn open(path: &Path) -> io::Result<Tree> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(fd) => fd,
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(Tree::Nothing),
        Err(rustix::io::Errno::LOOP) => {
            return Err(io::Error::other("it is a link; write the content itself"));
        }
        Err(error) => return Err(error.into()),
    };
    match kind(&fd)? {
        FileType::RegularFile => Ok(Tree::File(File::from(fd))),
        FileType::Directory => {
            let mut root = Root {
                dir: fd,
                files: Vec::new(),
            };
            root.walk(Path::new(""), 0)?;
            Ok(Tree::Directory(root))
        }
        _ => Err(io::Error::other("it is neither file nor directory")),
    }
}

fn kind(fd: &OwnedFd) -> io::Result<FileType> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode))
}

impl Root {
    /// Opens one of the files; what it has become since is looked at again.
    pub(super) fn file(&self, path: &Path) -> io::Result<File> {
        let fd = self.beneath(path, OFlags::RDONLY | OFlags::NONBLOCK)?;
        match kind(&fd)? {
            FileType::RegularFile => Ok(File::from(fd)),
            FileType::Directory => Err(io::Error::other(
                "it is a link to a directory, which a store cannot hold",
            )),
            _ => Err(io::Error::other("it is no regular file")),
        }
    }

    fn beneath(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::CLOEXEC;
        openat2(&self.dir, path, flags, Mode::empty(), resolve).map_err(|error| match error {
            rustix::io::Errno::XDEV => {
                io::Error::other("it is a link that leads out of the artifact")
            }
            rustix::io::Errno::NOENT => io::Error::other("it is a link that leads nowhere"),
            error => error.into(),
        })
    }

    fn walk(&mut self, below: &Path, depth: usize) -> io::Result<()> {
        if depth > MAX_DEPTH {
            return Err(io::Error::other("its directories are too deep"));
        }
        let dir = self.beneath(below, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW)?;
        let mut entries = Dir::read_from(&dir)?;
        while let Some(entry) = entries.read() {
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let shown = below.join(name.to_string_lossy().as_ref());
            let path = match name.to_str() {
                Ok(name) => below.join(name),
                Err(_) => {
                    let message = format!("the name {} is not UTF-8", shown.display());
                    return Err(io::Error::other(message));
                }
            };
            let kind = match entry.file_type() {
                FileType::Unknown => {
                    let stat = statat(&dir, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?;
                    FileType::from_raw_mode(stat.st_mode)
                }
                kind => kind,
            };
            match kind {
                FileType::Directory => self.walk(&path, depth + 1)?,
                FileType::RegularFile => self.files.push(path),
                FileType::Symlink => {
                    self.file(&path).map_err(|error| {
                        io::Error::other(format!("{}: {error}", shown.display()))
                    })?;
                    self.files.push(path);
                }
                _ => {
                    let message = format!("{} is neither file nor directory", shown.display());
                    return Err(io::Error::other(message));
                }
            }
            if self.files.len() > MAX_FILES {
                return Err(io::Error::other(format!(
                    "it has more than {MAX_FILES} files"
                )));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn files(path: &Path) -> io::Result<Vec<String>> {
        match open(path)? {
            Tree::Directory(root) => {
                let mut files: Vec<String> = root
                    .files
                    .iter()
                    .map(|file| file.display().to_string())
                    .collect();
                files.sort();
                Ok(files)
            }
            Tree::File(_) => Ok(vec![String::new()]),
            Tree::Nothing => Ok(Vec::new()),
        }
    }

    #[test]
    fn files_and_links_within_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("model");
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        std::fs::write(root.join("a/b/x"), "x").unwrap();
        std::fs::write(root.join("y"), "y").unwrap();
        symlink("a/b/x", root.join("link")).unwrap();
        assert_eq!(files(&root).unwrap(), ["a/b/x", "link", "y"]);
        assert_eq!(files(&root.join("y")).unwrap(), [""]);
        assert!(files(&root.join("none")).unwrap().is_empty());
    }

    #[test]
    fn links_that_lead_out_are_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("secret"), "s").unwrap();
        for target in ["/etc/passwd", "../secret", "gone", "."] {
            let root = tempfile::tempdir_in(dir.path()).unwrap();
            symlink(target, root.path().join("link")).unwrap();
            let error = files(root.path()).unwrap_err().to_string();
            assert!(error.starts_with("link: "), "{target}: {error}");
        }
        let link = dir.path().join("itself");
        symlink("secret", &link).unwrap();
        assert!(files(&link).is_err());
        rustix::fs::mknodat(
            rustix::fs::CWD,
            dir.path().join("pipe"),
            FileType::Fifo,
            Mode::RUSR,
            0,
        )
        .unwrap();
        assert!(files(&dir.path().join("pipe")).is_err());
    }
}
