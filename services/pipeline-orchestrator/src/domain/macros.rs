//! Macros in the string parameters of a run: `[[RunUUID]]`, `[[CurrentTime]]`, `[[CurrentTime.LAYOUT]]` with a layout of
//! Go's `time` package, and `{{$.currentTime.strftime('FORMAT')}}`; all times are UTC. The same with `ScheduledTime` and
//! `scheduledTime`, and `[[Index]]`, of runs that a schedule made; elsewhere those stay as they are, as upstream does.

use clock::Timestamp;
use ids::RunId;
use serde_json::Value;

/// Bytes of a macro: what is longer is text.
const MAX_MACRO: usize = 256;
/// The layout of a time without one.
const DEFAULT_LAYOUT: &str = "20060102150405";

/// What macros are replaced by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// The run.
    pub run_id: RunId,
    /// When the run is created.
    pub now: Timestamp,
    /// When it should have started, of a run that a schedule made.
    pub scheduled_at: Option<Timestamp>,
    /// Its number among the runs of its schedule.
    pub index: Option<i64>,
}

/// Replaces macros in the strings of a value, at any depth.
pub fn expand_value(value: Value, facts: &Facts) -> Value {
    match value {
        Value::String(text) => Value::String(expand(&text, facts)),
        Value::Array(items) => Value::Array(
            items
                .into_iter()
                .map(|item| expand_value(item, facts))
                .collect(),
        ),
        Value::Object(map) => {
            let entries = map
                .into_iter()
                .map(|(key, value)| (key, expand_value(value, facts)));
            Value::Object(entries.collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value,
    }
}

/// Replaces the macros of a text; what is not one stays.
pub fn expand(text: &str, facts: &Facts) -> String {
    let brackets = replace(text, "[[", "]]", |inner| bracket(inner, facts));
    replace(&brackets, "{{$.", "}}", |inner| placeholder(inner, facts))
}

fn replace(
    text: &str,
    open: &str,
    close: &str,
    mut expand: impl FnMut(&str) -> Option<String>,
) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(open) {
        let (before, from) = rest.split_at(start);
        result.push_str(before);
        let inner = &from[open.len()..];
        // A limit keeps the work linear in the text.
        let found = start_of(inner, MAX_MACRO).find(close).and_then(|end| {
            let replacement = expand(&inner[..end])?;
            Some((replacement, &inner[end + close.len()..]))
        });
        match found {
            Some((replacement, after)) => {
                result.push_str(&replacement);
                rest = after;
            }
            // One character further, so that `[[[RunUUID]]` is found.
            None => {
                result.push_str(&from[..1]);
                rest = &from[1..];
            }
        }
    }
    result.push_str(rest);
    result
}

/// At most the first `max` bytes.
fn start_of(text: &str, max: usize) -> &str {
    let end = (0..=max.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

fn bracket(inner: &str, facts: &Facts) -> Option<String> {
    match inner {
        "RunUUID" => return Some(facts.run_id.to_string()),
        "Index" => return facts.index.map(|index| index.to_string()),
        _ => {}
    }
    let (name, layout) = inner.split_once('.').unwrap_or((inner, DEFAULT_LAYOUT));
    let at = match name {
        "CurrentTime" => facts.now,
        "ScheduledTime" => facts.scheduled_at?,
        _ => return None,
    };
    go_format(at, layout)
}

/// The rest of `{{$.currentTime.strftime('%Y')}}` after `{{$.`.
fn placeholder(inner: &str, facts: &Facts) -> Option<String> {
    let (name, call) = inner.split_once('.')?;
    let at = match name {
        "currentTime" => facts.now,
        "scheduledTime" => facts.scheduled_at?,
        _ => return None,
    };
    let argument = call
        .trim()
        .strip_prefix("strftime(")?
        .strip_suffix(')')?
        .trim();
    let quoted = |quote: char| argument.strip_prefix(quote)?.strip_suffix(quote);
    let format = quoted('\'').or_else(|| quoted('"'))?;
    jiff::fmt::strtime::format(format, &zoned(at)?).ok()
}

fn zoned(at: Timestamp) -> Option<jiff::Zoned> {
    let at = jiff::Timestamp::from_microsecond(at.as_micros()).ok()?;
    Some(at.to_zoned(jiff::tz::TimeZone::UTC))
}

/// The elements of a Go layout with the same in `strftime`, longest first where one begins another.
const ELEMENTS: &[(&str, &str)] = &[
    ("January", "%B"),
    ("Jan", "%b"),
    ("Monday", "%A"),
    ("Mon", "%a"),
    ("2006", "%Y"),
    ("-07:00", "+00:00"),
    ("-0700", "+0000"),
    ("-07", "+00"),
    ("Z07:00", "Z"),
    ("Z0700", "Z"),
    ("Z07", "Z"),
    ("MST", "UTC"),
    ("002", "%j"),
    ("01", "%m"),
    ("02", "%d"),
    ("03", "%I"),
    ("04", "%M"),
    ("05", "%S"),
    ("06", "%y"),
    ("_2", "%e"),
    ("15", "%H"),
    ("PM", "%p"),
    ("pm", "%P"),
    ("1", "%-m"),
    ("2", "%-d"),
    ("3", "%-I"),
    ("4", "%-M"),
    ("5", "%-S"),
];

/// Writes a time by a layout of Go's package `time`, in UTC.
fn go_format(at: Timestamp, layout: &str) -> Option<String> {
    let zoned = zoned(at)?;
    let mut format = String::new();
    let mut rest = layout;
    while let Some(first) = rest.chars().next() {
        if let Some(digits) = fraction(rest) {
            let micros = format!("{:06}000", at.subsec_micros());
            let written = &micros[..digits.min(micros.len())];
            format.push(first);
            format.push_str(written);
            rest = &rest[1 + digits..];
            continue;
        }
        match ELEMENTS
            .iter()
            .find(|(element, _)| rest.starts_with(element))
        {
            Some((element, strftime)) => {
                format.push_str(strftime);
                rest = &rest[element.len()..];
            }
            None => {
                if first == '%' {
                    format.push('%');
                }
                format.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    jiff::fmt::strtime::format(format, &zoned).ok()
}

/// How many digits of a fraction `.000` or `,000` begins the layout with.
fn fraction(layout: &str) -> Option<usize> {
    let rest = layout.strip_prefix(['.', ','])?;
    let digits = rest.bytes().take_while(|byte| *byte == b'0').count();
    let ended = !rest[digits..].starts_with(|next: char| next.is_ascii_digit());
    (1..=9)
        .contains(&digits)
        .then_some(digits)
        .filter(|_| ended)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            run_id: RunId::derived("run"),
            now: Timestamp::from_micros(1_700_000_000_250_000),
            scheduled_at: None,
            index: None,
        }
    }

    #[test]
    fn macros_are_replaced_and_the_rest_stays() {
        let id = RunId::derived("run").to_string();
        let table = [
            ("plain", "plain".to_owned()),
            ("a-[[RunUUID]]-b", format!("a-{id}-b")),
            ("[[[RunUUID]]]", format!("[{id}]")),
            ("[[CurrentTime]]", "20231114221320".to_owned()),
            (
                "[[CurrentTime.2006-01-02T15:04:05Z07:00]]",
                "2023-11-14T22:13:20Z".to_owned(),
            ),
            (
                "[[CurrentTime.Mon Jan _2 3:04PM 06]]",
                "Tue Nov 14 10:13PM 23".to_owned(),
            ),
            ("[[CurrentTime.05.000]] 100%", "20.250 100%".to_owned()),
            ("[[CurrentTime.%2006]]", "%2023".to_owned()),
            (
                "{{$.currentTime.strftime('%Y-%m-%d')}}",
                "2023-11-14".to_owned(),
            ),
            (
                "[[ScheduledTime]] [[Index]] [[Other]] [[",
                "[[ScheduledTime]] [[Index]] [[Other]] [[".to_owned(),
            ),
            (
                "{{$.inputs.parameters['x']}}",
                "{{$.inputs.parameters['x']}}".to_owned(),
            ),
            ("ü[[ü]]", "ü[[ü]]".to_owned()),
        ];
        for (text, expected) in table {
            assert_eq!(expand(text, &facts()), expected, "{text}");
        }
    }

    #[test]
    fn runs_of_schedules_know_more() {
        let facts = Facts {
            scheduled_at: Some(Timestamp::from_secs(0)),
            index: Some(3),
            ..facts()
        };
        assert_eq!(
            expand("[[ScheduledTime]]-[[Index]]", &facts),
            "19700101000000-3"
        );
        let value = serde_json::json!({"a": ["[[Index]]", 1]});
        assert_eq!(
            expand_value(value, &facts),
            serde_json::json!({"a": ["3", 1]})
        );
    }
}
