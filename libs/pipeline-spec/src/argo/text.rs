//! Texts with expressions: `{{inputs.parameters.x}}` and the like.

use std::cell::Cell;
use std::collections::BTreeMap;

/// What an expression names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reference {
    /// `inputs.parameters.X`
    Input(String),
    /// `inputs.artifacts.X`, where an artifact is taken from.
    InputArtifact(String),
    /// The text of `inputs.artifacts.X`, when it was passed as text.
    InputRaw(String),
    /// `inputs.artifacts.X.path`
    InputPath(String),
    /// `outputs.parameters.X.path`
    OutputParameterPath(String),
    /// `outputs.artifacts.X.path`
    OutputArtifactPath(String),
    /// `tasks.T.outputs.parameters.X`, and the same of `steps`.
    TaskParameter { task: String, output: String },
    /// `tasks.T.outputs.artifacts.X`, and the same of `steps`.
    TaskArtifact { task: String, output: String },
    /// `item`
    Item,
    /// `item.X`
    ItemField(String),
    /// `workflow.parameters.X`
    Global(String),
    /// `workflow.parameters`: all of them, as JSON.
    Parameters,
    /// `workflow.status`
    Status,
    /// `workflow.failures`
    Failures,
    /// `tasks.T.status`, and the same of `steps`.
    TaskStatus(String),
    /// A placeholder of the run or the task, by its name.
    Context(&'static str),
    /// Known before anything runs.
    Known(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Text(String),
    Reference(Reference),
}

/// What expressions may name without running anything: `workflow.labels.x` and so on.
#[derive(Debug, Default)]
pub(super) struct Facts {
    known: BTreeMap<String, String>,
    /// Bytes that expressions have become so far: a long text that is named often must not fill the memory.
    filled: Cell<usize>,
}

/// Bytes that expressions of a document may become; what is read more than once counts each time.
const MAX_FILLED: usize = 64 << 20;

const CONTEXTS: [(&str, &str); 24] = [
    ("workflow.name", "pipeline_job_resource_name"),
    ("workflow.uid", "pipeline_job_uuid"),
    ("workflow.labels.pipeline/runid", "pipeline_job_uuid"),
    ("workflow.creationTimestamp", "pipeline_job_create_time_utc"),
    (
        "workflow.creationTimestamp.RFC3339",
        "pipeline_job_create_time_utc",
    ),
    (
        "workflow.creationTimestamp.s",
        "pipeline_job_create_time_seconds",
    ),
    ("workflow.creationTimestamp.a", "pipeline_job_create_time_a"),
    ("workflow.creationTimestamp.A", "pipeline_job_create_time_A"),
    ("workflow.creationTimestamp.b", "pipeline_job_create_time_b"),
    ("workflow.creationTimestamp.B", "pipeline_job_create_time_B"),
    ("workflow.creationTimestamp.d", "pipeline_job_create_time_d"),
    ("workflow.creationTimestamp.H", "pipeline_job_create_time_H"),
    ("workflow.creationTimestamp.I", "pipeline_job_create_time_I"),
    ("workflow.creationTimestamp.m", "pipeline_job_create_time_m"),
    ("workflow.creationTimestamp.M", "pipeline_job_create_time_M"),
    ("workflow.creationTimestamp.p", "pipeline_job_create_time_p"),
    ("workflow.creationTimestamp.S", "pipeline_job_create_time_S"),
    ("workflow.creationTimestamp.y", "pipeline_job_create_time_y"),
    ("workflow.creationTimestamp.Y", "pipeline_job_create_time_Y"),
    ("workflow.creationTimestamp.Z", "pipeline_job_create_time_Z"),
    ("workflow.scheduledTime", "pipeline_job_schedule_time_utc"),
    ("pod.name", "pipeline_task_uuid"),
    ("node.name", "pipeline_task_name"),
    ("retries", "retries"),
];

/// The first words of expressions. Anything else between braces is text: sources of programs hold such braces too.
const ROOTS: [&str; 9] = [
    "inputs", "outputs", "tasks", "steps", "workflow", "item", "pod", "node", "retries",
];

impl Facts {
    pub(super) fn new(known: BTreeMap<String, String>) -> Self {
        Self {
            known,
            filled: Cell::new(0),
        }
    }

    /// Splits a text at its expressions.
    pub(super) fn parse(&self, text: &str) -> Result<Vec<Part>, String> {
        let mut parts: Vec<Part> = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(start) = rest.find("{{") {
            let Some(length) = rest[start..].find("}}") else {
                break;
            };
            // Of `{{{x}}`, the innermost pair counts.
            let start = start + rest[start..start + length].rfind("{{").unwrap_or_default();
            let length = rest[start..].find("}}").unwrap_or_default();
            let (inner, end) = (&rest[start + 2..start + length], start + length + 2);
            plain.push_str(&rest[..start]);
            match self.reference(inner.trim())? {
                Some(Reference::Known(text)) => {
                    let filled = self.filled.get().saturating_add(text.len());
                    self.filled.set(filled);
                    if filled > MAX_FILLED {
                        return Err(format!(
                            "labels and annotations that are named fill more than {} MiB",
                            MAX_FILLED >> 20
                        ));
                    }
                    plain.push_str(&text);
                }
                Some(reference) => {
                    if !plain.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut plain)));
                    }
                    parts.push(Part::Reference(reference));
                }
                None => plain.push_str(&rest[start..end]),
            }
            rest = &rest[end..];
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(parts)
    }

    /// The expression of a text that must be nothing else.
    pub(super) fn single(&self, text: &str) -> Result<Option<Reference>, String> {
        match <[Part; 1]>::try_from(self.parse(text.trim())?) {
            Ok([Part::Reference(reference)]) => Ok(Some(reference)),
            Ok(_) | Err(_) => Ok(None),
        }
    }

    fn reference(&self, inner: &str) -> Result<Option<Reference>, String> {
        if inner.starts_with('=') && ROOTS.iter().any(|root| inner.contains(root)) {
            return Err(format!(
                "the expression {{{{{inner}}}}} is not supported; use simple references"
            ));
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
        let root = inner.split('.').next().unwrap_or_default();
        if !inner.chars().all(plain) || !ROOTS.contains(&root) {
            return Ok(None);
        }
        if let Some((_, name)) = CONTEXTS.iter().find(|(text, _)| *text == inner) {
            return Ok(Some(Reference::Context(name)));
        }
        if let Some(text) = self.known.get(inner) {
            return Ok(Some(Reference::Known(text.clone())));
        }
        let unknown = || Err(format!("{{{{{inner}}}}} is not supported"));
        let after = |prefix: &str| inner.strip_prefix(prefix).map(str::to_owned);
        if let Some(rest) = after("inputs.artifacts.") {
            return Ok(Some(match rest.strip_suffix(".path") {
                Some(name) => Reference::InputPath(name.to_owned()),
                None => Reference::InputArtifact(rest),
            }));
        }
        let known = match inner {
            "item" => Some(Reference::Item),
            "workflow.status" => Some(Reference::Status),
            "workflow.failures" => Some(Reference::Failures),
            "workflow.parameters" | "workflow.parameters.json" => Some(Reference::Parameters),
            _ => after("inputs.parameters.")
                .map(Reference::Input)
                .or_else(|| after("item.").map(Reference::ItemField))
                .or_else(|| after("workflow.parameters.").map(Reference::Global))
                .or_else(|| {
                    path_of(inner, "outputs.parameters.").map(Reference::OutputParameterPath)
                })
                .or_else(|| path_of(inner, "outputs.artifacts.").map(Reference::OutputArtifactPath))
                .or_else(|| of_task(inner)),
        };
        known.map_or_else(unknown, |found| Ok(Some(found)))
    }
}

fn path_of(inner: &str, prefix: &str) -> Option<String> {
    let name = inner.strip_prefix(prefix)?.strip_suffix(".path")?;
    Some(name.to_owned())
}

fn of_task(inner: &str) -> Option<Reference> {
    let rest = inner
        .strip_prefix("tasks.")
        .or_else(|| inner.strip_prefix("steps."))?;
    if let Some(task) = rest.strip_suffix(".status") {
        let plain = !task.is_empty() && !task.contains('.');
        return plain.then(|| Reference::TaskStatus(task.to_owned()));
    }
    let (task, output) = rest.split_once(".outputs.")?;
    let task = task.to_owned();
    if let Some(output) = output.strip_prefix("parameters.") {
        let output = output.to_owned();
        return Some(Reference::TaskParameter { task, output });
    }
    let output = output.strip_prefix("artifacts.")?.to_owned();
    Some(Reference::TaskArtifact { task, output })
}

impl Reference {
    /// The name of the channel that carries it into an inner group.
    pub(super) fn channel(&self) -> String {
        match self {
            Self::Input(name) => format!("inputs.parameters.{name}"),
            Self::InputArtifact(name) => format!("inputs.artifacts.{name}"),
            Self::InputRaw(name) => raw_input(name),
            Self::InputPath(name) => format!("inputs.artifacts.{name}.path"),
            Self::OutputParameterPath(name) => format!("outputs.parameters.{name}.path"),
            Self::OutputArtifactPath(name) => format!("outputs.artifacts.{name}.path"),
            Self::TaskParameter { task, output } => {
                format!("tasks.{task}.outputs.parameters.{output}")
            }
            Self::TaskArtifact { task, output } => {
                format!("tasks.{task}.outputs.artifacts.{output}")
            }
            Self::Item => "item".to_owned(),
            Self::ItemField(name) => format!("item.{name}"),
            Self::Global(name) => format!("workflow.parameters.{name}"),
            Self::Parameters => "workflow.parameters".to_owned(),
            Self::Status => "workflow.status".to_owned(),
            Self::Failures => "workflow.failures".to_owned(),
            Self::TaskStatus(task) => format!("tasks.{task}.status"),
            Self::Context(name) => (*name).to_owned(),
            Self::Known(text) => text.clone(),
        }
    }
}

/// The parameter that carries the text of an artifact which was passed as text.
pub(super) fn raw_input(name: &str) -> String {
    format!("inputs.artifacts.{name}.raw")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<Part>, String> {
        let facts = [("workflow.labels.team", "blue")];
        let facts = facts.map(|(key, text)| (key.to_owned(), text.to_owned()));
        Facts::new(facts.into()).parse(text)
    }

    #[test]
    fn braces_of_programs_stay_text() {
        for text in [
            "f'{{x}}'",
            "{{\"a\": 1}}",
            "{{ open",
            "{{#each}}",
            "{\"a\": {\"b\": {}}}",
        ] {
            assert_eq!(parse(text), Ok(vec![Part::Text(text.to_owned())]), "{text}");
        }
    }

    #[test]
    fn expressions_are_found_within_text() {
        let item = Part::Reference(Reference::ItemField("a".to_owned()));
        let text = |text: &str| Part::Text(text.to_owned());
        let found = vec![text("x={"), item, text("} blue")];
        assert_eq!(parse("x={{{item.a}}} {{workflow.labels.team}}"), Ok(found));
        let output = Reference::TaskParameter {
            task: "flip".to_owned(),
            output: "flip-Output".to_owned(),
        };
        let found = vec![Part::Reference(output)];
        assert_eq!(
            parse("{{tasks.flip.outputs.parameters.flip-Output}}"),
            Ok(found)
        );
    }

    #[test]
    fn what_is_not_known_is_named() {
        for text in ["{{workflow.duration}}", "{{tasks.a.outputs.result}}"] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(text), "{error}");
        }
    }
}
