//! From the wire to JSON.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::Message as _;

use super::schema::{Form, MessageId};
use super::text::{camel, is_default, map_key, take_packed, write_string, zigzag};
use super::wire::{Fields, Wire};
use super::{Field, Kind, Schema, Shape};

/// Nesting that no message of ours reaches; prost refuses at 100.
const MAX_DEPTH: u32 = 110;

/// The bytes are not a message of the type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a message is malformed")]
pub struct Malformed;

/// Appends a message of the given type as JSON.
pub fn print(
    schema: &Schema,
    message: MessageId,
    bytes: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), Malformed> {
    let mut printer = Printer {
        schema,
        out,
        fields: Vec::new(),
        depth: 0,
    };
    printer.message(message, bytes)
}

struct Printer<'a, 'b> {
    schema: &'a Schema,
    out: &'a mut Vec<u8>,
    /// The fields of the messages being printed, outer ones first: one allocation for all levels.
    fields: Vec<(usize, Wire<'b>)>,
    depth: u32,
}

impl<'b> Printer<'_, 'b> {
    fn message(&mut self, id: MessageId, bytes: &'b [u8]) -> Result<(), Malformed> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Malformed);
        }
        match self.schema.get(id).form {
            Form::Object => self.object(id, bytes),
            Form::Struct => self.entries(id, bytes),
            Form::Value => self.value(bytes),
            Form::ListValue => self.list_value(id, bytes),
            Form::Timestamp => self.text_form::<prost_types::Timestamp>(bytes),
            Form::Duration => self.text_form::<prost_types::Duration>(bytes),
            Form::Wrapper => self.wrapper(id, bytes),
            Form::FieldMask => self.field_mask(bytes),
            Form::Any => self.any(bytes),
        }?;
        self.depth -= 1;
        Ok(())
    }

    fn object(&mut self, id: MessageId, bytes: &'b [u8]) -> Result<(), Malformed> {
        self.out.push(b'{');
        self.members(id, bytes, true)?;
        self.out.push(b'}');
        Ok(())
    }

    /// The members of an object without its braces.
    fn members(
        &mut self,
        id: MessageId,
        bytes: &'b [u8],
        mut first: bool,
    ) -> Result<(), Malformed> {
        let schema = self.schema;
        let message = schema.get(id);
        let base = self.fields.len();
        let mut fields = Fields::new(bytes);
        for (number, value) in fields.by_ref() {
            if let Some(index) = message.by_number(number) {
                self.fields.push((index, value));
            }
        }
        if fields.broken {
            return Err(Malformed);
        }
        if !self.fields[base..].is_sorted_by_key(|field| field.0) {
            self.fields[base..].sort_by_key(|field| field.0);
        }
        let end = self.fields.len();
        let mut at = base;
        while at < end {
            let index = self.fields[at].0;
            let count = self.fields[at..end]
                .iter()
                .take_while(|field| field.0 == index)
                .count();
            let field = &message.fields[index];
            self.member(field, at, at + count, &mut first)?;
            at += count;
        }
        self.fields.truncate(base);
        Ok(())
    }

    /// One field, whose occurrences are `fields[from..to]`.
    fn member(
        &mut self,
        field: &Field,
        from: usize,
        to: usize,
        first: &mut bool,
    ) -> Result<(), Malformed> {
        let last = self.fields[to - 1].1;
        if field.shape == Shape::Implicit && is_default(last) {
            return Ok(());
        }
        if !*first {
            self.out.push(b',');
        }
        *first = false;
        self.out.push(b'"');
        self.out.extend_from_slice(field.name.as_bytes());
        self.out.extend_from_slice(b"\":");
        match (field.shape, field.kind) {
            (Shape::Map, Kind::Message(entry)) => self.map(entry, from, to),
            (Shape::Repeated(_), _) => self.list(field.kind, from, to),
            (_, Kind::Message(inner)) if to - from > 1 => {
                // Parts of one message add up to it; a peer of ours never splits one.
                let mut whole = Vec::new();
                for (_, part) in &self.fields[from..to] {
                    let Wire::Bytes(part) = part else {
                        return Err(Malformed);
                    };
                    whole.extend_from_slice(part);
                }
                print(self.schema, inner, &whole, self.out)
            }
            _ => self.single(field.kind, last),
        }
    }

    fn single(&mut self, kind: Kind, value: Wire<'b>) -> Result<(), Malformed> {
        match (kind, value) {
            (Kind::Message(inner), Wire::Bytes(bytes)) => self.message(inner, bytes),
            _ => self.scalar(kind, value),
        }
    }

    fn list(&mut self, kind: Kind, from: usize, to: usize) -> Result<(), Malformed> {
        self.out.push(b'[');
        let mut first = true;
        for at in from..to {
            let value = self.fields[at].1;
            match value {
                Wire::Bytes(mut packed)
                    if !matches!(kind, Kind::String | Kind::Bytes | Kind::Message(_)) =>
                {
                    while !packed.is_empty() {
                        let value = take_packed(kind, &mut packed).ok_or(Malformed)?;
                        self.separate(&mut first);
                        self.scalar(kind, value)?;
                    }
                }
                _ => {
                    self.separate(&mut first);
                    self.single(kind, value)?;
                }
            }
        }
        self.out.push(b']');
        Ok(())
    }

    fn separate(&mut self, first: &mut bool) {
        if !*first {
            self.out.push(b',');
        }
        *first = false;
    }

    /// `google.protobuf.Struct`: its one field is a map.
    fn entries(&mut self, id: MessageId, bytes: &'b [u8]) -> Result<(), Malformed> {
        let Some(&Field {
            kind: Kind::Message(entry),
            ..
        }) = self.schema.get(id).fields.first()
        else {
            return Err(Malformed);
        };
        let base = self.fields.len();
        let mut fields = Fields::new(bytes);
        self.fields
            .extend(fields.by_ref().map(|(_, value)| (0, value)));
        if fields.broken {
            return Err(Malformed);
        }
        self.map(entry, base, self.fields.len())?;
        self.fields.truncate(base);
        Ok(())
    }

    /// A map with its keys in order, so that equal messages print equally; of equal keys the last one counts.
    fn map(&mut self, entry: MessageId, from: usize, to: usize) -> Result<(), Malformed> {
        let schema = self.schema;
        let [key_field, value_field] = &schema.get(entry).fields[..] else {
            return Err(Malformed);
        };
        let mut entries: Vec<(Vec<u8>, Option<Wire<'b>>)> = Vec::with_capacity(to - from);
        for at in from..to {
            let Wire::Bytes(bytes) = self.fields[at].1 else {
                return Err(Malformed);
            };
            let (mut key, mut value) = (None, None);
            let mut fields = Fields::new(bytes);
            for (number, field) in fields.by_ref() {
                match number {
                    1 => key = Some(field),
                    2 => value = Some(field),
                    _ => {}
                }
            }
            if fields.broken {
                return Err(Malformed);
            }
            entries.push((map_key(key_field.kind, key)?, value));
        }
        entries.sort_by(|left, right| left.0.cmp(&right.0));
        self.out.push(b'{');
        let mut first = true;
        for at in 0..entries.len() {
            let (key, value) = &entries[at];
            if entries.get(at + 1).is_some_and(|next| next.0 == *key) {
                continue;
            }
            self.separate(&mut first);
            self.string(std::str::from_utf8(key).map_err(|_| Malformed)?);
            self.out.push(b':');
            match value {
                Some(value) => self.single(value_field.kind, *value)?,
                None => self.default(value_field.kind)?,
            }
        }
        self.out.push(b'}');
        Ok(())
    }

    fn default(&mut self, kind: Kind) -> Result<(), Malformed> {
        match kind {
            Kind::Message(inner) => self.message(inner, &[]),
            Kind::String | Kind::Bytes => self.scalar(kind, Wire::Bytes(&[])),
            Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => self.scalar(kind, Wire::Fixed64(0)),
            Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => self.scalar(kind, Wire::Fixed32(0)),
            _ => self.scalar(kind, Wire::Varint(0)),
        }
    }

    /// `google.protobuf.Value`: the last of its fields counts. One without any is printed as null.
    fn value(&mut self, bytes: &'b [u8]) -> Result<(), Malformed> {
        let mut fields = Fields::new(bytes);
        let last = fields.by_ref().last();
        if fields.broken {
            return Err(Malformed);
        }
        let find = |name| self.schema.find(name).ok_or(Malformed);
        match last {
            Some((2, Wire::Fixed64(bits))) => self.float(f64::from_bits(bits)),
            Some((3, text @ Wire::Bytes(_))) => return self.scalar(Kind::String, text),
            Some((4, Wire::Varint(flag))) => self.word(if flag == 0 { "false" } else { "true" }),
            Some((5, Wire::Bytes(bytes))) => {
                let id = find("google.protobuf.Struct")?;
                return self.message(id, bytes);
            }
            Some((6, Wire::Bytes(bytes))) => {
                let id = find("google.protobuf.ListValue")?;
                return self.message(id, bytes);
            }
            Some((2..=6, _)) => return Err(Malformed),
            _ => self.word("null"),
        }
        Ok(())
    }

    fn list_value(&mut self, id: MessageId, bytes: &'b [u8]) -> Result<(), Malformed> {
        let Some(&Field { kind, .. }) = self.schema.get(id).fields.first() else {
            return Err(Malformed);
        };
        self.out.push(b'[');
        let mut first = true;
        let mut fields = Fields::new(bytes);
        for (_, value) in fields.by_ref() {
            self.separate(&mut first);
            self.single(kind, value)?;
        }
        self.out.push(b']');
        if fields.broken {
            Err(Malformed)
        } else {
            Ok(())
        }
    }

    fn text_form<M: prost::Message + Default + ToString>(
        &mut self,
        bytes: &[u8],
    ) -> Result<(), Malformed> {
        let text = M::decode(bytes).map_err(|_| Malformed)?.to_string();
        self.string(&text);
        Ok(())
    }

    fn wrapper(&mut self, id: MessageId, bytes: &'b [u8]) -> Result<(), Malformed> {
        let Some(&Field { kind, .. }) = self.schema.get(id).fields.first() else {
            return Err(Malformed);
        };
        let mut fields = Fields::new(bytes);
        match (fields.by_ref().last(), fields.broken) {
            (_, true) => Err(Malformed),
            (Some((_, value)), _) => self.scalar(kind, value),
            (None, _) => self.default(kind),
        }
    }

    fn field_mask(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        let mask = prost_types::FieldMask::decode(bytes).map_err(|_| Malformed)?;
        let paths: Vec<String> = mask.paths.iter().map(|path| camel(path)).collect();
        self.string(&paths.join(","));
        Ok(())
    }

    fn any(&mut self, bytes: &'b [u8]) -> Result<(), Malformed> {
        let (mut url, mut content) = ("", &[][..]);
        let mut fields = Fields::new(bytes);
        for field in fields.by_ref() {
            match field {
                (1, Wire::Bytes(text)) => {
                    url = std::str::from_utf8(text).map_err(|_| Malformed)?;
                }
                (2, Wire::Bytes(bytes)) => content = bytes,
                _ => {}
            }
        }
        if fields.broken {
            return Err(Malformed);
        }
        self.out.extend_from_slice(b"{\"@type\":");
        self.string(url);
        let name = url.rsplit('/').next().unwrap_or_default();
        match self.schema.find(name) {
            Some(id) if self.schema.get(id).form == Form::Object => {
                self.members(id, content, false)?;
            }
            Some(id) => {
                self.out.extend_from_slice(b",\"value\":");
                self.message(id, content)?;
            }
            // A type that this server does not know: better its bytes than no answer.
            None => {
                self.out.extend_from_slice(b",\"value\":");
                self.string(&STANDARD.encode(content));
            }
        }
        self.out.push(b'}');
        Ok(())
    }

    fn scalar(&mut self, kind: Kind, value: Wire<'_>) -> Result<(), Malformed> {
        match (kind, value) {
            (Kind::String, Wire::Bytes(text)) => {
                self.string(std::str::from_utf8(text).map_err(|_| Malformed)?);
            }
            (Kind::Bytes, Wire::Bytes(bytes)) => self.string(&STANDARD.encode(bytes)),
            (Kind::Bool, Wire::Varint(flag)) => {
                self.word(if flag == 0 { "false" } else { "true" });
            }
            (Kind::Double, Wire::Fixed64(bits)) => self.float(f64::from_bits(bits)),
            (Kind::Float, Wire::Fixed32(bits)) => self.float32(f32::from_bits(bits)),
            (Kind::Int64, Wire::Varint(value)) => self.quoted(value as i64),
            (Kind::Uint64, Wire::Varint(value)) | (Kind::Fixed64, Wire::Fixed64(value)) => {
                self.quoted(value);
            }
            (Kind::Sint64, Wire::Varint(value)) => self.quoted(zigzag(value)),
            (Kind::Sfixed64, Wire::Fixed64(value)) => self.quoted(value as i64),
            (Kind::Int32, Wire::Varint(value)) => self.display(value as i32),
            (Kind::Sint32, Wire::Varint(value)) => self.display(zigzag(value) as i32),
            (Kind::Uint32, Wire::Varint(value)) => self.display(value as u32),
            (Kind::Fixed32, Wire::Fixed32(value)) => self.display(value),
            (Kind::Sfixed32, Wire::Fixed32(value)) => self.display(value as i32),
            (Kind::Enum(id), Wire::Varint(value)) => {
                let (schema, number) = (self.schema, value as i32);
                let enumeration = schema.enumeration(id);
                match enumeration.name(number) {
                    _ if enumeration.null => self.word("null"),
                    Some(name) => self.string(name),
                    None => self.display(number),
                }
            }
            _ => return Err(Malformed),
        }
        Ok(())
    }

    fn word(&mut self, word: &str) {
        self.out.extend_from_slice(word.as_bytes());
    }

    fn display(&mut self, value: impl std::fmt::Display) {
        // Writing into memory cannot fail.
        write!(self.out, "{value}").ok();
    }

    fn quoted(&mut self, value: impl std::fmt::Display) {
        write!(self.out, "\"{value}\"").ok();
    }

    fn string(&mut self, text: &str) {
        write_string(self.out, text);
    }

    fn float(&mut self, value: f64) {
        // As JavaScript and Go print: no fraction for integral numbers, an exponent for very large and small ones.
        let size = value.abs();
        if !value.is_finite() {
            self.not_finite(value);
        } else if size == 0.0 || (1e-6..1e21).contains(&size) {
            self.display(value);
        } else {
            write!(self.out, "{value:e}").ok();
        }
    }

    fn float32(&mut self, value: f32) {
        let size = value.abs();
        if !value.is_finite() {
            self.not_finite(f64::from(value));
        } else if size == 0.0 || (1e-6..1e21).contains(&size) {
            self.display(value);
        } else {
            write!(self.out, "{value:e}").ok();
        }
    }

    fn not_finite(&mut self, value: f64) {
        self.word(if value.is_nan() {
            "\"NaN\""
        } else if value > 0.0 {
            "\"Infinity\""
        } else {
            "\"-Infinity\""
        });
    }
}
