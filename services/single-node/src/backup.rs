//! `flumina backup`: a consistent copy of a data directory, whether a fleet runs there or not.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, EntryType, Header};

use crate::Error;
use crate::archive::{DATABASES, FORMAT, MANIFEST, Manifest, TREES, stays_inside};
use crate::data_dir::DataDir;

/// Folders of a workload that nobody reads after its end.
const SCRATCH: [&str; 3] = ["tmp", "scratch", "root"];
/// Folders that mean something on their own machine only, or nothing after a step's end.
const OWN: [&str; 2] = ["runner/t", "runner/shell"];

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// The size of the archive, in bytes.
    pub bytes: u64,
    /// Links that lead out of the data directory, what is neither file, folder nor link, and what a step left that may not
    /// be read; they are not in it.
    pub skipped: Vec<PathBuf>,
}

/// Writes a copy of the data directory to `file`, which must not exist. The databases are copied first, each as it is
/// at one moment; the files that they name are there already.
///
/// # Errors
/// The directory cannot be read, or the archive cannot be written; then there is none.
pub fn backup(dir: &Path, file: &Path) -> Result<Backup, Error> {
    let dir = DataDir::existing(dir)?;
    let Some(format) = dir.format()? else {
        return Err(Error::Missing(dir.root().to_owned()));
    };
    if fs::symlink_metadata(file).is_ok() {
        return Err(Error::Exists(file.to_owned()));
    }
    let scratch = Scratch::new(file)?;
    let copies = copy_databases(&dir, &scratch)?;
    let archive = scratch.path.join("archive");
    let skipped = write(&dir, &copies, format.path, &archive)?;
    let bytes = fs::metadata(&archive)
        .map_err(Error::io("read", &archive))?
        .len();
    publish(&archive, file).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Error::Exists(file.to_owned()),
        _ => Error::io("write", file)(error),
    })?;
    sync_dir(&scratch.parent)?;
    Ok(Backup { bytes, skipped })
}

/// Gives a file its name, and does not replace what somebody else made meanwhile. Not every file system has links, nor
/// such renames.
fn publish(from: &Path, to: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use rustix::io::Errno;
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => fs::hard_link(from, to),
        renamed => renamed.map_err(Into::into),
    }
}

/// A private folder beside the archive; it goes with this value.
struct Scratch {
    path: PathBuf,
    parent: PathBuf,
}

impl Scratch {
    fn new(file: &Path) -> Result<Self, Error> {
        use std::os::unix::fs::DirBuilderExt as _;
        let name = file
            .file_name()
            .ok_or_else(|| Error::Exists(file.to_owned()))?;
        let parent = match file.parent() {
            Some(parent) if parent != Path::new("") => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let path = parent.join(format!(
            ".{}.{}",
            name.to_string_lossy(),
            std::process::id()
        ));
        let made = fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(Error::io("make", &path))?;
        Ok(Self { path, parent })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove a folder");
        }
    }
}

fn copy_databases(dir: &DataDir, scratch: &Scratch) -> Result<Vec<(&'static str, PathBuf)>, Error> {
    let threads =
        runtime::build_tokio(Some(1)).map_err(Error::io("start threads for", dir.root()))?;
    let mut copies = Vec::new();
    for name in DATABASES {
        let from = dir.join(name);
        if !from.exists() {
            continue;
        }
        let copy = scratch.path.join(name);
        threads
            .block_on(sql::copy_file(&from, &copy))
            .map_err(|error| match error {
                sql::Error::DiskFull => Error::DiskFull {
                    what: "copy a database to",
                    path: copy.clone(),
                },
                error => Error::database(&from)(error),
            })?;
        copies.push((name, copy));
    }
    Ok(copies)
}

fn write(
    dir: &DataDir,
    copies: &[(&'static str, PathBuf)],
    path: String,
    archive: &Path,
) -> Result<Vec<PathBuf>, Error> {
    let mut writer = Writer::create(archive)?;
    let manifest = Manifest {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        created_us: clock::Clock::system().now().as_micros(),
        path,
    };
    writer.manifest(&manifest)?;
    for (name, copy) in copies {
        writer.member(copy, Path::new(name))?;
    }
    for tree in TREES {
        writer.tree(&dir.join(tree), Path::new(tree))?;
    }
    writer.finish()
}

struct Writer {
    tar: Builder<GzEncoder<File>>,
    archive: PathBuf,
    skipped: Vec<PathBuf>,
}

impl Writer {
    fn create(archive: &Path) -> Result<Self, Error> {
        let file = OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(archive);
        let file = file.map_err(Error::io("write", archive))?;
        Ok(Self {
            tar: Builder::new(GzEncoder::new(file, Compression::fast())),
            archive: archive.to_owned(),
            skipped: Vec::new(),
        })
    }

    fn manifest(&mut self, manifest: &Manifest) -> Result<(), Error> {
        let text = serde_json::to_vec(manifest)
            .map_err(|error| Error::io("write", &self.archive)(error.into()))?;
        let mut header = header(EntryType::Regular, 0o600, 0);
        header.set_size(text.len() as u64);
        let added = self.tar.append_data(&mut header, MANIFEST, text.as_slice());
        added.map_err(Error::io("write", &self.archive))
    }

    /// Everything beneath a path; what goes away meanwhile is not in it.
    fn tree(&mut self, path: &Path, name: &Path) -> Result<(), Error> {
        self.member(path, name)?;
        if !fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir()) {
            return Ok(());
        }
        let entries = match fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) => return self.unreadable(path, name, error),
        };
        let workloads = name.starts_with("runner/workloads");
        let depth = name.components().count();
        for entry in entries {
            let child = entry.map_err(Error::io("read", path))?.file_name();
            // runner/workloads/LEVEL/ID/FOLDER
            if workloads && depth == 4 && SCRATCH.iter().any(|name| child == *name) {
                continue;
            }
            let name = name.join(&child);
            if OWN.iter().any(|own| name == Path::new(own)) {
                continue;
            }
            self.tree(&path.join(&child), &name)?;
        }
        Ok(())
    }

    fn member(&mut self, path: &Path, name: &Path) -> Result<(), Error> {
        let meta = match fs::symlink_metadata(path) {
            Ok(meta) => meta,
            Err(error) => return self.unreadable(path, name, error),
        };
        let kind = meta.file_type();
        let written = if kind.is_dir() {
            let mut header = header(EntryType::Directory, meta.mode(), meta.mtime());
            self.tar.append_data(&mut header, name, io::empty())
        } else if kind.is_symlink() {
            let target = fs::read_link(path).map_err(Error::io("read", path))?;
            if !stays_inside(name, &target) {
                self.skipped.push(path.to_owned());
                return Ok(());
            }
            let mut header = header(EntryType::Symlink, 0o777, meta.mtime());
            self.tar.append_link(&mut header, name, &target)
        } else if kind.is_file() {
            let file = match File::open(path) {
                Ok(file) => file,
                Err(error) => return self.unreadable(path, name, error),
            };
            let size = file.metadata().map_err(Error::io("read", path))?.len();
            let mut header = header(EntryType::Regular, meta.mode(), meta.mtime());
            header.set_size(size);
            // A log may grow, and a file of a step may shrink, while it is read.
            self.tar
                .append_data(&mut header, name, file.chain(io::repeat(0)).take(size))
        } else {
            debug_assert!(
                kind.is_fifo()
                    || kind.is_socket()
                    || kind.is_char_device()
                    || kind.is_block_device()
            );
            self.skipped.push(path.to_owned());
            return Ok(());
        };
        written.map_err(Error::io("write", &self.archive))
    }

    /// What is gone is no loss. Steps may take away the permission to read what they left; the trees themselves are ours.
    fn unreadable(&mut self, path: &Path, name: &Path, error: io::Error) -> Result<(), Error> {
        match error.kind() {
            io::ErrorKind::NotFound => Ok(()),
            io::ErrorKind::PermissionDenied if name.components().count() > 1 => {
                self.skipped.push(path.to_owned());
                Ok(())
            }
            _ => Err(Error::io("read", path)(error)),
        }
    }

    fn finish(self) -> Result<Vec<PathBuf>, Error> {
        let close = || {
            let mut file = self.tar.into_inner()?.finish()?;
            file.flush()?;
            file.sync_all()
        };
        close().map_err(Error::io("write", &self.archive))?;
        Ok(self.skipped)
    }
}

/// A header without owner: whoever restores it owns it.
fn header(kind: EntryType, mode: u32, mtime: i64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode & 0o777);
    header.set_mtime(mtime.max(0).unsigned_abs());
    header.set_size(0);
    header
}

pub(crate) fn sync_dir(dir: &Path) -> Result<(), Error> {
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(Error::io("write", dir))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_name_that_is_taken_is_not_replaced() {
        let temp = testkit::temp_dir();
        let (from, to) = (temp.path().join("from"), temp.path().join("to"));
        fs::write(&from, "new").unwrap();
        fs::write(&to, "old").unwrap();
        let error = publish(&from, &to).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&to).unwrap(), "old");
        fs::remove_file(&to).unwrap();
        publish(&from, &to).unwrap();
        assert_eq!(fs::read_to_string(&to).unwrap(), "new");
    }

    #[test]
    fn what_a_step_made_unreadable_is_skipped() {
        const ORDINARY: u32 = 65534;
        let temp = testkit::temp_dir();
        let root = temp.path().join("artifacts");
        fs::create_dir(&root).unwrap();
        for name in ["a", "b", "c"] {
            fs::write(root.join(name), name).unwrap();
        }
        fs::create_dir(root.join("d")).unwrap();
        let forbid = fs::Permissions::from_mode(0o000);
        for name in ["b", "d"] {
            fs::set_permissions(root.join(name), forbid.clone()).unwrap();
        }
        fs::set_permissions(temp.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let archive = temp.path().join("archive");
        let write = || {
            if rustix::process::geteuid().is_root() {
                // Nothing is unreadable to root. The user of one thread is changed, not that of the process.
                let user = rustix::process::Uid::from_raw(ORDINARY);
                rustix::thread::set_thread_res_uid(user, user, user).unwrap();
            }
            let mut writer = Writer::create(&archive).unwrap();
            writer.tree(&root, Path::new("artifacts")).unwrap();
            writer.finish().unwrap()
        };
        let mut skipped = std::thread::scope(|scope| scope.spawn(write).join().unwrap());
        skipped.sort();
        assert_eq!(skipped, [root.join("b"), root.join("d")]);
        let file = File::open(&archive).unwrap();
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
        let mut names: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        names.sort();
        assert_eq!(
            names,
            ["artifacts", "artifacts/a", "artifacts/c", "artifacts/d"]
        );
        // Else the folder cannot be removed by an ordinary user.
        fs::set_permissions(root.join("d"), fs::Permissions::from_mode(0o700)).unwrap();
    }
}
