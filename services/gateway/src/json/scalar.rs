//! Scalars of the wire from what JSON and query strings offer.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::wire::{self, BYTES, FIXED32, FIXED64, VARINT};
use super::{Kind, Schema};

const CONFIG: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, CONFIG);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, CONFIG);

/// A scalar of JSON.
#[derive(Debug, Clone, Copy)]
pub(super) enum Given<'a> {
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    Text(&'a str),
}

impl Given<'_> {
    fn integer(self) -> Option<i128> {
        match self {
            Self::Signed(value) => Some(i128::from(value)),
            Self::Unsigned(value) => Some(i128::from(value)),
            // `1.0` and `1e3` are integers; the range keeps the conversion exact.
            Self::Float(value) if value.fract() == 0.0 && value.abs() < 1e19 => Some(value as i128),
            Self::Text(text) => text.parse().ok().or_else(|| {
                let value: f64 = text.parse().ok()?;
                (!text.is_empty() && value.fract() == 0.0 && value.abs() < 9e15)
                    .then_some(value as i128)
            }),
            Self::Bool(_) | Self::Float(_) => None,
        }
    }

    fn float(self) -> Option<f64> {
        match self {
            Self::Signed(value) => Some(value as f64),
            Self::Unsigned(value) => Some(value as f64),
            Self::Float(value) => Some(value),
            Self::Text("NaN") => Some(f64::NAN),
            Self::Text("Infinity") => Some(f64::INFINITY),
            Self::Text("-Infinity") => Some(f64::NEG_INFINITY),
            Self::Text(text) if text.bytes().all(|byte| b"+-.eE0123456789".contains(&byte)) => {
                text.parse().ok().filter(|value: &f64| value.is_finite())
            }
            Self::Text(_) | Self::Bool(_) => None,
        }
    }
}

/// What values of a kind look like, for messages to people.
pub(super) fn expectation(kind: Kind) -> &'static str {
    match kind {
        Kind::Double | Kind::Float => "a number",
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => "an integer of 32 bits",
        Kind::Uint32 | Kind::Fixed32 => "an unsigned integer of 32 bits",
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => "an integer of 64 bits",
        Kind::Uint64 | Kind::Fixed64 => "an unsigned integer of 64 bits",
        Kind::Bool => "true or false",
        Kind::String => "a string",
        Kind::Bytes => "a string of base64",
        Kind::Enum(_) => "the name of a value of the enum",
        Kind::Message(_) => "an object",
    }
}

/// The wire type of a kind.
pub(super) fn wire_type(kind: Kind) -> u32 {
    match kind {
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => FIXED64,
        Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => FIXED32,
        Kind::String | Kind::Bytes | Kind::Message(_) => BYTES,
        _ => VARINT,
    }
}

/// Appends the value of a scalar, without its key; `None` when the kind does not allow it.
pub(super) fn put(schema: &Schema, kind: Kind, given: Given<'_>, out: &mut Vec<u8>) -> Option<()> {
    match kind {
        Kind::String => match given {
            Given::Text(text) => put_text(out, text.as_bytes()),
            _ => return None,
        },
        Kind::Bytes => match given {
            Given::Text(text) => {
                let engine = if text.contains(['-', '_']) {
                    &URL_SAFE
                } else {
                    &STANDARD
                };
                put_text(out, &engine.decode(text).ok()?);
            }
            _ => return None,
        },
        Kind::Bool => match given {
            Given::Bool(flag) => out.push(u8::from(flag)),
            _ => return None,
        },
        Kind::Double => out.extend_from_slice(&given.float()?.to_le_bytes()),
        Kind::Float => {
            let wide = given.float()?;
            let narrow = wide as f32;
            if wide.is_finite() && !narrow.is_finite() {
                return None;
            }
            out.extend_from_slice(&narrow.to_le_bytes());
        }
        Kind::Enum(id) => {
            let number = match given {
                Given::Text(text) => schema.enumeration(id).number(text)?,
                _ => i32::try_from(given.integer()?).ok()?,
            };
            wire::put_varint(out, i64::from(number) as u64);
        }
        Kind::Message(_) => return None,
        _ => put_integer(kind, given.integer()?, out)?,
    }
    Some(())
}

fn put_integer(kind: Kind, value: i128, out: &mut Vec<u8>) -> Option<()> {
    let zigzag = |value: i64| (value << 1 ^ value >> 63) as u64;
    match kind {
        Kind::Int32 => wire::put_varint(out, i64::from(i32::try_from(value).ok()?) as u64),
        Kind::Sint32 => wire::put_varint(out, zigzag(i32::try_from(value).ok()?.into())),
        Kind::Uint32 => wire::put_varint(out, u32::try_from(value).ok()?.into()),
        Kind::Int64 => wire::put_varint(out, i64::try_from(value).ok()? as u64),
        Kind::Sint64 => wire::put_varint(out, zigzag(i64::try_from(value).ok()?)),
        Kind::Uint64 => wire::put_varint(out, u64::try_from(value).ok()?),
        Kind::Fixed32 => out.extend_from_slice(&u32::try_from(value).ok()?.to_le_bytes()),
        Kind::Sfixed32 => out.extend_from_slice(&i32::try_from(value).ok()?.to_le_bytes()),
        Kind::Fixed64 => out.extend_from_slice(&u64::try_from(value).ok()?.to_le_bytes()),
        Kind::Sfixed64 => out.extend_from_slice(&i64::try_from(value).ok()?.to_le_bytes()),
        _ => return None,
    }
    Some(())
}

fn put_text(out: &mut Vec<u8>, bytes: &[u8]) {
    wire::put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// A query parameter or a part of a path as a scalar: these are text, and numbers and flags are spelled out.
pub(super) fn from_text(kind: Kind, text: &str) -> Given<'_> {
    match (kind, text) {
        (Kind::Bool, "true" | "True" | "TRUE" | "t" | "T" | "1") => Given::Bool(true),
        (Kind::Bool, "false" | "False" | "FALSE" | "f" | "F" | "0") => Given::Bool(false),
        (Kind::Enum(_), _) => text.parse().map_or(Given::Text(text), Given::Signed),
        _ => Given::Text(text),
    }
}
