//! JSON to typed messages, with the path of what does not fit.

use std::sync::LazyLock;

use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};
use serde_json::Value;

use crate::{DESCRIPTOR, document::Error};

/// The schema; built from bytes that are part of the program.
#[expect(
    clippy::expect_used,
    reason = "the descriptor is compiled in, and every test decodes it"
)]
static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(DESCRIPTOR).expect("the compiled-in schema is valid"));

#[expect(clippy::expect_used, reason = "names of the compiled-in schema")]
fn descriptor(name: &str) -> MessageDescriptor {
    POOL.get_message_by_name(name)
        .expect("the schema has the message")
}

/// Reads `value` as the message `name` (`ml_pipelines.PipelineSpec`). Unknown fields are refused; `at` is where the
/// value stands in the document, for the error.
pub(crate) fn dynamic(name: &str, value: &Value, at: &str) -> Result<DynamicMessage, Error> {
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(value, &mut track);
    DynamicMessage::deserialize(descriptor(name), tracked).map_err(|error| {
        let path = track.path().to_string();
        let path = if path == "." { "" } else { path.as_str() };
        misfit(join(at, path), &error.to_string())
    })
}

/// As [`dynamic`], into the generated type.
pub(crate) fn message<M>(name: &str, value: &Value, at: &str) -> Result<M, Error>
where
    M: prost::Message + Default,
{
    dynamic(name, value, at)?
        .transcode_to()
        // The wire format limits levels too, and values take up to three for each of theirs.
        .map_err(|_| Error::TooDeep)
}

/// The message as canonical JSON (camelCase, defaults left out).
pub(crate) fn canonical(name: &str, value: &Value, at: &str) -> Result<Value, Error> {
    let message = dynamic(name, value, at)?;
    message
        .serialize_with_options(serde_json::value::Serializer, &SerializeOptions::new())
        .map_err(|error| misfit(at.to_owned(), &error.to_string()))
}

/// Puts an unknown field's name into the path, where people look for it.
fn misfit(path: String, message: &str) -> Error {
    let unknown = message
        .strip_prefix("unrecognized field name '")
        .and_then(|rest| rest.strip_suffix('\''));
    match unknown {
        Some(name) => Error::Field {
            field: join(&path, name),
            message: "there is no such field".to_owned(),
        },
        None => Error::Field {
            field: path,
            message: message.to_owned(),
        },
    }
}

fn join(at: &str, path: &str) -> String {
    match (at.is_empty(), path.is_empty()) {
        (true, _) => path.to_owned(),
        (_, true) => at.to_owned(),
        _ if path.starts_with('[') => format!("{at}{path}"),
        _ => format!("{at}.{path}"),
    }
}
