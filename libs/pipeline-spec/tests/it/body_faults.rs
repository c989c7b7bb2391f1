//! Each fault of groups, commands, executors and policies.

use serde_json::{Value, json};

use crate::faults::{case, faults_of, run, set, valid};

#[test]
fn outputs_of_groups_must_resolve() {
    run(vec![
        case(
            "/components/comp-group/dag/outputs/parameters/total/valueFromParameter/outputParameterKey",
            json!("gone"),
            &[
                "components.comp-group.dag.outputs.parameters.total: task 'inner' has no output parameter 'gone'",
            ],
        ),
        case(
            "/components/comp-group/dag/outputs/parameters/total/valueFromParameter/outputParameterKey",
            json!("flags"),
            &[
                "components.comp-group.dag.outputs.parameters.total: expected NUMBER_INTEGER, 'flags' of task 'inner' is LIST",
            ],
        ),
        case(
            "/components/comp-group/dag/outputs/parameters",
            Value::Null,
            &[
                "components.comp-group.dag.outputs.parameters.total: the output is declared, but no task gives it",
            ],
        ),
        case(
            "/components/comp-group/dag/outputs/parameters/total",
            json!({"valueFromOneof": {}}),
            &["components.comp-group.dag.outputs.parameters.total: no task gives the output"],
        ),
        case(
            "/components/comp-group/outputDefinitions/parameters",
            json!({}),
            &[
                "components.comp-group.dag.outputs.parameters.total: the output is not declared in outputDefinitions",
            ],
        ),
        case(
            "/components/comp-group/dag/outputs/artifacts/all/artifactSelectors/0/producerSubtask",
            json!("gone"),
            &[
                "components.comp-group.dag.outputs.artifacts.all: there is no task 'gone' in this group",
            ],
        ),
        case(
            "/components/comp-group/outputDefinitions/artifacts",
            json!({}),
            &[
                "components.comp-group.dag.outputs.artifacts.all: the output is not declared in outputDefinitions",
            ],
        ),
    ]);
}

#[test]
fn circles_are_shown() {
    run(vec![
        case(
            "/root/dag/tasks/make/dependentTasks",
            json!(["group"]),
            &["root.dag.tasks.group: tasks wait for each other in a circle: group → make → group"],
        ),
        case(
            "/root/dag/tasks/get/dependentTasks",
            json!(["get"]),
            &["root.dag.tasks.get: tasks wait for each other in a circle: get → get"],
        ),
        case(
            "/components/comp-group/dag/tasks/inner/componentRef/name",
            json!("comp-group"),
            &[
                "components.comp-group.dag.tasks.inner.inputs.parameters.rows: component 'comp-group' has no input parameter 'rows'",
                "components.comp-group.dag.tasks.inner.inputs.parameters.n: is required by component 'comp-group' and has no value",
                "components.comp-group.dag.outputs.parameters.total: task 'inner' has no output parameter 'count'",
                "components.comp-group.dag.outputs.artifacts.all: task 'inner' has no output artifact 'data'",
                "components.comp-group: the component contains itself: comp-group → comp-group",
            ],
        ),
    ]);
}

#[test]
fn placeholders_must_name_what_is_declared() {
    let args = "/deploymentSpec/executors/exec-make/container/args/0";
    run(vec![
        case(
            args,
            json!("{{$.outputs.parameters['gone'].output_file}}"),
            &[
                "deploymentSpec.executors.exec-make.container.args[0]: the placeholder names the output parameter 'gone', which components.comp-make does not have",
            ],
        ),
        case(
            args,
            json!(
                "{\"IfPresent\": {\"InputName\": \"gone\", \"Then\": [\"{{$.inputs.artifacts['x'].uri}}\"]}}"
            ),
            &[
                "deploymentSpec.executors.exec-make.container.args[0]: the placeholder names the input artifact 'x', which components.comp-make does not have",
                "deploymentSpec.executors.exec-make.container.args[0]: the placeholder names the input 'gone', which components.comp-make does not have",
            ],
        ),
        case(
            args,
            json!("{\"Concat\": [\"a\""),
            &[
                "deploymentSpec.executors.exec-make.container.args[0]: the placeholder is not JSON: EOF while parsing a list at line 1 column 15",
            ],
        ),
        // Program text is not looked into.
        case(
            args,
            json!("print('x')\nprint(\"{{$.inputs.parameters['gone']}}\")"),
            &[],
        ),
        case(
            args,
            json!("{{$}} {{$.pipeline_job_name}} {{$.outputs.output_file}}"),
            &[],
        ),
        case(
            "/deploymentSpec/executors/exec-get/importer/artifactUri/runtimeParameter",
            json!("gone"),
            &[
                "deploymentSpec.executors.exec-get.importer.artifactUri: the placeholder names the input parameter 'gone', which components.comp-get does not have",
            ],
        ),
        case(
            "/deploymentSpec/executors/exec-get/importer/metadata",
            json!({"k": ["{{$.inputs.parameters['gone']}}"]}),
            &[
                "deploymentSpec.executors.exec-get.importer.metadata: the placeholder names the input parameter 'gone', which components.comp-get does not have",
            ],
        ),
    ]);
}

#[test]
fn executors_are_checked() {
    run(vec![
        case(
            "/deploymentSpec/executors/exec-use",
            json!({"resolver": {}}),
            &["deploymentSpec.executors.exec-use.resolver: resolvers are not executed"],
        ),
        case(
            "/deploymentSpec/executors/exec-use",
            json!({"customJob": {}}),
            &[
                "deploymentSpec.executors.exec-use.customJob: custom jobs of Vertex AI are not executed",
            ],
        ),
        case(
            "/deploymentSpec/executors/exec-use",
            json!({}),
            &["deploymentSpec.executors.exec-use: the executor is empty"],
        ),
        case(
            "/deploymentSpec/executors/exec-use/container/image",
            Value::Null,
            &["deploymentSpec.executors.exec-use.container.image: the container has no image"],
        ),
        case(
            "/deploymentSpec/executors/exec-use/container/env",
            json!([{"name": "A=B", "value": "x"}]),
            &[
                "deploymentSpec.executors.exec-use.container.env[0].name: 'A=B' is not a name of an environment variable",
            ],
        ),
        case(
            "/deploymentSpec/executors/exec-make/container/resources",
            json!({"resourceCpuLimit": "two", "resourceMemoryLimit": "{{$.inputs.parameters['pipelinechannel--m']}}", "cpuRequest": -1, "accelerator": {"resourceCount": "some"}}),
            &[
                "deploymentSpec.executors.exec-make.container.resources.resourceCpuLimit: 'two' is not a quantity such as 500m or 2Gi",
                "deploymentSpec.executors.exec-make.container.resources.resourceCpuRequest: -1 is not a quantity",
                "deploymentSpec.executors.exec-make.container.resources.accelerator.resourceCount: 'some' is not a count",
            ],
        ),
        case(
            "/deploymentSpec/executors/exec-get/importer/artifactUri",
            Value::Null,
            &[
                "deploymentSpec.executors.exec-get.importer.artifactUri: the URI is missing or not text",
            ],
        ),
        case(
            "/components/comp-get/outputDefinitions",
            Value::Null,
            &[
                "components.comp-get.outputDefinitions.artifacts: an importer has one output artifact",
            ],
        ),
        case(
            "/root/dag/tasks/get/triggerPolicy",
            json!({"condition": "true"}),
            &[
                "root.dag.tasks.get.triggerPolicy.condition: an importer cannot have a condition; put it into a condition group",
            ],
        ),
    ]);
}

#[test]
fn policies_and_loops_are_checked() {
    run(vec![
        case(
            "/root/dag/tasks/use/retryPolicy",
            json!({"maxRetryCount": -1, "backoffFactor": -2, "backoffDuration": "-1s"}),
            &[
                "root.dag.tasks.use.retryPolicy.maxRetryCount: must be between 0 and 10000, not -1",
                "root.dag.tasks.use.retryPolicy.backoffFactor: must be a positive number, not -2",
                "root.dag.tasks.use.retryPolicy.backoffDuration: the duration is negative",
            ],
        ),
        case(
            "/root/dag/tasks/use/iteratorPolicy",
            json!({"parallelismLimit": 2}),
            &["root.dag.tasks.use.iteratorPolicy: the task is not a loop"],
        ),
        case(
            "/root/dag/tasks/group/parameterIterator",
            json!({"items": {"raw": "{\"a\": 1}"}, "itemInput": "m"}),
            &[
                "root.dag.tasks.group.parameterIterator.items.raw: the items are not a JSON list",
                "root.dag.tasks.group.parameterIterator.itemInput: component 'comp-group' has no input 'm'",
            ],
        ),
        case(
            "/root/dag/tasks/group/parameterIterator",
            json!({"items": {"raw": "[1,"}, "itemInput": "n"}),
            &[
                "root.dag.tasks.group.parameterIterator.items.raw: the items are not JSON: EOF while parsing a value at line 1 column 3",
            ],
        ),
        case(
            "/root/dag/tasks/group/parameterIterator",
            json!({"items": {"inputParameter": "gone"}, "itemInput": "n"}),
            &[
                "root.dag.tasks.group.parameterIterator.items.inputParameter: the task has no input parameter 'gone'",
            ],
        ),
        case(
            "/root/dag/tasks/group/parameterIterator",
            json!({"items": {"inputParameter": "n"}, "itemInput": "n"}),
            &["root.dag.tasks.group.parameterIterator.items.inputParameter: 'n' is not a list"],
        ),
        case(
            "/root/dag/tasks/group/parameterIterator",
            json!({"itemInput": "n"}),
            &["root.dag.tasks.group.parameterIterator.items: the loop has no items"],
        ),
        case(
            "/root/dag/tasks/use/artifactIterator",
            json!({"items": {"inputArtifact": "data"}, "itemInput": "data"}),
            &[
                "root.dag.tasks.use.artifactIterator.items.inputArtifact: 'data' is not a list of artifacts",
            ],
        ),
    ]);
}

#[test]
fn platforms_must_belong_to_the_pipeline() {
    let platform = json!({"platforms": {
        "kubernetes": {"deploymentSpec": {"executors": {"exec-gone": {"imagePullPolicy": "Always"}}}},
        "vertex": {}
    }});
    let document = json!({"pipeline_spec": valid(), "platform_spec": platform});
    assert_eq!(
        faults_of(document),
        [
            "platforms.vertex: this platform is not known; only kubernetes is",
            "platforms.kubernetes.deploymentSpec.executors.exec-gone: there is no such executor in deploymentSpec.executors",
        ]
    );
}

#[test]
fn pipelines_that_unfold_without_end_are_refused() {
    let mut document = valid();
    for level in 0..70 {
        let inner = match level {
            0 => "comp-get".to_owned(),
            level => format!("comp-level-{}", level - 1),
        };
        let task = |name: &str| {
            json!({
                "componentRef": {"name": name},
                "inputs": {"parameters": {"uri": {"componentInputParameter": "uri"}}}
            })
        };
        let component = json!({
            "inputDefinitions": {"parameters": {"uri": {"parameterType": "STRING"}}},
            "dag": {"tasks": {"one": task(&inner), "two": task(&inner)}}
        });
        set(
            &mut document,
            &format!("/components/comp-level-{level}"),
            component,
        );
    }
    set(
        &mut document,
        "/root/dag/tasks/get/componentRef/name",
        json!("comp-level-69"),
    );
    assert_eq!(
        faults_of(document),
        [
            "root.dag: groups are nested 71 levels deep; 64 are allowed",
            "root.dag: the pipeline unfolds into 18446744073709551615 tasks; 100000 are allowed",
        ]
    );
}
