//! The filter of list calls: JSON of the contract's `Filter`, whose predicates must all hold.
//!
//! `IS_SUBSTRING` ignores the case of ASCII letters, as upstream's database does; its text is taken literally.
//! Times compare by whole seconds. A tag matches only where it is set: `NOT_EQUALS` means "has another value".

use clock::Timestamp;
use serde_json::{Map, Value};

use super::fields::{Field, FieldKind, Fields};
use super::violation::clip;

/// Bytes of a filter.
pub(crate) const MAX_TEXT: usize = 64 << 10;
/// Predicates of a filter.
pub(crate) const MAX_PREDICATES: usize = 100;
/// Values of all predicates of a filter.
pub(crate) const MAX_VALUES: usize = 1_000;
/// Bytes of a text to look for; databases limit the length of patterns.
pub(crate) const MAX_VALUE: usize = 8 << 10;

/// Predicates that must all hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// The predicates.
    pub predicates: Vec<Predicate>,
}

/// A key and what must be true of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Predicate {
    /// What is looked at.
    pub key: Key,
    /// What must be true.
    pub test: Test,
}

/// What a predicate looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// A field of the resource.
    Field(&'static Field),
    /// The tag of this name.
    Tag(String),
}

/// How two values compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compare {
    /// They are equal.
    Equal,
    /// They differ.
    NotEqual,
    /// The field is greater.
    Greater,
    /// The field is greater or equal.
    GreaterOrEqual,
    /// The field is less.
    Less,
    /// The field is less or equal.
    LessOrEqual,
}

/// What must be true of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Test {
    /// Its text compares so.
    Text(Compare, String),
    /// Its text is one of these.
    TextIn(Vec<String>),
    /// Its text contains this, whatever the case of ASCII letters.
    Contains(String),
    /// Its time, in whole seconds since 1970, compares so.
    Time(Compare, i64),
    /// Its time, in whole seconds since 1970, is one of these.
    TimeIn(Vec<i64>),
}

/// Why a text is not a filter; one sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FilterError(String);

fn fault<T>(message: impl Into<String>) -> Result<T, FilterError> {
    Err(FilterError(message.into()))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Compare(Compare),
    In,
    Substring,
}

/// The value of a predicate as the contract's `oneof` has it.
#[derive(Debug, Clone, PartialEq)]
enum Operand {
    Number(i64),
    Text(String),
    Time(Timestamp),
    Numbers(Vec<i64>),
    Texts(Vec<String>),
}

/// Reads a filter; the empty text is the one without predicates. Some clients encode the text for URLs twice.
///
/// # Errors
/// What is wrong, naming the predicate.
pub(crate) fn parse(text: &str, fields: &'static Fields) -> Result<Filter, FilterError> {
    if text.trim().is_empty() {
        return Ok(Filter::default());
    }
    if text.len() > MAX_TEXT {
        return fault(format!("the filter is longer than {MAX_TEXT} bytes"));
    }
    let document = match serde_json::from_str::<Value>(text) {
        Ok(document) => document,
        Err(error) => unescape(text)
            .and_then(|text| serde_json::from_str(&text).ok())
            .ok_or_else(|| FilterError(format!("the filter is not JSON: {error}")))?,
    };
    let Value::Object(mut document) = document else {
        return fault("the filter must be a JSON object with the key \"predicates\"");
    };
    let predicates = document.remove("predicates").unwrap_or(Value::Null);
    if let Some(key) = document.keys().next() {
        return fault(format!("the filter has the unknown key \"{}\"", clip(key)));
    }
    let predicates = match predicates {
        Value::Null => Vec::new(),
        Value::Array(predicates) => predicates,
        _ => return fault("\"predicates\" must be a list"),
    };
    if predicates.len() > MAX_PREDICATES {
        return fault(format!(
            "the filter has more than {MAX_PREDICATES} predicates"
        ));
    }
    let mut values = 0;
    let mut filter = Filter::default();
    for (index, predicate) in predicates.into_iter().enumerate() {
        let predicate = self::predicate(predicate, fields, &mut values)
            .map_err(|error| FilterError(format!("predicates[{index}]: {error}")))?;
        filter.predicates.push(predicate);
    }
    Ok(filter)
}

fn predicate(
    value: Value,
    fields: &'static Fields,
    values: &mut usize,
) -> Result<Predicate, FilterError> {
    let Value::Object(map) = value else {
        return fault("must be a JSON object");
    };
    let mut operation = None;
    let mut key = None;
    let mut operand = None;
    for (name, value) in map {
        if value.is_null() {
            continue;
        }
        match name.as_str() {
            // The older contract has the shorter name.
            "operation" | "op" => operation = Some(self::operation(&value)?),
            "key" => match value {
                Value::String(text) => key = Some(text),
                _ => return fault("\"key\" must be a string"),
            },
            _ => {
                let read = self::operand(&name, value)?;
                if operand.replace(read).is_some() {
                    return fault("has more than one value");
                }
            }
        }
    }
    let Some(operation) = operation else {
        return fault("\"operation\" is missing");
    };
    let Some(key) = key.filter(|key| !key.is_empty()) else {
        return fault("\"key\" is missing");
    };
    let key = self::key(key, fields)?;
    let Some(operand) = operand else {
        return fault("a value is missing, such as \"string_value\"");
    };
    *values += operand.count();
    if *values > MAX_VALUES {
        return fault(format!("the filter has more than {MAX_VALUES} values"));
    }
    let test = test(&key, operation, operand)?;
    Ok(Predicate { key, test })
}

fn key(name: String, fields: &'static Fields) -> Result<Key, FilterError> {
    if let Some(field) = fields.find(&name) {
        return Ok(Key::Field(field));
    }
    match name.strip_prefix("tags.") {
        Some(tag) if fields.tags && !tag.is_empty() => {
            plain(tag)?;
            Ok(Key::Tag(tag.to_owned()))
        }
        _ => fault(format!(
            "no support for filtering on unrecognized field \"{}\"",
            clip(&name)
        )),
    }
}

/// The contract's enum `Predicate.Operation`, by name or number.
fn operation(value: &Value) -> Result<Operation, FilterError> {
    use Compare as C;
    let found = match value {
        Value::String(name) => match name.as_str() {
            "EQUALS" => Some(1),
            "NOT_EQUALS" => Some(2),
            "GREATER_THAN" => Some(3),
            "GREATER_THAN_EQUALS" => Some(5),
            "LESS_THAN" => Some(6),
            "LESS_THAN_EQUALS" => Some(7),
            "IN" => Some(8),
            "IS_SUBSTRING" => Some(9),
            _ => None,
        },
        Value::Number(number) => number.as_i64(),
        _ => None,
    };
    match found {
        Some(1) => Ok(Operation::Compare(C::Equal)),
        Some(2) => Ok(Operation::Compare(C::NotEqual)),
        Some(3) => Ok(Operation::Compare(C::Greater)),
        Some(5) => Ok(Operation::Compare(C::GreaterOrEqual)),
        Some(6) => Ok(Operation::Compare(C::Less)),
        Some(7) => Ok(Operation::Compare(C::LessOrEqual)),
        Some(8) => Ok(Operation::In),
        Some(9) => Ok(Operation::Substring),
        _ => fault(format!(
            "\"operation\" is {}; it must be EQUALS, NOT_EQUALS, GREATER_THAN, GREATER_THAN_EQUALS, LESS_THAN, \
             LESS_THAN_EQUALS, IN or IS_SUBSTRING",
            clip(&value.to_string())
        )),
    }
}

fn operand(name: &str, value: Value) -> Result<Operand, FilterError> {
    match name {
        "int_value" | "intValue" => Ok(Operand::Number(int(&value)?)),
        "long_value" | "longValue" => Ok(Operand::Number(long(&value)?)),
        "string_value" | "stringValue" => Ok(Operand::Text(text(value)?)),
        "timestamp_value" | "timestampValue" => match value {
            Value::String(text) => match text.parse() {
                Ok(time) => Ok(Operand::Time(time)),
                Err(_) => fault(format!(
                    "\"{}\" is not a time such as 2026-01-31T12:00:00Z",
                    clip(&text)
                )),
            },
            _ => fault("a time must be a string such as \"2026-01-31T12:00:00Z\""),
        },
        "int_values" | "intValues" => {
            let numbers = list(value)?.iter().map(int).collect::<Result<_, _>>()?;
            Ok(Operand::Numbers(numbers))
        }
        "long_values" | "longValues" => {
            let numbers = list(value)?.iter().map(long).collect::<Result<_, _>>()?;
            Ok(Operand::Numbers(numbers))
        }
        "string_values" | "stringValues" => {
            let texts = list(value)?
                .into_iter()
                .map(text)
                .collect::<Result<_, _>>()?;
            Ok(Operand::Texts(texts))
        }
        _ => fault(format!("has the unknown key \"{}\"", clip(name))),
    }
}

impl Operand {
    fn count(&self) -> usize {
        match self {
            Self::Number(_) | Self::Text(_) | Self::Time(_) => 1,
            Self::Numbers(numbers) => numbers.len(),
            Self::Texts(texts) => texts.len(),
        }
    }
}

fn list(value: Value) -> Result<Vec<Value>, FilterError> {
    let values = |mut map: Map<String, Value>| {
        let values = map
            .remove("values")
            .unwrap_or_else(|| Value::Array(Vec::new()));
        map.is_empty().then_some(values)
    };
    match value {
        Value::Object(map) => match values(map) {
            Some(Value::Array(values)) => Ok(values),
            _ => fault("a list of values must be an object with the one key \"values\""),
        },
        _ => fault("a list of values must be an object with the key \"values\""),
    }
}

fn text(value: Value) -> Result<String, FilterError> {
    match value {
        Value::String(text) => {
            plain(&text)?;
            Ok(text)
        }
        other => fault(format!("{} is not a string", clip(&other.to_string()))),
    }
}

/// PostgreSQL has no NUL in texts, and both databases limit patterns.
fn plain(text: &str) -> Result<(), FilterError> {
    if text.contains('\0') {
        return fault("a text must not contain the character NUL");
    }
    if text.len() > MAX_VALUE {
        return fault(format!("a text must not be longer than {MAX_VALUE} bytes"));
    }
    Ok(())
}

fn int(value: &Value) -> Result<i64, FilterError> {
    let number = long(value)?;
    match i32::try_from(number) {
        Ok(_) => Ok(number),
        Err(_) => fault(format!(
            "{number} does not fit an int_value; use long_value"
        )),
    }
}

/// The JSON form of 64-bit numbers is a string; plain numbers are accepted too.
fn long(value: &Value) -> Result<i64, FilterError> {
    let found = match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    match found {
        Some(number) => Ok(number),
        None => fault(format!(
            "{} is not a whole number",
            clip(&value.to_string())
        )),
    }
}

fn test(key: &Key, operation: Operation, operand: Operand) -> Result<Test, FilterError> {
    match (operation, &operand) {
        (Operation::In, Operand::Numbers(_) | Operand::Texts(_)) => {}
        (Operation::In, _) => return fault("IN needs a list, such as \"string_values\""),
        (_, Operand::Numbers(_) | Operand::Texts(_)) => {
            return fault("only IN takes a list of values");
        }
        (Operation::Substring, Operand::Text(_)) => {}
        (Operation::Substring, _) => return fault("IS_SUBSTRING needs \"string_value\""),
        (Operation::Compare(_), _) => {}
    }
    let kind = match key {
        Key::Field(field) => field.kind,
        Key::Tag(_) => FieldKind::Text,
    };
    match (kind, operation, operand) {
        (FieldKind::Time, Operation::Compare(compare), Operand::Time(time)) => {
            Ok(Test::Time(compare, time.as_secs()))
        }
        (FieldKind::Time, Operation::Compare(compare), Operand::Number(seconds)) => {
            Ok(Test::Time(compare, seconds))
        }
        (FieldKind::Time, _, Operand::Numbers(seconds)) => Ok(Test::TimeIn(seconds)),
        (FieldKind::Time, _, _) => fault(
            "the key holds a time: use \"timestamp_value\", or seconds since 1970 as \"long_value\"",
        ),
        (FieldKind::Text, Operation::Compare(compare), Operand::Text(text)) => {
            Ok(Test::Text(compare, text))
        }
        (FieldKind::Names(names), Operation::Compare(compare), Operand::Text(text)) => {
            Ok(Test::Text(compare, name(names, &text)?))
        }
        (FieldKind::Text | FieldKind::Names(_), Operation::Substring, Operand::Text(text)) => {
            Ok(Test::Contains(text))
        }
        (FieldKind::Text, _, Operand::Texts(texts)) => Ok(Test::TextIn(texts)),
        (FieldKind::Names(names), _, Operand::Texts(texts)) => {
            let texts = texts
                .iter()
                .map(|text| name(names, text))
                .collect::<Result<_, _>>()?;
            Ok(Test::TextIn(texts))
        }
        (FieldKind::Text | FieldKind::Names(_), _, _) => {
            fault("the key holds a text: use \"string_value\"")
        }
    }
}

/// A name of an enum, in any case; the older contract puts `STORAGESTATE_` before some.
fn name(names: &[&'static str], text: &str) -> Result<String, FilterError> {
    let upper = text.to_ascii_uppercase();
    let short = upper.strip_prefix("STORAGESTATE_").unwrap_or(&upper);
    match names.iter().find(|name| **name == short) {
        Some(name) => Ok((*name).to_owned()),
        None => fault(format!(
            "\"{}\" is not one of {}",
            clip(text),
            names.join(", ")
        )),
    }
}

/// Decodes the form encoding of URLs; none when the text is not encoded.
fn unescape(text: &str) -> Option<String> {
    if !text.contains('%') {
        return None;
    }
    let mut plain = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => plain.push(b' '),
            b'%' => {
                let high = char::from(bytes.next()?).to_digit(16)?;
                let low = char::from(bytes.next()?).to_digit(16)?;
                plain.push(u8::try_from(high * 16 + low).ok()?);
            }
            other => plain.push(other),
        }
    }
    String::from_utf8(plain).ok()
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
