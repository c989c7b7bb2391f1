//! Everything before the program starts: directories, files, the executor input and the command.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Component, Path, PathBuf};

use api_step::v1::step::Program;
use api_step::v1::{
    Assignment, Command, OutputArtifact as WireArtifact, ParameterType as WireType, PythonFunction,
    Step, TransferItem,
};
use serde_json::{Map, Value};
use step::executor_input::{self, InputError};
use step::placeholders::{self, Scope};
use step::{ArtifactType, OutputArtifact, Outputs, ParameterType, Places};

use crate::failure::{self, Failure, cannot};
use crate::files::Placed;
use crate::{remote, workspace};

/// Runs kfp's executor with everything from files.
const BOOTSTRAP: &str = include_str!("bootstrap.py");
/// Tells the SDK where artifacts in stores of the network are on this machine.
const PLACES: &str = include_str!("places.py");

/// A step that is ready to start.
pub(crate) struct Prepared {
    /// The command with placeholders replaced.
    pub(crate) command: Vec<String>,
    /// Variables that the kind of program adds to the assignment's.
    pub(crate) env: Vec<(String, String)>,
    /// Whether the command is one of our own making around a Python function.
    pub(crate) python_function: bool,
    /// Where the outputs are.
    pub(crate) outputs: Outputs,
    /// The parameters' types.
    pub(crate) types: BTreeMap<String, ParameterType>,
    /// Directories that were made for artifacts.
    pub(crate) made: Vec<PathBuf>,
    /// What the program's own paths mean.
    pub(crate) placed: Placed,
    /// Where artifacts in stores of the network are.
    pub(crate) places: Places,
    /// What to fetch from there.
    pub(crate) fetch: Vec<TransferItem>,
    /// What of it goes into the workspace.
    pub(crate) for_workspace: workspace::Fetched,
}

/// Prepares a step in its directory.
pub(crate) fn prepare(
    dir: &Path,
    assignment: &Assignment,
    debug: bool,
) -> Result<Prepared, Failure> {
    let step = assignment
        .step
        .as_ref()
        .ok_or_else(|| Failure::new(failure::STEP_INVALID, "the assignment has no step"))?;
    let work = Path::new(&assignment.working_dir);
    if !work.is_absolute() {
        let message = format!("the working directory {work:?} is not an absolute path");
        return Err(Failure::new(failure::STEP_INVALID, message));
    }
    make_dir(work, &mut Vec::new())?;
    write_files(dir, assignment)?;

    let types = types(step)?;
    let placed = Placed::new(dir, step.files.as_ref(), &assignment.mounts);
    let inputs = inputs(step)?;
    let mut places = remote::places(dir, assignment, step, &inputs);
    let mut fetch = remote::inputs(&places, step, &inputs);
    let for_workspace = workspace::expect(&inputs, assignment, &mut places, &mut fetch)?;
    let mut outputs = outputs(dir, step, types.keys(), &places)?;
    for (name, taken) in &placed.parameters {
        if let Some(file) = outputs.parameters.get_mut(name) {
            *file = text(&taken.path);
        }
    }
    let mut executor_input = executor_input(&inputs, &outputs, &places)?;
    workspace::bring(&executor_input, assignment)?;
    let made = make_output_dirs(step, &outputs, &places)?;

    let context: BTreeMap<String, String> = step.placeholders.clone().into_iter().collect();
    let declared: BTreeSet<String> = step.declared_inputs.iter().cloned().collect();
    placeholders::resolve_inputs(&mut executor_input, &context, &declared);
    let scope = Scope {
        executor_input: &executor_input,
        context: &context,
        declared_inputs: &declared,
    };
    placed.place(step.files.as_ref(), &scope)?;
    let moved = assignment
        .env
        .iter()
        .map(|variable| (variable.name.clone(), placed.text(&variable.value)));
    let mut prepared = Prepared {
        command: Vec::new(),
        env: match step.files {
            Some(_) => moved.collect(),
            None => Vec::new(),
        },
        python_function: false,
        outputs,
        types,
        made,
        placed,
        fetch,
        for_workspace,
        places,
    };
    let tell = (!prepared.places.is_empty()).then_some(&prepared.places);
    match &step.program {
        Some(Program::Command(command)) => {
            prepared.command = resolve(command, &scope, &prepared.placed)?;
            if let Some(places) = tell {
                let path = python_path(dir, assignment, places)?;
                prepared.env.extend(path);
            }
        }
        Some(Program::PythonFunction(function)) => {
            let executor_input = executor_input.to_string();
            if let Some(places) = tell {
                write_places(&dir.join("files"), "places.py", places)?;
            }
            prepared.command = python_command(dir, &assignment.python, function, &executor_input)?;
            prepared.command.extend(debug.then(|| "--pdb".to_owned()));
            prepared
                .env
                .push(("_KFP_RUNTIME".to_owned(), "true".to_owned()));
            prepared.python_function = true;
        }
        None => return Err(no_command()),
    }
    Ok(prepared)
}

/// Writes what a Python function needs to files, so that nothing large is on the command line.
fn python_command(
    dir: &Path,
    python: &str,
    function: &PythonFunction,
    executor_input: &str,
) -> Result<Vec<String>, Failure> {
    let files = dir.join("files");
    make_dir(&files, &mut Vec::new())?;
    let source = write(&files, "ephemeral_component.py", function.source.as_bytes())?;
    let input = write(&files, "executor_input.json", executor_input.as_bytes())?;
    let bootstrap = write(&files, "bootstrap.py", BOOTSTRAP.as_bytes())?;
    let python = if python.is_empty() { "python3" } else { python };
    Ok([python, &bootstrap, &input, &source, &function.function]
        .map(str::to_owned)
        .into())
}

/// Programs of the SDK that are not started by us learn the places when their interpreter starts.
fn python_path(
    dir: &Path,
    assignment: &Assignment,
    places: &Places,
) -> Result<Vec<(String, String)>, Failure> {
    let site = dir.join("files").join("site");
    write_places(&site, "sitecustomize.py", places)?;
    let known = assignment.env.iter().find(|var| var.name == "PYTHONPATH");
    let path = match known.map(|var| var.value.as_str()) {
        None | Some("") => text(&site),
        Some(path) => format!("{}:{path}", text(&site)),
    };
    Ok(vec![("PYTHONPATH".to_owned(), path)])
}

fn write_places(dir: &Path, name: &str, places: &Places) -> Result<(), Failure> {
    make_dir(dir, &mut Vec::new())?;
    let pairs: Vec<_> = places.pairs().collect();
    let pairs = serde_json::json!(pairs).to_string();
    write(dir, "places.json", pairs.as_bytes())?;
    write(dir, name, PLACES.as_bytes()).map(drop)
}

/// Makes the directories of all outputs and returns which of those for artifacts are new.
fn make_output_dirs(
    step: &Step,
    outputs: &Outputs,
    places: &Places,
) -> Result<Vec<PathBuf>, Failure> {
    let mut made = Vec::new();
    for artifact in &outputs.artifacts {
        if let Some(path) = places.output_path(&artifact.uri) {
            let parent = Path::new(&path).parent().unwrap_or(Path::new("/"));
            make_dir(parent, &mut Vec::new())?;
            continue;
        }
        let path = executor_input::local_path(&artifact.uri).unwrap_or_default();
        if let Some(parent) = Path::new(&path).parent() {
            make_dir(parent, &mut made)?;
        }
    }
    let output_file = tells_output_file(step).then_some(&outputs.output_file);
    let files = outputs.parameters.values().chain(output_file);
    for parent in files.filter_map(|file| Path::new(file).parent()) {
        make_dir(parent, &mut Vec::new())?;
    }
    Ok(made)
}

fn resolve(command: &Command, scope: &Scope<'_>, placed: &Placed) -> Result<Vec<String>, Failure> {
    if command.command.is_empty() && command.args.is_empty() {
        return Err(no_command());
    }
    let elements: Vec<String> = command
        .command
        .iter()
        .chain(&command.args)
        .map(|element| placed.text(element))
        .collect();
    let resolved = scope
        .resolve_all(&elements)
        .map_err(|error| Failure::new(failure::PLACEHOLDER_INVALID, error.to_string()))?;
    if resolved.first().is_none_or(String::is_empty) {
        return Err(no_command());
    }
    Ok(resolved)
}

fn no_command() -> Failure {
    Failure::new(
        failure::NO_COMMAND,
        "the component has no command; a step that runs as a process cannot use the entry point of its image, \
         so give the container component a command",
    )
}

fn inputs(step: &Step) -> Result<Value, Failure> {
    match step.inputs_json.as_str() {
        "" => Ok(Value::Object(Map::new())),
        text => serde_json::from_str(text).map_err(|error| {
            let message = format!("the inputs of the step are not JSON: {error}");
            Failure::new(failure::STEP_INVALID, message)
        }),
    }
}

fn executor_input(inputs: &Value, outputs: &Outputs, places: &Places) -> Result<Value, Failure> {
    executor_input::build(inputs, outputs, places).map_err(|error| {
        let reason = match error {
            InputError::Malformed(_) => failure::STEP_INVALID,
            InputError::Artifact { .. } => failure::INPUT_UNAVAILABLE,
        };
        Failure::new(reason, error.to_string())
    })
}

/// Whether the program can know where the executor output goes; making a directory for nothing costs as much as a process.
fn tells_output_file(step: &Step) -> bool {
    match &step.program {
        Some(Program::Command(command)) => {
            let mut elements = command.command.iter().chain(&command.args);
            elements.any(|element| element.contains("{{$"))
        }
        _ => true,
    }
}

/// Where outputs go. With artifacts, the executor output lies beside them: `dsl.get_uri()` of the SDK is its directory, and what
/// a program writes there must live as long as the artifacts.
fn outputs<'a>(
    dir: &Path,
    step: &Step,
    parameters: impl Iterator<Item = &'a String>,
    places: &Places,
) -> Result<Outputs, Failure> {
    let mut artifacts = Vec::with_capacity(step.output_artifacts.len());
    for artifact in &step.output_artifacts {
        artifacts.push(output_artifact(artifact)?);
    }
    let own = dir.join("outputs");
    let beside = artifacts.iter().find_map(|artifact| {
        let path = places.output_path(&artifact.uri);
        let path = path.or_else(|| executor_input::local_path(&artifact.uri).ok())?;
        Some(Path::new(&path).parent()?.to_owned())
    });
    let parameters = parameters
        .map(|name| (name.clone(), text(&own.join(file_name(name)))))
        .collect();
    Ok(Outputs {
        parameters,
        artifacts,
        output_file: text(&beside.unwrap_or(own).join("executor_output.json")),
    })
}

fn output_artifact(artifact: &WireArtifact) -> Result<OutputArtifact, Failure> {
    let metadata = match artifact.metadata_json.as_str() {
        "" => Map::new(),
        json => serde_json::from_str(json).map_err(|error| {
            let message = format!(
                "the metadata of output {:?} is not a JSON object: {error}",
                artifact.name
            );
            Failure::new(failure::STEP_INVALID, message)
        })?,
    };
    Ok(OutputArtifact {
        name: artifact.name.clone(),
        uri: artifact.uri.clone(),
        kind: ArtifactType {
            schema_title: artifact.schema_title.clone(),
            schema_version: artifact.schema_version.clone(),
            instance_schema: artifact.instance_schema.clone(),
        },
        metadata,
        list: artifact.list,
    })
}

fn types(step: &Step) -> Result<BTreeMap<String, ParameterType>, Failure> {
    let mut types = BTreeMap::new();
    for parameter in &step.output_parameters {
        let kind = match parameter.r#type() {
            WireType::NumberDouble => ParameterType::Double,
            WireType::NumberInteger => ParameterType::Integer,
            WireType::String => ParameterType::String,
            WireType::Boolean => ParameterType::Boolean,
            WireType::List => ParameterType::List,
            WireType::Struct => ParameterType::Struct,
            WireType::Unspecified => {
                let message = format!("output parameter {:?} has no type", parameter.name);
                return Err(Failure::new(failure::STEP_INVALID, message));
            }
        };
        types.insert(parameter.name.clone(), kind);
    }
    Ok(types)
}

/// A file name for any output name: itself where that is safe, otherwise with every other byte as `%XX`.
fn file_name(name: &str) -> String {
    let mut safe = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"_-".contains(&byte) {
            safe.push(char::from(byte));
        } else {
            safe.push_str(&format!("%{byte:02X}"));
        }
    }
    safe
}

/// Writes the assignment's files, which can only lie below the workload's directory and never replace its records.
fn write_files(dir: &Path, assignment: &Assignment) -> Result<(), Failure> {
    const RECORDS: [&str; 9] = [
        "assignment",
        "lock",
        "started",
        "log",
        "result",
        "result.tmp",
        "exit",
        "exit.tmp",
        "stop",
    ];
    for file in &assignment.files {
        let path = Path::new(&file.path);
        let below = path
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        let record = RECORDS.iter().any(|record| path == Path::new(record));
        if file.path.is_empty() || !below || record {
            let message = format!("{:?} is no path below the step's directory", file.path);
            return Err(Failure::new(failure::STEP_INVALID, message));
        }
        let path = dir.join(path);
        if let Some(parent) = path.parent() {
            make_dir(parent, &mut Vec::new())?;
        }
        write_with_mode(&path, &file.content, file.mode)?;
    }
    Ok(())
}

fn write(dir: &Path, name: &str, content: &[u8]) -> Result<String, Failure> {
    let path = dir.join(name);
    write_with_mode(&path, content, 0o644)?;
    Ok(text(&path))
}

fn write_with_mode(path: &Path, content: &[u8], mode: u32) -> Result<(), Failure> {
    let mode = if mode == 0 { 0o644 } else { mode & 0o777 };
    let mut options = fs::File::options();
    options.write(true).create(true).truncate(true).mode(mode);
    let result = options
        .open(path)
        .and_then(|mut file| file.write_all(content));
    result.map_err(cannot("write", path))
}

/// Makes a directory with its parents and notes which of them are new.
fn make_dir(path: &Path, made: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let missing: Vec<PathBuf> = path
        .ancestors()
        .take_while(|ancestor| !ancestor.is_dir())
        .map(Path::to_owned)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    fs::create_dir_all(path).map_err(cannot("make the directory", path))?;
    made.extend(missing);
    Ok(())
}

/// Paths reach programs as text; ours are UTF-8 because the runner makes them so.
fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_names_are_safe_file_names() {
        for (name, file) in [
            ("loss", "loss"),
            ("a b", "a%20b"),
            ("../../etc", "%2E%2E%2F%2E%2E%2Fetc"),
            (".", "%2E"),
            ("ä", "%C3%A4"),
        ] {
            assert_eq!(file_name(name), file);
        }
    }
}
