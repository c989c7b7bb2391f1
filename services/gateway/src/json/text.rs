//! Small pieces of JSON.

use std::io::Write as _;

use super::Kind;
use super::print::Malformed;
use super::wire::{self, Wire};

/// Appends text as a JSON string.
pub(super) fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&text.as_bytes()[plain..at]);
        plain = at + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                write!(out, "\\u{byte:04x}").ok();
            }
        }
    }
    out.extend_from_slice(&text.as_bytes()[plain..]);
    out.push(b'"');
}

pub(super) fn zigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

pub(super) fn is_default(value: Wire<'_>) -> bool {
    match value {
        Wire::Varint(value) | Wire::Fixed64(value) => value == 0,
        Wire::Fixed32(value) => value == 0,
        Wire::Bytes(bytes) => bytes.is_empty(),
    }
}

pub(super) fn take_packed<'a>(kind: Kind, packed: &mut &[u8]) -> Option<Wire<'a>> {
    Some(match kind {
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => {
            Wire::Fixed64(u64::from_le_bytes(wire::take_array(packed)?))
        }
        Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => {
            Wire::Fixed32(u32::from_le_bytes(wire::take_array(packed)?))
        }
        _ => Wire::Varint(wire::take_varint(packed)?),
    })
}

pub(super) fn map_key(kind: Kind, key: Option<Wire<'_>>) -> Result<Vec<u8>, Malformed> {
    let text = match (kind, key) {
        (Kind::String, Some(Wire::Bytes(text))) => return Ok(text.to_vec()),
        (Kind::String, None) => return Ok(Vec::new()),
        (Kind::Bool, Some(Wire::Varint(flag))) => (flag != 0).to_string(),
        (Kind::Bool, None) => "false".to_owned(),
        (_, None) => "0".to_owned(),
        (Kind::Int32 | Kind::Int64, Some(Wire::Varint(value))) => (value as i64).to_string(),
        (Kind::Uint32 | Kind::Uint64, Some(Wire::Varint(value)))
        | (Kind::Fixed64, Some(Wire::Fixed64(value))) => value.to_string(),
        (Kind::Sint32 | Kind::Sint64, Some(Wire::Varint(value))) => zigzag(value).to_string(),
        (Kind::Sfixed64, Some(Wire::Fixed64(value))) => (value as i64).to_string(),
        (Kind::Fixed32, Some(Wire::Fixed32(value))) => value.to_string(),
        (Kind::Sfixed32, Some(Wire::Fixed32(value))) => (value as i32).to_string(),
        _ => return Err(Malformed),
    };
    Ok(text.into_bytes())
}

pub(super) fn camel(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    let mut upper = false;
    for letter in path.chars() {
        if letter == '_' {
            upper = true;
        } else {
            text.push(if upper {
                letter.to_ascii_uppercase()
            } else {
                letter
            });
            upper = false;
        }
    }
    text
}
