//! Files that a program knows by absolute paths of its own: each attempt has its own place for them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use api_step::v1::{Files, Mount, OutputFile};
use serde_json::Value;
use step::paths::Moves;
use step::placeholders::Scope;

use crate::failure::{self, Failure, cannot};

/// What a program's paths mean within its attempt.
#[derive(Debug, Default)]
pub(crate) struct Placed {
    moves: Option<Moves>,
    /// What is collected where, by the name of the output parameter.
    pub(crate) parameters: BTreeMap<String, Taken>,
    /// The same by the name of the output artifact.
    pub(crate) artifacts: BTreeMap<String, Taken>,
}

/// An output that a program writes to a path of its own.
#[derive(Debug, Clone)]
pub(crate) struct Taken {
    /// The path as the program has it.
    pub(crate) asked: String,
    /// Where it really is.
    pub(crate) path: PathBuf,
    /// The text when the file is missing.
    pub(crate) default: Option<String>,
    /// Whether it may be missing.
    pub(crate) optional: bool,
}

impl Placed {
    /// Reads what a step says about files; nothing is written yet.
    pub(crate) fn new(dir: &Path, files: Option<&Files>, mounts: &[Mount]) -> Self {
        let Some(files) = files else {
            return Self::default();
        };
        let root = dir.join("root");
        let inputs = files.inputs.iter().map(|file| file.path.as_str());
        let outputs = files.outputs.iter().map(|file| file.path.as_str());
        let mounts = mounts.iter().map(|mount| mount.path.as_str());
        let moves = Moves::new(inputs.chain(outputs), mounts, &root.to_string_lossy());
        let taken = |file: &OutputFile| Taken {
            asked: file.path.clone(),
            path: moves.path(&file.path).into(),
            default: file.default_value.clone(),
            optional: file.optional,
        };
        let named = |name: fn(&OutputFile) -> &String| -> BTreeMap<String, Taken> {
            let outputs = files.outputs.iter();
            let outputs = outputs.filter(|file| !name(file).is_empty());
            outputs
                .map(|file| (name(file).clone(), taken(file)))
                .collect()
        };
        Self {
            parameters: named(|file| &file.parameter),
            artifacts: named(|file| &file.artifact),
            moves: Some(moves),
        }
    }

    /// A text of the command with the paths moved.
    pub(crate) fn text(&self, text: &str) -> String {
        match &self.moves {
            Some(moves) => moves.text(text),
            None => text.to_owned(),
        }
    }

    /// Puts the inputs where the program looks for them, and makes the directories of the outputs.
    pub(crate) fn place(&self, files: Option<&Files>, scope: &Scope<'_>) -> Result<(), Failure> {
        let (Some(moves), Some(files)) = (&self.moves, files) else {
            return Ok(());
        };
        for file in &files.outputs {
            make_parent(Path::new(&moves.path(&file.path)))?;
        }
        let inputs = &scope.executor_input["inputs"];
        for file in &files.inputs {
            let path = PathBuf::from(moves.path(&file.path));
            make_parent(&path)?;
            let artifact = &inputs["artifacts"][&file.artifact]["artifacts"][0];
            let source = ["customPath", "uri"]
                .iter()
                .find_map(|key| artifact[key].as_str());
            let given = inputs["parameterValues"].get(&file.parameter);
            if let Some(source) = source {
                // A link: content may be large, and it is as shared as that of any other artifact.
                std::os::unix::fs::symlink(source, &path)
                    .map_err(cannot("link an input to", &path))?;
                continue;
            }
            let text = match (given, file.artifact.is_empty()) {
                (Some(value), false) if !value.is_null() => step::value::text(value),
                (_, false) => {
                    let message = format!(
                        "there is no content for the input {:?} at {}",
                        file.artifact, file.path
                    );
                    return Err(Failure::new(failure::INPUT_UNAVAILABLE, message));
                }
                (_, true) => scope.resolve(&file.text).map_err(|error| {
                    Failure::new(failure::PLACEHOLDER_INVALID, error.to_string())
                })?,
            };
            fs::write(&path, text).map_err(cannot("write", &path))?;
        }
        Ok(())
    }

    /// The metrics in a file that a program wrote, as metadata.
    pub(crate) fn metrics(&self, artifact: &str) -> serde_json::Map<String, Value> {
        let path = self.artifacts.get(artifact).map(|taken| &taken.path);
        let small = |path: &&PathBuf| {
            fs::metadata(path)
                .is_ok_and(|meta| meta.is_file() && meta.len() <= step::metrics::MAX_BYTES as u64)
        };
        let bytes = path.filter(small).and_then(|path| fs::read(path).ok());
        bytes
            .map(|bytes| step::metrics::metadata(&bytes))
            .unwrap_or_default()
    }
}

fn make_parent(path: &Path) -> Result<(), Failure> {
    match path.parent() {
        Some(parent) => fs::create_dir_all(parent).map_err(cannot("make the directory", parent)),
        None => Ok(()),
    }
}
