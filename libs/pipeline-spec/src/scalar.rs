//! What plain scalars of YAML mean to PyYAML's `SafeLoader`: `yaml/resolver.py` and `yaml/constructor.py` of 6.0.

use serde_json::{Number, Value};

/// What a plain scalar means; `None` for a number that is not finite.
pub(crate) fn resolve(text: &str) -> Option<Value> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Some(Value::Null),
        "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Some(Value::Bool(true));
        }
        "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Some(Value::Bool(false));
        }
        ".nan" | ".NaN" | ".NAN" => return None,
        _ => {}
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
        return None;
    }
    let signed = unsigned.len() < text.len();
    if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.' && !signed) {
        return Some(Value::from(text));
    }
    let sign = if text.starts_with('-') { -1.0 } else { 1.0 };
    if let Some(number) = integer(unsigned, text.starts_with('-')) {
        return number.map(Value::Number);
    }
    match float(unsigned) {
        Some(number) => Number::from_f64(sign * number).map(Value::Number),
        None => Some(Value::from(text)),
    }
}

/// `0b101`, `017`, `0x1f`, `1_000` and `1:30`; the inner `None` is a number that is not finite, the outer is no number.
fn integer(text: &str, negative: bool) -> Option<Option<Number>> {
    let all = |digits: &str, fits: fn(char) -> bool| digits.chars().all(|c| fits(c) || c == '_');
    let (digits, radix) = if let Some(digits) = text.strip_prefix("0b") {
        (digits, 2)
    } else if let Some(digits) = text.strip_prefix("0x") {
        (digits, 16)
    } else if text.len() > 1 && text.starts_with('0') {
        (text, 8)
    } else {
        (text, 10)
    };
    let fits = match radix {
        2 => all(digits, |c| matches!(c, '0' | '1')),
        8 => all(digits, |c| matches!(c, '0'..='7')),
        16 => all(digits, |c| c.is_ascii_hexdigit()),
        _ => all(digits, |c| c.is_ascii_digit()),
    };
    let digits = digits.replace('_', "");
    if radix == 10 && !fits {
        return sexagesimal(text, negative);
    }
    if !fits || digits.is_empty() {
        return None;
    }
    // Beyond what JSON's integers hold, the nearest double, as JSON text is read.
    let near = || {
        let digits = digits.chars().filter_map(|c| c.to_digit(radix));
        digits.fold(0.0, |sum, digit| sum * f64::from(radix) + f64::from(digit))
    };
    let near = || match radix {
        10 => digits.parse().unwrap_or(f64::INFINITY),
        _ => near(),
    };
    Some(match i128::from_str_radix(&digits, radix) {
        Ok(number) => whole(if negative { -number } else { number }),
        Err(_) => Number::from_f64(if negative { -near() } else { near() }),
    })
}

fn sexagesimal(text: &str, negative: bool) -> Option<Option<Number>> {
    let (first, rest) = text.split_once(':')?;
    if first == "0" || !first.chars().all(|c| c.is_ascii_digit() || c == '_') {
        return None;
    }
    let mut number = first.replace('_', "").parse::<i128>().ok()?;
    for part in rest.split(':') {
        number = number.checked_mul(60)? + i128::from(sixtieth(part)?);
    }
    Some(whole(if negative { -number } else { number }))
}

/// `0` to `59`, in one or two digits.
fn sixtieth(part: &str) -> Option<u8> {
    let digits = matches!(part.len(), 1 | 2) && part.bytes().all(|byte| byte.is_ascii_digit());
    part.parse().ok().filter(|number| digits && *number < 60)
}

fn whole(number: i128) -> Option<Number> {
    if let Ok(number) = i64::try_from(number) {
        return Some(number.into());
    }
    match u64::try_from(number) {
        Ok(number) => Some(number.into()),
        Err(_) => Number::from_f64(number as f64),
    }
}

/// A float has a point, and its exponent a sign: `1.5`, `.5`, `1.5e+3`, `1:30.5`.
fn float(text: &str) -> Option<f64> {
    let (before, after) = text.split_once('.')?;
    let digits = |part: &str| {
        part.bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'_')
    };
    let (first, sixtieths) = before.split_once(':').unwrap_or((before, ""));
    if !digits(first) || first.is_empty() && !after.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let (fraction, exponent) = match after.split_once(['e', 'E']) {
        None => (after, ""),
        Some((fraction, exponent)) => (fraction, exponent),
    };
    let signed = exponent
        .strip_prefix(['-', '+'])
        .is_some_and(|power| !power.is_empty() && power.bytes().all(|byte| byte.is_ascii_digit()));
    let exact = after.len() == fraction.len();
    if !digits(fraction) || !(exact || signed) {
        return None;
    }
    let clean = |text: &str| text.replace('_', "");
    if before.len() == first.len() {
        let exponent = if exact {
            String::new()
        } else {
            format!("e{exponent}")
        };
        return format!("0{}.{}0{exponent}", clean(first), clean(fraction))
            .parse()
            .ok();
    }
    if !exact {
        return None;
    }
    let mut parts = vec![clean(first).parse::<f64>().ok()?];
    for part in sixtieths.split(':') {
        parts.push(f64::from(sixtieth(part)?));
    }
    if let Some(last) = parts.last_mut() {
        *last += format!("0.{}0", clean(fraction)).parse::<f64>().ok()?;
    }
    Some(parts.into_iter().fold(0.0, |sum, part| sum * 60.0 + part))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plain scalars that no dumper wrote, and what PyYAML takes them for.
    const PLAIN: &str = include_str!("../tests/fixtures/plain_scalars.json");

    #[test]
    fn plain_scalars_mean_what_they_mean_to_pyyaml() {
        let table: Vec<(String, Value)> = serde_json::from_str(PLAIN).unwrap();
        for (text, expected) in table {
            assert_eq!(resolve(&text), Some(expected), "{text}");
        }
    }
}
