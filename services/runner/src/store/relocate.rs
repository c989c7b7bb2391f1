//! Stored paths after the data directory was moved, or restored from a backup elsewhere.
//!
//! Absolute paths stand in requests and results, in the database and in the workloads' directories: as strings, and
//! within strings that are JSON. Every string of these messages is looked at, by their descriptors.

use std::fs;
use std::io;
use std::path::Path;

use ::sql::{Db, Error, FromRow, Row, args};
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MapKey, MessageDescriptor, Value};

use super::sql;
use crate::app::files::{remove_tree, replace};
use crate::config::Config;

/// Why paths cannot be rewritten.
#[derive(Debug, thiserror::Error)]
pub enum RelocateError {
    /// The database.
    #[error("cannot rewrite paths in the runner's database")]
    Database(#[from] Error),
    /// A file of a workload.
    #[error("cannot rewrite paths in the workloads' files")]
    Io(#[from] io::Error),
    /// A stored message, or a bug of the build.
    #[error("a stored message cannot be read")]
    Message(#[from] prost::DecodeError),
    /// A bug of the build.
    #[error("a descriptor cannot be read")]
    Descriptor(#[from] prost_reflect::DescriptorError),
}

struct Stored {
    id: String,
    spec: Vec<u8>,
    request: Option<Vec<u8>>,
    result: Option<Vec<u8>>,
}

impl FromRow for Stored {
    fn from_row(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            id: row.get("id")?,
            spec: row.get("spec")?,
            request: row.get("request")?,
            result: row.get("result")?,
        })
    }
}

/// Rewrites every stored path beneath `from` to one beneath `to`. Nobody else may use the data directory. Doing it again
/// changes nothing, unless `to` lies beneath `from`.
///
/// # Errors
/// The database, a file or a message cannot be used. Then it must be done again.
pub async fn relocate(config: &Config, from: &str, to: &str) -> Result<(), RelocateError> {
    let mover = Mover::new(from, to)?;
    mover.files(&config.data_dir.join("workloads"))?;
    // Their scripts name their own place; they are built again when they are wanted.
    remove_tree(&config.data_dir.join("environments")).map_err(io::Error::other)?;
    let options = config.database();
    let db = Db::open(&options, &super::migrations()).await?;
    let moved: Result<(), RelocateError> = db
        .write(move |conn| {
            Box::pin(async move {
                let rows: Vec<Stored> = conn.fetch_all(sql::MESSAGES, args![]).await?;
                for row in rows {
                    let values = mover.row(row)?;
                    conn.execute(sql::SET_MESSAGES, values).await?;
                }
                Ok(())
            })
        })
        .await;
    db.close().await;
    moved
}

const SPEC: &str = "flumina.runner.v1.WorkloadSpec";
const RESULT: &str = "flumina.step.v1.StepResult";
const ASSIGNMENT: &str = "flumina.step.v1.Assignment";

struct Mover {
    pool: DescriptorPool,
    from: String,
    to: String,
}

impl Mover {
    fn new(from: &str, to: &str) -> Result<Self, prost_reflect::DescriptorError> {
        Ok(Self {
            pool: DescriptorPool::decode(api_runner::DESCRIPTOR)?,
            from: from.to_owned(),
            to: to.to_owned(),
        })
    }

    fn row(&self, row: Stored) -> Result<Vec<::sql::Value>, RelocateError> {
        let request = row.request.map(|bytes| self.moved(SPEC, &bytes));
        let result = row.result.map(|bytes| self.moved(RESULT, &bytes));
        let spec = self.moved(SPEC, &row.spec)?;
        Ok(args![
            row.id,
            spec,
            request.transpose()?,
            result.transpose()?
        ])
    }

    /// The assignments and results in the directories of workloads.
    fn files(&self, workloads: &Path) -> Result<(), RelocateError> {
        for level in list(workloads)? {
            for dir in list(&level)? {
                for (name, message) in [("assignment", ASSIGNMENT), ("result", RESULT)] {
                    let path = dir.join(name);
                    match fs::read(&path) {
                        Ok(bytes) => replace(&path, &self.moved(message, &bytes)?)?,
                        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                        Err(error) => return Err(error.into()),
                    }
                }
            }
        }
        Ok(())
    }

    fn moved(&self, name: &str, bytes: &[u8]) -> Result<Vec<u8>, RelocateError> {
        let Some(descriptor) = self.pool.get_message_by_name(name) else {
            return Ok(bytes.to_vec());
        };
        Ok(self.message(descriptor, bytes)?)
    }

    fn message(
        &self,
        descriptor: MessageDescriptor,
        bytes: &[u8],
    ) -> Result<Vec<u8>, prost::DecodeError> {
        let mut message = DynamicMessage::decode(descriptor, bytes)?;
        self.walk(&mut message);
        Ok(message.encode_to_vec())
    }

    fn walk(&self, message: &mut DynamicMessage) {
        for (_, value) in message.fields_mut() {
            self.value(value);
        }
    }

    fn value(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.text(text),
            Value::Message(message) => self.walk(message),
            Value::List(values) => values.iter_mut().for_each(|value| self.value(value)),
            Value::Map(values) => values
                .iter_mut()
                .for_each(|(_, value): (&MapKey, &mut Value)| self.value(value)),
            _ => {}
        }
    }

    /// A path, or a document in which paths follow quotes.
    fn text(&self, text: &str) -> String {
        if let Some(rest) = text.strip_prefix(&self.from)
            && (rest.is_empty() || rest.starts_with('/'))
        {
            return format!("{}{rest}", self.to);
        }
        text.replace(&format!("\"{}/", self.from), &format!("\"{}/", self.to))
    }
}

fn list(dir: &Path) -> io::Result<Vec<std::path::PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut paths = paths.collect::<io::Result<Vec<_>>>()?;
    paths.retain(|path| path.is_dir());
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use api_step::v1::{Assignment, EnvVar, OutputArtifact, Step};
    use prost::Message as _;

    use super::*;

    #[test]
    fn every_path_moves_and_nothing_else() {
        let step = Step {
            inputs_json: r#"{"x": {"uri": "/old/artifacts/a"}, "y": "/older/b"}"#.to_owned(),
            output_artifacts: vec![OutputArtifact {
                uri: "/old/artifacts/o".to_owned(),
                ..OutputArtifact::default()
            }],
            ..Step::default()
        };
        let assignment = Assignment {
            working_dir: "/old".to_owned(),
            env: vec![EnvVar {
                name: "TEXT".to_owned(),
                value: "see /old/x".to_owned(),
            }],
            step: Some(step),
            ..Assignment::default()
        };
        let moved = Mover::new("/old", "/new/place")
            .unwrap()
            .moved(ASSIGNMENT, &assignment.encode_to_vec())
            .unwrap();
        let moved = Assignment::decode(moved.as_slice()).unwrap();
        let step = moved.step.unwrap();
        assert_eq!(
            step.inputs_json,
            r#"{"x": {"uri": "/new/place/artifacts/a"}, "y": "/older/b"}"#
        );
        assert_eq!(step.output_artifacts[0].uri, "/new/place/artifacts/o");
        assert_eq!(moved.working_dir, "/new/place");
        assert_eq!(moved.env[0].value, "see /old/x");
    }
}
