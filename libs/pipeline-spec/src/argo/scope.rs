//! Where expressions are evaluated, and what they stand for there.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::container::placeholder;
use super::loops::ITEM;
use super::read::scalar;
use super::template::Template;
use super::text::{Part, Reference};
use crate::plan::{ArtifactSource, ParameterSource, ParameterValue};

/// Takes the status from what the engine says about a task.
const STATUS: &str =
    "parseJson(string_value)[\"state\"] in [\"COMPLETE\", \"CACHED\"] ? \"Succeeded\" : \"Failed\"";

/// What a task receives.
#[derive(Debug, Default)]
pub(super) struct Inputs {
    pub(super) parameters: BTreeMap<String, ParameterSource>,
    pub(super) artifacts: BTreeMap<String, ArtifactSource>,
}

/// Where expressions are evaluated: in a group, and perhaps in the group around one call of it.
pub(super) struct Scope<'a> {
    pub(super) template: &'a Template<'a>,
    pub(super) tasks: &'a BTreeSet<String>,
    /// Those of the tasks that have a condition.
    pub(super) may_skip: &'a BTreeSet<&'a str>,
    /// Of a call with a condition or a loop: what its own group takes from the outer one.
    pub(super) carried: Option<Carried>,
}

#[derive(Debug, Default)]
pub(super) struct Carried {
    pub(super) parameters: BTreeSet<Reference>,
    pub(super) artifacts: BTreeSet<Reference>,
    pub(super) item: bool,
}

fn source(value: ParameterValue) -> ParameterSource {
    ParameterSource {
        value,
        selector: String::new(),
    }
}

/// How a task ended, as Argo calls it.
pub(super) fn status(task: &str) -> ParameterSource {
    ParameterSource {
        value: ParameterValue::FinalStatus {
            task: task.to_owned(),
        },
        selector: STATUS.to_owned(),
    }
}

impl Scope<'_> {
    /// Where a value comes from, as a task of the innermost group sees it.
    pub(super) fn parameter(&mut self, reference: &Reference) -> Result<ParameterSource, String> {
        if let (Some(carried), Reference::Item | Reference::ItemField(_)) =
            (&self.carried, reference)
        {
            if !carried.item {
                return Err(format!(
                    "{{{{{}}}}} stands outside a loop",
                    reference.channel()
                ));
            }
            let selector = match reference {
                Reference::ItemField(field) => {
                    format!("parseJson(string_value)[{}]", Value::from(field.as_str()))
                }
                _ => String::new(),
            };
            return Ok(ParameterSource {
                value: ParameterValue::ComponentInput(ITEM.to_owned()),
                selector,
            });
        }
        let outer = self.outer(reference)?;
        match &mut self.carried {
            // What is known to the run needs no way into the group.
            Some(carried) if !matches!(outer.value, ParameterValue::Constant(_)) => {
                carried.parameters.insert(reference.clone());
                Ok(source(ParameterValue::ComponentInput(reference.channel())))
            }
            Some(_) | None => Ok(outer),
        }
    }

    /// Where a value comes from, as a task of the template's group sees it.
    pub(super) fn outer(&self, reference: &Reference) -> Result<ParameterSource, String> {
        let value = match reference {
            Reference::Input(name) if self.template.inputs.contains(name) => {
                ParameterValue::ComponentInput(name.clone())
            }
            Reference::Input(name) => {
                let template = &self.template.name;
                return Err(format!(
                    "template `{template}` has no input parameter `{name}`"
                ));
            }
            Reference::TaskParameter { task, output } => {
                self.known(task)?;
                ParameterValue::TaskOutput {
                    task: task.clone(),
                    output: output.clone(),
                }
            }
            Reference::Global(_)
            | Reference::Parameters
            | Reference::Status
            | Reference::Failures => ParameterValue::ComponentInput(reference.channel()),
            Reference::TaskStatus(task) => {
                self.known(task)?;
                if self.may_skip.contains(task.as_str()) {
                    return Err(format!(
                        "{{{{{}}}}} is not supported, for `{task}` has a condition; repeat the condition instead",
                        reference.channel()
                    ));
                }
                return Ok(status(task));
            }
            Reference::InputRaw(_) => ParameterValue::ComponentInput(reference.channel()),
            Reference::Context(name) => {
                ParameterValue::Constant(Value::from(format!("{{{{$.{name}}}}}")))
            }
            Reference::Item
            | Reference::ItemField(_)
            | Reference::Known(_)
            | Reference::InputArtifact(_)
            | Reference::InputPath(_)
            | Reference::OutputParameterPath(_)
            | Reference::OutputArtifactPath(_)
            | Reference::TaskArtifact { .. } => {
                return Err(format!("{{{{{}}}}} is no value here", reference.channel()));
            }
        };
        Ok(source(value))
    }

    fn known(&self, task: &str) -> Result<(), String> {
        match self.tasks.contains(task) {
            true => Ok(()),
            false => Err(format!(
                "there is no task `{task}` in template `{}`",
                self.template.name
            )),
        }
    }

    pub(super) fn artifact(&mut self, reference: &Reference) -> Result<ArtifactSource, String> {
        let outer = self.outer_artifact(reference)?;
        Ok(match &mut self.carried {
            Some(carried) => {
                carried.artifacts.insert(reference.clone());
                ArtifactSource::ComponentInput(reference.channel())
            }
            None => outer,
        })
    }

    pub(super) fn outer_artifact(&self, reference: &Reference) -> Result<ArtifactSource, String> {
        match reference {
            Reference::InputArtifact(name) => Ok(ArtifactSource::ComponentInput(name.clone())),
            Reference::TaskArtifact { task, output } => {
                self.known(task)?;
                Ok(ArtifactSource::TaskOutput {
                    task: task.clone(),
                    output: output.clone(),
                })
            }
            other => Err(format!("{{{{{}}}}} is no artifact", other.channel())),
        }
    }

    /// An argument: one expression, plain text, or text with expressions in it.
    pub(super) fn argument(
        &mut self,
        parts: &[Part],
        inputs: &mut Inputs,
    ) -> Result<ParameterSource, String> {
        if let [Part::Reference(reference)] = parts {
            return self.parameter(reference);
        }
        let text = self.text(parts, inputs)?;
        Ok(source(ParameterValue::Constant(Value::from(text))))
    }

    /// Text with placeholders for the expressions in it.
    pub(super) fn text(&mut self, parts: &[Part], inputs: &mut Inputs) -> Result<String, String> {
        let mut text = String::new();
        for part in parts {
            match part {
                Part::Text(plain) => text.push_str(plain),
                Part::Reference(reference) => {
                    let found = self.parameter(reference)?;
                    if let ParameterValue::Constant(constant) = &found.value {
                        text.push_str(&scalar(constant).unwrap_or_default());
                        continue;
                    }
                    let channel = format!("channel--{}", reference.channel());
                    text.push_str(&placeholder(&channel));
                    inputs.parameters.insert(channel, found);
                }
            }
        }
        Ok(text)
    }
}
