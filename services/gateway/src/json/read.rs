//! From JSON, query parameters and parts of paths to the wire.

use std::fmt;

use prost::Message as _;
use serde::de::DeserializeSeed as _;

use super::scalar::{self, Given};
use super::schema::{Form, MessageId};
use super::visit::{FieldSeed, MessageSeed};
use super::wire;
use super::{Field, Kind, Schema};

/// What a request may hold.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The largest message that is written, in bytes.
    pub bytes: usize,
    /// How deeply messages may be nested; an object within a `Struct` counts three times, a list twice. prost reads
    /// no more than 100.
    pub depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes: rpc::MAX_MESSAGE_BYTES,
            depth: 96,
        }
    }
}

/// What is wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// A value does not fit its field.
    #[error("{}{message}", Prefix(field))]
    Field {
        /// The path of the field as the proto spells it; empty for the whole request.
        field: String,
        /// What is wrong.
        message: String,
    },
    /// The message would be larger than allowed.
    #[error("the request is larger than {0} bytes")]
    TooLarge(usize),
}

struct Prefix<'a>(&'a str);

impl fmt::Display for Prefix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            Ok(())
        } else {
            write!(f, "{}: ", self.0)
        }
    }
}

/// Writes one request message, part by part: what comes later wins, as the wire format says.
#[derive(Debug)]
pub struct Reader<'s> {
    pub(super) schema: &'s Schema,
    pub(super) out: Vec<u8>,
    limits: Limits,
    depth: usize,
    pub(super) path: Vec<Step>,
    pub(super) emptied: Vec<String>,
}

#[derive(Debug, Clone)]
pub(super) enum Step {
    Name(Box<str>),
    Index(usize),
}

impl<'s> Reader<'s> {
    /// An empty message.
    pub fn new(schema: &'s Schema, limits: Limits) -> Self {
        Self {
            schema,
            out: Vec::new(),
            limits,
            depth: 0,
            path: Vec::new(),
            emptied: Vec::new(),
        }
    }

    /// The paths of map fields that were given without entries, which the message itself cannot tell from absent ones.
    pub fn emptied(&self) -> &[String] {
        &self.emptied
    }

    /// The message.
    pub fn finish(self) -> Vec<u8> {
        self.out
    }

    /// Adds a JSON document as the whole message.
    pub fn document(&mut self, message: MessageId, json: &[u8]) -> Result<(), Invalid> {
        self.out.reserve(json.len());
        self.run(json, |reader, source| {
            MessageSeed { reader, message }.deserialize(source)
        })
    }

    /// Adds a JSON document as the value of one field.
    pub fn field(&mut self, field: &Field, json: &[u8]) -> Result<(), Invalid> {
        self.out.reserve(json.len());
        self.path.push(Step::Name(field.name.clone()));
        self.run(json, |reader, source| {
            FieldSeed { reader, field }.deserialize(source)
        })?;
        self.path.pop();
        Ok(())
    }

    /// Adds a scalar that came as text, in the field that `path` leads to.
    pub fn text(&mut self, path: &[&Field], text: &str) -> Result<(), Invalid> {
        let Some((leaf, outer)) = path.split_last() else {
            return Ok(());
        };
        let starts: Vec<usize> = outer
            .iter()
            .map(|field| wire::begin(&mut self.out, field.number))
            .collect();
        let given = scalar::from_text(leaf.kind, text);
        if let Err(message) = self.put(leaf, given) {
            let names: Vec<&str> = path.iter().map(|field| &*field.name).collect();
            return Err(Invalid::Field {
                field: names.join("."),
                message,
            });
        }
        for start in starts.into_iter().rev() {
            wire::end(&mut self.out, start);
        }
        if self.out.len() > self.limits.bytes {
            return Err(Invalid::TooLarge(self.limits.bytes));
        }
        Ok(())
    }

    fn run<'de>(
        &mut self,
        json: &'de [u8],
        read: impl FnOnce(
            &mut Self,
            &mut serde_json::Deserializer<serde_json::de::SliceRead<'de>>,
        ) -> Result<(), serde_json::Error>,
    ) -> Result<(), Invalid> {
        let mut source = serde_json::Deserializer::from_slice(json);
        read(self, &mut source)
            .and_then(|()| source.end())
            .map_err(|error| {
                if self.out.len() > self.limits.bytes {
                    return Invalid::TooLarge(self.limits.bytes);
                }
                Invalid::Field {
                    field: self.path_text(),
                    message: error.to_string(),
                }
            })
    }

    pub(super) fn path_text(&self) -> String {
        let mut text = String::new();
        for step in &self.path {
            match step {
                Step::Name(name) if text.is_empty() => text.push_str(name),
                Step::Name(name) => {
                    text.push('.');
                    text.push_str(name);
                }
                Step::Index(index) => text.push_str(&format!("[{index}]")),
            }
        }
        text
    }

    /// Appends one value of a field, key included.
    pub(super) fn put(&mut self, field: &Field, given: Given<'_>) -> Result<(), String> {
        if let Given::Text(text) = given
            && text.contains('\0')
        {
            return Err("must not contain the character NUL".to_owned());
        }
        if let Kind::Message(id) = field.kind {
            return self.put_text_form(field, id, given);
        }
        wire::put_key(&mut self.out, field.number, scalar::wire_type(field.kind));
        scalar::put(self.schema, field.kind, given, &mut self.out).ok_or_else(|| {
            let expected = scalar::expectation(field.kind);
            match given {
                Given::Text(text) => {
                    format!(
                        "{:?} is not {expected}",
                        text.chars().take(100).collect::<String>()
                    )
                }
                Given::Bool(flag) => format!("{flag} is not {expected}"),
                Given::Signed(value) => format!("{value} is not {expected}"),
                Given::Unsigned(value) => format!("{value} is not {expected}"),
                Given::Float(value) => format!("{value} is not {expected}"),
            }
        })
    }

    /// Messages that JSON shows as one scalar.
    fn put_text_form(
        &mut self,
        field: &Field,
        id: MessageId,
        given: Given<'_>,
    ) -> Result<(), String> {
        let message = self.schema.get(id);
        let text = match given {
            Given::Text(text) => Some(text),
            _ => None,
        };
        match (message.form, text) {
            (Form::Timestamp, Some(text)) => {
                let bytes = timestamp(text).ok_or_else(|| {
                    format!("{text:?} is not a time such as 2026-01-31T12:00:00Z")
                })?;
                wire::put_len(&mut self.out, field.number, &bytes);
            }
            (Form::Duration, Some(text)) => {
                let bytes = duration(text)
                    .ok_or_else(|| format!("{text:?} is not a duration such as 3.5s"))?;
                wire::put_len(&mut self.out, field.number, &bytes);
            }
            (Form::FieldMask, Some(text)) => {
                let paths = text.split(',').filter(|path| !path.is_empty()).map(snake);
                let mask = prost_types::FieldMask {
                    paths: paths.collect(),
                };
                wire::put_len(&mut self.out, field.number, &mask.encode_to_vec());
            }
            (Form::Wrapper, _) => {
                let start = wire::begin(&mut self.out, field.number);
                self.put(&message.fields[0], given)?;
                wire::end(&mut self.out, start);
            }
            (Form::Value, _) => {
                let start = wire::begin(&mut self.out, field.number);
                self.put_value(given);
                wire::end(&mut self.out, start);
            }
            (Form::ListValue, _) => return Err("must be a list".to_owned()),
            (Form::Timestamp | Form::Duration | Form::FieldMask, _) => {
                return Err("must be a string".to_owned());
            }
            _ => return Err("must be an object".to_owned()),
        }
        Ok(())
    }

    /// A scalar of `google.protobuf.Value`.
    fn put_value(&mut self, given: Given<'_>) {
        let number = match given {
            Given::Bool(flag) => {
                wire::put_key(&mut self.out, 4, wire::VARINT);
                return self.out.push(u8::from(flag));
            }
            Given::Text(text) => return wire::put_len(&mut self.out, 3, text.as_bytes()),
            Given::Signed(value) => value as f64,
            Given::Unsigned(value) => value as f64,
            Given::Float(value) => value,
        };
        wire::put_key(&mut self.out, 2, wire::FIXED64);
        self.out.extend_from_slice(&number.to_le_bytes());
    }

    pub(super) fn enter<E: serde::de::Error>(&mut self) -> Result<(), E> {
        self.depth += 1;
        if self.depth > self.limits.depth {
            return Err(E::custom("the document is nested too deeply"));
        }
        self.check_size()
    }

    pub(super) fn leave(&mut self) {
        self.depth -= 1;
    }

    pub(super) fn check_size<E: serde::de::Error>(&self) -> Result<(), E> {
        if self.out.len() > self.limits.bytes {
            return Err(E::custom("too large"));
        }
        Ok(())
    }
}

fn timestamp(text: &str) -> Option<Vec<u8>> {
    let bytes = text.as_bytes();
    // The parser below also takes times without a zone; the mapping asks for one.
    let zoned = bytes.last().is_some_and(|last| matches!(last, b'Z' | b'z'))
        || (bytes.len() >= 6 && matches!(bytes[bytes.len() - 6], b'+' | b'-'));
    let shaped = bytes.len() >= 20 && bytes[4] == b'-' && matches!(bytes[10], b'T' | b't');
    if !zoned || !shaped {
        return None;
    }
    let parsed: prost_types::Timestamp = text.parse().ok()?;
    let years = -62_135_596_800..=253_402_300_799;
    years
        .contains(&parsed.seconds)
        .then(|| parsed.encode_to_vec())
}

fn duration(text: &str) -> Option<Vec<u8>> {
    let parsed: prost_types::Duration = text.parse().ok()?;
    let limit = 315_576_000_000;
    (-limit..=limit)
        .contains(&parsed.seconds)
        .then(|| parsed.encode_to_vec())
}

fn snake(path: &str) -> String {
    let mut text = String::with_capacity(path.len() + 4);
    for letter in path.chars() {
        if letter.is_ascii_uppercase() {
            text.push('_');
        }
        text.push(letter.to_ascii_lowercase());
    }
    text
}
