//! Conditions: `"{{tasks.flip.outputs.parameters.flip-Output}}" == "heads"`, turned into CEL.
//!
//! Upstream puts the values in as text and evaluates the whole: what stands in quotes is text, a word without quotes
//! that reads as a number is a number, and any other word is text too.

use super::text::{Facts, Part, Reference};

/// Characters of a condition.
const MAX_LENGTH: usize = 16 << 10;
/// How deeply parentheses may be nested.
const MAX_DEPTH: usize = 32;

/// The condition as CEL; `input` gives the name of the task's input that holds what an expression names.
pub(super) fn to_cel(
    text: &str,
    facts: &Facts,
    input: &mut dyn FnMut(&Reference) -> Result<String, String>,
) -> Result<String, String> {
    if text.len() > MAX_LENGTH {
        return Err(format!("is longer than {MAX_LENGTH} bytes"));
    }
    let mut parser = Parser {
        rest: text,
        facts,
        input,
        depth: 0,
    };
    let condition = parser.any()?;
    match parser.peek() {
        "" => Ok(condition),
        rest => Err(format!(
            "`{}` is not understood; comparisons, &&, ||, ! and parentheses are",
            rest.chars().take(40).collect::<String>()
        )),
    }
}

struct Parser<'a, 'b> {
    rest: &'a str,
    facts: &'a Facts,
    input: &'b mut dyn FnMut(&Reference) -> Result<String, String>,
    depth: usize,
}

/// One side of a comparison.
struct Operand {
    /// As CEL, a string.
    cel: String,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// In quotes, or a word that is no number.
    Text,
    /// A literal number.
    Number(f64),
    /// `true` or `false`.
    Flag,
    /// What it is shows when the task may start.
    Open,
}

const ORDERS: [&str; 4] = [">=", "<=", ">", "<"];

impl<'a> Parser<'a, '_> {
    fn peek(&mut self) -> &'a str {
        self.rest = self.rest.trim_start();
        self.rest
    }

    fn take(&mut self, token: &str) -> bool {
        match self.peek().strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn any(&mut self) -> Result<String, String> {
        let mut sides = vec![self.all()?];
        while self.take("||") {
            sides.push(self.all()?);
        }
        Ok(sides.join(" || "))
    }

    fn all(&mut self) -> Result<String, String> {
        let mut sides = vec![self.unary()?];
        while self.take("&&") {
            sides.push(self.unary()?);
        }
        Ok(sides.join(" && "))
    }

    fn unary(&mut self) -> Result<String, String> {
        if self.depth > MAX_DEPTH {
            return Err("is nested too deeply".to_owned());
        }
        self.depth += 1;
        let found = if !self.peek().starts_with("!=") && self.take("!") {
            format!("!({})", self.unary()?)
        } else if self.take("(") {
            let inner = self.any()?;
            if !self.take(")") {
                return Err("has a parenthesis without its end".to_owned());
            }
            format!("({inner})")
        } else {
            self.comparison()?
        };
        self.depth -= 1;
        Ok(found)
    }

    fn comparison(&mut self) -> Result<String, String> {
        let left = self.operand()?;
        for operator in ["==", "!="] {
            if self.take(operator) {
                let right = self.operand()?;
                return Ok(equality(&left, operator, &right));
            }
        }
        for operator in ORDERS {
            if self.take(operator) {
                let right = self.operand()?;
                return order(&left, operator, &right);
            }
        }
        match left.kind {
            Kind::Open | Kind::Flag => Ok(format!("{} == \"true\"", left.cel)),
            Kind::Text | Kind::Number(_) => Err("is not a comparison".to_owned()),
        }
    }

    fn operand(&mut self) -> Result<Operand, String> {
        let text = self.peek();
        let quote = text.chars().next().filter(|c| "\"'".contains(*c));
        let (raw, quoted) = match quote {
            Some(quote) => {
                let end = text[1..].find(quote);
                let end = end.ok_or("has a quote without its end")?;
                self.rest = &text[end + 2..];
                (&text[1..=end], true)
            }
            None => {
                let end = word_end(text);
                self.rest = &text[end..];
                (&text[..end], false)
            }
        };
        if raw.is_empty() && !quoted {
            return Err("lacks one side of a comparison".to_owned());
        }
        let parts = self.facts.parse(raw)?;
        let mut kind = Kind::Text;
        let mut cel = Vec::new();
        for part in &parts {
            match part {
                Part::Text(text) => cel.push(literal(text)),
                Part::Reference(reference) => {
                    let name = (self.input)(reference)?;
                    cel.push(format!("inputs.parameter_values[{}]", literal(&name)));
                    kind = Kind::Open;
                }
            }
        }
        if quoted {
            kind = Kind::Text;
        } else if kind == Kind::Text {
            kind = match raw {
                "true" | "false" => Kind::Flag,
                // Words such as `nan` and `inf` are read as numbers too.
                _ => match raw.parse::<f64>() {
                    Ok(number) if number.is_finite() => Kind::Number(number),
                    Ok(_) | Err(_) => Kind::Text,
                },
            };
        }
        let cel = match cel.len() {
            0 => literal(""),
            _ => cel.join(" + "),
        };
        Ok(Operand { cel, kind })
    }
}

/// The end of a word without quotes; expressions belong to it, blanks and all.
fn word_end(text: &str) -> usize {
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("{{") {
            match rest.find("}}") {
                Some(end) => at += end + 2,
                None => return text.len(),
            }
            continue;
        }
        let Some(c) = rest.chars().next() else { break };
        if c.is_whitespace() || "()=!<>&|,?:+*/%~".contains(c) {
            break;
        }
        at += c.len_utf8();
    }
    at
}

fn equality(left: &Operand, operator: &str, right: &Operand) -> String {
    let numeric = match (left.kind, right.kind) {
        (Kind::Open, Kind::Number(number)) => Some((left, number)),
        (Kind::Number(number), Kind::Open) => Some((right, number)),
        _ => None,
    };
    let Some((open, number)) = numeric else {
        return format!("{} {operator} {}", left.cel, right.cel);
    };
    // A value that is no number is not equal to one.
    let is_number = format!("({}).matches({})", open.cel, literal(NUMBER));
    let equal = format!("({is_number} ? double({}) == {number:?} : false)", open.cel);
    match operator {
        "==" => equal,
        _ => format!("!{equal}"),
    }
}

const NUMBER: &str = r"^[+-]?([0-9]+([.][0-9]*)?|[.][0-9]+)([eE][+-]?[0-9]+)?$";

fn order(left: &Operand, operator: &str, right: &Operand) -> Result<String, String> {
    let side = |operand: &Operand| match operand.kind {
        Kind::Number(number) => format!("{number:?}"),
        Kind::Text | Kind::Flag | Kind::Open => format!("double({})", operand.cel),
    };
    match (left.kind, right.kind) {
        (Kind::Number(_) | Kind::Open, Kind::Number(_) | Kind::Open) => {
            Ok(format!("{} {operator} {}", side(left), side(right)))
        }
        (Kind::Text | Kind::Open, Kind::Text | Kind::Open) => {
            Ok(format!("{} {operator} {}", left.cel, right.cel))
        }
        (Kind::Text | Kind::Flag | Kind::Number(_) | Kind::Open, _) => Err(format!(
            "compares text and a number with {operator}; leave out the quotes on both sides"
        )),
    }
}

/// A text as a literal of CEL, which takes the escapes of JSON.
fn literal(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cel(text: &str) -> Result<String, String> {
        let mut input = |reference: &Reference| Ok(reference.channel());
        to_cel(text, &Facts::default(), &mut input)
    }

    #[test]
    fn conditions_become_cel() {
        let value = r#"inputs.parameter_values["inputs.parameters.x"]"#;
        for (text, want) in [
            (
                r#""{{inputs.parameters.x}}" == "heads""#,
                format!(r#"{value} == "heads""#),
            ),
            (
                "{{inputs.parameters.x}} != heads",
                format!(r#"{value} != "heads""#),
            ),
            (
                "{{ inputs.parameters.x }} > 5 && !(true)",
                format!(r#"double({value}) > 5.0 && !(("true" == "true"))"#),
            ),
            (
                r#"({{inputs.parameters.x}} <= -1.5e3 || 'a' < 'b')"#,
                format!(r#"(double({value}) <= -1500.0 || "a" < "b")"#),
            ),
            ("{{inputs.parameters.x}}", format!(r#"{value} == "true""#)),
        ] {
            assert_eq!(cel(text), Ok(want), "{text}");
        }
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (text, part) in [
            ("{{inputs.parameters.x}} in (1, 2)", "is not understood"),
            ("1 +", "is not a comparison"),
            ("\"a\" ==", "lacks one side"),
            ("\"a\" > 5", "leave out the quotes"),
            ("(a == b", "parenthesis"),
            ("\"a == b", "quote"),
            ("{{inputs.parameters.x}} =~ 'a'", "is not understood"),
        ] {
            let error = cel(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
