//! How often and when a program is tried again.

use super::template::Template;
use crate::plan::Retry;

/// How often a program is tried again.
pub(super) fn retry(template: &Template<'_>) -> Option<Retry> {
    if !template.node.has("retryStrategy") {
        return None;
    }
    let node = template.node.node("retryStrategy");
    node.only(&["backoff", "limit", "retryPolicy"], &["affinity"]);
    let backoff = node.node("backoff");
    backoff.only(&["cap", "duration", "factor", "maxDuration"], &[]);
    let limit = node.number("limit").unwrap_or(0);
    let time = |key: &str| {
        let text = backoff.text(key)?;
        let found = milliseconds(&text);
        if found.is_none() {
            backoff.fault(
                key,
                "must be a time such as \"30\", \"30s\", \"5m\" or \"1h\"",
            );
        }
        found
    };
    let factor = backoff.text("factor").and_then(|text| text.parse().ok());
    Some(Retry {
        max_retries: u32::try_from(limit).unwrap_or(u32::MAX),
        backoff_ms: time("duration").unwrap_or(0),
        backoff_factor: factor.filter(|factor| *factor >= 1.0).unwrap_or(1.0),
        backoff_max_ms: time("cap")
            .or_else(|| time("maxDuration"))
            .unwrap_or(3_600_000),
    })
}

/// A time as Argo writes it: a number of seconds, or numbers with units.
fn milliseconds(text: &str) -> Option<u64> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return seconds.checked_mul(1000);
    }
    let mut total = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "ms" => 1.0,
            "s" => 1_000.0,
            "m" => 60_000.0,
            "h" => 3_600_000.0,
            _ => return None,
        };
        total += number * unit;
        rest = &rest[letters..];
    }
    (0.0..1e15).contains(&total).then_some(total as u64)
}
