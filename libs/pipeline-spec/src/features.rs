//! What an installation executes of what plans can say.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::limits::PARALLELISM;
use crate::{
    placeholder::{self, Name},
    plan::{
        Body, Component, Container, Executor, Importer, ImporterUri, Items, ParameterType,
        ParameterValue, Plan, Strategy, Task,
    },
    validate::Fault,
};

/// Platform settings that mean nothing on one machine: they are noted, never refused.
const NO_EFFECT: [&str; 8] = [
    "imagePullPolicy",
    "imagePullSecret",
    "nodeAffinity",
    "nodeSelector",
    "podAffinity",
    "podMetadata",
    "securityContext",
    "tolerations",
];

/// The parts of the language that an engine executes. The default is none of them: tasks with inputs and outputs,
/// nested groups, importers and f-strings are always there. Caching is never refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Features {
    /// `triggerPolicy.condition`.
    pub conditions: bool,
    /// Loops over parameters.
    pub loops: bool,
    /// Loops over lists of artifacts.
    pub artifact_loops: bool,
    /// `ALL_UPSTREAM_TASKS_COMPLETED`: exit handlers and tasks that ignore failures.
    pub exit_strategies: bool,
    /// Retries; a policy of zero retries is always accepted.
    pub retries: bool,
    /// Inputs that take how another task ended.
    pub final_status: bool,
    /// Inputs of type TASK_CONFIG.
    pub task_config: bool,
    /// `parameterExpressionSelector`.
    pub selectors: bool,
    /// Outputs of a group that are one of several (`dsl.OneOf`).
    pub one_of: bool,
    /// A directory shared by the tasks of a run.
    pub workspace: bool,
    /// Keys of `KubernetesExecutorConfig` (`secretAsEnv`), and `createPvc`, `deletePvc`.
    pub platform: BTreeSet<String>,
}

/// Everything in a plan that an engine with `features` does not execute, each by its place. Only what the root reaches
/// counts.
pub fn unsupported(plan: &Plan, features: &Features) -> Vec<Fault> {
    let mut check = Check {
        features,
        faults: Vec::new(),
    };
    let (components, executors) = reached(plan);
    for (at, component) in &components {
        check.component(at, component);
    }
    for (label, executor) in executors {
        let at = format!("deploymentSpec.executors.{label}");
        match executor {
            Executor::Container(container) => check.container(&at, label, container),
            Executor::Importer(importer) => check.importer(&at, importer),
        }
    }
    check.pipeline_config(&plan.pipeline_config);
    check.faults
}

/// Settings that are accepted and have no effect on one machine.
pub fn notes(plan: &Plan) -> Vec<Fault> {
    let mut notes = Vec::new();
    for (label, executor) in reached(plan).1 {
        let Executor::Container(container) = executor else {
            continue;
        };
        for key in container
            .platform
            .as_object()
            .into_iter()
            .flat_map(|map| map.keys())
        {
            if NO_EFFECT.contains(&key.as_str()) {
                notes.push(Fault::new(
                    platform_path(label, key),
                    "has no effect on one machine",
                ));
            }
        }
    }
    let config = plan.pipeline_config.as_object();
    for key in config.into_iter().flat_map(|map| map.keys()) {
        if key.starts_with("resourceTtl") {
            notes.push(Fault::new(
                format!("platforms.kubernetes.pipelineConfig.{key}"),
                "has no effect on one machine: runs leave nothing to remove",
            ));
        }
    }
    notes
}

fn platform_path(label: &str, key: &str) -> String {
    format!("platforms.kubernetes.deploymentSpec.executors.{label}.{key}")
}

type Components<'a> = Vec<(String, &'a Component)>;
type Executors<'a> = Vec<(&'a str, &'a Executor)>;

/// The components and executors that a run of the root can come to, with their paths.
fn reached(plan: &Plan) -> (Components<'_>, Executors<'_>) {
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    let mut labels: BTreeSet<&str> = BTreeSet::new();
    let mut found = vec![("root".to_owned(), &plan.root)];
    let mut next = 0;
    while let Some((_, component)) = found.get(next) {
        next += 1;
        match &component.body {
            Body::Executor(label) => {
                labels.insert(label);
            }
            Body::Dag(dag) => {
                for task in dag.tasks.values() {
                    if let Some((name, inner)) = plan.components.get_key_value(&task.component)
                        && seen.insert(name)
                    {
                        found.push((format!("components.{name}"), inner));
                    }
                }
            }
        }
    }
    let executors = labels
        .into_iter()
        .filter_map(|label| Some((label, plan.executors.get(label)?)))
        .collect();
    (found, executors)
}

struct Check<'a> {
    features: &'a Features,
    faults: Vec<Fault>,
}

impl Check<'_> {
    /// Reports a use unless `executed`.
    fn refuse(&mut self, executed: bool, at: impl Into<String>, what: &str) {
        if !executed {
            self.faults
                .push(Fault::new(at, format!("{what} not executed yet")));
        }
    }

    fn component(&mut self, at: &str, component: &Component) {
        for (name, input) in &component.input_parameters {
            if input.parameter_type == ParameterType::TaskConfig {
                let at = format!("{at}.inputDefinitions.parameters.{name}");
                self.refuse(
                    self.features.task_config,
                    at,
                    "inputs of type TASK_CONFIG are",
                );
            }
        }
        let Body::Dag(dag) = &component.body else {
            return;
        };
        for (name, task) in &dag.tasks {
            self.task(&format!("{at}.dag.tasks.{name}"), task);
        }
        let parameters = dag.output_parameters.iter();
        let parameters = parameters.map(|(name, selectors)| ("parameters", name, selectors));
        let artifacts = dag.output_artifacts.iter();
        let artifacts = artifacts.map(|(name, selectors)| ("artifacts", name, selectors));
        for (kind, name, selectors) in parameters.chain(artifacts) {
            if selectors.len() > 1 {
                let at = format!("{at}.dag.outputs.{kind}.{name}");
                self.refuse(
                    self.features.one_of,
                    at,
                    "outputs that are one of several are",
                );
            }
        }
    }

    fn task(&mut self, at: &str, task: &Task) {
        let features = self.features;
        if !task.trigger.condition.is_empty() {
            let at = format!("{at}.triggerPolicy.condition");
            self.refuse(features.conditions, at, "conditions are");
        }
        if task.trigger.strategy == Strategy::AllCompleted {
            let at = format!("{at}.triggerPolicy.strategy");
            let what = "exit handlers, and tasks that ignore failures, are";
            self.refuse(features.exit_strategies, at, what);
        }
        match task.iterator.as_ref().map(|iterator| &iterator.items) {
            Some(Items::Raw(_) | Items::Parameter(_)) => {
                self.refuse(
                    features.loops,
                    format!("{at}.parameterIterator"),
                    "loops are",
                );
            }
            Some(Items::Artifact(_)) => {
                let what = "loops over artifacts are";
                self.refuse(
                    features.artifact_loops,
                    format!("{at}.artifactIterator"),
                    what,
                );
            }
            None => {}
        }
        if task
            .retry
            .as_ref()
            .is_some_and(|retry| retry.max_retries > 0)
        {
            self.refuse(features.retries, format!("{at}.retryPolicy"), "retries are");
        }
        for (name, source) in &task.parameters {
            let at = format!("{at}.inputs.parameters.{name}");
            if !source.selector.is_empty() {
                let at = format!("{at}.parameterExpressionSelector");
                self.refuse(features.selectors, at, "selectors are");
            }
            match &source.value {
                ParameterValue::FinalStatus { .. } => {
                    let what = "inputs that take how a task ended are";
                    self.refuse(features.final_status, format!("{at}.taskFinalStatus"), what);
                }
                ParameterValue::Constant(value) => self.workspace(&at, value),
                ParameterValue::ComponentInput(_) | ParameterValue::TaskOutput { .. } => {}
            }
        }
    }

    fn container(&mut self, at: &str, label: &str, container: &Container) {
        let at = format!("{at}.container");
        let texts = [("command", &container.command), ("args", &container.args)];
        for (name, list) in texts {
            for (index, text) in list.iter().enumerate() {
                // Program text is not looked into, as when plans are made.
                if !text.contains('\n') {
                    self.workspace_text(&format!("{at}.{name}[{index}]"), text);
                }
            }
        }
        for (index, (_, value)) in container.env.iter().enumerate() {
            self.workspace_text(&format!("{at}.env[{index}].value"), value);
        }
        // Marks of the SDK for tasks that no container runs.
        for (image, key, what) in [
            ("argostub/createpvc", "createPvc", "creating volumes is"),
            ("argostub/deletepvc", "deletePvc", "deleting volumes is"),
        ] {
            if container.image == image {
                let executed = self.features.platform.contains(key);
                self.refuse(executed, format!("{at}.image"), what);
            }
        }
        let keys = container.platform.as_object();
        for key in keys.into_iter().flat_map(|map| map.keys()) {
            let executed =
                NO_EFFECT.contains(&key.as_str()) || self.features.platform.contains(key);
            self.refuse(executed, platform_path(label, key), &format!("{key} is"));
        }
    }

    fn importer(&mut self, at: &str, importer: &Importer) {
        let at = format!("{at}.importer");
        if importer.download_to_workspace {
            let at = format!("{at}.downloadToWorkspace");
            self.refuse(self.features.workspace, at, "the workspace is");
        }
        if let ImporterUri::Constant(text) = &importer.uri {
            self.workspace_text(&format!("{at}.artifactUri"), text);
        }
        self.workspace(&format!("{at}.metadata"), &importer.metadata);
    }

    fn pipeline_config(&mut self, config: &Value) {
        for key in config.as_object().into_iter().flat_map(|map| map.keys()) {
            let at = format!("platforms.kubernetes.pipelineConfig.{key}");
            match key.as_str() {
                "workspace" => self.refuse(self.features.workspace, at, "the workspace is"),
                key if key.starts_with("resourceTtl") => {}
                // Only the plan of a workflow has it, and the engine keeps to it.
                PARALLELISM => {}
                key => {
                    let executed = self.features.platform.contains(key);
                    self.refuse(executed, at, &format!("{key} is"));
                }
            }
        }
    }

    fn workspace(&mut self, at: &str, value: &Value) {
        placeholder::visit_strings(value, &mut |text| self.workspace_text(at, text));
    }

    fn workspace_text(&mut self, at: &str, text: &str) {
        if placeholder::names(text).any(|name| name == Name::Workspace) {
            self.refuse(self.features.workspace, at, "the workspace is");
        }
    }
}
