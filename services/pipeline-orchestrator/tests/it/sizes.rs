//! Lists of what is large: pages end early, no item is lost, and no answer is more than a message may be.

use api_kfp::v2beta1 as kfp;
use api_kfp1::v1beta1 as v1;
use api_pipelines::v1 as own;
use kfp::recurring_run::Mode;
use prost::Message;
use serde_json::{Value, json};
use tonic::Code;
use v1::pipeline_service_client::PipelineServiceClient;

use crate::support::{Server, inline, object, program, server, servers};

/// Two of these are a page, three are not.
const LARGE: usize = 5 << 18;
const COUNT: usize = 5;

/// A pipeline that says much, and of each number something else.
fn large(number: usize) -> Value {
    let mut spec = program();
    spec["pipelineInfo"]["description"] = json!(format!("{number}{}", "x".repeat(LARGE)));
    spec
}

/// What a list answers: names, the size of the whole list, the next page.
type Answer = (Vec<String>, i32, String);

/// Reads a list to its end.
async fn whole(what: &str, expected: usize, mut page: impl AsyncFnMut(String) -> (Answer, usize)) {
    let (mut names, mut pages, mut token) = (Vec::new(), 0, String::new());
    loop {
        let ((found, total, next), bytes) = page(token).await;
        assert!(bytes < 4 << 20, "{what}: a page of {bytes} bytes");
        assert!(!found.is_empty() && total as usize == COUNT, "{what}");
        names.extend(found);
        pages += 1;
        token = next;
        if token.is_empty() {
            break;
        }
    }
    let all: Vec<String> = (0..COUNT).map(|number| format!("n{number}")).collect();
    assert_eq!((names, pages), (all, expected), "{what}");
}

impl Server {
    async fn large_versions(&self) -> String {
        let pipeline_id = self.pipeline("p").await;
        let first = kfp::ListPipelineVersionsRequest {
            pipeline_id: pipeline_id.clone(),
            ..Default::default()
        };
        let first = self.pipelines().list_pipeline_versions(first).await;
        let first = first.unwrap().into_inner().pipeline_versions.remove(0);
        let delete = kfp::DeletePipelineVersionRequest {
            pipeline_id: pipeline_id.clone(),
            pipeline_version_id: first.pipeline_version_id,
        };
        self.pipelines()
            .delete_pipeline_version(delete)
            .await
            .unwrap();
        for number in 0..COUNT {
            let request = kfp::CreatePipelineVersionRequest {
                pipeline_id: pipeline_id.clone(),
                pipeline_version: Some(kfp::PipelineVersion {
                    pipeline_id: pipeline_id.clone(),
                    name: format!("n{number}"),
                    pipeline_spec: Some(object(&large(number))),
                    ..Default::default()
                }),
            };
            self.pipelines()
                .create_pipeline_version(request)
                .await
                .unwrap();
        }
        pipeline_id
    }
}

#[tokio::test]
async fn pages_of_large_versions_end_early() {
    for server in servers().await {
        let pipeline_id = server.large_versions().await;
        whole("versions", 3, async |page_token| {
            let request = kfp::ListPipelineVersionsRequest {
                pipeline_id: pipeline_id.clone(),
                page_token,
                page_size: 200,
                sort_by: "name".to_owned(),
                ..Default::default()
            };
            let answer = server.pipelines().list_pipeline_versions(request).await;
            let answer = answer.unwrap().into_inner();
            let bytes = answer.encoded_len();
            let names = answer.pipeline_versions.into_iter().map(|one| one.name);
            let found = (names.collect(), answer.total_size, answer.next_page_token);
            (found, bytes)
        })
        .await;
    }
}

#[tokio::test]
async fn pages_of_large_runs_and_schedules_end_early() {
    for server in servers().await {
        for number in 0..COUNT {
            let name = format!("n{number}");
            let run = inline(&name, &large(number), &json!({"rows": 1}));
            server.run(run).await.unwrap();
            let recurring = kfp::RecurringRun {
                display_name: name,
                mode: Mode::Disable.into(),
                max_concurrency: 1,
                runtime_config: Some(kfp::RuntimeConfig {
                    parameters: object(&json!({"rows": 1})).fields.into_iter().collect(),
                    ..Default::default()
                }),
                trigger: Some(kfp::Trigger {
                    trigger: Some(kfp::trigger::Trigger::PeriodicSchedule(
                        kfp::PeriodicSchedule {
                            interval_second: 60,
                            ..Default::default()
                        },
                    )),
                }),
                pipeline_source: Some(kfp::recurring_run::PipelineSource::PipelineSpec(object(
                    &large(number),
                ))),
                ..Default::default()
            };
            let request = kfp::CreateRecurringRunRequest {
                recurring_run: Some(recurring),
            };
            server
                .recurring()
                .create_recurring_run(request)
                .await
                .unwrap();
        }
        whole("runs", 3, async |page_token| {
            let request = kfp::ListRunsRequest {
                page_token,
                page_size: 200,
                sort_by: "name".to_owned(),
                ..Default::default()
            };
            let answer = server.runs().list_runs(request).await.unwrap().into_inner();
            let bytes = answer.encoded_len();
            let names = answer.runs.into_iter().map(|run| run.display_name);
            let found = (names.collect(), answer.total_size, answer.next_page_token);
            (found, bytes)
        })
        .await;
        whole("recurring runs", 3, async |page_token| {
            let request = kfp::ListRecurringRunsRequest {
                page_token,
                page_size: 200,
                sort_by: "name".to_owned(),
                ..Default::default()
            };
            let answer = server.recurring().list_recurring_runs(request).await;
            let answer = answer.unwrap().into_inner();
            let bytes = answer.encoded_len();
            let runs = answer.recurring_runs.into_iter();
            let names = runs.map(|run| run.display_name).collect();
            ((names, answer.total_size, answer.next_page_token), bytes)
        })
        .await;
    }
}

/// The older contract shows the parameters of the newest version of each pipeline.
#[tokio::test]
async fn pages_of_pipelines_with_large_versions_end_early() {
    for server in servers().await {
        for number in 0..COUNT {
            let mut spec = program();
            let text = format!("{number}{}", "x".repeat(LARGE));
            spec["root"]["inputDefinitions"]["parameters"]["text"]["defaultValue"] = json!(text);
            let request = kfp::CreatePipelineAndVersionRequest {
                pipeline: Some(kfp::Pipeline {
                    name: format!("n{number}"),
                    ..Default::default()
                }),
                pipeline_version: Some(kfp::PipelineVersion {
                    pipeline_spec: Some(object(&spec)),
                    ..Default::default()
                }),
            };
            let mut client = server.pipelines();
            client.create_pipeline_and_version(request).await.unwrap();
        }
        let channel = server.switchboard.channel("api.PipelineService");
        let mut client = PipelineServiceClient::new(channel);
        whole("pipelines", COUNT, async |page_token| {
            let request = v1::ListPipelinesRequest {
                page_token,
                page_size: 200,
                sort_by: "name".to_owned(),
                ..Default::default()
            };
            let answer = client
                .list_pipelines_v1(request)
                .await
                .unwrap()
                .into_inner();
            let bytes = answer.encoded_len();
            let names = answer.pipelines.into_iter().map(|pipeline| pipeline.name);
            let found = (names.collect(), answer.total_size, answer.next_page_token);
            (found, bytes)
        })
        .await;
    }
}

/// Two runs of many numbers fit into a page, and none of a list is more than a message may be.
#[tokio::test]
async fn numbers_take_more_as_messages_and_still_fit() {
    let server = server().await;
    let limit = rpc::MAX_MESSAGE_BYTES;
    let mut client = server.runs().max_decoding_message_size(limit);
    let numbers: Vec<i32> = vec![1; 5 << 17];
    for number in 0..3 {
        let mut spec = program();
        spec["root"]["inputDefinitions"]["parameters"]["items"]["defaultValue"] = json!(numbers);
        let run = inline(&format!("n{number}"), &spec, &json!({"rows": 1}));
        let request = kfp::CreateRunRequest {
            run: Some(run),
            ..Default::default()
        };
        client.create_run(request).await.unwrap();
    }
    let request = kfp::ListRunsRequest {
        page_size: 200,
        ..Default::default()
    };
    let answer = client.list_runs(request).await.unwrap().into_inner();
    let bytes = answer.encoded_len();
    assert_eq!(answer.runs.len(), 2, "{bytes}");
    assert!((8 << 20..limit).contains(&bytes), "{bytes}");
    assert!(!answer.next_page_token.is_empty());
}

/// A request that is more than a message may be is refused by name.
#[tokio::test]
async fn what_no_message_can_hold_is_refused_by_name() {
    let server = server().await;
    let request = own::TagRunRequest {
        run_id: "x".repeat(rpc::MAX_MESSAGE_BYTES),
        ..Default::default()
    };
    let refused = server.lists().tag_run(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let reason = aip::reason_of(&refused);
    assert_eq!(reason.as_deref(), Some("REQUEST_TOO_LARGE"));
}
