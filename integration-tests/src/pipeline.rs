//! Pipelines of shell steps, written as the compiler would write them.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::witness::Witness;

/// A pipeline.
#[derive(Debug, Clone)]
pub struct Pipeline {
    name: String,
    steps: Vec<Step>,
    importers: Vec<(String, String)>,
    whole: Option<Value>,
}

/// A step: a shell script, with what it reads and writes.
#[derive(Debug, Clone)]
pub struct Step {
    name: String,
    script: String,
    after: Vec<String>,
    artifacts: Vec<String>,
    parameters: Vec<String>,
    takes: Vec<Taken>,
    cached: bool,
}

/// An output of another step.
#[derive(Debug, Clone)]
struct Taken {
    kind: &'static str,
    producer: String,
    output: String,
}

impl Pipeline {
    /// A pipeline without steps.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            steps: Vec::new(),
            importers: Vec::new(),
            whole: None,
        }
    }

    /// A pipeline of a specification that is written elsewhere.
    pub(crate) fn whole(name: &str, spec: Value) -> Self {
        Self {
            whole: Some(spec),
            ..Self::new(name)
        }
    }

    /// With one more step.
    #[must_use]
    pub fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// With a task that brings an artifact in.
    #[must_use]
    pub fn import(mut self, name: &str, uri: &str) -> Self {
        self.importers.push((name.to_owned(), uri.to_owned()));
        self
    }

    /// The names of the steps.
    pub fn names(&self) -> Vec<String> {
        self.steps.iter().map(|step| step.name.clone()).collect()
    }

    /// The specification.
    pub fn spec(&self) -> Value {
        if let Some(spec) = &self.whole {
            return spec.clone();
        }
        let mut components = Map::new();
        let mut executors = Map::new();
        let mut tasks = Map::new();
        for step in &self.steps {
            let name = &step.name;
            components.insert(format!("comp-{name}"), step.component());
            executors.insert(format!("exec-{name}"), step.executor());
            tasks.insert(name.clone(), step.task());
        }
        for (name, uri) in &self.importers {
            let kind = json!({"schemaTitle": "system.Artifact", "schemaVersion": "0.0.1"});
            let output = json!({"artifacts": {"artifact": {"artifactType": kind}}});
            let component =
                json!({"executorLabel": format!("exec-{name}"), "outputDefinitions": output});
            components.insert(format!("comp-{name}"), component);
            let importer = json!({"artifactUri": {"constant": uri}, "typeSchema": kind});
            executors.insert(format!("exec-{name}"), json!({"importer": importer}));
            tasks.insert(
                name.clone(),
                json!({"componentRef": {"name": format!("comp-{name}")}, "taskInfo": {"name": name}}),
            );
        }
        json!({
            "components": components,
            "deploymentSpec": {"executors": executors},
            "pipelineInfo": {"name": self.name},
            "root": {"dag": {"tasks": tasks}},
            "schemaVersion": "2.1.0",
            "sdkVersion": "kfp-2.17.0",
        })
    }
}

impl Step {
    /// The name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A step that runs `script` with `sh -c`.
    pub fn shell(name: &str, script: &str) -> Self {
        Self {
            name: name.to_owned(),
            script: script.to_owned(),
            after: Vec::new(),
            artifacts: Vec::new(),
            parameters: Vec::new(),
            takes: Vec::new(),
            cached: false,
        }
    }

    /// May use the cache.
    #[must_use]
    pub fn cached(mut self) -> Self {
        self.cached = true;
        self
    }

    /// A step that prints two lines and leaves two marks, with `body` between them. A line is printed before its mark
    /// is left, so whatever the witness knows must be in the log: `one NAME` with `start`, `two NAME` with `end`.
    pub fn witnessed(name: &str, witness: &Witness, body: &str) -> Self {
        let file = witness.path().display();
        let script = format!(
            "mark() {{ echo \"$1 {name} $FLUMINA_ATTEMPT $$\" >> '{file}'; }}\n\
             echo 'one {name}'; mark start\n{body}\necho 'two {name}'; mark end\n"
        );
        Self::shell(name, &script)
    }

    /// [`Step::witnessed`] that goes on when the file `gate` is there.
    pub fn gated(name: &str, witness: &Witness, gate: &Path) -> Self {
        let body = format!("while [ ! -e '{}' ]; do sleep 0.02; done", gate.display());
        Self::witnessed(name, witness, &body)
    }

    /// Starts when these have ended.
    #[must_use]
    pub fn after(mut self, names: &[&str]) -> Self {
        self.after
            .extend(names.iter().map(|name| (*name).to_owned()));
        self
    }

    /// Writes an artifact to `$OUTPUT_NAME`.
    #[must_use]
    pub fn artifact(mut self, name: &str) -> Self {
        self.artifacts.push(name.to_owned());
        self
    }

    /// Writes a text parameter to the file `$OUTPUT_NAME`.
    #[must_use]
    pub fn parameter(mut self, name: &str) -> Self {
        self.parameters.push(name.to_owned());
        self
    }

    /// Finds the path of another step's artifact in `$INPUT_NAME`.
    #[must_use]
    pub fn reads(mut self, producer: &str, output: &str) -> Self {
        self.takes.push(Taken {
            kind: "artifacts",
            producer: producer.to_owned(),
            output: output.to_owned(),
        });
        self
    }

    /// Finds another step's parameter in `$INPUT_NAME`.
    #[must_use]
    pub fn takes(mut self, producer: &str, output: &str) -> Self {
        self.takes.push(Taken {
            kind: "parameters",
            producer: producer.to_owned(),
            output: output.to_owned(),
        });
        self
    }

    pub(crate) fn component(&self) -> Value {
        let mut component = json!({"executorLabel": format!("exec-{}", self.name)});
        for taken in &self.takes {
            component["inputDefinitions"][taken.kind][&taken.output] = declaration(taken.kind);
        }
        for name in &self.artifacts {
            component["outputDefinitions"]["artifacts"][name] = declaration("artifacts");
        }
        for name in &self.parameters {
            component["outputDefinitions"]["parameters"][name] = declaration("parameters");
        }
        component
    }

    /// Paths and values come as arguments, since placeholders within a script are not the compiler's way.
    pub(crate) fn executor(&self) -> Value {
        let mut names = Vec::new();
        let mut args = Vec::new();
        for taken in &self.takes {
            let name = &taken.output;
            names.push(format!("INPUT_{name}"));
            args.push(match taken.kind {
                "artifacts" => format!("{{{{$.inputs.artifacts['{name}'].path}}}}"),
                _ => format!("{{{{$.inputs.parameters['{name}']}}}}"),
            });
        }
        for name in &self.artifacts {
            names.push(format!("OUTPUT_{name}"));
            args.push(format!("{{{{$.outputs.artifacts['{name}'].path}}}}"));
        }
        for name in &self.parameters {
            names.push(format!("OUTPUT_{name}"));
            args.push(format!(
                "{{{{$.outputs.parameters['{name}'].output_file}}}}"
            ));
        }
        let mut script = String::new();
        for name in names {
            script.push_str(&format!("{name}=\"$1\"; shift\n"));
        }
        script.push_str(&self.script);
        json!({"container": {
            "image": "alpine:3.20",
            "command": ["sh", "-c", script, "step"],
            "args": args,
        }})
    }

    pub(crate) fn task(&self) -> Value {
        let mut task = json!({
            "componentRef": {"name": format!("comp-{}", self.name)},
            "taskInfo": {"name": self.name},
            "cachingOptions": {},
        });
        if self.cached {
            task["cachingOptions"] = json!({"enableCache": true});
        }
        let mut after = self.after.clone();
        after.extend(self.takes.iter().map(|taken| taken.producer.clone()));
        if !after.is_empty() {
            task["dependentTasks"] = json!(after);
        }
        for taken in &self.takes {
            let (selector, key) = match taken.kind {
                "artifacts" => ("taskOutputArtifact", "outputArtifactKey"),
                _ => ("taskOutputParameter", "outputParameterKey"),
            };
            let source = json!({key: taken.output, "producerTask": taken.producer});
            task["inputs"][taken.kind][&taken.output] = json!({selector: source});
        }
        task
    }
}

fn declaration(kind: &str) -> Value {
    match kind {
        "artifacts" => {
            json!({"artifactType": {"schemaTitle": "system.Artifact", "schemaVersion": "0.0.1"}})
        }
        _ => json!({"parameterType": "STRING"}),
    }
}
