//! Placeholders of an executor against the component that it belongs to.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Faults;
use crate::{
    placeholder::{self, Name},
    plan::{Component, Executor, ImporterUri},
};

/// Reports placeholders that name inputs or outputs which the component does not have.
pub(super) fn check(
    label: &str,
    executor: &Executor,
    component_at: &str,
    component: &Component,
    faults: &mut Faults,
) {
    let at = format!("deploymentSpec.executors.{label}");
    let mut checker = Checker {
        component_at,
        component,
        faults,
    };
    match executor {
        Executor::Container(container) => {
            let at = format!("{at}.container");
            checker.text(&format!("{at}.image"), &container.image);
            for (name, list) in [("command", &container.command), ("args", &container.args)] {
                for (index, text) in list.iter().enumerate() {
                    checker.argument(&format!("{at}.{name}[{index}]"), text);
                }
            }
            for (index, (_, value)) in container.env.iter().enumerate() {
                checker.text(&format!("{at}.env[{index}].value"), value);
            }
            let resources = &container.resources;
            for (name, text) in [
                ("resourceCpuLimit", &resources.cpu_limit),
                ("resourceCpuRequest", &resources.cpu_request),
                ("resourceMemoryLimit", &resources.memory_limit),
                ("resourceMemoryRequest", &resources.memory_request),
                ("accelerator.resourceType", &resources.accelerator_type),
                ("accelerator.resourceCount", &resources.accelerator_count),
            ] {
                checker.text(&format!("{at}.resources.{name}"), text);
            }
        }
        Executor::Importer(importer) => {
            let at = format!("{at}.importer");
            match &importer.uri {
                ImporterUri::Parameter(name) => {
                    checker.names(&format!("{at}.artifactUri"), [Name::InputParameter(name)]);
                }
                ImporterUri::Constant(text) => checker.text(&format!("{at}.artifactUri"), text),
            }
            let at = format!("{at}.metadata");
            placeholder::visit_strings(&importer.metadata, &mut |text| checker.text(&at, text));
            if component.output_artifacts.len() != 1 {
                checker.faults.add(
                    format!("{component_at}.outputDefinitions.artifacts"),
                    "an importer has one output artifact",
                );
            }
        }
    }
}

struct Checker<'a> {
    component_at: &'a str,
    component: &'a Component,
    faults: &'a mut Faults,
}

impl Checker<'_> {
    fn argument(&mut self, at: &str, text: &str) {
        // Program text may hold anything, such as the text of a placeholder in a string of its own.
        if text.contains('\n') {
            return;
        }
        self.text(at, text);
        if !text.starts_with("{\"IfPresent\"") && !text.starts_with("{\"Concat\"") {
            return;
        }
        match serde_json::from_str::<Value>(text) {
            Ok(value) => self.conditional(at, &value),
            Err(error) => self
                .faults
                .add(at, format!("the placeholder is not JSON: {error}")),
        }
    }

    /// The input names of `IfPresent`, at any depth.
    fn conditional(&mut self, at: &str, value: &Value) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| self.conditional(at, item)),
            Value::Object(map) => {
                if let Some(name) = map.get("InputName").and_then(Value::as_str)
                    && !self.component.input_parameters.contains_key(name)
                    && !self.component.input_artifacts.contains_key(name)
                {
                    self.unknown(at, "input", name);
                }
                map.values().for_each(|item| self.conditional(at, item));
            }
            _ => {}
        }
    }

    fn text(&mut self, at: &str, text: &str) {
        self.names(at, placeholder::names(text));
    }

    fn names<'t>(&mut self, at: &str, names: impl IntoIterator<Item = Name<'t>>) {
        let component = self.component;
        let mut unknown = BTreeSet::new();
        for name in names {
            let (kind, name, known) = match name {
                // Settings that come from elsewhere are inputs of the task, not of the component.
                Name::InputParameter(name) => (
                    "input parameter",
                    name,
                    component.input_parameters.contains_key(name)
                        || name.starts_with("pipelinechannel--"),
                ),
                Name::InputArtifact(name) => (
                    "input artifact",
                    name,
                    component.input_artifacts.contains_key(name),
                ),
                Name::OutputParameter(name) => (
                    "output parameter",
                    name,
                    component.output_parameters.contains_key(name),
                ),
                Name::OutputArtifact(name) => (
                    "output artifact",
                    name,
                    component.output_artifacts.contains_key(name),
                ),
                Name::Workspace | Name::Other => continue,
            };
            if !known {
                unknown.insert((kind, name));
            }
        }
        for (kind, name) in unknown {
            self.unknown(at, kind, name);
        }
    }

    fn unknown(&mut self, at: &str, kind: &str, name: &str) {
        self.faults.add(
            at,
            format!(
                "the placeholder names the {kind} '{name}', which {} does not have",
                self.component_at
            ),
        );
    }
}
