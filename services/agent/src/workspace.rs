//! Artifacts that an importer marked as brought into the workspace: the first step that needs one copies it there, or, when
//! it is in a store of the network, fetches it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use api_step::v1::{Assignment, TransferItem};
use serde_json::Value;
use step::Places;
use step::executor_input::{WORKSPACE, remote_workspace_place, workspace_place};
use step::places::is_remote;

use crate::failure::{self, Failure, cannot};

/// How deep a directory may be nested.
const MAX_DEPTH: usize = 64;

/// Copies the marked inputs of a step to where the SDK looks for them.
pub(crate) fn bring(executor_input: &Value, assignment: &Assignment) -> Result<(), Failure> {
    let inputs = executor_input["inputs"]["artifacts"].as_object();
    let lists = inputs.into_iter().flat_map(|inputs| inputs.values());
    let artifacts = lists.flat_map(|list| list["artifacts"].as_array().into_iter().flatten());
    for artifact in artifacts {
        let uri = artifact["uri"].as_str().unwrap_or_default();
        if is_remote(uri) {
            continue;
        }
        let Some(place) = workspace_place(artifact) else {
            continue;
        };
        need_workspace(uri, assignment)?;
        let target = Path::new(&assignment.workspace_dir).join(place);
        bring_one(Path::new(uri), &target, &assignment.attempt_id)?;
    }
    Ok(())
}

fn need_workspace(uri: &str, assignment: &Assignment) -> Result<(), Failure> {
    if assignment.workspace_dir.is_empty() {
        let message = format!("{uri} is in the workspace, and the pipeline has none");
        return Err(Failure::new(failure::INPUT_UNAVAILABLE, message));
    }
    Ok(())
}

/// What was fetched for the workspace: where it is, and where it goes.
pub(crate) type Fetched = Vec<(PathBuf, PathBuf)>;

/// Marks inputs in stores of the network: the program finds them in the workspace. What is there already is not fetched;
/// the rest is returned.
pub(crate) fn expect(
    inputs: &Value,
    assignment: &Assignment,
    places: &mut Places,
    fetch: &mut Vec<TransferItem>,
) -> Result<Fetched, Failure> {
    let mut fetched = Fetched::new();
    let lists = inputs["artifacts"].as_object();
    let lists = lists.into_iter().flat_map(|inputs| inputs.values());
    for artifact in lists.flat_map(|list| list["artifacts"].as_array().into_iter().flatten()) {
        let uri = artifact["uri"].as_str().unwrap_or_default();
        let Some(place) = remote_workspace_place(artifact).filter(|_| is_remote(uri)) else {
            continue;
        };
        need_workspace(uri, assignment)?;
        let target = Path::new(&assignment.workspace_dir).join(&place);
        places.show_input(uri, &format!("{WORKSPACE}/{place}"));
        let there = fs::symlink_metadata(&target).is_ok();
        fetch.retain(|item| {
            let wanted = item.uri == uri;
            if wanted && !there {
                fetched.push((PathBuf::from(&item.path), target.clone()));
            }
            !(wanted && there)
        });
    }
    Ok(fetched)
}

/// Puts what was fetched into the workspace.
pub(crate) fn put(fetched: &Fetched, attempt: &str) -> Result<(), Failure> {
    for (source, target) in fetched {
        let parent = target.parent().unwrap_or(target);
        fs::create_dir_all(parent).map_err(cannot("make the directory", parent))?;
        // Without a copy where both are on one disk; else, and when another step was faster, as from a directory.
        if fs::rename(source, target).is_err() {
            bring_one(source, target, attempt)?;
        }
    }
    Ok(())
}

/// Another step may do the same at the same time: what is whole takes the name, and the first one keeps it.
fn bring_one(source: &Path, target: &Path, attempt: &str) -> Result<(), Failure> {
    if fs::symlink_metadata(target).is_ok() {
        return Ok(());
    }
    let meta = fs::metadata(source).map_err(|error| {
        let message = format!(
            "cannot bring {} into the workspace: {error}",
            source.display()
        );
        Failure::new(failure::INPUT_UNAVAILABLE, message)
    })?;
    let parent = target.parent().unwrap_or(target);
    fs::create_dir_all(parent).map_err(cannot("make the directory", parent))?;
    let mut name = target.as_os_str().to_owned();
    name.push(format!(".{attempt}"));
    let temporary = PathBuf::from(name);
    let copied = if meta.is_dir() {
        copy_dir(source, &temporary, MAX_DEPTH)
    } else {
        fs::copy(source, &temporary).map(drop)
    };
    copied.map_err(cannot("copy into the workspace:", source))?;
    match fs::rename(&temporary, target) {
        // Somebody else was faster; theirs is the same.
        Err(_) if fs::symlink_metadata(target).is_ok() => {
            drop(fs::remove_file(&temporary).or_else(|_| fs::remove_dir_all(&temporary)));
            Ok(())
        }
        renamed => renamed.map_err(cannot("rename to", target)),
    }
}

/// Links are copied as links, so that none is followed out of the artifact.
fn copy_dir(source: &Path, target: &Path, depth: usize) -> io::Result<()> {
    if depth == 0 {
        return Err(io::Error::other("it is nested too deep"));
    }
    fs::create_dir_all(target)?;
    for entry in fs::read_dir(source)? {
        let entry = entry?;
        let (from, to) = (entry.path(), target.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy_dir(&from, &to, depth - 1)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(&from)?, &to)?;
        } else if kind.is_file() {
            fs::copy(&from, &to)?;
        }
    }
    Ok(())
}
