//! A pipeline with all that the engine does besides starting one step after another.

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use crate::pipeline::{Pipeline, Step};
use crate::witness::Witness;

/// An exit handler around `flaky`, which fails twice and then succeeds; a loop of `item` over four items, two at a time;
/// a branch of which `left` is taken; and `gather`, which takes what they put out. Then `tidy`, the exit task.
#[derive(Debug, Clone)]
pub struct Flow {
    witness: Witness,
    /// The pause after a failure of `flaky`.
    pub pause: &'static str,
    /// `gather` goes on when this is there.
    pub gate: Option<PathBuf>,
    /// `gather` fails while this is not there.
    pub needs: Option<PathBuf>,
    /// `tidy` goes on when this is there.
    pub tidy_gate: Option<PathBuf>,
    /// `tidy` writes the final status that it receives here.
    pub status: PathBuf,
    /// How long the run may take, in seconds.
    pub limit: u32,
}

/// A group of tasks in the making.
#[derive(Default)]
struct Group {
    tasks: Map<String, Value>,
}

/// All components and executors.
#[derive(Default)]
struct Parts {
    components: Map<String, Value>,
    executors: Map<String, Value>,
}

impl Flow {
    /// A flow without gates and limits.
    pub fn new(witness: &Witness, status: PathBuf) -> Self {
        Self {
            witness: witness.clone(),
            pause: "0.1s",
            gate: None,
            needs: None,
            tidy_gate: None,
            status,
            limit: 0,
        }
    }

    /// How many programs run.
    pub const PROGRAMS: usize = 8;
    /// How often `flaky` fails.
    pub const FAILURES: usize = 2;

    /// The pipeline.
    pub fn pipeline(&self) -> Pipeline {
        let mut parts = Parts::default();
        let mut root = Group::default();
        let mut handled = Group::default();
        handled.step(&mut parts, &self.flaky(), |task| {
            task["retryPolicy"] = json!({
                "maxRetryCount": Self::FAILURES,
                "backoffDuration": self.pause,
                "backoffFactor": 1,
                "backoffMaxDuration": "60s",
            });
        });
        handled.repeat(&mut parts, self.item());
        handled.branch(&mut parts, &self.witness);
        handled.step(&mut parts, &self.gather(), |_| {});
        parts.group("handled", handled, json!({}));
        root.tasks.insert("handled".to_owned(), named("handled"));
        root.step(&mut parts, &self.tidy(), |task| {
            task["dependentTasks"] = json!(["handled"]);
            task["triggerPolicy"] = json!({"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"});
            task["inputs"]["parameters"]["status"] =
                json!({"taskFinalStatus": {"producerTask": "handled"}});
        });
        let status = json!({"parameterType": "TASK_FINAL_STATUS"});
        parts.components["comp-tidy"]["inputDefinitions"]["parameters"]["status"] = status;
        let spec = json!({
            "components": parts.components,
            "deploymentSpec": {"executors": parts.executors},
            "pipelineInfo": {"name": "flow"},
            "root": {"dag": {"tasks": root.tasks}},
            "schemaVersion": "2.1.0",
            "sdkVersion": "kfp-2.17.0",
        });
        let config = json!({"pipelineConfig": {"activeDeadlineSeconds": self.limit}});
        let spec = match self.limit {
            0 => spec,
            _ => json!({
                "pipeline_spec": spec,
                "platform_spec": {"platforms": {"kubernetes": config}},
            }),
        };
        Pipeline::whole("flow", spec)
    }

    /// It counts its failures in the witness, so what is lost does not count.
    fn flaky(&self) -> Step {
        let file = self.witness.path().display();
        let body = format!(
            "if [ $(grep -c \"^fail flaky ${{FLUMINA_ATTEMPT%%.*}}\\.\" '{file}') -lt {} ]; then\n\
             echo 'two flaky'; mark fail; exit 7\nfi\nprintf left > \"$OUTPUT_choice\"",
            Self::FAILURES
        );
        Step::witnessed("flaky", &self.witness, &body).parameter("choice")
    }

    fn item(&self) -> Step {
        let body = "printf %s \"$INPUT_word\" > \"$OUTPUT_all\"";
        let step = Step::witnessed("item", &self.witness, body).parameter("all");
        step.takes("repeat", "word")
    }

    fn gather(&self) -> Step {
        let mut body = String::new();
        if let Some(gate) = &self.gate {
            body.push_str(&wait_for(gate));
        }
        if let Some(needs) = &self.needs {
            body.push_str(&format!("[ -e '{}' ] || exit 3\n", needs.display()));
        }
        body.push_str(
            "[ \"$(printf %s \"$INPUT_all\" | tr -d ' ')\" = '[\"a\",\"b\",\"c\",\"d\"]' ] || exit 8\n\
             [ \"$INPUT_side\" = left ] || exit 9",
        );
        let step = Step::witnessed("gather", &self.witness, &body);
        step.takes("repeat", "all").takes("branches", "side")
    }

    fn tidy(&self) -> Step {
        let status = self.status.display();
        let mut body = format!("printf '%s\\n' \"$INPUT_status\" >> '{status}'\n");
        if let Some(gate) = &self.tidy_gate {
            body.push_str(&wait_for(gate));
        }
        Step::witnessed("tidy", &self.witness, &body).takes("handled", "status")
    }
}

impl Group {
    fn step(&mut self, parts: &mut Parts, step: &Step, change: impl Fn(&mut Value)) {
        let mut task = step.task();
        change(&mut task);
        parts.add(step);
        self.tasks.insert(step.name().to_owned(), task);
    }

    /// The loop `repeat` of a step, after `flaky`.
    fn repeat(&mut self, parts: &mut Parts, step: Step) {
        let mut inner = Group::default();
        inner.step(parts, &step, |task| {
            task.as_object_mut().unwrap().remove("dependentTasks");
            task["inputs"]["parameters"]["word"] = json!({"componentInputParameter": "word"});
        });
        let output =
            json!({"valueFromParameter": {"outputParameterKey": "all", "producerSubtask": "item"}});
        parts.group(
            "repeat",
            inner,
            json!({
                "inputDefinitions": {"parameters": {"word": {"parameterType": "STRING"}}},
                "outputDefinitions": {"parameters": {"all": {"parameterType": "LIST"}}},
                "dag": {"outputs": {"parameters": {"all": output}}},
            }),
        );
        let mut task = named("repeat");
        task["dependentTasks"] = json!(["flaky"]);
        task["iteratorPolicy"] = json!({"parallelismLimit": 2});
        task["parameterIterator"] =
            json!({"itemInput": "word", "items": {"raw": r#"["a", "b", "c", "d"]"#}});
        self.tasks.insert("repeat".to_owned(), task);
    }

    /// `branches` with the group of `left` or of `right`, by what `flaky` put out.
    fn branch(&mut self, parts: &mut Parts, witness: &Witness) {
        let is_left = "inputs.parameter_values['choice'] == 'left'";
        let mut both = Group::default();
        let mut selectors = Vec::new();
        let given = json!({"parameters": {"choice": {"parameterType": "STRING"}}});
        let side = json!({"parameters": {"side": {"parameterType": "STRING"}}});
        for (name, condition) in [
            ("left", is_left.to_owned()),
            ("right", format!("!({is_left})")),
        ] {
            let body = format!("printf {name} > \"$OUTPUT_side\"");
            let mut inner = Group::default();
            let step = Step::witnessed(name, witness, &body).parameter("side");
            inner.step(parts, &step, |_| {});
            let output = json!({"valueFromParameter": {"outputParameterKey": "side", "producerSubtask": name}});
            let group = format!("condition-{name}");
            parts.group(
                &group,
                inner,
                json!({
                    "inputDefinitions": given.clone(),
                    "outputDefinitions": side.clone(),
                    "dag": {"outputs": {"parameters": {"side": output}}},
                }),
            );
            let mut task = named(&group);
            task["triggerPolicy"] = json!({"condition": condition});
            task["inputs"]["parameters"]["choice"] = json!({"componentInputParameter": "choice"});
            both.tasks.insert(group.clone(), task);
            selectors.push(json!({"outputParameterKey": "side", "producerSubtask": group}));
        }
        let output = json!({"valueFromOneof": {"parameterSelectors": selectors}});
        parts.group(
            "branches",
            both,
            json!({
                "inputDefinitions": given,
                "outputDefinitions": side,
                "dag": {"outputs": {"parameters": {"side": output}}},
            }),
        );
        let mut task = named("branches");
        task["dependentTasks"] = json!(["flaky"]);
        let choice = json!({"outputParameterKey": "choice", "producerTask": "flaky"});
        task["inputs"]["parameters"]["choice"] = json!({"taskOutputParameter": choice});
        self.tasks.insert("branches".to_owned(), task);
    }
}

impl Parts {
    fn add(&mut self, step: &Step) {
        let name = step.name();
        self.components
            .insert(format!("comp-{name}"), step.component());
        self.executors
            .insert(format!("exec-{name}"), step.executor());
    }

    fn group(&mut self, name: &str, group: Group, mut component: Value) {
        component["dag"]["tasks"] = Value::Object(group.tasks);
        self.components.insert(format!("comp-{name}"), component);
    }
}

fn named(name: &str) -> Value {
    json!({"componentRef": {"name": format!("comp-{name}")}, "taskInfo": {"name": name}})
}

fn wait_for(gate: &std::path::Path) -> String {
    let gate = gate.display();
    format!("while [ ! -e '{gate}' ]; do sleep 0.02; done\n")
}
