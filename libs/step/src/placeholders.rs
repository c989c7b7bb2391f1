//! Replaces the placeholders of the executor contract in a command.
//!
//! The language is the union of what upstream's launcher and `kfp.local` know:
//! `{{$}}`, `{{$.inputs.parameters['x']}}`, `{{$.inputs.artifacts['x'].uri}}` (also `.path`, `.name`, `.metadata`,
//! `.metadata['k']`; without a field, the list of artifacts as JSON), the same of `outputs.artifacts`,
//! `{{$.outputs.parameters['x'].output_file}}`, `{{$.outputs.output_file}}`, `{{$.outputMetadataUri}}`, context values such
//! as `{{$.pipeline_job_name}}`, and whole arguments `{"IfPresent": …}` and `{"Concat": …}`.
//!
//! Replacement is textual and happens once: what is put in is not looked at again. Input values that hold placeholders
//! themselves (f-strings of a pipeline) are resolved before, by [`resolve_inputs`].
//! An input that is declared but not given reads `null`, as `kfp.local` has it; an unknown name is an error.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::executor_input::{WORKSPACE, workspace_place};
use crate::{structure, value};

/// Why a placeholder cannot be replaced.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlaceholderError {
    /// No such placeholder.
    #[error("{placeholder} is not a placeholder that Flumina knows{hint}")]
    Unknown {
        /// The text between and with the braces.
        placeholder: String,
        /// What to do; empty, or starts with a separator.
        hint: String,
    },
    /// A name that the component does not declare.
    #[error("{placeholder} names {name:?}, which is not among the component's {kind}: {known}")]
    UnknownName {
        /// The text between and with the braces, or the structure.
        placeholder: String,
        /// The name.
        name: String,
        /// What the name should be one of.
        kind: &'static str,
        /// The names that there are.
        known: String,
    },
    /// `IfPresent` or `Concat` with a wrong shape.
    #[error("the argument {argument} is malformed: {problem}")]
    Structure {
        /// An excerpt of the argument.
        argument: String,
        /// What is wrong.
        problem: String,
    },
}

/// What the placeholders of one step stand for.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// The executor input, see [`crate::executor_input::build`].
    pub executor_input: &'a Value,
    /// Context values by name without braces, such as `pipeline_job_name`.
    pub context: &'a BTreeMap<String, String>,
    /// The inputs that the component declares, given or not.
    pub declared_inputs: &'a BTreeSet<String>,
}

impl Scope<'_> {
    /// Replaces placeholders in a command; an element that is a structure may become any number of elements.
    pub fn resolve_all(&self, elements: &[String]) -> Result<Vec<String>, PlaceholderError> {
        let mut resolved = Vec::with_capacity(elements.len());
        for element in elements {
            match structure::parse(element)? {
                None => resolved.push(self.resolve(element)?),
                Some(tree) => {
                    for part in structure::expand(&tree, self)? {
                        resolved.push(self.resolve(&part)?);
                    }
                }
            }
        }
        Ok(resolved)
    }

    /// Replaces every placeholder in a text.
    pub fn resolve(&self, text: &str) -> Result<String, PlaceholderError> {
        replace(text, |placeholder| self.lookup(placeholder).map(Some))
    }

    /// Whether an input was given a value.
    pub(crate) fn is_present(&self, input: &str) -> Result<bool, PlaceholderError> {
        let inputs = &self.executor_input["inputs"];
        let given = |kind: &str| {
            inputs[kind]
                .get(input)
                .is_some_and(|value| !value.is_null())
        };
        if given("parameterValues") || given("artifacts") {
            return Ok(true);
        }
        self.declared(input, "IfPresent").map(|()| false)
    }

    fn declared(&self, input: &str, placeholder: &str) -> Result<(), PlaceholderError> {
        let inputs = &self.executor_input["inputs"];
        let declared = self.declared_inputs.contains(input)
            || inputs["parameterValues"].get(input).is_some()
            || inputs["artifacts"].get(input).is_some();
        if declared {
            return Ok(());
        }
        Err(unknown_name(
            placeholder,
            input,
            "inputs",
            self.declared_inputs.iter(),
        ))
    }

    fn lookup(&self, placeholder: &str) -> Result<String, PlaceholderError> {
        let unknown = |hint: &str| unknown(placeholder, hint);
        if placeholder == "{{$}}" {
            return Ok(self.executor_input.to_string());
        }
        if placeholder.contains("json_escape") {
            return Err(unknown(": json_escape exists on Vertex AI only"));
        }
        let path = parse_path(placeholder).ok_or_else(|| unknown(""))?;
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        match path.as_slice() {
            ["inputs", rest @ ..] if !rest.is_empty() => self.input(placeholder, rest),
            ["outputs", rest @ ..] if !rest.is_empty() => self.output(placeholder, rest),
            ["outputMetadataUri"] => self.output(placeholder, &["output_file"]),
            [name] => match self.context.get(*name) {
                Some(text) => Ok(text.clone()),
                None if *name == "workspace_path" => {
                    Err(unknown(": the pipeline has no workspace"))
                }
                None => Err(unknown("")),
            },
            _ => Err(unknown("")),
        }
    }

    fn input(&self, placeholder: &str, path: &[&str]) -> Result<String, PlaceholderError> {
        let inputs = &self.executor_input["inputs"];
        match path {
            ["parameters", name] => {
                self.declared(name, placeholder)?;
                let given = inputs["parameterValues"].get(name);
                Ok(value::text(given.unwrap_or(&Value::Null)))
            }
            ["artifacts", name] => {
                self.declared(name, placeholder)?;
                Ok(value::text(&inputs["artifacts"][name]["artifacts"]))
            }
            ["artifacts", name, field @ ..] => {
                self.declared(name, placeholder)?;
                artifact_field(first_artifact(inputs, name), field)
                    .ok_or_else(|| unknown(placeholder, ""))
            }
            _ => Err(unknown(placeholder, "")),
        }
    }

    fn output(&self, placeholder: &str, path: &[&str]) -> Result<String, PlaceholderError> {
        let outputs = &self.executor_input["outputs"];
        let missing = |name: &str, kind: &'static str, of: &Value| {
            unknown_name(placeholder, name, kind, keys(of).iter())
        };
        match path {
            ["artifacts", name, field @ ..] => {
                let artifacts = &outputs["artifacts"];
                if artifacts.get(name).is_none() {
                    return Err(missing(name, "output artifacts", artifacts));
                }
                if field.is_empty() {
                    return Ok(value::text(&artifacts[name]["artifacts"]));
                }
                artifact_field(first_artifact(outputs, name), field)
                    .ok_or_else(|| unknown(placeholder, ""))
            }
            ["parameters", name, "output_file"] => {
                let parameters = &outputs["parameters"];
                let parameter = parameters
                    .get(name)
                    .ok_or_else(|| missing(name, "output parameters", parameters))?;
                Ok(value::text(&parameter["outputFile"]))
            }
            ["output_file"] => Ok(value::text(&outputs["outputFile"])),
            _ => Err(unknown(placeholder, "")),
        }
    }
}

fn unknown(placeholder: &str, hint: &str) -> PlaceholderError {
    PlaceholderError::Unknown {
        placeholder: placeholder.to_owned(),
        hint: hint.to_owned(),
    }
}

/// Resolves the values of input parameters that hold placeholders of other inputs or of the context, at any depth. A value
/// is data: what is not a known placeholder stays as it is, and what is put in is not looked at again.
pub fn resolve_inputs(
    executor_input: &mut Value,
    context: &BTreeMap<String, String>,
    declared_inputs: &BTreeSet<String>,
) {
    let mut values = executor_input["inputs"]["parameterValues"].take();
    let has_placeholder = |text: &str| text.contains("{{$.");
    if any_text(&values, &has_placeholder) {
        executor_input["inputs"]["parameterValues"] = values.clone();
        let scope = Scope {
            executor_input,
            context,
            declared_inputs,
        };
        resolve_texts(&mut values, &scope);
    }
    executor_input["inputs"]["parameterValues"] = values;
}

fn any_text(value: &Value, test: &impl Fn(&str) -> bool) -> bool {
    match value {
        Value::String(text) => test(text),
        Value::Array(items) => items.iter().any(|item| any_text(item, test)),
        Value::Object(fields) => fields.values().any(|field| any_text(field, test)),
        _ => false,
    }
}

fn resolve_texts(value: &mut Value, scope: &Scope<'_>) {
    match value {
        Value::String(text) => {
            let lookup = |placeholder: &str| {
                let of_inputs = !placeholder.starts_with("{{$.output") && placeholder != "{{$}}";
                Ok(scope.lookup(placeholder).ok().filter(|_| of_inputs))
            };
            if let Ok(resolved) = replace(text, lookup) {
                *text = resolved;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| resolve_texts(item, scope)),
        Value::Object(fields) => fields
            .values_mut()
            .for_each(|field| resolve_texts(field, scope)),
        _ => {}
    }
}

/// Copies a text, replacing each `{{$}}` and `{{$.…}}` by what the function says; `None` leaves it.
fn replace(
    text: &str,
    lookup: impl Fn(&str) -> Result<Option<String>, PlaceholderError>,
) -> Result<String, PlaceholderError> {
    let mut resolved = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("{{$") {
        let (before, from) = rest.split_at(start);
        resolved.push_str(before);
        let length = match from.as_bytes().get(3) {
            Some(b'.' | b'}') => from.find("}}").map(|end| end + 2),
            _ => None,
        };
        // `{{$x` and an opening without an end are no placeholders.
        let length = length.unwrap_or(3);
        let (placeholder, after) = from.split_at(length);
        let is_placeholder = placeholder == "{{$}}" || placeholder.starts_with("{{$.");
        match is_placeholder
            .then(|| lookup(placeholder))
            .transpose()?
            .flatten()
        {
            Some(value) => resolved.push_str(&value),
            None => resolved.push_str(placeholder),
        }
        rest = after;
    }
    resolved.push_str(rest);
    Ok(resolved)
}

/// Splits `{{$.inputs.artifacts['x'].metadata['k']}}` into its names. Names are quoted by `'`, `''` or `"`.
fn parse_path(placeholder: &str) -> Option<Vec<String>> {
    let mut rest = placeholder.strip_prefix("{{$")?.strip_suffix("}}")?;
    let mut path = Vec::new();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[']).unwrap_or(after.len());
            let (name, after) = after.split_at(end);
            let simple = !name.is_empty()
                && name
                    .chars()
                    .all(|c| c.is_alphanumeric() || "_-".contains(c));
            if !simple {
                return None;
            }
            path.push(name.to_owned());
            rest = after;
        } else {
            let after = rest.strip_prefix('[')?;
            let quote = ["''", "'", "\""]
                .into_iter()
                .find(|quote| after.starts_with(quote))?;
            let (name, after) = after.strip_prefix(quote)?.split_once(quote)?;
            path.push(name.to_owned());
            rest = after.strip_prefix(']')?;
        }
    }
    Some(path)
}

fn first_artifact<'a>(side: &'a Value, name: &str) -> &'a Value {
    &side["artifacts"][name]["artifacts"][0]
}

/// A field of an artifact as text; `null` when there is no artifact, `None` when there is no such field.
fn artifact_field(artifact: &Value, field: &[&str]) -> Option<String> {
    let found = match field {
        ["uri"] => &artifact["uri"],
        ["path"] => match &artifact["customPath"] {
            Value::Null if let Some(place) = workspace_place(artifact) => {
                return Some(format!("{WORKSPACE}/{place}"));
            }
            Value::Null => &artifact["uri"],
            custom => custom,
        },
        ["name"] => &artifact["name"],
        ["metadata", keys @ ..] => keys.iter().fold(&artifact["metadata"], |value, key| {
            value.get(key).unwrap_or(&Value::Null)
        }),
        _ => return None,
    };
    Some(value::text(found))
}

fn keys(value: &Value) -> Vec<String> {
    value
        .as_object()
        .map(|fields| fields.keys().cloned().collect())
        .unwrap_or_default()
}

fn unknown_name<'a>(
    placeholder: &str,
    name: &str,
    kind: &'static str,
    known: impl Iterator<Item = &'a String>,
) -> PlaceholderError {
    let known: Vec<&str> = known.map(String::as_str).collect();
    PlaceholderError::UnknownName {
        placeholder: placeholder.to_owned(),
        name: name.to_owned(),
        kind,
        known: if known.is_empty() {
            "there are none".to_owned()
        } else {
            known.join(", ")
        },
    }
}
