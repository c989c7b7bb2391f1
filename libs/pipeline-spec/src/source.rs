//! Documents of either language: compiled pipelines, and workflows of the SDK 1.8.

use serde_json::Value;

use crate::document::{self, Document, Error};
use crate::plan::Plan;
use crate::validate::Fault;
use crate::{argo, validate};

/// What can be executed, as it was written.
#[derive(Debug, Clone)]
pub enum Source {
    /// A `PipelineSpec`, perhaps with its platform settings.
    Compiled(Box<Document>),
    /// An Argo workflow.
    Workflow(Value),
}

impl Source {
    /// Reads YAML or JSON.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        Self::of(document::read(bytes)?)
    }

    /// Reads a document that came as a JSON value.
    pub fn from_value(value: Value) -> Result<Self, Error> {
        Self::of(vec![value])
    }

    fn of(mut documents: Vec<Value>) -> Result<Self, Error> {
        documents.retain(|document| !document.is_null());
        match documents.iter().any(argo::is_workflow) {
            false => Ok(Self::Compiled(Box::new(Document::from_documents(
                documents,
            )?))),
            true if !documents.iter().all(document::is_shallow) => Err(Error::TooDeep),
            true => match <[Value; 1]>::try_from(documents) {
                Ok([workflow]) => Ok(Self::Workflow(workflow)),
                Err(documents) => Err(Error::TooManyDocuments(documents.len())),
            },
        }
    }

    /// What is stored, and what clients get back.
    pub fn to_value(&self) -> Value {
        match self {
            Self::Compiled(document) => document.to_value(),
            Self::Workflow(workflow) => workflow.clone(),
        }
    }

    /// The plan.
    ///
    /// # Errors
    /// Everything that is wrong, by its place.
    pub fn plan(&self) -> Result<Plan, Vec<Fault>> {
        match self {
            Self::Compiled(document) => validate::plan(document),
            Self::Workflow(workflow) => argo::plan(workflow),
        }
    }
}
