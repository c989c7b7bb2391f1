//! Finding, tagging and comparing runs through the own contract.

use api_pipelines::v1 as own;
use own::run_list_service_client::RunListServiceClient;
use rpc::Channel;
use serde_json::{Value, json};
use tonic::Code;

use crate::support::{Server, object, program, server, servers};

impl Server {
    pub(crate) fn lists(&self) -> RunListServiceClient<Channel> {
        let channel = self
            .switchboard
            .channel("flumina.pipelines.v1.RunListService");
        RunListServiceClient::new(channel)
    }

    pub(crate) async fn submit(
        &self,
        name: &str,
        rows: i64,
        tags: &[(&str, &str)],
    ) -> own::RunSummary {
        let request = submission(name, &program(), rows, tags);
        self.lists().submit_run(request).await.unwrap().into_inner()
    }

    async fn found(&self, filter: &str) -> Vec<String> {
        let request = own::ListRunsRequest {
            filter: filter.to_owned(),
            ..Default::default()
        };
        let found = self.lists().list_runs(request).await.unwrap().into_inner();
        found.runs.into_iter().map(|run| run.display_name).collect()
    }
}

fn submission(name: &str, spec: &Value, rows: i64, tags: &[(&str, &str)]) -> own::SubmitRunRequest {
    own::SubmitRunRequest {
        display_name: name.to_owned(),
        source: Some(own::RunSource {
            source: Some(own::run_source::Source::PipelineSpec(object(spec))),
        }),
        parameters: Some(object(&json!({"rows": rows}))),
        tags: tags
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
        ..Default::default()
    }
}

#[tokio::test]
async fn runs_are_found_by_what_people_know_of_them() {
    for server in servers().await {
        let submitted = server
            .submit("one", 1, &[("team", "vision"), ("trial", "7")])
            .await;
        assert_eq!(submitted.tags["team"], "vision");
        server.hand.advance(std::time::Duration::from_secs(1));
        server.submit("two", 2, &[("team", "vision")]).await;
        server.hand.advance(std::time::Duration::from_secs(1));
        server
            .submit("three", 30, &[("team", "speech"), ("my team", "a b")])
            .await;
        server.wait_for_active(3).await;
        let probe = async || {
            let found = server.found("param.text = hi").await;
            if found.len() == 3 {
                Ok(())
            } else {
                Err(format!("{found:?}"))
            }
        };
        let limit = std::time::Duration::from_secs(20);
        testkit::eventually("the parameters with their defaults", limit, probe).await;
        let expected: &[(&str, &[&str])] = &[
            ("", &["three", "two", "one"]),
            ("tag.team = vision", &["two", "one"]),
            ("tag.team = vision AND param.rows >= 2", &["two"]),
            ("tag.team != vision", &["three"]),
            ("tag.\"trial\" = 7", &["one"]),
            ("tag.\"my team\" = \"a b\"", &["three"]),
            ("tag.\"my team\" != \"a b\"", &["two", "one"]),
            ("tag.trial != 7", &["three", "two"]),
            ("tag.team : SPEE", &["three"]),
            ("param.rows > 1 AND param.rows < 30", &["two"]),
            ("param.rows = 30", &["three"]),
            ("param.unknown = 1", &[]),
            ("name : w", &["two"]),
            ("pipeline = program AND NAME = one", &[]),
            ("pipeline = other", &[]),
            ("state = SUCCEEDED", &[]),
            ("archived = false AND name = one", &["one"]),
            ("created_at > 2023-11-14T22:13:20Z", &["three", "two"]),
            ("metric.accuracy > 0.5", &[]),
        ];
        for (filter, names) in expected {
            if filter.contains("NAME") {
                let request = own::ListRunsRequest {
                    filter: (*filter).to_owned(),
                    ..Default::default()
                };
                let refused = server.lists().list_runs(request).await.unwrap_err();
                assert_eq!(refused.code(), Code::InvalidArgument);
                continue;
            }
            assert_eq!(server.found(filter).await, *names, "{filter}");
        }
    }
}

#[tokio::test]
async fn pages_go_on_where_they_ended_and_only_for_their_filter() {
    let server = server().await;
    for name in ["a", "b", "c", "d", "e"] {
        server.submit(name, 1, &[("team", "x")]).await;
    }
    for filter in ["", "tag.team = x"] {
        let mut names = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = own::ListRunsRequest {
                filter: filter.to_owned(),
                page_size: 2,
                page_token: page_token.clone(),
            };
            let page = server
                .lists()
                .list_runs(request)
                .await
                .unwrap()
                .into_inner();
            assert!(page.runs.len() <= 2);
            names.extend(page.runs.into_iter().map(|run| run.display_name));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
            let other = own::ListRunsRequest {
                filter: "state = FAILED".to_owned(),
                page_size: 2,
                page_token: page_token.clone(),
            };
            let refused = server.lists().list_runs(other).await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument);
        }
        names.sort();
        assert_eq!(names, ["a", "b", "c", "d", "e"], "{filter}");
    }
}

#[tokio::test]
async fn tags_can_be_changed_later_and_stay_few() {
    for server in servers().await {
        let run = server.submit("one", 1, &[("team", "vision")]).await;
        let tag = |set: &[(&str, &str)], remove: &[&str]| own::TagRunRequest {
            run_id: run.run_id.clone(),
            set: set
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
            remove: remove.iter().map(|name| (*name).to_owned()).collect(),
            request_id: String::new(),
        };
        let tagged = server
            .lists()
            .tag_run(tag(&[("best", "yes"), ("team", "speech")], &[]))
            .await;
        let tagged = tagged.unwrap().into_inner();
        assert_eq!(
            (tagged.tags["best"].as_str(), tagged.tags["team"].as_str()),
            ("yes", "speech")
        );
        let tagged = server
            .lists()
            .tag_run(tag(&[], &["best", "unknown"]))
            .await
            .unwrap()
            .into_inner();
        assert_eq!(tagged.tags.len(), 1);
        let names: Vec<String> = (0..20).map(|n| format!("t{n}")).collect();
        let many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "x")).collect();
        let refused = server.lists().tag_run(tag(&many, &[])).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert_eq!(server.found("tag.t3 = x").await, [""; 0]);
        let refused = server
            .lists()
            .tag_run(tag(&[("a.b", "x")], &[]))
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
    }
}

#[tokio::test]
async fn a_repeated_submission_is_one_run() {
    let server = server().await;
    let mut request = submission("one", &program(), 1, &[("a", "1"), ("b", "2"), ("c", "3")]);
    request.request_id = "0197a5d2-7a4b-7cc0-9d3c-2f64b4a3e1aa".to_owned();
    let first = server
        .lists()
        .submit_run(request.clone())
        .await
        .unwrap()
        .into_inner();
    let again = server
        .lists()
        .submit_run(request.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(first, again);
    request.tags.insert("a".to_owned(), "2".to_owned());
    let refused = server.lists().submit_run(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(server.found("").await, ["one"]);
}

#[tokio::test]
async fn only_what_differs_of_runs_is_shown() {
    let server = server().await;
    let one = server.submit("one", 1, &[]).await;
    let mut spec = program();
    spec["deploymentSpec"]["executors"]["exec-echo"]["container"]["command"] = json!(["cat"]);
    let request = submission("two", &spec, 2, &[]);
    let two = server
        .lists()
        .submit_run(request)
        .await
        .unwrap()
        .into_inner();
    let compare = |ids: &[&String]| own::CompareRunsRequest {
        run_ids: ids.iter().map(|id| (*id).clone()).collect(),
    };
    let found = server
        .lists()
        .compare_runs(compare(&[&one.run_id, &two.run_id]))
        .await;
    let found = found.unwrap().into_inner();
    let names: Vec<(own::DifferenceKind, &str)> = found
        .differences
        .iter()
        .map(|one| (one.kind(), one.name.as_str()))
        .collect();
    let expected = [
        (own::DifferenceKind::Parameter, "rows"),
        (own::DifferenceKind::Code, "echo"),
    ];
    assert_eq!(names, expected);
    assert_eq!(found.differences[1].values[1].text, "cat");
    let same = server
        .lists()
        .compare_runs(compare(&[&one.run_id, &one.run_id]))
        .await;
    assert!(same.unwrap().into_inner().differences.is_empty());
    let few = server
        .lists()
        .compare_runs(compare(&[&one.run_id]))
        .await
        .unwrap_err();
    assert_eq!(few.code(), Code::InvalidArgument);
    let unknown = "0197a5d2-7a4b-7cc0-9d3c-2f64b4a3e1aa".to_owned();
    let missing = server
        .lists()
        .compare_runs(compare(&[&one.run_id, &unknown]))
        .await;
    assert_eq!(missing.unwrap_err().code(), Code::NotFound);
}
