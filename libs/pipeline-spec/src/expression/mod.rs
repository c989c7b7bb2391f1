//! Expressions in CEL: conditions of tasks, and selectors that take a part of a value.
//!
//! The language is that of the `cel` crate with its standard functions and one more, `parseJson(string)`. As upstream,
//! every number that an expression sees is a double, since values travel as JSON. What goes through a list (`all`,
//! `exists`, `map`, `filter`) is refused, so that the work of an expression is bounded by its length and its inputs.

mod convert;
mod explain;

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, LazyLock};

use cel::common::ast::{EntryExpr, Expr, IdedExpr, LiteralValue};
use cel::parser::PrattParser;
use cel::{Context, Env, ExecutionError};
use serde_json::{Map, Value, json};

pub use explain::explain;

/// The longest expression, in bytes.
const MAX_LENGTH: usize = 16 * 1024;
/// How many names, values and operators an expression may have.
const MAX_PARTS: usize = 2048;
/// How deeply brackets may be nested.
const MAX_NESTING: u16 = 24;
/// How deep the tree of an expression may be; chains such as `a - b - c` lean to one side. The evaluator is recursive,
/// and its frames are large.
const MAX_DEPTH: usize = 40;
/// How many additions: each may copy all the text before it.
const MAX_ADDITIONS: usize = 64;
/// How many patterns, and the bytes of one: each is compiled anew at every evaluation, and repetitions make it far larger than its text.
const MAX_MATCHES: usize = 16;
const MAX_PATTERN: usize = 128;

/// An expression cannot be read, or gives no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpressionError {
    #[error("the expression cannot be read: {0}")]
    Unreadable(String),
    #[error("{0}")]
    Failed(String),
    #[error("the result must be true or false, not {0}")]
    NotBoolean(String),
}

/// What the expressions of a task see of its inputs.
#[derive(Debug, Clone, Default)]
pub struct Scope<'a> {
    /// Values by input name.
    pub parameters: &'a [&'a Map<String, Value>],
    /// Artifacts by input name, each `{"artifacts": [{"name", "uri", "metadata", …}]}`.
    pub artifacts: Map<String, Value>,
}

/// Checks that an expression can be read and is within the limits.
///
/// # Errors
/// What is wrong with it.
pub fn check_expression(text: &str) -> Result<(), ExpressionError> {
    parse(text).map(drop)
}

/// Evaluates the condition of a task.
///
/// # Errors
/// It cannot be read or evaluated, or gives something else than true or false.
pub fn condition(text: &str, scope: &Scope<'_>) -> Result<bool, ExpressionError> {
    let mut parameters = Map::new();
    for map in scope.parameters {
        for (name, value) in *map {
            parameters.insert(name.clone(), value.clone());
        }
    }
    let inputs = json!({ "parameter_values": parameters, "artifacts": scope.artifacts });
    let variables = [("inputs", inputs), ("outputs", json!({}))];
    match evaluate(text, variables)? {
        Value::Bool(result) => Ok(result),
        other => Err(ExpressionError::NotBoolean(clip(&other.to_string()))),
    }
}

/// Takes the part of a value that a selector names.
///
/// # Errors
/// It cannot be read or evaluated.
pub fn select(text: &str, value: &Value) -> Result<Value, ExpressionError> {
    let mut variables = vec![("string_value", json!(crate::text_form(value)))];
    let typed = match value {
        Value::Number(_) => Some("number_value"),
        Value::Bool(_) => Some("bool_value"),
        Value::Array(_) => Some("list_value"),
        Value::Object(_) => Some("struct_value"),
        Value::Null | Value::String(_) => None,
    };
    variables.extend(typed.map(|name| (name, value.clone())));
    evaluate(text, variables)
}

/// The functions and types of the language, made once: they never change.
static STANDARD: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

fn evaluate(
    text: &str,
    variables: impl IntoIterator<Item = (&'static str, Value)>,
) -> Result<Value, ExpressionError> {
    let expression = parse(text)?;
    let variables: Vec<(&str, cel::Value)> = variables
        .into_iter()
        .map(|(name, value)| (name, convert::to_cel(&value)))
        .collect();
    let work = || {
        let mut context = Context::with_env(Arc::clone(&STANDARD));
        context
            .add_function("parseJson", parse_json)
            .map_err(|error| ExpressionError::Failed(error.to_string()))?;
        for (name, value) in variables {
            context.add_variable_from_value(name, value);
        }
        let result = context.resolve(&expression);
        let result = result.map_err(|error| ExpressionError::Failed(describe(&error)))?;
        convert::from_cel(&result).map_err(ExpressionError::Failed)
    };
    guarded(work).unwrap_or_else(|| {
        Err(ExpressionError::Failed(
            "the expression cannot be evaluated".to_owned(),
        ))
    })
}

fn parse(text: &str) -> Result<IdedExpr, ExpressionError> {
    let unreadable = |message: String| ExpressionError::Unreadable(message);
    if text.len() > MAX_LENGTH {
        return Err(unreadable(format!(
            "it is {} bytes long; {MAX_LENGTH} are allowed",
            text.len()
        )));
    }
    let parsed = guarded(|| {
        let parser = PrattParser::new()
            .max_recursion_depth(MAX_NESTING)
            .max_expression_node_count(MAX_PARTS);
        parser.parse(text).map_err(|errors| {
            let first = errors.errors.first();
            first.map_or_else(
                || "it is no CEL".to_owned(),
                |error| format!("{} at {}:{}", error.msg, error.pos.0, error.pos.1),
            )
        })
    });
    let parsed = parsed.unwrap_or_else(|| Err("it is no CEL".to_owned()));
    let parsed = parsed.map_err(|message| unreadable(clip(&message)))?;
    measure(&parsed).map_err(unreadable)?;
    Ok(parsed)
}

/// Runs a call into the library. That it should panic is a fault of the library, and must not end the engine.
fn guarded<T>(work: impl FnOnce() -> T) -> Option<T> {
    std::panic::catch_unwind(AssertUnwindSafe(work)).ok()
}

/// Refuses what could take long.
fn measure(expression: &IdedExpr) -> Result<(), String> {
    let (mut additions, mut matches) = (0, 0);
    let mut open = vec![(expression, 1)];
    while let Some((part, depth)) = open.pop() {
        if depth > MAX_DEPTH {
            return Err(format!("it is nested deeper than {MAX_DEPTH}"));
        }
        let mut push = |part| open.push((part, depth + 1));
        match &part.expr {
            Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => {}
            Expr::Call(call) => {
                additions += usize::from(call.func_name == "_+_");
                if call.func_name == "matches" {
                    matches += 1;
                    call.args.last().map_or(Ok(()), pattern)?;
                }
                call.target.iter().for_each(|target| push(target));
                call.args.iter().for_each(push);
            }
            Expr::Select(select) => push(&select.operand),
            Expr::List(list) => list.elements.iter().for_each(push),
            Expr::Map(map) => map
                .entries
                .iter()
                .for_each(|entry| entry_parts(&entry.expr, &mut push)),
            Expr::Struct(_) => return Err("it makes a message; only values are known".to_owned()),
            Expr::Comprehension(_) => {
                return Err(
                    "all, exists, exists_one, map and filter, which go through a list, are not executed"
                        .to_owned(),
                );
            }
        }
    }
    if matches > MAX_MATCHES {
        return Err(format!(
            "it matches {matches} patterns; {MAX_MATCHES} are allowed"
        ));
    }
    if additions > MAX_ADDITIONS {
        return Err(format!(
            "it has {additions} additions; {MAX_ADDITIONS} are allowed"
        ));
    }
    Ok(())
}

/// Refuses a pattern that is not a short constant.
fn pattern(expression: &IdedExpr) -> Result<(), String> {
    let Expr::Literal(LiteralValue::String(text)) = &expression.expr else {
        return Err("the pattern of matches is not a constant text".to_owned());
    };
    let text: &str = text;
    if text.len() > MAX_PATTERN {
        return Err(format!(
            "a pattern has {} bytes; {MAX_PATTERN} are allowed",
            text.len()
        ));
    }
    Ok(())
}

fn entry_parts<'a>(entry: &'a EntryExpr, push: &mut impl FnMut(&'a IdedExpr)) {
    match entry {
        EntryExpr::MapEntry(entry) => {
            push(&entry.key);
            push(&entry.value);
        }
        EntryExpr::StructField(field) => push(&field.value),
    }
}

fn parse_json(text: Arc<String>) -> Result<cel::Value, ExecutionError> {
    serde_json::from_str::<Value>(&text)
        .map(|value| convert::to_cel(&value))
        .map_err(|error| {
            ExecutionError::function_error("parseJson", format!("the text is not JSON: {error}"))
        })
}

/// The library's error as one sentence without its inner names of types.
fn describe(error: &ExecutionError) -> String {
    let message = match error {
        ExecutionError::NoSuchKey(name) => format!("there is no `{name}`"),
        ExecutionError::UndeclaredReference(name) => {
            format!("there is no name or function `{name}`")
        }
        ExecutionError::FunctionError { function, message } => format!("{function}: {message}"),
        ExecutionError::IndexOutOfBounds(index) => {
            format!("there is no element {}", convert::show(index))
        }
        ExecutionError::ValuesNotComparable(left, right) => format!(
            "{} cannot be compared to {}",
            convert::show(left),
            convert::show(right)
        ),
        ExecutionError::UnsupportedBinaryOperator(_, left, right) => format!(
            "the operator does not take {} and {}",
            convert::show(left),
            convert::show(right)
        ),
        ExecutionError::NoSuchOverload(overload) => {
            let types = overload.argument_types().join(" and ");
            format!("{} does not take {types}", operator(overload.function()))
        }
        other => other.to_string(),
    };
    clip(&message)
}

/// `_>_` as people write it.
fn operator(name: &str) -> String {
    let plain = name.trim_matches('_').trim_matches('@');
    match plain.is_empty() {
        true => name.to_owned(),
        false => format!("`{plain}`"),
    }
}

/// Long texts do not belong into messages.
fn clip(text: &str) -> String {
    const MAX_CHARS: usize = 300;
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
