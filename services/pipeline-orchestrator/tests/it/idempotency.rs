//! Calls that are repeated with the same key.

use api_kfp::v2beta1 as kfp;
use serde_json::json;
use tonic::{Code, Request};

use crate::support::{importer, inline, object, program, servers};

fn keyed<T>(message: T, key: &str) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("idempotency-key", key.parse().unwrap());
    request
}

#[tokio::test]
async fn a_repeated_call_is_done_once_and_answered_the_same() {
    for server in servers().await {
        let given = json!({"rows": 1, "text": "a", "items": [1, 2]});
        let create = || kfp::CreateRunRequest {
            run: Some(inline("r", &program(), &given)),
            ..Default::default()
        };
        let first = server
            .runs()
            .create_run(keyed(create(), "k1"))
            .await
            .unwrap()
            .into_inner();
        for _ in 0..3 {
            // Maps are encoded in another order each time.
            let again = server
                .runs()
                .create_run(keyed(create(), "k1"))
                .await
                .unwrap()
                .into_inner();
            assert_eq!(again, first);
        }
        let other = server
            .runs()
            .create_run(keyed(create(), "k2"))
            .await
            .unwrap()
            .into_inner();
        assert_ne!(other.run_id, first.run_id);
        let all = server
            .runs()
            .list_runs(kfp::ListRunsRequest::default())
            .await
            .unwrap();
        assert_eq!(all.into_inner().total_size, 2);
        let delete = || kfp::DeleteRunRequest {
            run_id: first.run_id.clone(),
            ..Default::default()
        };
        server
            .runs()
            .delete_run(keyed(delete(), "d"))
            .await
            .unwrap();
        server
            .runs()
            .delete_run(keyed(delete(), "d"))
            .await
            .unwrap();
        assert_eq!(
            server.runs().delete_run(delete()).await.unwrap_err().code(),
            Code::NotFound
        );
    }
}

#[tokio::test]
async fn a_key_of_another_request_is_refused() {
    for server in servers().await {
        let create = |name: &str| kfp::CreateExperimentRequest {
            experiment: Some(kfp::Experiment {
                display_name: name.to_owned(),
                ..Default::default()
            }),
        };
        server
            .experiments()
            .create_experiment(keyed(create("a"), "k"))
            .await
            .unwrap();
        let refused = server
            .experiments()
            .create_experiment(keyed(create("b"), "k"))
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        // Another method has keys of its own.
        let pipeline = kfp::CreatePipelineAndVersionRequest {
            pipeline: Some(kfp::Pipeline {
                name: "p".to_owned(),
                tags: (0..9)
                    .map(|number| (format!("k{number}"), "v".to_owned()))
                    .collect(),
                ..Default::default()
            }),
            pipeline_version: Some(kfp::PipelineVersion {
                pipeline_spec: Some(object(&importer())),
                ..Default::default()
            }),
        };
        let first = server
            .pipelines()
            .create_pipeline_and_version(keyed(pipeline.clone(), "k"))
            .await;
        let again = server
            .pipelines()
            .create_pipeline_and_version(keyed(pipeline.clone(), "k"))
            .await;
        assert_eq!(first.unwrap().into_inner(), again.unwrap().into_inner());
        let without = server
            .pipelines()
            .create_pipeline_and_version(pipeline)
            .await
            .unwrap_err();
        assert_eq!(without.code(), Code::AlreadyExists);
    }
}

#[tokio::test]
async fn a_failed_call_may_be_repeated_with_its_key() {
    let [server, _] = servers().await;
    let create = |experiment_id: String| kfp::CreateRunRequest {
        run: Some(kfp::Run {
            experiment_id,
            ..inline("r", &importer(), &json!({}))
        }),
        ..Default::default()
    };
    let missing = "00000000-0000-4000-8000-000000000000".to_owned();
    let refused = server
        .runs()
        .create_run(keyed(create(missing), "k"))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    server
        .runs()
        .create_run(keyed(create(String::new()), "k"))
        .await
        .unwrap();
    let unusable = keyed(create(String::new()), "two words");
    let refused = server.runs().create_run(unusable).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_repeated_call_is_answered_although_what_it_ran_is_gone() {
    for server in servers().await {
        let pipeline = server.pipeline("p").await;
        let list = kfp::ListPipelineVersionsRequest {
            pipeline_id: pipeline.clone(),
            ..Default::default()
        };
        let versions = server.pipelines().list_pipeline_versions(list).await;
        let version = versions.unwrap().into_inner().pipeline_versions.remove(0);
        let reference = kfp::PipelineVersionReference {
            pipeline_id: pipeline.clone(),
            pipeline_version_id: version.pipeline_version_id.clone(),
        };
        let create = || {
            let mut run = inline("r", &program(), &json!({"rows": 1}));
            let source = kfp::run::PipelineSource::PipelineVersionReference(reference.clone());
            run.pipeline_source = Some(source);
            let request = kfp::CreateRunRequest {
                run: Some(run),
                ..Default::default()
            };
            keyed(request, "k")
        };
        let first = server.runs().create_run(create()).await.unwrap();
        let delete = kfp::DeletePipelineVersionRequest {
            pipeline_id: pipeline,
            pipeline_version_id: version.pipeline_version_id,
        };
        let deleted = server.pipelines().delete_pipeline_version(delete).await;
        deleted.unwrap();
        let again = server.runs().create_run(create()).await.unwrap();
        assert_eq!(again.into_inner().run_id, first.into_inner().run_id);
    }
}

#[tokio::test]
async fn a_call_that_means_another_use_of_the_cache_is_another_one() {
    for server in servers().await {
        let create = |cache: Option<&str>| {
            let request = kfp::CreateRunRequest {
                run: Some(inline("r", &program(), &json!({"rows": 1}))),
                ..Default::default()
            };
            let mut request = keyed(request, "k");
            if let Some(cache) = cache {
                let cache = cache.parse().unwrap();
                request.metadata_mut().insert("flumina-cache", cache);
            }
            request
        };
        let first = server.runs().create_run(create(Some("off"))).await.unwrap();
        let again = server.runs().create_run(create(Some("off"))).await.unwrap();
        assert_eq!(again.into_inner().run_id, first.into_inner().run_id);
        for other in [None, Some("content")] {
            let refused = server.runs().create_run(create(other)).await.unwrap_err();
            assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        }
    }
}
