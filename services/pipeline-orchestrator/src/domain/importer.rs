//! Importers: tasks that bring an artifact in by its URI, without a program.

use pipeline_spec::plan::{ArtifactType, Body, Executor, Importer, ImporterUri};
use serde_json::{Map, Value};

use super::engine::Engine;
use super::event::{Effect, StepError};
use super::model::{Artifact, Inputs, Task};
use super::placeholder::{self, Placeholder};
use super::resolve::Unresolved;
use super::state::{RunState, missing};
use super::status::{TaskAction, TaskKind, TaskStatus};
use ids::{ArtifactId, TaskId};

/// What an importer brings in.
struct Import {
    output: String,
    uri: String,
    artifact_type: ArtifactType,
    metadata: Map<String, Value>,
    reimport: bool,
}

/// Asks whether an artifact is known already.
pub(super) fn question(state: &RunState, id: TaskId) -> Result<Effect, StepError> {
    let task = state.task(id)?;
    let import = import(state, task, &task.body.inputs)
        .map_err(|unresolved| StepError::Inconsistent(unresolved.to_string()))?;
    Ok(Effect::FindArtifact {
        task: id,
        uri: import.uri,
        artifact_type: import.artifact_type,
        metadata: import.metadata,
    })
}

fn import(state: &RunState, task: &Task, inputs: &Inputs) -> Result<Import, Unresolved> {
    let component = state.component(task)?;
    let importer = executor(state, task)?;
    let output = component.output_artifacts.keys().next();
    let output = output.ok_or_else(|| missing("output of importer", task.label()))?;
    let label = || task.label().to_owned();
    let lookup = |placeholder: Placeholder<'_>| match placeholder {
        Placeholder::Parameter(name) => {
            let value = inputs
                .parameters
                .get(name)
                .or_else(|| inputs.channels.get(name));
            value
                .cloned()
                .map(Some)
                .ok_or_else(|| Unresolved::Placeholder {
                    task: label(),
                    place: "metadata".to_owned(),
                    name: name.to_owned(),
                })
        }
        Placeholder::Context(_) => Ok(None),
    };
    let mut metadata = match placeholder::fill(&importer.metadata, &lookup)? {
        Value::Object(metadata) => metadata,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Map::new()
        }
    };
    if importer.download_to_workspace {
        // The SDK looks for such an artifact in the workspace, where the first step that needs it copies it.
        metadata.insert("_kfp_workspace".to_owned(), Value::Bool(true));
    }
    let uri = match &importer.uri {
        ImporterUri::Constant(uri) => uri.clone(),
        ImporterUri::Parameter(name) => inputs
            .parameters
            .get(name)
            .map(pipeline_spec::text_form)
            .ok_or_else(|| Unresolved::NotGiven {
            task: label(),
            input: name.clone(),
        })?,
    };
    if uri.is_empty() {
        return Err(Unresolved::EmptyUri { task: label() });
    }
    Ok(Import {
        output: output.clone(),
        uri,
        artifact_type: importer.artifact_type.clone(),
        metadata,
        reimport: importer.reimport,
    })
}

fn executor<'a>(state: &'a RunState, task: &Task) -> Result<&'a Importer, StepError> {
    let executor = match &state.component(task)?.body {
        Body::Executor(label) => state.plan.executors.get(label),
        Body::Dag(_) => None,
    };
    match executor {
        Some(Executor::Importer(importer)) => Ok(importer),
        Some(Executor::Container(_)) | None => Err(missing("importer of task", task.label())),
    }
}

impl Engine<'_> {
    /// Brings the artifact in, or asks first whether it is known.
    pub(super) fn begin_import(&mut self, id: TaskId) -> Result<(), StepError> {
        let task = self.state.task(id)?;
        let import = match import(self.state, task, &task.body.inputs) {
            Ok(import) => import,
            Err(unresolved) => return self.fail_unresolved(id, &unresolved),
        };
        self.act(id, TaskAction::Open)?;
        self.mark_started(id, self.now)?;
        if import.reimport {
            return self.record_import(id, import);
        }
        match self.known_import(&import) {
            Some(known) => self.finish_import(id, import.output, known),
            None => {
                let effect = question(self.state, id)?;
                self.outcome.effects.push(effect);
                Ok(())
            }
        }
    }

    /// Takes the answer to the question.
    pub(super) fn artifact_looked_up(
        &mut self,
        id: TaskId,
        found: Option<Artifact>,
    ) -> Result<(), StepError> {
        let asked =
            |task: &&Task| task.kind == TaskKind::Importer && task.status == TaskStatus::Running;
        let Some(task) = self.state.get(id).filter(asked) else {
            return Ok(());
        };
        let import = match import(self.state, task, &task.body.inputs) {
            Ok(import) => import,
            Err(unresolved) => return self.fail_unresolved(id, &unresolved),
        };
        if let Some(artifact) = found {
            let known = artifact.id;
            self.state.artifacts.insert(known, artifact.into());
            // The run that recorded it may go; what this run uses must stay.
            self.outcome.changes.artifacts.push(known);
            return self.finish_import(id, import.output, known);
        }
        // Another importer of this run may have recorded it since.
        match self.known_import(&import) {
            Some(known) => self.finish_import(id, import.output, known),
            None => self.record_import(id, import),
        }
    }

    fn known_import(&self, import: &Import) -> Option<ArtifactId> {
        let candidates = self.state.imported.get(&import.uri)?;
        candidates.iter().copied().find(|id| {
            self.state.artifacts.get(id).is_some_and(|artifact| {
                artifact.artifact_type == import.artifact_type
                    && artifact.metadata == import.metadata
            })
        })
    }

    fn record_import(&mut self, id: TaskId, import: Import) -> Result<(), StepError> {
        let artifact = Artifact {
            id: ArtifactId((self.ids)()),
            run_id: self.state.run.id,
            task_id: id,
            name: import.output.clone(),
            artifact_type: import.artifact_type,
            uri: import.uri,
            metadata: import.metadata,
            size_bytes: 0,
            sha256: String::new(),
            present: true,
            directory: false,
            created_at: self.now,
        };
        let known = artifact.id;
        self.outcome.changes.artifacts.push(known);
        self.state.artifacts.insert(known, artifact.into());
        self.finish_import(id, import.output, known)
    }

    fn finish_import(
        &mut self,
        id: TaskId,
        output: String,
        artifact: ArtifactId,
    ) -> Result<(), StepError> {
        if let Some(uri) = self
            .state
            .artifact(artifact)
            .map(|artifact| artifact.uri.clone())
        {
            self.state.imported.entry(uri).or_default().push(artifact);
        }
        self.task_mut(id)?
            .body
            .outputs
            .artifacts
            .insert(output, vec![artifact]);
        self.act(id, TaskAction::Succeed)
    }
}
