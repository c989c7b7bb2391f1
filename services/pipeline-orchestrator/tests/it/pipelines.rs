//! Pipelines and versions.

use std::collections::HashMap;
use std::time::Duration;

use api_kfp::v2beta1 as kfp;
use kfp::run::PipelineSource;
use serde_json::json;
use tonic::{Code, Request};

use crate::support::{START, Server, importer, object, program, seconds, server, servers};

fn tags(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

async fn versions(server: &Server, pipeline_id: &str) -> Vec<kfp::PipelineVersion> {
    let request = kfp::ListPipelineVersionsRequest {
        pipeline_id: pipeline_id.to_owned(),
        sort_by: "created_at desc".to_owned(),
        ..Default::default()
    };
    let listed = server
        .pipelines()
        .list_pipeline_versions(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(listed.total_size as usize, listed.pipeline_versions.len());
    listed.pipeline_versions
}

#[tokio::test]
async fn an_upload_makes_a_pipeline_and_a_version_of_its_name() {
    for server in servers().await {
        let id = server.pipeline("train").await;
        let get = kfp::GetPipelineRequest {
            pipeline_id: id.clone(),
        };
        let pipeline = server
            .pipelines()
            .get_pipeline(get)
            .await
            .unwrap()
            .into_inner();
        assert_eq!(
            (pipeline.name.as_str(), pipeline.display_name.as_str()),
            ("train", "train")
        );
        assert_eq!(seconds(pipeline.created_at), Some(START));
        let by_name = kfp::GetPipelineByNameRequest {
            namespace: "kubeflow".to_owned(),
            name: "train".to_owned(),
        };
        let same = server
            .pipelines()
            .get_pipeline_by_name(by_name)
            .await
            .unwrap()
            .into_inner();
        assert_eq!(same, pipeline);
        let versions = versions(&server, &id).await;
        assert_eq!(versions.len(), 1);
        assert_eq!(versions[0].name, "train");
        assert_eq!(
            versions[0].pipeline_spec,
            Some(object(&program())),
            "as it was sent"
        );
    }
}

#[tokio::test]
async fn both_forms_of_a_specification_come_back_as_they_were_sent() {
    let server = server().await;
    let platform = json!({"platforms": {"kubernetes": {"deploymentSpec": {"executors": {
        "exec-echo": {"imagePullPolicy": "Always"},
    }}}}});
    let wrapper = json!({"pipeline_spec": program(), "platform_spec": platform});
    let pipeline = server.pipeline("p").await;
    let request = kfp::CreatePipelineVersionRequest {
        pipeline_id: pipeline.clone(),
        pipeline_version: Some(kfp::PipelineVersion {
            name: "wrapped".to_owned(),
            pipeline_spec: Some(object(&wrapper)),
            ..Default::default()
        }),
    };
    let version = server
        .pipelines()
        .create_pipeline_version(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(version.pipeline_spec, Some(object(&wrapper)));
}

#[tokio::test]
async fn the_latest_version_is_the_newest() {
    let server = server().await;
    let pipeline_id = server.pipeline("p").await;
    server.hand.advance(Duration::from_secs(5));
    let request = kfp::CreatePipelineVersionRequest {
        pipeline_id: pipeline_id.clone(),
        pipeline_version: Some(kfp::PipelineVersion {
            name: "second".to_owned(),
            pipeline_spec: Some(object(&importer())),
            ..Default::default()
        }),
    };
    let second = server
        .pipelines()
        .create_pipeline_version(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(versions(&server, &pipeline_id).await[0].name, "second");
    let reference = kfp::PipelineVersionReference {
        pipeline_id: pipeline_id.clone(),
        pipeline_version_id: String::new(),
    };
    let run = kfp::Run {
        display_name: "r".to_owned(),
        pipeline_source: Some(PipelineSource::PipelineVersionReference(reference)),
        ..Default::default()
    };
    let run = server.run(run).await.unwrap();
    let Some(PipelineSource::PipelineVersionReference(found)) = run.pipeline_source else {
        panic!("no reference: {run:?}");
    };
    assert_eq!(found.pipeline_id, pipeline_id);
    assert_eq!(found.pipeline_version_id, second.pipeline_version_id);
}

#[tokio::test]
async fn a_pipeline_with_versions_goes_only_with_cascade() {
    for server in servers().await {
        let pipeline_id = server.pipeline("p").await;
        let delete = |cascade| kfp::DeletePipelineRequest {
            pipeline_id: pipeline_id.clone(),
            cascade,
        };
        let refused = server
            .pipelines()
            .delete_pipeline(delete(false))
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(
            refused.message().contains("has versions"),
            "{}",
            refused.message()
        );
        let version = versions(&server, &pipeline_id).await.remove(0);
        let delete_version = kfp::DeletePipelineVersionRequest {
            pipeline_id: pipeline_id.clone(),
            pipeline_version_id: version.pipeline_version_id,
        };
        server
            .pipelines()
            .delete_pipeline_version(delete_version.clone())
            .await
            .unwrap();
        let gone = server
            .pipelines()
            .delete_pipeline_version(delete_version)
            .await
            .unwrap_err();
        assert_eq!(gone.code(), Code::NotFound);
        server
            .pipelines()
            .delete_pipeline(delete(false))
            .await
            .unwrap();
        let other = server.pipeline("p").await;
        let cascade = kfp::DeletePipelineRequest {
            pipeline_id: other.clone(),
            cascade: true,
        };
        server
            .pipelines()
            .delete_pipeline(cascade.clone())
            .await
            .unwrap();
        let gone = server
            .pipelines()
            .delete_pipeline(cascade)
            .await
            .unwrap_err();
        assert_eq!(gone.code(), Code::NotFound);
    }
}

#[tokio::test]
async fn names_and_tags_can_be_changed_and_tags_cleared() {
    for server in servers().await {
        let pipeline_id = server.pipeline("p").await;
        let update = |display_name: &str, tags| kfp::UpdatePipelineRequest {
            pipeline: Some(kfp::Pipeline {
                pipeline_id: pipeline_id.clone(),
                display_name: display_name.to_owned(),
                tags,
                ..Default::default()
            }),
        };
        let change = async |request| {
            server
                .pipelines()
                .update_pipeline(request)
                .await
                .unwrap()
                .into_inner()
        };
        let changed = change(Request::new(update("shown", tags(&[("team", "ml")])))).await;
        assert_eq!(
            (changed.name.as_str(), changed.display_name.as_str()),
            ("p", "shown")
        );
        assert_eq!(changed.tags, tags(&[("team", "ml")]));
        let kept = change(Request::new(update("", HashMap::new()))).await;
        assert_eq!(
            (kept.display_name.as_str(), kept.tags),
            ("shown", tags(&[("team", "ml")]))
        );
        let filter = r#"{"predicates":[{"operation":1,"key":"tags.team","stringValue":"ml"}]}"#;
        let list = async || {
            let request = kfp::ListPipelinesRequest {
                filter: filter.to_owned(),
                ..Default::default()
            };
            server
                .pipelines()
                .list_pipelines(request)
                .await
                .unwrap()
                .into_inner()
                .total_size
        };
        assert_eq!(list().await, 1);
        let mut clear = Request::new(update("", HashMap::new()));
        clear
            .metadata_mut()
            .insert("x-clear-tags", "true".parse().unwrap());
        assert_eq!(change(clear).await.tags, HashMap::new());
        assert_eq!(list().await, 0);

        let version = versions(&server, &pipeline_id).await.remove(0);
        let request = kfp::UpdatePipelineVersionRequest {
            pipeline_version: Some(kfp::PipelineVersion {
                pipeline_id: pipeline_id.clone(),
                pipeline_version_id: version.pipeline_version_id.clone(),
                display_name: "v".to_owned(),
                tags: tags(&[("a", "b")]),
                ..Default::default()
            }),
        };
        let changed = server
            .pipelines()
            .update_pipeline_version(request)
            .await
            .unwrap()
            .into_inner();
        assert_eq!(
            (changed.display_name.as_str(), changed.tags),
            ("v", tags(&[("a", "b")]))
        );
        assert_eq!(changed.name, version.name);
    }
}

#[tokio::test]
async fn what_is_not_executed_yet_may_be_stored_and_not_run() {
    let server = server().await;
    let platform = include_bytes!("../../../../libs/pipeline-spec/tests/fixtures/kubernetes.yaml");
    let mut spec = pipeline_spec::parse(platform).unwrap().to_value();
    let executor = "/platform_spec/platforms/kubernetes/deploymentSpec/executors/exec-echo";
    let settings = spec.pointer_mut(executor).unwrap();
    settings["initContainers"] = json!([{ "name": "first", "image": "alpine" }]);
    let request = kfp::CreatePipelineAndVersionRequest {
        pipeline: Some(kfp::Pipeline {
            name: "platform".to_owned(),
            ..Default::default()
        }),
        pipeline_version: Some(kfp::PipelineVersion {
            pipeline_spec: Some(object(&spec)),
            ..Default::default()
        }),
    };
    let stored = server
        .pipelines()
        .create_pipeline_and_version(request)
        .await
        .unwrap()
        .into_inner();
    let reference = kfp::PipelineVersionReference {
        pipeline_id: stored.pipeline_id,
        pipeline_version_id: String::new(),
    };
    let refused = server
        .run(kfp::Run {
            display_name: "r".to_owned(),
            pipeline_source: Some(PipelineSource::PipelineVersionReference(reference)),
            ..Default::default()
        })
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(
        refused
            .message()
            .contains("deploymentSpec.executors.exec-echo.initContainers"),
        "{}",
        refused.message()
    );
}
