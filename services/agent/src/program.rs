//! Finds the program and starts it.

use std::fs::File;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use api_step::v1::Assignment;
use rustix::process::Pid;

use crate::failure::{self, Failure, cannot};
use crate::prepare::Prepared;
use crate::{limits, sys};

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program that was found, with everything that exec needs.
pub(crate) struct Program {
    path: PathBuf,
    args: Vec<String>,
    env: Vec<(String, String)>,
    working_dir: PathBuf,
}

/// Where the program's output goes.
pub(crate) enum Output {
    /// Both streams into the log.
    Log(File),
    /// The terminal of whoever started the agent.
    Inherit,
}

/// Finds the program and checks what it is given.
pub(crate) fn find(assignment: &Assignment, prepared: &Prepared) -> Result<Program, Failure> {
    let env = environment(assignment, prepared);
    let mut args = prepared.command.clone();
    let working_dir = PathBuf::from(&assignment.working_dir);
    let path = locate(assignment, &args[0], &env, &working_dir)?;
    // Python finds its environment through its own name, so it must be the whole path.
    if is_python(&args[0]) {
        args[0] = path.to_string_lossy().into_owned();
    }
    limits::check(&args, &env)?;
    Ok(Program {
        path,
        args,
        env,
        working_dir,
    })
}

fn is_python(name: &str) -> bool {
    matches!(name, "python" | "python3")
}

/// The assignment's variables, what the kind of program adds, the attempt's id, and PATH with the prefix.
fn environment(assignment: &Assignment, prepared: &Prepared) -> Vec<(String, String)> {
    let given = assignment
        .env
        .iter()
        .map(|var| (var.name.clone(), var.value.clone()));
    let mut env: Vec<(String, String)> = Vec::new();
    let mut set =
        |name: String, value: String| match env.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => env.push((name, value)),
        };
    given.for_each(|(name, value)| set(name, value));
    prepared
        .env
        .iter()
        .cloned()
        .for_each(|(name, value)| set(name, value));
    set("FLUMINA_ATTEMPT".to_owned(), assignment.attempt_id.clone());

    let path = env
        .iter()
        .find(|(name, _)| name == "PATH")
        .map_or(DEFAULT_PATH, |(_, value)| value);
    let mut path = path.to_owned();
    if !assignment.path_prefix.is_empty() {
        path = format!("{}:{path}", assignment.path_prefix.join(":"));
    }
    env.retain(|(name, _)| name != "PATH");
    env.push(("PATH".to_owned(), path));
    env
}

fn locate(
    assignment: &Assignment,
    name: &str,
    env: &[(String, String)],
    work: &Path,
) -> Result<PathBuf, Failure> {
    if name.contains('/') {
        let path = work.join(name);
        return match executable(&path) {
            Found::Yes => Ok(path),
            Found::NotExecutable => Err(not_executable(&path)),
            Found::No => Err(not_found(name, "it does not exist on this machine")),
        };
    }
    let mut refused = None;
    let mut search = |dir: &str| {
        let path = work.join(dir).join(name);
        match executable(&path) {
            Found::Yes => return Some(path),
            Found::NotExecutable => refused = Some(path),
            Found::No => {}
        }
        None
    };
    if let Some(path) = assignment.path_prefix.iter().find_map(|dir| search(dir)) {
        return Ok(path);
    }
    if is_python(name) && !assignment.python.is_empty() {
        return Ok(PathBuf::from(&assignment.python));
    }
    let path = env
        .iter()
        .find(|(name, _)| name == "PATH")
        .map_or("", |(_, value)| value);
    match (path.split(':').find_map(search), refused) {
        (Some(path), _) => Ok(path),
        (None, Some(path)) => Err(not_executable(&path)),
        (None, None) => Err(not_found(
            name,
            &format!("no directory of PATH has it ({path})"),
        )),
    }
}

enum Found {
    Yes,
    NotExecutable,
    No,
}

fn executable(path: &Path) -> Found {
    match path.metadata() {
        Ok(meta) if meta.is_file() && meta.permissions().mode() & 0o111 != 0 => Found::Yes,
        Ok(_) => Found::NotExecutable,
        Err(_) => Found::No,
    }
}

fn not_found(name: &str, why: &str) -> Failure {
    let message = format!(
        "the program {name:?} was not found: {why}; steps run as processes of this machine, not in their image: \
         install the program here, or map the image to an environment that has it"
    );
    Failure::new(failure::PROGRAM_NOT_FOUND, message)
}

fn not_executable(path: &Path) -> Failure {
    let message = format!("{} is no executable file", path.display());
    Failure::new(failure::PROGRAM_NOT_EXECUTABLE, message)
}

/// The cgroup to join, checked before anything starts.
pub(crate) fn cgroup(assignment: &Assignment) -> Result<Option<File>, Failure> {
    if assignment.cgroup_dir.is_empty() {
        return Ok(None);
    }
    let path = Path::new(&assignment.cgroup_dir).join("cgroup.procs");
    let file = File::options().write(true).open(&path);
    file.map(Some).map_err(cannot("join the cgroup", &path))
}

impl Program {
    /// Starts the program. The error of exec comes back here, with nothing left running.
    pub(crate) fn start(&self, output: Output, child: sys::Child) -> Result<Pid, Failure> {
        let mut command = Command::new(&self.path);
        std::os::unix::process::CommandExt::arg0(&mut command, &self.args[0]);
        command.args(&self.args[1..]);
        command
            .env_clear()
            .envs(self.env.iter().map(|(name, value)| (name, value)));
        command.current_dir(&self.working_dir);
        if let Output::Log(log) = output {
            let second = log
                .try_clone()
                .map_err(cannot("open the log of", &self.path))?;
            command.stdin(Stdio::null()).stdout(log).stderr(second);
        }
        sys::spawn(&mut command, child).map_err(|error| self.explain(&error))
    }

    fn explain(&self, error: &std::io::Error) -> Failure {
        let name = self.args[0].as_str();
        match error.raw_os_error() {
            Some(libc::ENOENT) => not_found(
                name,
                "it, or the interpreter in its first line, does not exist",
            ),
            Some(libc::EACCES | libc::ENOEXEC) => not_executable(&self.path),
            Some(libc::E2BIG) => Failure::new(
                failure::ARGUMENT_TOO_LARGE,
                "the command and its environment are larger than Linux allows; pass large values as artifacts",
            ),
            _ => Failure::new(
                failure::AGENT_ERROR,
                format!("cannot start {name:?}: {error}"),
            ),
        }
    }
}
