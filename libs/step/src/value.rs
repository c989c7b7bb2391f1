//! Parameter values: JSON values, their text in commands and files, and the types that they must have.

use serde_json::{Number, Value};

/// The type of a parameter, as `ParameterTypeEnum` of a pipeline spec has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParameterType {
    /// A double.
    Double,
    /// A whole number.
    Integer,
    /// Text.
    String,
    /// True or false.
    Boolean,
    /// A JSON array.
    List,
    /// A JSON object.
    Struct,
}

impl ParameterType {
    /// The type in words, for messages.
    pub fn words(self) -> &'static str {
        match self {
            ParameterType::Double => "a number",
            ParameterType::Integer => "a whole number",
            ParameterType::String => "text",
            ParameterType::Boolean => "true or false",
            ParameterType::List => "a JSON array",
            ParameterType::Struct => "a JSON object",
        }
    }
}

/// Why a value does not have its type; reads on after the name of the parameter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// The value is of another type.
    #[error("must be {}, got {got}", .want.words())]
    Type {
        /// What was declared.
        want: ParameterType,
        /// An excerpt of what was there.
        got: String,
    },
    /// Not UTF-8.
    #[error("is not UTF-8 text")]
    NotText,
    /// A NUL character, which databases refuse.
    #[error("contains a NUL character")]
    Nul,
}

/// The text of a value in a command: strings as they are, numbers without exponent, everything else as JSON.
pub fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number_text(number),
        other => canonical(other.clone()).to_string(),
    }
}

fn number_text(number: &Number) -> String {
    if number.is_f64() {
        // Display of f64 never uses an exponent, and prints integral values without a fraction.
        return number.as_f64().unwrap_or_default().to_string();
    }
    number.to_string()
}

/// The largest magnitude up to which every whole number has a double of its own.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Turns integral doubles into integers, at any depth, as upstream's JSON printer does: `2.0` becomes `2`. Python would
/// otherwise see a float where the component declares an int.
pub fn canonical(value: Value) -> Value {
    match value {
        Value::Number(number) if number.is_f64() => {
            let double = number.as_f64().unwrap_or_default();
            if double.fract() == 0.0 && double.abs() <= EXACT {
                Value::from(double as i64)
            } else {
                Value::Number(number)
            }
        }
        Value::Array(items) => Value::Array(items.into_iter().map(canonical).collect()),
        Value::Object(fields) => fields.into_iter().map(|(k, v)| (k, canonical(v))).collect(),
        other => other,
    }
}

/// Reads the text that a program wrote for a parameter. Text is taken as it is; every other type may be surrounded by
/// white space. Booleans are those of Go's `strconv.ParseBool`.
pub fn from_text(want: ParameterType, bytes: &[u8]) -> Result<Value, ValueError> {
    let text = str::from_utf8(bytes).map_err(|_| ValueError::NotText)?;
    let wrong = || ValueError::Type {
        want,
        got: excerpt(text),
    };
    let trimmed = text.trim();
    let value = match want {
        ParameterType::String => Some(Value::String(text.to_owned())),
        ParameterType::Integer => trimmed.parse::<i64>().ok().map(Value::from),
        ParameterType::Double => trimmed.parse::<f64>().ok().and_then(double),
        ParameterType::Boolean => match trimmed {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(Value::Bool(true)),
            "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(Value::Bool(false)),
            _ => None,
        },
        ParameterType::List | ParameterType::Struct => serde_json::from_str(trimmed).ok(),
    };
    coerce(want, value.ok_or_else(wrong)?)
}

fn double(number: f64) -> Option<Value> {
    Number::from_f64(number).map(Value::Number).map(canonical)
}

/// Gives a JSON value its declared type where nothing is lost: `2.0` and `true` are whole numbers (Python's `bool` is an
/// `int`), a number is text, and text is read as the file of a parameter would be.
pub fn coerce(want: ParameterType, value: Value) -> Result<Value, ValueError> {
    let value = canonical(value);
    if contains_nul(&value) {
        return Err(ValueError::Nul);
    }
    match (want, value) {
        (ParameterType::String, Value::String(text)) => Ok(Value::String(text)),
        (ParameterType::String, value) if !value.is_null() => Ok(Value::String(text(&value))),
        (ParameterType::Boolean, value @ Value::Bool(_))
        | (ParameterType::List, value @ Value::Array(_))
        | (ParameterType::Struct, value @ Value::Object(_))
        | (ParameterType::Double, value @ Value::Number(_)) => Ok(value),
        (ParameterType::Integer, Value::Number(number)) if !number.is_f64() => {
            Ok(Value::Number(number))
        }
        (ParameterType::Integer | ParameterType::Double, Value::Bool(flag)) => {
            Ok(Value::from(i64::from(flag)))
        }
        (_, Value::String(text)) => from_text(want, text.as_bytes()),
        (_, value) => Err(ValueError::Type {
            want,
            got: excerpt(&value.to_string()),
        }),
    }
}

fn contains_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(contains_nul),
        Value::Object(fields) => fields
            .iter()
            .any(|(k, v)| k.contains('\0') || contains_nul(v)),
        _ => false,
    }
}

/// The first characters of a text, quoted for a message.
pub(crate) fn excerpt(text: &str) -> String {
    const LONGEST: usize = 60;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn text_of_values() {
        for (value, want) in [
            (json!("a \"b\"\n"), "a \"b\"\n"),
            (json!(2.0), "2"),
            (json!(-0.5), "-0.5"),
            (json!(1e21), "1000000000000000000000"),
            (json!(1e-7), "0.0000001"),
            (json!(i64::MAX), "9223372036854775807"),
            (json!(true), "true"),
            (json!(null), "null"),
            (
                json!([1.0, "x", {"b": 2.5, "a": null}]),
                r#"[1,"x",{"a":null,"b":2.5}]"#,
            ),
        ] {
            assert_eq!(text(&value), want);
        }
    }

    #[test]
    fn text_is_read_by_type() {
        use ParameterType::*;
        for (want, text, value) in [
            (String, " a\n", Some(json!(" a\n"))),
            (Integer, " 42\n", Some(json!(42))),
            (Integer, "-7", Some(json!(-7))),
            (Integer, "4.0", None),
            (Integer, "", None),
            (Double, "4.0", Some(json!(4))),
            (Double, "1e3", Some(json!(1000))),
            (Double, "0.25\n", Some(json!(0.25))),
            (Double, "nan", None),
            (Double, "inf", None),
            (Boolean, "True\n", Some(json!(true))),
            (Boolean, "f", Some(json!(false))),
            (Boolean, "yes", None),
            (Boolean, "tRUE", None),
            (List, "[1, 2.0]", Some(json!([1, 2]))),
            (List, "{}", None),
            (Struct, "{\"a\": [true]}", Some(json!({"a": [true]}))),
            (Struct, "nonsense", None),
        ] {
            assert_eq!(
                from_text(want, text.as_bytes()).ok(),
                value,
                "{want:?} {text:?}"
            );
        }
    }

    #[test]
    fn values_take_their_declared_type() {
        use ParameterType::*;
        for (want, value, result) in [
            (Integer, json!(2.0), Some(json!(2))),
            (Integer, json!(true), Some(json!(1))),
            (Integer, json!("5"), Some(json!(5))),
            (Integer, json!(2.5), None),
            (Double, json!(2), Some(json!(2))),
            (String, json!(2.0), Some(json!("2"))),
            (String, json!([1]), Some(json!("[1]"))),
            (String, json!(null), None),
            (Boolean, json!("true"), Some(json!(true))),
            (Boolean, json!(1), None),
            (List, json!("[1]"), Some(json!([1]))),
            (List, json!({}), None),
            (Struct, json!(null), None),
            (Struct, json!({"a\u{0}": 1}), None),
            (String, json!("a\u{0}"), None),
        ] {
            assert_eq!(coerce(want, value.clone()).ok(), result, "{want:?} {value}");
        }
    }

    #[test]
    fn long_values_are_cut_in_messages() {
        let error = from_text(ParameterType::Integer, "ä".repeat(500).as_bytes()).unwrap_err();
        assert!(error.to_string().len() < 200, "{error}");
        assert_eq!(
            from_text(ParameterType::Integer, b"x")
                .unwrap_err()
                .to_string(),
            "must be a whole number, got \"x\""
        );
    }

    proptest! {
        #[test]
        fn whole_numbers_survive_text(number: i64) {
            let written = text(&json!(number));
            prop_assert_eq!(from_text(ParameterType::Integer, written.as_bytes()), Ok(json!(number)));
        }

        #[test]
        fn doubles_survive_text_without_exponent(number in proptest::num::f64::NORMAL) {
            let written = text(&json!(number));
            prop_assert!(!written.contains(['e', 'E']));
            let read = from_text(ParameterType::Double, written.as_bytes()).unwrap();
            prop_assert_eq!(read.as_f64(), Some(number));
        }

        #[test]
        fn any_text_survives(text in "[^\u{0}]*") {
            prop_assert_eq!(from_text(ParameterType::String, text.as_bytes()), Ok(Value::String(text)));
        }
    }
}
