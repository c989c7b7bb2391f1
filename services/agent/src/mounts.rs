//! Directories at paths of their own: a mount namespace for this agent and what it starts.
//!
//! Root makes one directly; anybody else by way of a user namespace, where the kernel permits it. Where a path does not exist
//! on the machine, its nearest directory is replaced, in this namespace alone, by one in memory that shows the same entries
//! and has room for one more. The machine itself is never changed.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use api_step::v1::{Assignment, Confidential, Mount};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind_recursive, mount_change,
    mount_move, mount_remount, unmount,
};
use rustix::process::{chdir, getegid, geteuid, pivot_root};
use rustix::thread::UnshareFlags;
use step::executor_input::local_path;

use crate::failure::{self, Failure, cannot};

/// How many entries a directory may have that is replaced by one in memory.
const MAX_ENTRIES: usize = 20_000;

/// The mounts of an assignment, which are still to be made.
pub(crate) struct Mounts<'a> {
    stage: PathBuf,
    mounts: Vec<(PathBuf, &'a Mount)>,
}

/// Leaves the machine's mount namespace, when anything is to be mounted: what is mounted from here on, this process and all
/// that it starts see, and nobody else. An ordinary user writes files of its own process here, which a process that hides its
/// memory may not.
pub(crate) fn isolate<'a>(dir: &Path, assignment: &'a Assignment) -> Result<Mounts<'a>, Failure> {
    let mut mounts: Vec<(PathBuf, &Mount)> = Vec::with_capacity(assignment.mounts.len());
    for wanted in &assignment.mounts {
        let path: PathBuf = Path::new(&wanted.path).components().collect();
        check(&path, dir, assignment)?;
        mounts.push((path, wanted));
    }
    // What lies within another comes after it.
    mounts.sort_by_key(|(path, _)| path.components().count());
    if !mounts.is_empty() {
        own_namespace()?;
    }
    let stage = dir.join("root");
    Ok(Mounts { stage, mounts })
}

impl Mounts<'_> {
    /// Makes the mounts.
    pub(crate) fn make(self, confidential: &Confidential) -> Result<(), Failure> {
        let mut view = View {
            stage: self.stage,
            own: Vec::new(),
        };
        for (path, wanted) in self.mounts {
            view.make_point(&path)?;
            if wanted.source.is_empty() {
                in_memory(&path, wanted, confidential)?;
            } else {
                let source = Path::new(&wanted.source);
                mount_bind_recursive(source, &path).map_err(denied("mount", &path))?;
                if wanted.read_only {
                    read_only(&path)?;
                }
            }
            view.own.push(path);
        }
        Ok(())
    }
}

/// Refuses a mount that would hide what the step itself needs.
fn check(path: &Path, dir: &Path, assignment: &Assignment) -> Result<(), Failure> {
    let plain = path.is_absolute()
        && path.components().count() > 1
        && path
            .components()
            .skip(1)
            .all(|part| matches!(part, Component::Normal(_)));
    if !plain {
        let message = format!("{} is no path to mount at", path.display());
        return Err(Failure::new(failure::MOUNT_REFUSED, message));
    }
    let outputs = assignment
        .step
        .iter()
        .flat_map(|step| &step.output_artifacts);
    let outputs = outputs.filter_map(|output| local_path(&output.uri).ok());
    let sources = assignment.mounts.iter().map(|mount| &mount.source);
    let named = [&assignment.python]
        .into_iter()
        .chain(&assignment.path_prefix);
    let needed = named
        .chain(sources)
        .map(PathBuf::from)
        .chain(outputs.map(PathBuf::from))
        .chain([dir.to_owned()]);
    for needed in needed.filter(|needed| needed.is_absolute()) {
        if needed.starts_with(path) {
            let message = format!(
                "mounting at {} would hide {}, which the step needs: mount it at another path, or move the data directory",
                path.display(),
                needed.display()
            );
            return Err(Failure::new(failure::MOUNT_REFUSED, message));
        }
    }
    Ok(())
}

/// Leaves the machine's mount namespace for a copy that changes nothing outside.
fn own_namespace() -> Result<(), Failure> {
    let root = Path::new("/");
    match unshare(UnshareFlags::NEWNS) {
        Ok(()) => {}
        Err(Errno::PERM) => own_user_namespace()?,
        Err(error) => return Err(not_permitted(error)),
    }
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change(root, private).map_err(denied("separate", root))
}

/// An ordinary user may mount within a user namespace of its own, where it stays the user that it is.
fn own_user_namespace() -> Result<(), Failure> {
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNS).map_err(not_permitted)?;
    for (name, content) in [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("{user} {user} 1")),
        ("gid_map", format!("{group} {group} 1")),
    ] {
        let path = Path::new("/proc/self").join(name);
        match fs::write(&path, content) {
            // Kernels before 3.19 have none.
            Err(error) if name == "setgroups" && error.kind() == io::ErrorKind::NotFound => {}
            written => written.map_err(|error| {
                let error = Errno::from_io_error(&error).unwrap_or(Errno::PERM);
                not_permitted(error)
            })?,
        }
    }
    Ok(())
}

#[expect(
    unsafe_code,
    reason = "unshare is unsafe where others share what is left"
)]
fn unshare(flags: UnshareFlags) -> Result<(), Errno> {
    // SAFETY: this process has one thread and shares nothing that the flags name.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}

fn not_permitted(error: Errno) -> Failure {
    let why = match error {
        Errno::PERM | Errno::ACCESS => {
            "the kernel does not permit user namespaces to this user (see the sysctls user.max_user_namespaces, \
             kernel.unprivileged_userns_clone and kernel.apparmor_restrict_unprivileged_userns, or the seccomp profile of \
             the container that Flumina runs in)"
        }
        Errno::NOSPC | Errno::USERS => {
            "there are as many user namespaces as the sysctl user.max_user_namespaces allows"
        }
        Errno::INVAL | Errno::NOSYS => "the kernel has no user namespaces",
        _ => "",
    };
    let message =
        format!("the step mounts directories, which needs a mount namespace: {error}: {why}");
    let message = message.trim_end_matches([':', ' ']);
    Failure::new(failure::MOUNT_NOT_PERMITTED, message)
}

fn denied(what: &str, path: &Path) -> impl FnOnce(Errno) -> Failure {
    let doing = format!("cannot {what} {}", path.display());
    move |error| Failure::new(failure::MOUNT_FAILED, format!("{doing}: {error}"))
}

/// Files that only memory holds.
fn in_memory(path: &Path, wanted: &Mount, confidential: &Confidential) -> Result<(), Failure> {
    tmpfs(path, 0o755)?;
    let files = confidential.files.iter();
    for file in files.filter(|file| file.mount == wanted.path) {
        let target = path.join(&file.name);
        let inside = target.parent() == Some(path) && target.file_name().is_some();
        if !inside {
            let message = format!("{:?} is no name of a file", file.name);
            return Err(Failure::new(failure::STEP_INVALID, message));
        }
        fs::write(&target, &file.content).map_err(cannot("write", &target))?;
    }
    read_only(path)
}

fn tmpfs(path: &Path, mode: u32) -> Result<(), Failure> {
    let options = std::ffi::CString::new(format!("mode={mode:o}")).unwrap_or_default();
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("tmpfs", path, "tmpfs", flags, options.as_c_str())
        .map_err(denied("mount memory at", path))
}

/// Makes a mount read-only. What its source already forbids must be said again, or the kernel refuses.
fn read_only(path: &Path) -> Result<(), Failure> {
    use rustix::fs::StatVfsMountFlags as Has;
    let has = rustix::fs::statvfs(path)
        .map_err(denied("look at", path))?
        .f_flag;
    let mut flags = MountFlags::BIND | MountFlags::RDONLY;
    for (set, flag) in [
        (Has::NOSUID, MountFlags::NOSUID),
        (Has::NODEV, MountFlags::NODEV),
        (Has::NOEXEC, MountFlags::NOEXEC),
        (Has::NOATIME, MountFlags::NOATIME),
        (Has::NODIRATIME, MountFlags::NODIRATIME),
        (Has::RELATIME, MountFlags::RELATIME),
    ] {
        flags.set(flag, has.contains(set));
    }
    mount_remount(path, flags, c"").map_err(denied("protect", path))
}

/// What this namespace shows.
struct View {
    /// Where directories are prepared before they take their places.
    stage: PathBuf,
    /// Directories that are this namespace's own, so that others can be made in them.
    own: Vec<PathBuf>,
}

impl View {
    /// Makes sure that there is a directory at a path.
    fn make_point(&mut self, path: &Path) -> Result<(), Failure> {
        if path.is_dir() {
            return Ok(());
        }
        let missing = |ancestor: &&Path| fs::symlink_metadata(ancestor).is_err();
        let first_missing = path.ancestors().take_while(missing).last();
        let parent = first_missing.and_then(Path::parent);
        let Some(parent) = parent.filter(|parent| parent.is_dir()) else {
            let message = format!(
                "{} is no directory, so nothing can be mounted there",
                path.display()
            );
            return Err(Failure::new(failure::MOUNT_FAILED, message));
        };
        // A directory that is reached by a link is replaced where it is.
        let parent = fs::canonicalize(parent).map_err(cannot("find", parent))?;
        let own = self
            .own
            .iter()
            .any(|own| parent.starts_with(own) && is_own(own, &parent));
        if !own {
            self.replace(&parent)?;
            self.own.push(parent);
        }
        fs::create_dir_all(path).map_err(cannot("make the directory", path))
    }

    /// Replaces a directory by one in memory with the same entries.
    fn replace(&self, dir: &Path) -> Result<(), Failure> {
        let stage = self.stage.as_path();
        fs::create_dir_all(stage).map_err(cannot("make the directory", stage))?;
        let meta = fs::metadata(dir).map_err(cannot("look at", dir))?;
        tmpfs(stage, meta.permissions().mode() & 0o7777)?;
        // It must not show up within itself.
        mount_change(stage, MountPropagationFlags::UNBINDABLE)
            .map_err(denied("separate", stage))?;
        for (count, entry) in fs::read_dir(dir).map_err(cannot("read", dir))?.enumerate() {
            if count >= MAX_ENTRIES {
                let message = format!(
                    "{} has more than {MAX_ENTRIES} entries, so nothing can be mounted below it: mount elsewhere",
                    dir.display()
                );
                return Err(Failure::new(failure::MOUNT_FAILED, message));
            }
            let entry = entry.map_err(cannot("read", dir))?;
            show(&entry, &stage.join(entry.file_name()))?;
        }
        mount_change(stage, MountPropagationFlags::PRIVATE).map_err(denied("separate", stage))?;
        if dir == Path::new("/") {
            become_root(stage)
        } else {
            mount_move(stage, dir).map_err(denied("replace", dir))
        }
    }
}

/// Whether everything between a directory of this namespace and one below it was made in this namespace.
fn is_own(own: &Path, below: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let device = |path: &Path| fs::metadata(path).map(|meta| meta.dev()).ok();
    device(own) == device(below)
}

/// Shows an entry of a directory at another place.
fn show(entry: &fs::DirEntry, at: &Path) -> Result<(), Failure> {
    let (path, kind) = (entry.path(), entry.file_type());
    let kind = kind.map_err(cannot("look at", &path))?;
    if kind.is_symlink() {
        let target = fs::read_link(&path).map_err(cannot("read", &path))?;
        return std::os::unix::fs::symlink(target, at).map_err(cannot("make the link", at));
    }
    if kind.is_dir() {
        fs::create_dir(at).map_err(cannot("make the directory", at))?;
    } else {
        fs::write(at, b"").map_err(cannot("make", at))?;
    }
    match mount_bind_recursive(&path, at) {
        // It is gone, or nobody may look at it: then neither may the program.
        Err(Errno::NOENT | Errno::ACCESS) => Ok(()),
        // Such as the stage itself.
        Err(Errno::INVAL) if kind.is_dir() => Ok(()),
        shown => shown.map_err(denied("show", &path)),
    }
}

fn become_root(stage: &Path) -> Result<(), Failure> {
    let pivot = || {
        chdir(stage)?;
        pivot_root(".", ".")?;
        // The old root lies on top of the new one now.
        unmount(".", UnmountFlags::DETACH)?;
        chdir("/")
    };
    pivot().map_err(denied("replace", Path::new("/")))
}
