//! What is not valid: one clear error each, nothing left behind, and the service goes on.

use api_kfp::v2beta1 as kfp;
use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::support::{Server, importer, inline, object, program, servers};

/// The fields that a status names, in order.
fn fields(status: &Status) -> Vec<String> {
    let details = status.get_error_details();
    let bad = details
        .bad_request()
        .map(|bad| bad.field_violations.clone());
    bad.unwrap_or_default()
        .into_iter()
        .map(|one| one.field)
        .collect()
}

fn change(mut spec: Value, pointer: &str, value: Value) -> Value {
    *spec.pointer_mut(pointer).unwrap() = value;
    spec
}

async fn nothing_is_left(server: &Server) {
    let runs = server
        .runs()
        .list_runs(kfp::ListRunsRequest::default())
        .await
        .unwrap();
    assert_eq!(runs.into_inner().total_size, 0);
    let pipelines = server
        .pipelines()
        .list_pipelines(kfp::ListPipelinesRequest::default())
        .await;
    assert_eq!(pipelines.unwrap().into_inner().total_size, 0);
}

#[tokio::test]
async fn every_fault_of_a_run_is_reported_at_once() {
    for server in servers().await {
        let mut run = inline(
            " ",
            &program(),
            &json!({"text": "x", "rows": "many", "nope": 1, "items": 3}),
        );
        run.description = "a\0".to_owned();
        run.service_account = "x".repeat(3000);
        run.runtime_config.as_mut().unwrap().pipeline_root = "gs://bucket/x".to_owned();
        let refused = server.run(run).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        let mut found = fields(&refused);
        found.sort();
        assert_eq!(
            found,
            [
                "run.description",
                "run.display_name",
                "run.runtime_config.parameters.items",
                "run.runtime_config.parameters.nope",
                "run.runtime_config.parameters.rows",
                "run.runtime_config.pipeline_root",
                "run.service_account",
            ]
        );
        assert!(
            refused.message().contains("rows: expected NUMBER_INTEGER"),
            "{}",
            refused.message()
        );
        nothing_is_left(&server).await;
    }
}

#[tokio::test]
async fn specifications_are_checked_before_anything_is_stored() {
    for server in servers().await {
        let task = "/root/dag/tasks/echo";
        let table = [
            (json!({}), "neither pipelineInfo nor root"),
            (
                json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow"}),
                "spec.entrypoint",
            ),
            (change(program(), "/schemaVersion", json!("2.0.0")), "2.1.0"),
            (
                change(
                    program(),
                    &format!("{task}/componentRef/name"),
                    json!("comp-none"),
                ),
                "comp-none",
            ),
            (
                change(
                    program(),
                    task,
                    json!({
                        "componentRef": {"name": "comp-echo"}, "taskInfo": {"name": "echo"}, "dependentTasks": ["echo"],
                    }),
                ),
                "echo",
            ),
            (
                change(
                    program(),
                    task,
                    json!({"componentRef": {"name": "comp-echo"}, "nope": 1}),
                ),
                "nope",
            ),
        ];
        for (spec, expected) in table {
            let refused = server
                .run(inline("r", &spec, &json!({"rows": 1})))
                .await
                .unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument, "{spec}");
            assert!(
                refused.message().contains(expected),
                "{expected}: {}",
                refused.message()
            );
            assert!(
                fields(&refused)[0].starts_with("run.pipeline_spec"),
                "{refused:?}"
            );
            let request = kfp::CreatePipelineAndVersionRequest {
                pipeline: Some(kfp::Pipeline {
                    name: "p".to_owned(),
                    ..Default::default()
                }),
                pipeline_version: Some(kfp::PipelineVersion {
                    pipeline_spec: Some(object(&spec)),
                    ..Default::default()
                }),
            };
            let refused = server
                .pipelines()
                .create_pipeline_and_version(request)
                .await
                .unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument);
            assert!(
                fields(&refused)[0].starts_with("pipeline_version.pipeline_spec"),
                "{refused:?}"
            );
        }
        nothing_is_left(&server).await;
    }
}

#[tokio::test]
async fn what_cannot_be_executed_is_refused_by_task_and_field() {
    let [server, _] = servers().await;
    let defect = include_bytes!(
        "../../../../libs/pipeline-spec/tests/fixtures/broken_loop_in_exit_handler.yaml"
    );
    let spec = pipeline_spec::parse(defect).unwrap().to_value();
    let refused = server
        .run(inline("r", &spec, &json!({})))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let found = fields(&refused);
    let task = "run.pipeline_spec.root.dag.tasks.exit-handler-1.inputs.parameters.";
    assert_eq!(found.len(), 2);
    assert!(
        found.iter().all(|field| field.starts_with(task)),
        "{found:?}"
    );
    nothing_is_left(&server).await;
}

#[tokio::test]
async fn things_that_do_not_exist_are_named() {
    for server in servers().await {
        let missing = "00000000-0000-4000-8000-000000000000";
        for id in [missing, "no-uuid", "a\0b"] {
            let get = server.get(id).await.unwrap_err();
            assert_eq!(get.code(), Code::NotFound, "{id}");
            let pipeline = kfp::GetPipelineRequest {
                pipeline_id: id.to_owned(),
            };
            let pipeline = server.pipelines().get_pipeline(pipeline).await.unwrap_err();
            assert_eq!(pipeline.code(), Code::NotFound);
            let run = kfp::Run {
                experiment_id: id.to_owned(),
                ..inline("r", &importer(), &json!({}))
            };
            let run = server.run(run).await.unwrap_err();
            assert_eq!(run.code(), Code::NotFound);
            assert!(
                run.message().starts_with("experiment "),
                "{}",
                run.message()
            );
            let name = kfp::GetPipelineByNameRequest {
                name: id.to_owned(),
                ..Default::default()
            };
            let name = server
                .pipelines()
                .get_pipeline_by_name(name)
                .await
                .unwrap_err();
            assert_eq!(name.code(), Code::NotFound);
        }
        assert_eq!(
            server.get("").await.unwrap_err().code(),
            Code::InvalidArgument
        );
        nothing_is_left(&server).await;
    }
}

#[tokio::test]
async fn requests_without_their_parts_are_refused() {
    let [server, _] = servers().await;
    let run = server
        .runs()
        .create_run(kfp::CreateRunRequest::default())
        .await
        .unwrap_err();
    assert_eq!(
        fields(&run),
        ["run", "run.display_name", "run.pipeline_spec"]
    );
    let experiment = server
        .experiments()
        .create_experiment(kfp::CreateExperimentRequest::default())
        .await;
    assert_eq!(fields(&experiment.unwrap_err()), ["experiment"]);
    let pipeline = server
        .pipelines()
        .create_pipeline(kfp::CreatePipelineRequest::default())
        .await;
    assert_eq!(
        fields(&pipeline.unwrap_err()),
        ["pipeline", "pipeline.name"]
    );
    let both = kfp::CreatePipelineAndVersionRequest::default();
    let both = server
        .pipelines()
        .create_pipeline_and_version(both)
        .await
        .unwrap_err();
    assert_eq!(
        fields(&both),
        [
            "pipeline",
            "pipeline.name",
            "pipeline_version",
            "pipeline_version.name",
            "pipeline_version.pipeline_spec",
        ]
    );
    let version = kfp::PipelineVersion {
        package_url: Some(kfp::Url {
            pipeline_url: "https://example.org/p.yaml".to_owned(),
        }),
        ..Default::default()
    };
    let pipeline = kfp::Pipeline {
        name: "p".repeat(129),
        tags: (0..21)
            .map(|number| (format!("k{number}"), String::new()))
            .collect(),
        ..Default::default()
    };
    let both = kfp::CreatePipelineAndVersionRequest {
        pipeline: Some(pipeline),
        pipeline_version: Some(version),
    };
    let both = server
        .pipelines()
        .create_pipeline_and_version(both)
        .await
        .unwrap_err();
    assert_eq!(
        fields(&both),
        [
            "pipeline.name",
            "pipeline.display_name",
            "pipeline.tags",
            "pipeline_version.package_url"
        ]
    );
    assert!(
        both.message().contains("/pipelines/upload"),
        "{}",
        both.message()
    );
}

#[tokio::test]
async fn lists_refuse_what_they_do_not_understand() {
    for server in servers().await {
        let list = async |size, token: &str, sort_by: &str, filter: &str| {
            let request = kfp::ListRunsRequest {
                page_size: size,
                page_token: token.to_owned(),
                sort_by: sort_by.to_owned(),
                filter: filter.to_owned(),
                ..Default::default()
            };
            server.runs().list_runs(request).await.unwrap_err()
        };
        let unknown = r#"{"predicates":[{"operation":1,"key":"nope","string_value":"x"}]}"#;
        let all = list(-1, "", "nope", unknown).await;
        assert_eq!(fields(&all), ["page_size", "sort_by", "filter"]);
        assert!(
            all.message()
                .contains("no support for filtering on unrecognized field \"nope\""),
            "{all:?}"
        );
        for token in ["x", "AAAA", "eyJhIjoxfQ"] {
            let foreign = list(0, token, "", "").await;
            assert_eq!(foreign.code(), Code::InvalidArgument);
            let details = foreign.get_error_details();
            assert_eq!(details.error_info().unwrap().reason, "PAGE_TOKEN_INVALID");
        }
    }
}

#[tokio::test]
async fn nested_values_and_large_texts_are_survived() {
    let [server, _] = servers().await;
    let mut deep = json!(1);
    for _ in 0..200 {
        deep = json!([deep]);
    }
    let refused = server
        .run(inline("r", &program(), &json!({"rows": 1, "items": deep})))
        .await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(
        refused.message().contains("recursion limit"),
        "{}",
        refused.message()
    );
    let large = json!({"rows": 1, "text": "x".repeat(1 << 20)});
    server.run(inline("r", &program(), &large)).await.unwrap();
}

/// Two loops inside each other that come to 160,000 tasks.
fn too_many() -> Value {
    let items: Vec<i32> = (0..400).collect();
    let items = serde_json::to_string(&items).unwrap();
    let repeated = |component: &str| {
        json!({
            "componentRef": {"name": component},
            "taskInfo": {"name": "each"},
            "parameterIterator": {"itemInput": "item", "items": {"raw": items}},
        })
    };
    let inputs = json!({"parameters": {"item": {"parameterType": "NUMBER_INTEGER"}}});
    json!({
        "pipelineInfo": {"name": "many"},
        "schemaVersion": "2.1.0",
        "sdkVersion": "kfp-2.17.0",
        "components": {
            "comp-body": {"inputDefinitions": inputs, "dag": {"tasks": {"each": repeated("comp-echo")}}},
            "comp-echo": {"inputDefinitions": inputs, "executorLabel": "exec-echo"},
        },
        "deploymentSpec": {"executors": {"exec-echo": {"container": {"image": "python:3.11", "command": ["echo"]}}}},
        "root": {"dag": {"tasks": {"each": repeated("comp-body")}}},
    })
}

#[tokio::test]
async fn a_pipeline_that_no_run_could_hold_is_refused_at_upload() {
    for server in servers().await {
        let refused = server.run(inline("many", &too_many(), &json!({}))).await;
        let refused = refused.unwrap_err();
        assert_eq!(fields(&refused), ["run.pipeline_spec"], "{refused}");
        assert!(
            refused.message().contains("more than 100000 tasks"),
            "{refused}"
        );
        let request = kfp::CreatePipelineAndVersionRequest {
            pipeline: Some(kfp::Pipeline {
                name: "many".to_owned(),
                ..Default::default()
            }),
            pipeline_version: Some(kfp::PipelineVersion {
                pipeline_spec: Some(object(&too_many())),
                ..Default::default()
            }),
        };
        let created = server
            .pipelines()
            .create_pipeline_and_version(request)
            .await;
        let refused = created.unwrap_err();
        assert!(
            refused.message().contains("more than 100000 tasks"),
            "{refused}"
        );
        nothing_is_left(&server).await;
    }
}
