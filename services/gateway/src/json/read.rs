//! From JSON, query parameters and parts of paths to the wire.

use std::fmt;

use prost::Message as _;
use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use super::scalar::{self, Given};
use super::schema::{Form, MessageId};
use super::wire;
use super::{Field, Kind, Schema, Shape};

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
    schema: &'s Schema,
    out: Vec<u8>,
    limits: Limits,
    depth: usize,
    path: Vec<Step>,
    emptied: Vec<String>,
}

#[derive(Debug, Clone)]
enum Step {
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

    fn path_text(&self) -> String {
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
    fn put(&mut self, field: &Field, given: Given<'_>) -> Result<(), String> {
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

    fn enter<E: serde::de::Error>(&mut self) -> Result<(), E> {
        self.depth += 1;
        if self.depth > self.limits.depth {
            return Err(E::custom("the document is nested too deeply"));
        }
        self.check_size()
    }

    fn leave(&mut self) {
        self.depth -= 1;
    }

    fn check_size<E: serde::de::Error>(&self) -> Result<(), E> {
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

/// The members of a message, without key and length.
struct MessageSeed<'r, 's> {
    reader: &'r mut Reader<'s>,
    message: MessageId,
}

impl<'de> DeserializeSeed<'de> for MessageSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<(), D::Error> {
        source.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for MessageSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    /// A missing body is an empty message.
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, source: A) -> Result<(), A::Error> {
        match self.reader.schema.get(self.message).form {
            Form::ListValue => list_items(self.reader, self.message, source),
            _ => Err(A::Error::custom("expected an object, found a list")),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, source: A) -> Result<(), A::Error> {
        match self.reader.schema.get(self.message).form {
            Form::Object => object(self.reader, self.message, source),
            Form::Struct => entries(
                self.reader,
                &self.reader.schema.get(self.message).fields[0],
                source,
            ),
            Form::Any => Err(A::Error::custom(
                "values of type Any are not accepted in requests",
            )),
            _ => Err(A::Error::custom("must not be an object")),
        }
    }
}

fn object<'de, A: MapAccess<'de>>(
    reader: &mut Reader<'_>,
    id: MessageId,
    mut source: A,
) -> Result<(), A::Error> {
    let schema = reader.schema;
    let message = schema.get(id);
    let mut seen = vec![false; message.fields.len()];
    let mut oneofs: Vec<usize> = Vec::new();
    while let Some(index) = source.next_key_seed(NameSeed {
        reader: &mut *reader,
        id,
    })? {
        let field = &message.fields[index];
        if std::mem::replace(&mut seen[index], true) {
            return Err(A::Error::custom("the field is given twice"));
        }
        let before = reader.out.len();
        source.next_value_seed(FieldSeed {
            reader: &mut *reader,
            field,
        })?;
        if let Shape::Explicit(Some(oneof)) = field.shape
            && reader.out.len() > before
        {
            if oneofs.contains(&oneof) {
                return Err(A::Error::custom(
                    "only one field of this choice may be given",
                ));
            }
            oneofs.push(oneof);
        }
        reader.path.pop();
    }
    Ok(())
}

/// The name of a field; leaves it on the path.
struct NameSeed<'r, 's> {
    reader: &'r mut Reader<'s>,
    id: MessageId,
}

impl<'de> DeserializeSeed<'de> for NameSeed<'_, '_> {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<usize, D::Error> {
        source.deserialize_str(self)
    }
}

impl Visitor<'_> for NameSeed<'_, '_> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<usize, E> {
        let message = self.reader.schema.get(self.id);
        if let Some(index) = message.by_name(name) {
            let name = message.fields[index].name.clone();
            self.reader.path.push(Step::Name(name));
            return Ok(index);
        }
        let short: String = name.chars().take(100).collect();
        self.reader.path.push(Step::Name(short.into()));
        let short_type = message.name.rsplit('.').next().unwrap_or_default();
        Err(E::custom(format!("{short_type} has no such field")))
    }
}

/// The value of a field, key and length included; null writes nothing.
struct FieldSeed<'r, 's, 'f> {
    reader: &'r mut Reader<'s>,
    field: &'f Field,
}

impl<'de> DeserializeSeed<'de> for FieldSeed<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<(), D::Error> {
        match self.field.shape {
            Shape::Repeated(_) => source.deserialize_any(ListVisitor(self)),
            Shape::Map => source.deserialize_any(MapVisitor(self)),
            Shape::Implicit | Shape::Explicit(_) => source.deserialize_any(SingleVisitor {
                seed: self,
                element: false,
            }),
        }
    }
}

struct ListVisitor<'r, 's, 'f>(FieldSeed<'r, 's, 'f>);

impl<'de> Visitor<'de> for ListVisitor<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut source: A) -> Result<(), A::Error> {
        let FieldSeed { reader, field } = self.0;
        let mut index = 0;
        loop {
            reader.path.push(Step::Index(index));
            let seed = ElementSeed(FieldSeed {
                reader: &mut *reader,
                field,
            });
            let more = source.next_element_seed(seed)?.is_some();
            reader.path.pop();
            reader.check_size()?;
            if !more {
                return Ok(());
            }
            index += 1;
        }
    }
}

/// One element of a list, or one value of a map: null is not allowed unless the type has it.
struct ElementSeed<'r, 's, 'f>(FieldSeed<'r, 's, 'f>);

impl<'de> DeserializeSeed<'de> for ElementSeed<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<(), D::Error> {
        source.deserialize_any(SingleVisitor {
            seed: self.0,
            element: true,
        })
    }
}

struct MapVisitor<'r, 's, 'f>(FieldSeed<'r, 's, 'f>);

impl<'de> Visitor<'de> for MapVisitor<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, source: A) -> Result<(), A::Error> {
        let FieldSeed { reader, field } = self.0;
        let before = reader.out.len();
        entries(reader, field, source)?;
        if reader.out.len() == before {
            let path = reader.path_text();
            reader.emptied.push(path);
        }
        Ok(())
    }
}

/// The entries of a map field.
fn entries<'de, A: MapAccess<'de>>(
    reader: &mut Reader<'_>,
    field: &Field,
    mut source: A,
) -> Result<(), A::Error> {
    let Kind::Message(entry) = field.kind else {
        return Err(A::Error::custom("is not a map"));
    };
    let schema = reader.schema;
    let [key, value] = &schema.get(entry).fields[..] else {
        return Err(A::Error::custom("is not a map"));
    };
    // Where the keys are in the output, to find those given twice without a copy of them.
    let mut keys: Vec<(usize, usize)> = Vec::new();
    reader.enter()?;
    loop {
        let start = wire::begin(&mut reader.out, field.number);
        let seed = KeySeed {
            reader: &mut *reader,
            field: key,
        };
        if source.next_key_seed(seed)?.is_none() {
            // Takes back the key and the length that were written in advance.
            let written = wire::varint_len((field.number as usize) << 3) + 1;
            reader.out.truncate(start - written);
            break;
        }
        let key_length = reader.out.len() - start;
        source.next_value_seed(ElementSeed(FieldSeed {
            reader: &mut *reader,
            field: value,
        }))?;
        let start = wire::end(&mut reader.out, start);
        keys.push((start, key_length));
        reader.path.pop();
        reader.check_size()?;
    }
    reader.leave();
    let out = &reader.out;
    let bytes = |&(start, length): &(usize, usize)| &out[start..start + length];
    keys.sort_unstable_by(|left, right| bytes(left).cmp(bytes(right)));
    let twice = keys
        .windows(2)
        .find(|pair| bytes(&pair[0]) == bytes(&pair[1]));
    if let Some(pair) = twice {
        let text = String::from_utf8_lossy(bytes(&pair[0]).get(2..).unwrap_or_default());
        let message = format!(
            "the key {:?} is given twice",
            text.chars().take(100).collect::<String>()
        );
        return Err(A::Error::custom(message));
    }
    Ok(())
}

/// The key of a map; leaves it on the path.
struct KeySeed<'r, 's, 'f> {
    reader: &'r mut Reader<'s>,
    field: &'f Field,
}

impl<'de> DeserializeSeed<'de> for KeySeed<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<(), D::Error> {
        source.deserialize_str(self)
    }
}

impl Visitor<'_> for KeySeed<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        let short: String = text.chars().take(100).collect();
        self.reader.path.push(Step::Name(short.into()));
        let given = scalar::from_text(self.field.kind, text);
        self.reader.put(self.field, given).map_err(E::custom)
    }
}

/// A single value of a field.
struct SingleVisitor<'r, 's, 'f> {
    seed: FieldSeed<'r, 's, 'f>,
    element: bool,
}

impl SingleVisitor<'_, '_, '_> {
    fn put<E: serde::de::Error>(self, given: Given<'_>) -> Result<(), E> {
        let FieldSeed { reader, field } = self.seed;
        reader.put(field, given).map_err(E::custom)
    }

    fn form(&self) -> Option<(MessageId, Form)> {
        match self.seed.field.kind {
            Kind::Message(id) => Some((id, self.seed.reader.schema.get(id).form)),
            _ => None,
        }
    }
}

impl<'de> Visitor<'de> for SingleVisitor<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(scalar::expectation(self.seed.field.kind))
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<(), E> {
        self.put(Given::Bool(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        self.put(Given::Signed(value))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        self.put(Given::Unsigned(value))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        self.put(Given::Float(value))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<(), E> {
        self.put(Given::Text(value))
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        let FieldSeed { reader, field } = self.seed;
        match field.kind {
            Kind::Message(id) if reader.schema.get(id).form == Form::Value => {
                // null_value = 1 is an enum whose one number is 0.
                wire::put_len(&mut reader.out, field.number, &[1 << 3, 0]);
                Ok(())
            }
            Kind::Enum(id) if reader.schema.enumeration(id).null => {
                wire::put_key(&mut reader.out, field.number, wire::VARINT);
                reader.out.push(0);
                Ok(())
            }
            _ if self.element => Err(E::custom("must not be null")),
            _ => Ok(()),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut source: A) -> Result<(), A::Error> {
        let form = self.form();
        let FieldSeed { reader, field } = self.seed;
        match form {
            Some((id, Form::ListValue)) => {
                let start = wire::begin(&mut reader.out, field.number);
                list_items(reader, id, source)?;
                wire::end(&mut reader.out, start);
                Ok(())
            }
            Some((id, Form::Value)) => {
                let list = &reader.schema.get(id).fields[5];
                let Kind::Message(list_id) = list.kind else {
                    return Err(A::Error::custom("is not a list"));
                };
                reader.enter()?;
                let outer = wire::begin(&mut reader.out, field.number);
                let inner = wire::begin(&mut reader.out, list.number);
                list_items(reader, list_id, source)?;
                wire::end(&mut reader.out, inner);
                wire::end(&mut reader.out, outer);
                reader.leave();
                Ok(())
            }
            _ => {
                // Skips nothing: the error ends the whole document.
                source.next_element::<IgnoredAny>().ok();
                let expected = scalar::expectation(field.kind);
                Err(A::Error::custom(format!("a list is not {expected}")))
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, source: A) -> Result<(), A::Error> {
        let form = self.form();
        let FieldSeed { reader, field } = self.seed;
        let Some((id, form)) = form else {
            let expected = scalar::expectation(field.kind);
            return Err(A::Error::custom(format!("an object is not {expected}")));
        };
        reader.enter()?;
        let start = wire::begin(&mut reader.out, field.number);
        if form == Form::Value {
            let inner_field = &reader.schema.get(id).fields[4];
            let Kind::Message(inner) = inner_field.kind else {
                return Err(A::Error::custom("is not an object"));
            };
            reader.enter()?;
            let inner_start = wire::begin(&mut reader.out, inner_field.number);
            MessageSeed {
                reader: &mut *reader,
                message: inner,
            }
            .visit_map(source)?;
            wire::end(&mut reader.out, inner_start);
            reader.leave();
        } else {
            MessageSeed {
                reader: &mut *reader,
                message: id,
            }
            .visit_map(source)?;
        }
        wire::end(&mut reader.out, start);
        reader.leave();
        Ok(())
    }
}

fn list_items<'de, A: SeqAccess<'de>>(
    reader: &mut Reader<'_>,
    list: MessageId,
    source: A,
) -> Result<(), A::Error> {
    let field = &reader.schema.get(list).fields[0];
    reader.enter()?;
    ListVisitor(FieldSeed {
        reader: &mut *reader,
        field,
    })
    .visit_seq(source)?;
    reader.leave();
    Ok(())
}
