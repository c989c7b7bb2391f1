//! Making files beneath a folder and nowhere else, whatever names and links somebody thinks up.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, fchmod, mkdirat, open, openat2, symlinkat};
use rustix::io::Errno;

use crate::Error;

/// A folder. Names are relative to it; the kernel resolves them, so that none leaves it and none goes through a link.
#[derive(Debug)]
pub(crate) struct Place {
    root: OwnedFd,
    path: PathBuf,
}

impl Place {
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = open(path, flags, Mode::empty());
        Ok(Self {
            root: root.map_err(|error| Error::io("open", path)(error.into()))?,
            path: path.to_owned(),
        })
    }

    /// Makes a folder, and those above it; one that is there gets the mode.
    pub(crate) fn folder(&self, name: &Path, mode: u32) -> Result<(), Error> {
        let made = self
            .below(name)
            .and_then(|made| fchmod(made, Mode::from(mode)));
        made.map_err(self.failed("make", name))
    }

    /// Makes a file that is not there, and the folders above it.
    pub(crate) fn file(&self, name: &Path, mode: u32) -> Result<File, Error> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let made = self
            .parent(name)
            .and_then(|(parent, last)| beneath(&parent, Path::new(last), flags, Mode::from(mode)));
        made.map(File::from).map_err(self.failed("write", name))
    }

    /// Makes a link that is not there, and the folders above it.
    pub(crate) fn link(&self, name: &Path, target: &Path) -> Result<(), Error> {
        let made = self
            .parent(name)
            .and_then(|(parent, last)| symlinkat(target, parent, last));
        made.map_err(self.failed("write", name))
    }

    fn parent<'a>(&self, name: &'a Path) -> Result<(OwnedFd, &'a OsStr), Errno> {
        let last = name.file_name().ok_or(Errno::INVAL)?;
        let parent = name.parent().unwrap_or(Path::new(""));
        Ok((self.below(parent)?, last))
    }

    /// Opens a folder; those that are missing on the way are made.
    fn below(&self, name: &Path) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let mut folder = beneath(&self.root, Path::new("."), flags, Mode::empty())?;
        for component in name.components() {
            let component: &Path = component.as_ref();
            match mkdirat(&folder, component, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error),
            }
            folder = beneath(&folder, component, flags, Mode::empty())?;
        }
        Ok(folder)
    }

    fn failed(&self, what: &'static str, name: &Path) -> impl FnOnce(Errno) -> Error + use<> {
        let path = self.path.join(name);
        move |error| Error::io(what, &path)(io::Error::from(error))
    }
}

fn beneath(folder: &OwnedFd, name: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat2(folder, name, flags, mode, resolve)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn nothing_is_made_through_a_link_or_outside() {
        let temp = testkit::temp_dir();
        let (inside, outside) = (temp.path().join("inside"), temp.path().join("outside"));
        fs::create_dir(&inside).unwrap();
        fs::create_dir(&outside).unwrap();
        symlink(&outside, inside.join("absolute")).unwrap();
        symlink("../outside", inside.join("relative")).unwrap();
        symlink("../outside/file", inside.join("file")).unwrap();
        let place = Place::open(&inside).unwrap();
        for name in [
            "absolute/x",
            "relative/x",
            "relative/x/y",
            "../outside/x",
            "file",
        ] {
            let name = Path::new(name);
            assert!(place.file(name, 0o600).is_err(), "{}", name.display());
            assert!(place.folder(name, 0o700).is_err(), "{}", name.display());
            assert!(
                place.link(name, Path::new("t")).is_err(),
                "{}",
                name.display()
            );
        }
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    }

    #[test]
    fn folders_on_the_way_are_made_and_modes_are_kept() {
        let temp = testkit::temp_dir();
        let place = Place::open(temp.path()).unwrap();
        place.file(Path::new("a/b/c"), 0o640).unwrap();
        place.folder(Path::new("a/b"), 0o750).unwrap();
        place.link(Path::new("a/l"), Path::new("b/c")).unwrap();
        let mode = |name: &str| {
            let meta = fs::metadata(temp.path().join(name)).unwrap();
            meta.permissions().mode() & 0o777
        };
        assert_eq!((mode("a"), mode("a/b")), (0o700, 0o750));
        assert!(mode("a/l") & 0o600 == 0o600);
        assert!(place.file(Path::new("a/b/c"), 0o600).is_err());
    }
}
