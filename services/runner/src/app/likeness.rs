//! What makes a process of this machine like one in its image: the shell, the names of the interpreter, and the files of
//! its working directory.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use api_runner::v1::WorkloadSpec;
use api_step::v1::step::Program;

use super::files::remove_tree;
use super::plan::Plan;
use crate::domain::image::{self, Meaning, Rule};
use crate::error::Error;

/// How many files and folders a rule may bring.
const MOST: usize = 10_000;

/// Makes the directory whose `sh` is a shell that knows more than POSIX; none where there is none.
pub(super) fn make_shell(data_dir: &Path, bash: Option<PathBuf>) -> io::Result<Option<PathBuf>> {
    let Some(bash) = bash else {
        return Ok(None);
    };
    let dir = data_dir.join("shell");
    // It may be one of another machine.
    remove_tree(&dir).map_err(io::Error::other)?;
    fs::create_dir_all(&dir)?;
    symlink(bash, dir.join("sh"))?;
    Ok(Some(dir))
}

/// Makes a directory whose `python` and `python3` are the interpreter that stands for a Python image; many machines have the
/// second name only. None where the image is another, or an environment brings them.
pub(super) fn bring_python(
    image: &str,
    rules: &[Rule],
    plan: &Plan,
    dir: &Path,
) -> Result<Option<PathBuf>, Error> {
    let python = match image::meaning(image, rules) {
        Meaning::Python(_) => true,
        Meaning::Rule(rule) => rule.python.is_some(),
        Meaning::None | Meaning::Unknown => false,
    };
    let brought = !plan.path_prefix.is_empty() || plan.venv.is_some();
    if !python || brought || plan.python.as_os_str().is_empty() {
        return Ok(None);
    }
    let bin = dir.join("bin");
    fs::create_dir_all(&bin).map_err(Error::io(&bin))?;
    // A link would hide from an interpreter which virtual environment it is of.
    let interpreter = plan.python.display().to_string().replace('\'', "'\\''");
    let text = format!("#!/bin/sh\nexec '{interpreter}' \"$@\"\n");
    for name in ["python", "python3"] {
        let path = bin.join(name);
        fs::write(&path, &text).map_err(Error::io(&path))?;
        let runs = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&path, runs).map_err(Error::io(&path))?;
    }
    Ok(Some(bin))
}

/// Why a containerised component cannot run: nothing of it is in the pipeline.
pub(super) fn lacks_source(spec: &WorkloadSpec, rules: &[Rule]) -> Option<String> {
    let step = spec.step.as_ref()?;
    let Some(Program::Command(command)) = &step.program else {
        return None;
    };
    let function = step::template::containerised(&command.command, &command.args)?;
    let image = &spec.image;
    if rule(image, rules).is_some_and(|rule| rule.source.is_some()) {
        return None;
    }
    Some(format!(
        "the code of `{function}` is in the image {image}, and steps run as processes of this machine: give its place here \
         with `[[runner.images]] image = \"{image}\", source = \"the directory with kfp_config.ini\"`, or compile the \
         component without target_image"
    ))
}

fn rule<'a>(image: &str, rules: &'a [Rule]) -> Option<&'a Rule> {
    match image::meaning(image, rules) {
        Meaning::Rule(rule) => Some(rule),
        _ => None,
    }
}

/// Puts what an image has in its working directory into that of a program, by links: what the program makes there is its own.
pub(super) fn bring_source(image: &str, rules: &[Rule], work: &Path) -> Result<(), Error> {
    let Some(source) = rule(image, rules).and_then(|rule| rule.source.as_deref()) else {
        return Ok(());
    };
    fs::create_dir_all(work).map_err(Error::io(work))?;
    let entries = fs::read_dir(source).map_err(Error::io(source))?;
    for entry in entries.take(MOST) {
        let name = entry.map_err(Error::io(source))?.file_name();
        let link = work.join(&name);
        match symlink(source.join(&name), &link) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(Error::io(&link)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// What to do about a program that missed what its image would have brought.
pub(super) fn hint(plan: &Plan, code: i32, message: &str) -> &'static str {
    const BRING: &str = "; the image is not used here: install it on this machine, or name what the image brings in `[[runner.images]]`";
    let not_there = code == 127 || message.contains("No module named");
    let unused = plan.notes.iter().any(|note| note.contains(UNUSED));
    if not_there && unused { BRING } else { "" }
}

/// What a workload is told whose image nothing stands for.
pub(super) const UNUSED: &str = "it is not used: the program ran as a process of this machine";
