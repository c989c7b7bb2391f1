//! `flumina restore`: a data directory out of a backup. Also what any move of a data directory needs.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use tar::{Archive, Entry, EntryType};

use crate::Error;
use crate::archive::{FORMAT, Kind, MANIFEST, Manifest, check, stays_inside};
use crate::backup::sync_dir;
use crate::config::Config;
use crate::data_dir::{
    self, DataDir, FORMAT_FILE, Format, PIPELINES_DATABASE, RUNNER_DATABASE, write_json,
};
use crate::place::Place;

/// The longest manifest that is read, in bytes.
const MANIFEST_LIMIT: u64 = 64 * 1024;

/// Makes the data directory `dir`, which must be empty or not there, from the backup in `file`. Steps that ran when the
/// backup was made are LOST at the next start: none runs a second time unseen.
///
/// # Errors
/// The archive or the directory cannot be used; then the directory is as it was.
pub fn restore(file: &Path, dir: &Path) -> Result<(), Error> {
    let target = target(dir)?;
    let mut name = std::ffi::OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(format!(".restore-{}", std::process::id()));
    let temporary = target.with_file_name(name);
    let made = fs::DirBuilder::new().mode(0o700).create(&temporary);
    made.map_err(Error::io("make", &temporary))?;
    let outcome = restore_into(file, &temporary, &target);
    if outcome.is_err()
        && let Err(error) = fs::remove_dir_all(&temporary)
    {
        tracing::warn!(path = %temporary.display(), %error, "cannot remove a folder");
    }
    outcome
}

/// The absolute path of the directory; it is empty or not there.
fn target(dir: &Path) -> Result<PathBuf, Error> {
    let dir = match fs::canonicalize(dir) {
        Ok(dir) => {
            let mut entries = fs::read_dir(&dir).map_err(Error::io("read", &dir))?;
            if entries.next().is_some() {
                return Err(Error::NotEmpty(dir));
            }
            dir
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let parent = match dir.parent() {
                Some(parent) if parent != Path::new("") => parent,
                _ => Path::new("."),
            };
            fs::create_dir_all(parent).map_err(Error::io("make", parent))?;
            let parent = fs::canonicalize(parent).map_err(Error::io("open", parent))?;
            let name = dir
                .file_name()
                .ok_or_else(|| Error::Missing(dir.to_owned()))?;
            parent.join(name)
        }
        Err(error) => return Err(Error::io("open", dir)(error)),
    };
    match dir.to_str() {
        Some(_) => Ok(dir),
        None => Err(Error::NotText(dir)),
    }
}

fn restore_into(file: &Path, temporary: &Path, target: &Path) -> Result<(), Error> {
    let manifest = unpack(file, temporary)?;
    let path = target.to_str().unwrap_or_default().to_owned();
    relocate(&DataDir::existing(temporary)?, &manifest.path, &path)?;
    let format = Format {
        format: data_dir::FORMAT,
        path,
    };
    write_json(&temporary.join(FORMAT_FILE), &format)?;
    // Everything at once, before the directory gets its name.
    let root = File::open(temporary).map_err(Error::io("open", temporary))?;
    rustix::fs::syncfs(&root).map_err(|error| Error::io("write", temporary)(error.into()))?;
    fs::rename(temporary, target).map_err(|error| match error.kind() {
        io::ErrorKind::DirectoryNotEmpty => Error::NotEmpty(target.to_owned()),
        _ => Error::io("make", target)(error),
    })?;
    match target.parent() {
        Some(parent) => sync_dir(parent),
        None => Ok(()),
    }
}

/// Rewrites paths that the services keep, each in its own database, from one data directory to another. Databases of a
/// newer program are refused.
pub(crate) fn relocate(dir: &DataDir, from: &str, to: &str) -> Result<(), Error> {
    let config = Config::placed(dir);
    let threads =
        runtime::build_tokio(Some(1)).map_err(Error::io("start threads for", dir.root()))?;
    let (pipelines, runner) = (dir.join(PIPELINES_DATABASE), dir.join(RUNNER_DATABASE));
    let outcome = threads.block_on(async {
        if pipelines.exists() {
            let moved = pipeline_orchestrator::store::relocate(&config.pipelines, from, to).await;
            moved.map_err(Error::database(&pipelines))?;
        }
        if runner.exists() {
            let moved = runner::store::relocate(&config.runner, from, to).await;
            moved.map_err(|error| match error {
                runner::store::RelocateError::Database(error) => Error::database(&runner)(error),
                error => Error::Runner(error.into()),
            })?;
        }
        Ok(())
    });
    threads.shutdown_timeout(std::time::Duration::from_secs(1));
    outcome
}

/// Unpacks an archive of ours into an empty directory, refusing whatever would leave it.
fn unpack(file: &Path, dir: &Path) -> Result<Manifest, Error> {
    let opened = File::open(file).map_err(Error::io("read", file))?;
    let mut archive = Archive::new(GzDecoder::new(io::BufReader::new(opened)));
    let broken = |error: io::Error| Error::archive(file, format!("it cannot be read ({error})"));
    let mut entries = archive.entries().map_err(broken)?;
    let first = entries.next().transpose().map_err(broken)?;
    let manifest = manifest(file, first)?;
    let place = Place::open(dir)?;
    // Links come last, so that nothing is ever written through one.
    let mut links = Vec::new();
    for entry in entries {
        let mut entry = entry.map_err(broken)?;
        let name = entry.path().map_err(broken)?.into_owned();
        let kind = kind(entry.header().entry_type());
        let kind = check(&name, kind).map_err(|problem| Error::archive(file, problem))?;
        let mode = entry.header().mode().unwrap_or(0o600) & 0o777;
        match kind {
            // Files are still to be written into it.
            Kind::Folder => place.folder(&name, mode | 0o700)?,
            Kind::File => {
                let mut made = place.file(&name, mode | 0o600)?;
                copy(file, &mut entry, &mut made, &dir.join(&name))?;
            }
            Kind::Link => {
                let target = entry.link_name().map_err(broken)?.unwrap_or_default();
                if !stays_inside(&name, &target) {
                    let problem = format!(
                        "the link `{}` leads out of it, to `{}`",
                        name.display(),
                        target.display()
                    );
                    return Err(Error::archive(file, problem));
                }
                links.push((name, target.into_owned()));
            }
        }
    }
    // Reading to the end checks the sum of the compressed data.
    let mut rest = archive.into_inner();
    io::copy(&mut rest, &mut io::sink()).map_err(broken)?;
    for (name, target) in links {
        place.link(&name, &target)?;
    }
    Ok(manifest)
}

fn kind(kind: EntryType) -> Option<Kind> {
    match kind {
        EntryType::Regular => Some(Kind::File),
        EntryType::Directory => Some(Kind::Folder),
        EntryType::Symlink => Some(Kind::Link),
        _ => None,
    }
}

fn manifest(file: &Path, first: Option<Entry<'_, impl io::Read>>) -> Result<Manifest, Error> {
    let foreign = || Error::archive(file, "it does not begin with a manifest");
    let entry = first.ok_or_else(foreign)?;
    if entry.path_bytes().as_ref() != MANIFEST.as_bytes() {
        return Err(foreign());
    }
    let mut text = Vec::new();
    entry
        .take(MANIFEST_LIMIT)
        .read_to_end(&mut text)
        .map_err(Error::io("read", file))?;
    let manifest: Manifest = serde_json::from_slice(&text).map_err(|_| foreign())?;
    if manifest.format > FORMAT {
        return Err(Error::Newer {
            place: file.to_owned(),
            found: manifest.format,
            known: FORMAT,
        });
    }
    if !Path::new(&manifest.path).is_absolute() {
        return Err(Error::archive(file, "its paths are not absolute"));
    }
    Ok(manifest)
}

fn copy(
    file: &Path,
    entry: &mut Entry<'_, impl io::Read>,
    made: &mut File,
    path: &Path,
) -> Result<(), Error> {
    let size = entry.header().size().unwrap_or_default();
    let written = io::copy(entry, made).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
            Error::archive(file, format!("it cannot be read ({error})"))
        }
        _ => Error::io("write", path)(error),
    })?;
    if written != size {
        return Err(Error::archive(file, "it is cut off"));
    }
    Ok(())
}
