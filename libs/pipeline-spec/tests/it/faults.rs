//! Each fault that heads, references, inputs and definitions can have: where it is reported, and how it reads.

use flumina_pipeline_spec::Document;
use serde_json::{Value, json};

use crate::lines;

/// A pipeline with a producer, a consumer, a group and an importer, all of it valid.
pub(crate) fn valid() -> Value {
    json!({
        "schemaVersion": "2.1.0",
        "pipelineInfo": {"name": "p"},
        "deploymentSpec": {"executors": {
            "exec-make": {"container": {
                "image": "alpine",
                "command": ["make", "{{$.inputs.parameters['rows']}}"],
                "args": ["{{$.outputs.artifacts['data'].path}}"],
                "resources": {"resourceCpuLimit": "500m"}
            }},
            "exec-use": {"container": {"image": "alpine", "args": ["{{$.inputs.artifacts['data'].path}}"]}},
            "exec-get": {"importer": {"artifactUri": {"runtimeParameter": "uri"}, "typeSchema": {"schemaTitle": "system.Dataset"}}}
        }},
        "components": {
            "comp-make": {
                "executorLabel": "exec-make",
                "inputDefinitions": {"parameters": {"rows": {"parameterType": "NUMBER_INTEGER"}}},
                "outputDefinitions": {
                    "parameters": {"count": {"parameterType": "NUMBER_INTEGER"}, "flags": {"parameterType": "LIST"}},
                    "artifacts": {"data": {"artifactType": {"schemaTitle": "system.Dataset"}}}
                }
            },
            "comp-use": {
                "executorLabel": "exec-use",
                "inputDefinitions": {
                    "parameters": {
                        "text": {"parameterType": "STRING", "isOptional": true},
                        "flag": {"parameterType": "BOOLEAN", "defaultValue": true},
                        "mode": {"parameterType": "STRING", "defaultValue": "fast", "literals": ["fast", "slow"]}
                    },
                    "artifacts": {"data": {"artifactType": {"schemaTitle": "system.Dataset"}}}
                }
            },
            "comp-get": {
                "executorLabel": "exec-get",
                "inputDefinitions": {"parameters": {"uri": {"parameterType": "STRING"}}},
                "outputDefinitions": {"artifacts": {"artifact": {"artifactType": {"schemaTitle": "system.Dataset"}}}}
            },
            "comp-group": {
                "dag": {
                    "tasks": {"inner": {
                        "componentRef": {"name": "comp-make"},
                        "inputs": {"parameters": {"rows": {"componentInputParameter": "n"}}}
                    }},
                    "outputs": {
                        "parameters": {"total": {"valueFromParameter": {"producerSubtask": "inner", "outputParameterKey": "count"}}},
                        "artifacts": {"all": {"artifactSelectors": [{"producerSubtask": "inner", "outputArtifactKey": "data"}]}}
                    }
                },
                "inputDefinitions": {"parameters": {"n": {"parameterType": "NUMBER_INTEGER"}}},
                "outputDefinitions": {
                    "parameters": {"total": {"parameterType": "NUMBER_INTEGER"}},
                    "artifacts": {"all": {"artifactType": {"schemaTitle": "system.Dataset"}}}
                }
            }
        },
        "root": {"dag": {"tasks": {
            "make": {
                "componentRef": {"name": "comp-make"},
                "inputs": {"parameters": {"rows": {"runtimeValue": {"constant": 3.0}}}}
            },
            "use": {
                "componentRef": {"name": "comp-use"},
                "dependentTasks": ["make"],
                "inputs": {
                    "parameters": {
                        "text": {"runtimeValue": {"constant": "n={{$.inputs.parameters['pipelinechannel--make-count']}}"}},
                        "pipelinechannel--make-count": {"taskOutputParameter": {"producerTask": "make", "outputParameterKey": "count"}}
                    },
                    "artifacts": {"data": {"taskOutputArtifact": {"producerTask": "make", "outputArtifactKey": "data"}}}
                },
                "retryPolicy": {"maxRetryCount": 1, "backoffDuration": "1.5s"}
            },
            "group": {
                "componentRef": {"name": "comp-group"},
                "inputs": {"parameters": {"n": {"taskOutputParameter": {"producerTask": "make", "outputParameterKey": "count"}}}}
            },
            "get": {
                "componentRef": {"name": "comp-get"},
                "inputs": {"parameters": {"uri": {"runtimeValue": {"constant": "/x"}}}}
            }
        }}}
    })
}

/// One change of the valid document, and the faults that it causes.
pub(crate) struct Case {
    at: &'static str,
    /// Null removes the place.
    value: Value,
    faults: &'static [&'static str],
}

pub(crate) fn case(at: &'static str, value: Value, faults: &'static [&'static str]) -> Case {
    Case { at, value, faults }
}

pub(crate) fn set(document: &mut Value, at: &str, value: Value) {
    let (parent, key) = at.rsplit_once('/').unwrap();
    let parent = document
        .pointer_mut(parent)
        .unwrap_or_else(|| panic!("no {parent}"));
    match parent {
        Value::Object(map) if value.is_null() => {
            map.remove(key).unwrap_or_else(|| panic!("no {at}"));
        }
        Value::Object(map) => {
            map.insert(key.to_owned(), value);
        }
        Value::Array(items) => items[key.parse::<usize>().unwrap()] = value,
        other => panic!("{at} is inside {other}"),
    }
}

pub(crate) fn faults_of(document: Value) -> Vec<String> {
    let document = Document::from_value(document).unwrap();
    match flumina_pipeline_spec::plan(&document) {
        Ok(_) => Vec::new(),
        Err(faults) => lines(&faults),
    }
}

pub(crate) fn run(cases: Vec<Case>) {
    assert_eq!(faults_of(valid()), Vec::<String>::new());
    for case in cases {
        let mut document = valid();
        set(&mut document, case.at, case.value.clone());
        assert_eq!(
            faults_of(document),
            case.faults,
            "{} = {}",
            case.at,
            case.value
        );
    }
}

#[test]
fn heads_are_checked() {
    run(vec![
        case(
            "/schemaVersion",
            json!("2.0.0"),
            &["schemaVersion: must be 2.1.0, not 2.0.0; compile with a KFP SDK 2.x"],
        ),
        case(
            "/schemaVersion",
            Value::Null,
            &["schemaVersion: is missing; it must be 2.1.0"],
        ),
        case(
            "/pipelineInfo",
            Value::Null,
            &["pipelineInfo.name: the pipeline has no name"],
        ),
        case("/root", Value::Null, &["root: the pipeline has no root"]),
        case(
            "/root/dag",
            Value::Null,
            &["root: the component has neither a dag nor an executorLabel"],
        ),
        case(
            "/root",
            json!({"executorLabel": "exec-use"}),
            &[
                "deploymentSpec.executors.exec-use.container.args[0]: the placeholder names the input artifact 'data', which root does not have",
                "root.executorLabel: the root must be a dag",
            ],
        ),
        case(
            "/root/dag/tasks",
            json!({}),
            &["root.dag.tasks: the group has no tasks"],
        ),
    ]);
}

#[test]
fn names_cannot_leave_their_folder() {
    let rule = "cannot be a name: it must be 1 to 255 bytes without slashes, quotes and control characters";
    let artifact = json!({"artifactType": {"schemaTitle": "system.Dataset"}});
    for name in ["..", ".", "", "a/b", "../../etc", "a\\b", "a\nb", "it's"] {
        let mut document = valid();
        let at = "/components/comp-make/outputDefinitions/artifacts";
        document.pointer_mut(at).unwrap()[name] = artifact.clone();
        let expected =
            format!("components.comp-make.outputDefinitions.artifacts.{name}: {name:?} {rule}");
        assert_eq!(faults_of(document), [expected]);

        let mut document = valid();
        let tasks = document.pointer_mut("/root/dag/tasks").unwrap();
        tasks[name] = tasks["get"].clone();
        assert_eq!(
            faults_of(document),
            [format!("root.dag.tasks.{name}: {name:?} {rule}")]
        );
    }
    let mut document = valid();
    set(&mut document, "/pipelineInfo/name", json!("../p"));
    assert_eq!(
        faults_of(document),
        [format!("pipelineInfo.name: \"../p\" {rule}")]
    );
}

#[test]
fn references_must_resolve() {
    run(vec![
        case(
            "/root/dag/tasks/get/componentRef/name",
            json!("comp-gone"),
            &["root.dag.tasks.get.componentRef.name: there is no component 'comp-gone'"],
        ),
        case(
            "/root/dag/tasks/get/componentRef",
            Value::Null,
            &["root.dag.tasks.get.componentRef: the task names no component"],
        ),
        case(
            "/components/comp-use/executorLabel",
            json!("exec-gone"),
            &[
                "components.comp-use.executorLabel: there is no executor 'exec-gone' in deploymentSpec.executors",
            ],
        ),
        case(
            "/root/dag/tasks/use/dependentTasks/0",
            json!("gone"),
            &["root.dag.tasks.use.dependentTasks[0]: there is no task 'gone' in this group"],
        ),
        case(
            "/root/dag/tasks/group/inputs/parameters/n/taskOutputParameter/producerTask",
            json!("gone"),
            &["root.dag.tasks.group.inputs.parameters.n: there is no task 'gone' in this group"],
        ),
        case(
            "/root/dag/tasks/group/inputs/parameters/n/taskOutputParameter/outputParameterKey",
            json!("gone"),
            &[
                "root.dag.tasks.group.inputs.parameters.n: task 'make' has no output parameter 'gone'",
            ],
        ),
        case(
            "/root/dag/tasks/use/inputs/artifacts/data/taskOutputArtifact/outputArtifactKey",
            json!("gone"),
            &[
                "root.dag.tasks.use.inputs.artifacts.data: task 'make' has no output artifact 'gone'",
            ],
        ),
        case(
            "/components/comp-group/dag/tasks/inner/inputs/parameters/rows",
            json!({"componentInputParameter": "gone"}),
            &[
                "components.comp-group.dag.tasks.inner.inputs.parameters.rows: the enclosing component has no input parameter 'gone'",
            ],
        ),
        case(
            "/root/dag/tasks/use/inputs/artifacts/data",
            json!({"componentInputArtifact": "gone"}),
            &[
                "root.dag.tasks.use.inputs.artifacts.data: the enclosing component has no input artifact 'gone'",
            ],
        ),
        case(
            "/root/dag/tasks/use/inputs/parameters/text",
            json!({"taskFinalStatus": {"producerTask": "gone"}}),
            &["root.dag.tasks.use.inputs.parameters.text: there is no task 'gone' in this group"],
        ),
        case(
            "/root/dag/tasks/use/inputs/parameters/text",
            json!({}),
            &["root.dag.tasks.use.inputs.parameters.text: the input has no value"],
        ),
    ]);
}

#[test]
fn inputs_must_fit_their_component() {
    run(vec![
        case(
            "/root/dag/tasks/make/inputs",
            Value::Null,
            &[
                "root.dag.tasks.make.inputs.parameters.rows: is required by component 'comp-make' and has no value",
            ],
        ),
        case(
            "/root/dag/tasks/use/inputs/artifacts",
            Value::Null,
            &[
                "root.dag.tasks.use.inputs.artifacts.data: is required by component 'comp-use' and has no value",
            ],
        ),
        case(
            "/root/dag/tasks/make/inputs/parameters/extra",
            json!({"runtimeValue": {"constant": 1}}),
            &[
                "root.dag.tasks.make.inputs.parameters.extra: component 'comp-make' has no input parameter 'extra'",
            ],
        ),
        case(
            "/root/dag/tasks/make/inputs/parameters/cpu_limit",
            json!({"runtimeValue": {"constant": "1"}}),
            &[],
        ),
        case(
            "/root/dag/tasks/make/inputs/artifacts",
            json!({"extra": {"taskOutputArtifact": {"producerTask": "get", "outputArtifactKey": "artifact"}}}),
            &[
                "root.dag.tasks.make.inputs.artifacts.extra: component 'comp-make' has no input artifact 'extra'",
            ],
        ),
        case(
            "/root/dag/tasks/make/inputs/parameters/rows/runtimeValue/constant",
            json!("three"),
            &["root.dag.tasks.make.inputs.parameters.rows: expected NUMBER_INTEGER, got string"],
        ),
        case(
            "/root/dag/tasks/make/inputs/parameters/rows/runtimeValue/constant",
            json!(2.5),
            &["root.dag.tasks.make.inputs.parameters.rows: expected NUMBER_INTEGER, got 2.5"],
        ),
        case(
            "/root/dag/tasks/make/inputs/parameters/rows/runtimeValue",
            json!({"constantValue": {"intValue": "3"}}),
            &[],
        ),
        case(
            "/root/dag/tasks/use/inputs/parameters/flag",
            json!({"taskOutputParameter": {"producerTask": "make", "outputParameterKey": "flags"}}),
            &[
                "root.dag.tasks.use.inputs.parameters.flag: expected BOOLEAN, 'flags' of task 'make' is LIST",
            ],
        ),
        case(
            "/root/dag/tasks/use/inputs/parameters/flag",
            json!({"taskOutputParameter": {"producerTask": "make", "outputParameterKey": "flags"}, "parameterExpressionSelector": "parseJson(string_value)[0]"}),
            &[],
        ),
        case(
            "/root/dag/tasks/use/inputs/parameters/text",
            json!({"taskOutputParameter": {"producerTask": "make", "outputParameterKey": "flags"}}),
            &[],
        ),
        case(
            "/root/dag/tasks/use/inputs/parameters/mode",
            json!({"runtimeValue": {"constant": "medium"}}),
            &["root.dag.tasks.use.inputs.parameters.mode: medium is not one of: fast, slow"],
        ),
        case(
            "/root/dag/tasks/use/inputs/parameters/pipelinechannel--make-count",
            Value::Null,
            &[
                "root.dag.tasks.use.inputs.parameters.text: the constant names the input parameter 'pipelinechannel--make-count', which the task does not have",
            ],
        ),
        case(
            "/components/comp-use/inputDefinitions/artifacts/data/isArtifactList",
            json!(true),
            &[
                "root.dag.tasks.use.inputs.artifacts.data: expected a list of artifacts, got one artifact",
            ],
        ),
        case(
            "/components/comp-make/outputDefinitions/artifacts/data/isArtifactList",
            json!(true),
            &[
                "root.dag.tasks.use.inputs.artifacts.data: expected one artifact, got a list of artifacts",
                "components.comp-group.dag.outputs.artifacts.all: 'data' of task 'inner' is a list of artifacts, the declared output is one artifact",
            ],
        ),
    ]);
}

#[test]
fn definitions_are_checked() {
    run(vec![
        case(
            "/components/comp-use/inputDefinitions/parameters/flag/defaultValue",
            json!("yes"),
            &[
                "components.comp-use.inputDefinitions.parameters.flag.defaultValue: expected BOOLEAN, got string",
            ],
        ),
        case(
            "/components/comp-use/inputDefinitions/parameters/mode/defaultValue",
            json!("medium"),
            &[
                "components.comp-use.inputDefinitions.parameters.mode.defaultValue: medium is not one of: fast, slow",
            ],
        ),
        case(
            "/components/comp-use/inputDefinitions/parameters/flag/literals",
            json!([true, "x"]),
            &[
                "components.comp-use.inputDefinitions.parameters.flag.literals[1]: expected BOOLEAN, got string",
            ],
        ),
        case(
            "/components/comp-use/inputDefinitions/parameters/flag",
            json!({"isOptional": true}),
            &[
                "components.comp-use.inputDefinitions.parameters.flag.parameterType: the type is missing or not known",
            ],
        ),
        case(
            "/components/comp-make/inputDefinitions/parameters/rows",
            json!({"type": "INT"}),
            &[],
        ),
        case(
            "/components/comp-use/taskConfigPassthroughs",
            json!([{"field": "ENV"}]),
            &[
                "components.comp-use.taskConfigPassthroughs: no input of type TASK_CONFIG takes what is passed through",
            ],
        ),
        case(
            "/components/comp-use/singlePlatformSpecs",
            json!([{"platform": "kubernetes"}]),
            &[
                "components.comp-use.singlePlatformSpecs: platform settings of a component are not read; give them in the platform specification",
            ],
        ),
    ]);
}
