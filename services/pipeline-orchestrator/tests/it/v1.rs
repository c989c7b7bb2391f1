//! The contract of kfp 1.8.

use api_kfp1::v1beta1 as v1;
use rpc::Channel;
use serde_json::{Value, json};
use tonic::Code;
use v1::job_service_client::JobServiceClient;
use v1::pipeline_service_client::PipelineServiceClient;
use v1::report_run_metrics_response::report_run_metric_result::Status;
use v1::run_service_client::RunServiceClient;

use crate::support::{START, Server, seconds, servers};

fn runs(server: &Server) -> RunServiceClient<Channel> {
    RunServiceClient::new(server.switchboard.channel("api.RunService"))
}

/// Two programs, the second after the first.
fn workflow() -> Value {
    let program = |name: &str| {
        json!({
            "name": name,
            "container": {"image": "python:3.7", "command": ["echo", "{{inputs.parameters.p}}"]},
            "inputs": {"parameters": [{"name": "p"}]},
        })
    };
    let arguments = json!({"parameters": [{"name": "p", "value": "{{inputs.parameters.p}}"}]});
    json!({
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": {"generateName": "two-"},
        "spec": {
            "entrypoint": "two",
            "arguments": {"parameters": [{"name": "p", "value": "x"}]},
            "templates": [
                {"name": "two", "inputs": {"parameters": [{"name": "p"}]}, "dag": {"tasks": [
                    {"name": "a", "template": "a", "arguments": arguments},
                    {"name": "b", "template": "b", "arguments": arguments, "dependencies": ["a"]},
                ]}},
                program("a"),
                program("b"),
            ],
        },
    })
}

fn request(experiment: &str, manifest: &str, given: &[(&str, &str)]) -> v1::CreateRunRequest {
    let parameters = given.iter().map(|(name, value)| v1::Parameter {
        name: (*name).to_owned(),
        value: (*value).to_owned(),
    });
    let reference = v1::ResourceReference {
        key: Some(v1::ResourceKey {
            r#type: v1::ResourceType::Experiment.into(),
            id: experiment.to_owned(),
        }),
        ..Default::default()
    };
    v1::CreateRunRequest {
        run: Some(v1::Run {
            name: "my-run".to_owned(),
            pipeline_spec: Some(v1::PipelineSpec {
                workflow_manifest: manifest.to_owned(),
                parameters: parameters.collect(),
                ..Default::default()
            }),
            resource_references: vec![reference],
            ..Default::default()
        }),
    }
}

#[tokio::test]
async fn a_workflow_runs_and_both_contracts_see_it() {
    for server in servers().await {
        let experiment = server.experiment("mine").await;
        let manifest = workflow().to_string();
        let request = request(&experiment, &manifest, &[("p", "5")]);
        let created = runs(&server)
            .create_run_v1(request)
            .await
            .unwrap()
            .into_inner();
        let run = created.run.unwrap();
        assert_eq!(run.name, "my-run");
        assert_eq!(seconds(run.created_at), Some(START));
        let key = run.resource_references[0].key.clone().unwrap();
        assert_eq!(
            (key.r#type(), key.id),
            (v1::ResourceType::Experiment, experiment.clone())
        );

        let get = v1::GetRunRequest {
            run_id: run.id.clone(),
        };
        let read = runs(&server).get_run_v1(get).await.unwrap().into_inner();
        let shown = read.run.unwrap();
        let spec = shown.pipeline_spec.unwrap();
        let kept: Value = serde_json::from_str(&spec.workflow_manifest).unwrap();
        assert_eq!(kept, workflow());
        assert_eq!(spec.parameters[0].value, "5");
        let runtime = read.pipeline_runtime.unwrap();
        let manifest: Value = serde_json::from_str(&runtime.workflow_manifest).unwrap();
        let name = manifest["metadata"]["name"].as_str().unwrap();
        assert!(name.starts_with("two-"), "{name}");

        // The newer contract has the same run, with the workflow as its specification.
        let other = server.get(&run.id).await.unwrap();
        assert_eq!(other.display_name, "my-run");
        assert_eq!(other.experiment_id, experiment);

        let list = v1::ListRunsRequest {
            resource_reference_key: Some(v1::ResourceKey {
                r#type: v1::ResourceType::Experiment.into(),
                id: experiment,
            }),
            filter: r#"{"predicates":[{"op":1,"key":"name","stringValue":"my-run"}]}"#.to_owned(),
            ..Default::default()
        };
        let listed = runs(&server).list_runs_v1(list).await.unwrap().into_inner();
        assert_eq!((listed.total_size, &*listed.runs[0].id), (1, &*run.id));
    }
}

#[tokio::test]
async fn faults_of_a_workflow_are_named() {
    for server in servers().await {
        let experiment = server.experiment("mine").await;
        let mut bad = workflow();
        bad["spec"]["templates"][1]["sidecars"] = json!([{"name": "s"}]);
        for (manifest, given, words) in [
            (bad.to_string(), ("p", "1"), "sidecars"),
            ("{".to_owned(), ("p", "1"), "cannot be read"),
            (workflow().to_string(), ("q", "1"), "q"),
        ] {
            let request = request(&experiment, &manifest, &[given]);
            let refused = runs(&server).create_run_v1(request).await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument);
            let details = format!("{refused:?}");
            assert!(details.contains(words), "{words}: {details}");
        }
    }
}

#[tokio::test]
async fn of_a_metric_the_first_report_counts() {
    for server in servers().await {
        let experiment = server.experiment("mine").await;
        let request = request(&experiment, &workflow().to_string(), &[]);
        let run = runs(&server)
            .create_run_v1(request)
            .await
            .unwrap()
            .into_inner()
            .run
            .unwrap();
        let metric = |number| v1::RunMetric {
            name: "auc".to_owned(),
            node_id: "node".to_owned(),
            format: v1::run_metric::Format::Raw.into(),
            value: Some(v1::run_metric::Value::NumberValue(number)),
        };
        let report = v1::ReportRunMetricsRequest {
            run_id: run.id.clone(),
            metrics: vec![metric(0.5), metric(0.7)],
        };
        let answer = runs(&server)
            .report_run_metrics_v1(report.clone())
            .await
            .unwrap();
        let outcomes: Vec<Status> = answer
            .into_inner()
            .results
            .iter()
            .map(|one| one.status())
            .collect();
        assert_eq!(outcomes, [Status::Ok, Status::DuplicateReporting]);
        let get = v1::GetRunRequest { run_id: run.id };
        let read = runs(&server).get_run_v1(get).await.unwrap().into_inner();
        assert_eq!(read.run.unwrap().metrics, [metric(0.5)]);
        let unknown = v1::ReportRunMetricsRequest {
            run_id: "0b6a4bbd-9c25-4d34-a6c1-1d7ad7f9ea10".to_owned(),
            ..report
        };
        let refused = runs(&server)
            .report_run_metrics_v1(unknown)
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::NotFound);
    }
}

#[tokio::test]
async fn pipelines_show_their_newest_version() {
    for server in servers().await {
        let id = server.pipeline("p").await;
        let mut pipelines =
            PipelineServiceClient::new(server.switchboard.channel("api.PipelineService"));
        let get = v1::GetPipelineRequest { id: id.clone() };
        let pipeline = pipelines.get_pipeline_v1(get).await.unwrap().into_inner();
        let version = pipeline.default_version.unwrap();
        assert_eq!(pipeline.parameters, version.parameters);
        let list = v1::ListPipelineVersionsRequest {
            resource_key: Some(v1::ResourceKey {
                r#type: v1::ResourceType::Pipeline.into(),
                id: id.clone(),
            }),
            ..Default::default()
        };
        let listed = pipelines
            .list_pipeline_versions_v1(list)
            .await
            .unwrap()
            .into_inner();
        assert_eq!(listed.versions, std::slice::from_ref(&version));
        let choose = v1::UpdatePipelineDefaultVersionRequest {
            pipeline_id: id.clone(),
            version_id: version.id,
        };
        pipelines
            .update_pipeline_default_version_v1(choose)
            .await
            .unwrap();
        let delete = v1::DeletePipelineRequest { id };
        pipelines.delete_pipeline_v1(delete).await.unwrap();
    }
}

#[tokio::test]
async fn jobs_are_schedules_of_both_contracts() {
    for server in servers().await {
        let experiment = server.experiment("mine").await;
        let run = request(&experiment, &workflow().to_string(), &[("p", "7")])
            .run
            .unwrap();
        let cron = v1::trigger::Trigger::CronSchedule(v1::CronSchedule {
            cron: "0 0 3 * * *".to_owned(),
            ..Default::default()
        });
        let job = v1::Job {
            name: "nightly".to_owned(),
            pipeline_spec: run.pipeline_spec,
            resource_references: run.resource_references,
            max_concurrency: 2,
            enabled: true,
            trigger: Some(v1::Trigger {
                trigger: Some(cron.clone()),
            }),
            ..Default::default()
        };
        let mut jobs = JobServiceClient::new(server.switchboard.channel("api.JobService"));
        let create = v1::CreateJobRequest { job: Some(job) };
        let job = jobs.create_job(create).await.unwrap().into_inner();
        assert_eq!(
            (&*job.name, &*job.status, job.enabled),
            ("nightly", "Enabled", true)
        );
        assert_eq!(job.trigger.unwrap().trigger, Some(cron));
        let spec = job.pipeline_spec.unwrap();
        assert_eq!(spec.parameters[0].value, "7");
        assert!(spec.workflow_manifest.contains("Workflow"));

        let id = job.id;
        jobs.disable_job(v1::DisableJobRequest { id: id.clone() })
            .await
            .unwrap();
        let read = jobs
            .get_job(v1::GetJobRequest { id: id.clone() })
            .await
            .unwrap()
            .into_inner();
        assert_eq!(
            (&*read.status, read.mode()),
            ("Disabled", v1::job::Mode::Disabled)
        );
        jobs.enable_job(v1::EnableJobRequest { id: id.clone() })
            .await
            .unwrap();
        let listed = jobs
            .list_jobs(v1::ListJobsRequest::default())
            .await
            .unwrap()
            .into_inner();
        assert_eq!((listed.total_size, listed.jobs[0].enabled), (1, true));
        jobs.delete_job(v1::DeleteJobRequest { id: id.clone() })
            .await
            .unwrap();
        let gone = jobs.get_job(v1::GetJobRequest { id }).await.unwrap_err();
        assert_eq!(gone.code(), Code::NotFound);
    }
}
