//! Conditions as people wrote them, with the values that they saw.

use serde_json::Value;

/// How the compiler refers to an input.
const REFERENCE: &str = "inputs.parameter_values['";
/// Casts that the compiler puts around references.
const CASTS: [&str; 4] = ["int", "double", "string", "bool"];
/// How many values are shown.
const MAX_VALUES: usize = 8;

/// A condition in its short form and the values of its inputs: `` `acc > 0.9`, acc = 0.84 ``.
///
/// `name` gives the short name of an input, `value` what it had.
pub fn explain<'a>(
    condition: &str,
    name: impl Fn(&str) -> String,
    value: impl Fn(&str) -> Option<&'a Value>,
) -> String {
    let mut short = String::new();
    let mut seen: Vec<(String, String)> = Vec::new();
    let mut rest = condition;
    while let Some(at) = rest.find(REFERENCE) {
        let (before, after) = (&rest[..at], &rest[at + REFERENCE.len()..]);
        let Some(end) = after.find("']") else { break };
        let input = &after[..end];
        rest = &after[end + 2..];
        short.push_str(before);
        let shown = name(input);
        // `int(x)` is how the compiler compares whole numbers: people wrote `x`.
        if rest.starts_with(')')
            && let Some(cast) = CASTS.iter().find(|cast| ends_with_call(&short, cast))
        {
            short.truncate(short.len() - cast.len() - 1);
            rest = &rest[1..];
        }
        short.push_str(&shown);
        if !seen.iter().any(|(known, _)| *known == shown) {
            let text = value(input).map_or_else(|| "not given".to_owned(), literal);
            seen.push((shown, text));
        }
    }
    short.push_str(rest);
    let mut text = format!("`{}`", super::clip(&short));
    for (name, value) in seen.iter().take(MAX_VALUES) {
        text.push_str(&format!(", {name} = {value}"));
    }
    text
}

/// Whether the text ends with the opening of a call of `cast`, and not of a function whose name ends so.
fn ends_with_call(text: &str, cast: &str) -> bool {
    let before = text
        .strip_suffix('(')
        .and_then(|text| text.strip_suffix(cast));
    before
        .is_some_and(|text| !text.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '.'))
}

/// Texts in quotes as in the condition, the rest as JSON.
fn literal(value: &Value) -> String {
    const MAX_CHARS: usize = 60;
    let text = match value {
        Value::String(text) => format!("'{text}'"),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            crate::values::normalise(value.clone()).to_string()
        }
    };
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
