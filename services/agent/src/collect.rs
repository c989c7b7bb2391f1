//! Reads what a successful program left: its output parameters and artifacts.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use api_step::v1::{Artifact, ArtifactValue, ParameterValue, TransferItem};
use serde_json::Value;
use step::executor_input::local_path;
use step::executor_output::{self, MAX_BYTES, MergedArtifact, merge_artifacts};
use step::value::{self, ValueError};
use step::{ExecutorOutput, OutputArtifact, ParameterType};

use crate::artifact::{self, Content};
use crate::failure::{self, Failure, cannot};
use crate::files::Taken;
use crate::prepare::Prepared;
use crate::remote::Courier;

/// The type of artifacts whose metadata are metrics.
const METRICS: &str = "system.Metrics";

/// Everything that a step produced.
#[derive(Default)]
pub(crate) struct Collected {
    pub(crate) parameters: Vec<ParameterValue>,
    pub(crate) artifacts: Vec<ArtifactValue>,
}

/// Collects the declared outputs; a parameter that is missing fails the step, an artifact without content does not.
pub(crate) fn collect(
    prepared: &Prepared,
    max_parameter_bytes: u64,
    courier: &mut Courier<'_>,
) -> Result<Collected, Failure> {
    let mut output = executor_output(Path::new(&prepared.outputs.output_file))?;
    let mut collected = Collected::default();
    for (name, &kind) in &prepared.types {
        let file = &prepared.outputs.parameters[name];
        let given = output.parameters.remove(name);
        let parameter = Parameter {
            name,
            kind,
            file: Path::new(file),
            limit: max_parameter_bytes,
            taken: prepared.placed.parameters.get(name),
        };
        collected.parameters.push(parameter.collect(given)?);
    }
    let mut anything = false;
    let mut stored = Stored::default();
    for declared in &prepared.outputs.artifacts {
        let artifacts = artifacts(declared, &output.artifacts, prepared, &mut stored)?;
        anything |= artifacts.iter().any(|artifact| artifact.present);
        collected.artifacts.push(ArtifactValue {
            name: declared.name.clone(),
            artifacts,
            list: declared.list,
        });
    }
    if anything {
        sync_directories(prepared, &collected)?;
    }
    stored.bring(courier, &mut collected)?;
    Ok(collected)
}

/// The artifacts that go to stores of the network, and which of the collected ones they are.
#[derive(Default)]
struct Stored {
    items: Vec<TransferItem>,
    uris: Vec<(String, String)>,
}

impl Stored {
    /// Notes an artifact whose place is in such a store; what a program names elsewhere is only recorded.
    fn note(
        &mut self,
        declared: &OutputArtifact,
        merged: &MergedArtifact,
        prepared: &Prepared,
    ) -> Result<(), Failure> {
        let Some(path) = prepared.places.output_path(&merged.uri) else {
            return Ok(());
        };
        let custom = merged.custom_path.as_ref();
        let path = custom
            .filter(|path| Path::new(path).exists())
            .unwrap_or(&path);
        self.refuse_second(declared, &merged.uri, Path::new(path))?;
        self.items.push(TransferItem {
            name: declared.name.clone(),
            uri: merged.uri.clone(),
            path: path.clone(),
            sha256: String::new(),
        });
        self.uris.push((declared.name.clone(), merged.uri.clone()));
        Ok(())
    }

    /// Two artifacts cannot be stored at one place: the one that is stored last would be what both are.
    fn refuse_second(
        &self,
        declared: &OutputArtifact,
        uri: &str,
        path: &Path,
    ) -> Result<(), Failure> {
        let plain = |uri: &str| uri.trim_end_matches('/').to_owned();
        let mut known = self.uris.iter();
        let Some((first, _)) = known.find(|(_, known)| plain(known) == plain(uri)) else {
            return Ok(());
        };
        if !path.exists() {
            return Ok(());
        }
        let message = format!(
            "output artifacts {first:?} and {:?} have one URI, {uri}: give each its own",
            declared.name
        );
        Err(Failure::new(failure::OUTPUT_INVALID, message))
    }

    /// Stores them; none of the step's outputs count before all are there.
    fn bring(self, courier: &mut Courier<'_>, collected: &mut Collected) -> Result<(), Failure> {
        let report = courier.store(self.items)?;
        for ((name, uri), item) in self.uris.iter().zip(report.items) {
            let outputs = collected
                .artifacts
                .iter_mut()
                .filter(|output| output.name == *name);
            let artifacts = outputs.flat_map(|output| &mut output.artifacts);
            for artifact in artifacts.filter(|artifact| artifact.uri == *uri) {
                artifact.present = item.present;
                artifact.size_bytes = item.size_bytes;
                artifact.sha256.clone_from(&item.sha256);
                artifact.directory = item.directory;
            }
        }
        Ok(())
    }
}

/// Reads the executor output; a program that writes none says nothing.
fn executor_output(path: &Path) -> Result<ExecutorOutput, Failure> {
    let Some(bytes) = read_file(path, MAX_BYTES as u64)
        .map_err(|error| too_large("the executor output", error))?
    else {
        return Ok(ExecutorOutput::default());
    };
    executor_output::parse(&bytes).map_err(|error| {
        let message = format!("the executor output that the program wrote: {error}");
        Failure::new(failure::OUTPUT_INVALID, message)
    })
}

struct Parameter<'a> {
    name: &'a str,
    kind: ParameterType,
    file: &'a Path,
    limit: u64,
    /// The path that the program has for it.
    taken: Option<&'a Taken>,
}

impl Parameter<'_> {
    /// The value that the executor output gives, else the one in the parameter's file.
    fn collect(&self, given: Option<Value>) -> Result<ParameterValue, Failure> {
        let (value, size) = match given.filter(|value| !value.is_null()) {
            Some(value) => {
                let size = value::text(&value).len() as u64;
                self.check(size)?;
                (value::coerce(self.kind, value), size)
            }
            None => {
                let bytes = self.read()?;
                (value::from_text(self.kind, &bytes), bytes.len() as u64)
            }
        };
        let json = value.map_err(|error| self.invalid(&error))?.to_string();
        Ok(ParameterValue {
            name: self.name.to_owned(),
            sha256: artifact::sha256(json.as_bytes()),
            value_json: json,
            size_bytes: size,
        })
    }

    fn read(&self) -> Result<Vec<u8>, Failure> {
        let Some(taken) = self.taken else {
            return self.read_whole(None);
        };
        let mut bytes = self.read_whole(taken.default.as_deref())?;
        // A shell's `echo` adds one newline that is not meant.
        if bytes.ends_with(b"\n") {
            bytes.pop();
        }
        Ok(bytes)
    }

    fn read_whole(&self, default: Option<&str>) -> Result<Vec<u8>, Failure> {
        let limit = if self.limit == 0 {
            u64::MAX
        } else {
            self.limit
        };
        let subject = format!("output parameter {:?}", self.name);
        let read = read_file(self.file, limit).map_err(|error| too_large(&subject, error))?;
        let read = read.or_else(|| default.map(|text| text.as_bytes().to_vec()));
        read.ok_or_else(|| {
            let message = match self.taken {
                Some(taken) => format!(
                    "output parameter {:?} is missing: the program ended with 0 but did not write {}",
                    self.name, taken.asked
                ),
                None => format!(
                    "output parameter {:?} is missing: the program ended with 0 but neither returned it nor wrote its file",
                    self.name
                ),
            };
            Failure::new(failure::OUTPUT_MISSING, message)
        })
    }

    fn check(&self, size: u64) -> Result<(), Failure> {
        if self.limit > 0 && size > self.limit {
            let subject = format!("output parameter {:?}", self.name);
            return Err(too_large(&subject, ReadError::Large(size, self.limit)));
        }
        Ok(())
    }

    fn invalid(&self, error: &ValueError) -> Failure {
        let message = format!("output parameter {:?} {error}", self.name);
        Failure::new(failure::OUTPUT_INVALID, message)
    }
}

fn artifacts(
    declared: &OutputArtifact,
    updates: &BTreeMap<String, Vec<executor_output::ArtifactUpdate>>,
    prepared: &Prepared,
    stored: &mut Stored,
) -> Result<Vec<Artifact>, Failure> {
    let placed = &prepared.placed;
    let taken = placed.artifacts.get(&declared.name);
    let updates = updates.get(&declared.name).map(Vec::as_slice);
    merge_artifacts(declared, updates)
        .into_iter()
        .map(|mut merged| {
            if let Some(taken) = taken {
                merged.custom_path = Some(taken.path.to_string_lossy().into_owned());
                if declared.kind.schema_title == METRICS {
                    merged.metadata.extend(placed.metrics(&declared.name));
                }
            }
            let content = content(declared, &merged)?;
            stored.note(declared, &merged, prepared)?;
            let required = taken.filter(|taken| !taken.optional && !taken.path.exists());
            if let (None, Some(taken)) = (&content, required) {
                let message = format!(
                    "output artifact {:?} is missing: the program ended with 0 but did not write {}",
                    declared.name, taken.asked
                );
                return Err(Failure::new(failure::OUTPUT_MISSING, message));
            }
            let present = content.is_some();
            let content = content.unwrap_or_default();
            Ok(Artifact {
                name: merged.name,
                uri: merged.uri,
                schema_title: merged.kind.schema_title,
                schema_version: merged.kind.schema_version,
                instance_schema: merged.kind.instance_schema,
                metadata_json: Value::Object(merged.metadata).to_string(),
                size_bytes: content.size,
                sha256: content.sha256,
                present,
                directory: content.directory,
            })
        })
        .collect()
}

/// The content at an artifact's URI, brought there first when the program wrote it to a path of its own. A program may also
/// name a place that is not on this machine: that is recorded, without content.
fn content(declared: &OutputArtifact, merged: &MergedArtifact) -> Result<Option<Content>, Failure> {
    let Ok(path) = local_path(&merged.uri) else {
        return Ok(None);
    };
    let path = Path::new(&path);
    if let Some(custom) = merged.custom_path.as_deref().map(Path::new)
        && custom != path
        && custom.exists()
    {
        artifact::copy(custom, path).map_err(cannot("copy an artifact to", path))?;
    }
    artifact::record(path).map_err(|error| {
        let what = format!("read output artifact {:?} at", declared.name);
        let mut failure = cannot(&what, path)(error);
        if failure.reason == failure::AGENT_ERROR {
            failure.reason = failure::OUTPUT_INVALID;
        }
        failure
    })
}

/// The entries on the way to the artifacts must be as durable as their content.
fn sync_directories(prepared: &Prepared, collected: &Collected) -> Result<(), Failure> {
    let mut dirs: Vec<PathBuf> = Vec::new();
    for (declared, output) in prepared.outputs.artifacts.iter().zip(&collected.artifacts) {
        let present = output.artifacts.iter().filter(|artifact| artifact.present);
        for path in present.filter_map(|artifact| local_path(&artifact.uri).ok()) {
            dirs.extend(way_to(Path::new(&path), Path::new(&declared.uri)));
        }
    }
    for made in &prepared.made {
        dirs.extend(made.parent().map(Path::to_owned));
    }
    dirs.sort_unstable();
    dirs.dedup();
    for dir in dirs.iter().filter(|dir| dir.is_absolute()) {
        match artifact::sync_dir(dir) {
            // What leads to a place of the program's choice is often not ours, and older than the step.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            synced => synced.map_err(cannot("write through", dir))?,
        }
    }
    Ok(())
}

/// The directories whose entries lead to an artifact: up to the one that holds the declared place, which was there before
/// the program, or all of them for an artifact elsewhere.
fn way_to(path: &Path, declared: &Path) -> Vec<PathBuf> {
    let base = declared.parent().filter(|base| path.starts_with(base));
    path.ancestors()
        .skip(1)
        .take_while(|dir| base.is_none_or(|base| dir.starts_with(base)))
        .map(Path::to_owned)
        .collect()
}

enum ReadError {
    Io(io::Error),
    /// Its size and the limit, in bytes.
    Large(u64, u64),
}

/// Reads a regular file up to a limit; `None` when there is none.
fn read_file(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, ReadError> {
    // Opening a pipe must not wait for a writer.
    let open = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path);
    let file = match open {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(ReadError::Io(error)),
    };
    let meta = file.metadata().map_err(ReadError::Io)?;
    if !meta.is_file() {
        return Err(ReadError::Io(io::Error::other("it is not a regular file")));
    }
    if meta.len() > limit {
        return Err(ReadError::Large(meta.len(), limit));
    }
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(ReadError::Io)?;
    if bytes.len() as u64 > limit {
        return Err(ReadError::Large(bytes.len() as u64, limit));
    }
    Ok(Some(bytes))
}

fn too_large(subject: &str, error: ReadError) -> Failure {
    match error {
        ReadError::Io(error) => Failure::new(
            failure::OUTPUT_INVALID,
            format!("{subject} cannot be read: {error}"),
        ),
        ReadError::Large(size, limit) => Failure::new(
            failure::OUTPUT_TOO_LARGE,
            format!(
                "{subject} has {size} bytes, more than the {limit} allowed; write large results as an artifact"
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_an_artifact_ends_at_the_directory_of_the_declared_place() {
        let table: [(&str, &[&str]); 4] = [
            ("/s/run/out", &["/s/run"]),
            ("/s/run/out/a", &["/s/run/out", "/s/run"]),
            ("/s/run/out/b/c", &["/s/run/out/b", "/s/run/out", "/s/run"]),
            ("/x/y/z", &["/x/y", "/x", "/"]),
        ];
        for (path, dirs) in table {
            let found = way_to(Path::new(path), Path::new("/s/run/out"));
            assert_eq!(found, dirs.iter().map(PathBuf::from).collect::<Vec<_>>());
        }
    }
}
