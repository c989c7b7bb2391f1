//! Filters of lists of runs, as people type them: `state = FAILED AND tag.team = "vision" AND metric.accuracy > 0.9`.

use clock::Timestamp;

use super::filter::Compare;
use super::violation::clip;

/// Bytes of a filter.
const MAX_FILTER: usize = 4 << 10;
/// Conditions of a filter.
const MAX_CONDITIONS: usize = 20;
const STATES: &[&str] = &[
    "PENDING",
    "RUNNING",
    "SUCCEEDED",
    "FAILED",
    "CANCELING",
    "CANCELED",
];

/// What a run must fulfil.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// What is looked at.
    pub key: RunKey,
    /// What it must be.
    pub test: RunTest,
}

/// What a condition looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunKey {
    /// A column that holds text.
    Text(&'static str),
    /// A column that holds a time.
    Time(&'static str),
    /// A tag, a parameter or a metric, by its kind in the store.
    Fact(&'static str, String),
}

/// What it must be.
#[derive(Debug, Clone, PartialEq)]
pub enum RunTest {
    /// Text that compares so.
    Text(Compare, String),
    /// Text that contains this, in any case of ASCII letters.
    Contains(String),
    /// A number that compares so.
    Number(Compare, f64),
    /// A time that compares so, in microseconds since 1970.
    Time(Compare, i64),
}

/// Reads a filter; the empty one has no conditions.
///
/// # Errors
/// What is wrong, and what would be right.
pub fn parse_run_filter(text: &str) -> Result<Vec<Condition>, String> {
    if text.len() > MAX_FILTER {
        return Err(format!("must not be longer than {MAX_FILTER} bytes"));
    }
    if text.contains('\0') {
        return Err("must not contain the character NUL".to_owned());
    }
    let mut conditions = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        if conditions.len() == MAX_CONDITIONS {
            return Err(format!(
                "must not have more than {MAX_CONDITIONS} conditions"
            ));
        }
        let (condition, after) = condition(rest)?;
        conditions.push(condition);
        rest = after.trim_start();
        if rest.is_empty() {
            break;
        }
        let word = rest.split_ascii_whitespace().next().unwrap_or_default();
        if !word.eq_ignore_ascii_case("and") {
            return Err(format!("expected AND before \"{}\"", clip(rest)));
        }
        rest = rest[word.len()..].trim_start();
        if rest.is_empty() {
            return Err("expected a condition after AND".to_owned());
        }
    }
    Ok(conditions)
}

fn condition(text: &str) -> Result<(Condition, &str), String> {
    let (key, rest) = subject(text)?;
    let written = &text[..text.len() - rest.len()];
    let rest = rest.trim_start();
    let operators = [
        ("!=", Some(Compare::NotEqual)),
        ("<=", Some(Compare::LessOrEqual)),
        (">=", Some(Compare::GreaterOrEqual)),
        ("=", Some(Compare::Equal)),
        ("<", Some(Compare::Less)),
        (">", Some(Compare::Greater)),
        (":", None),
    ];
    let operator = operators.iter().find(|(sign, _)| rest.starts_with(sign));
    let Some((sign, compare)) = operator else {
        return Err(format!(
            "\"{}\" needs an operator: = != < <= > >= or : (contains), and a value",
            clip(written)
        ));
    };
    let (value, quoted, after) = value(rest[sign.len()..].trim_start())?;
    if value.is_empty() && !quoted {
        return Err(format!("\"{}\" needs a value after {sign}", clip(written)));
    }
    let test = test(&key, *compare, value, quoted)?;
    Ok((Condition { key, test }, after))
}

/// What a condition looks at: `state`, `tag.team` or `tag."my team"`.
fn subject(text: &str) -> Result<(RunKey, &str), String> {
    for (kind, prefix) in [("t", "tag."), ("p", "param."), ("m", "metric.")] {
        let quoted = text.strip_prefix(prefix);
        if let Some(rest) = quoted.filter(|rest| rest.starts_with(['"', '\''])) {
            let (name, _, rest) = value(rest)?;
            return Ok((fact(kind, &name)?, rest));
        }
    }
    let end = text
        .find(|c: char| c.is_whitespace() || "=!<>:".contains(c))
        .unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    Ok((key(word)?, rest))
}

fn fact(kind: &'static str, name: &str) -> Result<RunKey, String> {
    match name {
        "" => Err("a name is missing after the dot, as in tag.team".to_owned()),
        name => Ok(RunKey::Fact(kind, name.to_owned())),
    }
}

/// A word, or a text in quotes in which `\` takes the next character as it is.
fn value(text: &str) -> Result<(String, bool, &str), String> {
    let Some(quote) = text.chars().next().filter(|c| matches!(c, '"' | '\'')) else {
        let end = text.find(char::is_whitespace).unwrap_or(text.len());
        return Ok((text[..end].to_owned(), false, &text[end..]));
    };
    let mut value = String::new();
    let mut characters = text.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some((_, next)) => value.push(next),
                None => break,
            },
            end if end == quote => return Ok((value, true, &text[at + 1..])),
            other => value.push(other),
        }
    }
    Err(format!("the quote in \"{}\" is not closed", clip(text)))
}

fn key(name: &str) -> Result<RunKey, String> {
    match name {
        "state" => Ok(RunKey::Text("runs.status")),
        "name" => Ok(RunKey::Text("runs.display_name")),
        "pipeline" => Ok(RunKey::Text("runs.pipeline_name")),
        "pipeline_id" => Ok(RunKey::Text("runs.pipeline_id")),
        "experiment_id" => Ok(RunKey::Text("runs.experiment_id")),
        "schedule_id" => Ok(RunKey::Text("runs.recurring_run_id")),
        "archived" => Ok(RunKey::Text("runs.storage_state")),
        "created_at" => Ok(RunKey::Time("runs.created_at")),
        "finished_at" => Ok(RunKey::Time("runs.finished_at")),
        _ => match name.split_once('.') {
            Some(("tag", name)) => fact("t", name),
            Some(("param", name)) => fact("p", name),
            Some(("metric", name)) => fact("m", name),
            Some(_) | None => Err(format!(
                "\"{}\" is not one of state, name, pipeline, pipeline_id, experiment_id, schedule_id, archived, \
                 created_at, finished_at, tag.KEY, param.NAME and metric.NAME",
                clip(name)
            )),
        },
    }
}

fn test(
    key: &RunKey,
    compare: Option<Compare>,
    value: String,
    quoted: bool,
) -> Result<RunTest, String> {
    let number = || {
        value
            .parse::<f64>()
            .ok()
            .filter(|number| number.is_finite())
    };
    match (key, compare) {
        (RunKey::Time(_), Some(compare)) => match value.parse::<Timestamp>() {
            Ok(time) => Ok(RunTest::Time(compare, time.as_micros())),
            Err(_) => Err(format!(
                "\"{}\" is not a time such as 2026-01-31T12:00:00Z",
                clip(&value)
            )),
        },
        (RunKey::Fact("m", name), compare) => match (compare, number()) {
            (Some(compare), Some(number)) => Ok(RunTest::Number(compare, number)),
            _ => Err(format!(
                "metric.{} is a number: compare it with one by = != < <= > or >=",
                clip(name)
            )),
        },
        (RunKey::Fact(..), Some(compare)) => match number() {
            // Text is equal or not; only numbers are greater.
            Some(number) if !quoted => Ok(RunTest::Number(compare, number)),
            _ if matches!(compare, Compare::Equal | Compare::NotEqual) => {
                Ok(RunTest::Text(compare, cut(&value)))
            }
            _ => Err(format!(
                "\"{}\" is not a number; text is only = != or :",
                clip(&value)
            )),
        },
        (RunKey::Text("runs.status"), Some(compare)) => {
            let upper = value.to_ascii_uppercase();
            if STATES.contains(&upper.as_str()) {
                Ok(RunTest::Text(equality(compare)?, upper))
            } else {
                Err(format!(
                    "\"{}\" is not one of {}",
                    clip(&value),
                    STATES.join(", ")
                ))
            }
        }
        (RunKey::Text("runs.storage_state"), Some(compare)) => match value.as_str() {
            "true" => Ok(RunTest::Text(equality(compare)?, "ARCHIVED".to_owned())),
            "false" => Ok(RunTest::Text(equality(compare)?, "AVAILABLE".to_owned())),
            _ => Err("archived is true or false".to_owned()),
        },
        (RunKey::Text(_), Some(compare)) => Ok(RunTest::Text(equality(compare)?, value)),
        (RunKey::Time(_), None) => Err("a time is compared by = != < <= > or >=".to_owned()),
        (RunKey::Text(_) | RunKey::Fact(..), None) => Ok(RunTest::Contains(value)),
    }
}

fn equality(compare: Compare) -> Result<Compare, String> {
    match compare {
        Compare::Equal | Compare::NotEqual => Ok(compare),
        Compare::Greater | Compare::GreaterOrEqual | Compare::Less | Compare::LessOrEqual => {
            Err("text is only = != or :".to_owned())
        }
    }
}

/// What is kept of a text to find runs by.
pub fn cut(text: &str) -> String {
    const KEPT: usize = 512;
    match text.char_indices().nth(KEPT) {
        Some((end, _)) => text[..end].to_owned(),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read_as_people_type_them() {
        let read = |text: &str| parse_run_filter(text).unwrap();
        assert_eq!(read("  "), []);
        let all = read(
            "state=failed and tag.team = \"a \\\"b\\\" AND c\" AND metric.acc>=0.9 AND name:night",
        );
        let expected = [
            (
                RunKey::Text("runs.status"),
                RunTest::Text(Compare::Equal, "FAILED".to_owned()),
            ),
            (
                RunKey::Fact("t", "team".to_owned()),
                RunTest::Text(Compare::Equal, "a \"b\" AND c".to_owned()),
            ),
            (
                RunKey::Fact("m", "acc".to_owned()),
                RunTest::Number(Compare::GreaterOrEqual, 0.9),
            ),
            (
                RunKey::Text("runs.display_name"),
                RunTest::Contains("night".to_owned()),
            ),
        ];
        let expected = expected.map(|(key, test)| Condition { key, test });
        assert_eq!(all, expected);
        assert_eq!(
            read("param.lr=1e-3")[0].test,
            RunTest::Number(Compare::Equal, 0.001)
        );
        assert_eq!(
            read("param.lr='1e-3'")[0].test,
            RunTest::Text(Compare::Equal, "1e-3".to_owned())
        );
        assert_eq!(
            read("created_at > 1970-01-01T00:00:01Z")[0].test,
            RunTest::Time(Compare::Greater, 1_000_000)
        );
        assert_eq!(
            read("archived = true")[0].test,
            RunTest::Text(Compare::Equal, "ARCHIVED".to_owned())
        );
        let quoted = read("metric.\"top 5 = \\\"best\\\"\">0.5 AND tag.'my team' = \"a b\"");
        assert_eq!(
            quoted[0].key,
            RunKey::Fact("m", "top 5 = \"best\"".to_owned())
        );
        assert_eq!(quoted[1].key, RunKey::Fact("t", "my team".to_owned()));
        assert_eq!(
            read("tag.\"a.b\" = x")[0].key,
            RunKey::Fact("t", "a.b".to_owned())
        );
        assert_eq!(
            read("tag.it's = x")[0].key,
            RunKey::Fact("t", "it's".to_owned())
        );
        // A word may hold any sign after the first.
        assert_eq!(
            read("tag.url=http://x?a=b")[0].test,
            RunTest::Text(Compare::Equal, "http://x?a=b".to_owned())
        );
    }

    #[test]
    fn what_is_no_condition_is_named() {
        let wrong = [
            ("colour = red", "colour"),
            ("state", "operator"),
            ("state =", "value"),
            ("state = lost", "PENDING"),
            ("state > FAILED", "="),
            ("tag. = x", "name is missing"),
            ("tag.\"\" = x", "name is missing"),
            ("tag.\"a = x", "not closed"),
            ("tag.\"a b\"", "operator"),
            ("tag.\"a\"b = x", "operator"),
            ("\"my name\" = x", "is not one of"),
            ("metric.acc = high", "number"),
            ("metric.acc : 3", "number"),
            ("tag.a > x", "number"),
            ("created_at > yesterday", "2026"),
            ("tag.a = \"x", "not closed"),
            ("tag.a=x tag.b=y", "AND"),
            ("tag.a=x AND", "after AND"),
            ("archived = maybe", "true or false"),
            ("name = \0", "NUL"),
        ];
        for (text, part) in wrong {
            let message = parse_run_filter(text).unwrap_err();
            assert!(message.contains(part), "{text}: {message}");
        }
        let many = vec!["tag.a=x"; 21].join(" AND ");
        assert!(parse_run_filter(&many).unwrap_err().contains("20"));
        assert!(
            parse_run_filter(&"x".repeat(5000))
                .unwrap_err()
                .contains("4096")
        );
    }
}
