//! The contract: what is refused, how lists page, what a watch tells.

use std::collections::HashMap;

use api_runner::v1 as pb;
use api_step::v1 as step;
use tempfile::TempDir;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::fixture::{Fixture, LIMIT, command, shell, state};

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_is_wrong_is_said_at_once() {
    let dir = TempDir::new().unwrap();
    let runner = Fixture::new(&dir).await;
    let mut spec = command(&[]);
    spec.owner = "a//b".to_owned();
    spec.namespace = "no blanks".to_owned();
    spec.image = "alpine".to_owned();
    spec.env = ["", "A=B", "FLUMINA_TOKEN"]
        .map(|name| step::EnvVar {
            name: name.to_owned(),
            value: String::new(),
        })
        .to_vec();
    spec.files = ["../x", "/etc/passwd", "started", "a/./b"]
        .map(|path| step::File {
            path: path.to_owned(),
            ..Default::default()
        })
        .to_vec();
    spec.working_dir = "relative".to_owned();
    spec.resources = Some(pb::Resources {
        cpu_request: "many".to_owned(),
        memory_limit: "1Q".to_owned(),
        ..Default::default()
    });
    spec.python = Some(pb::PythonRequirements {
        packages: vec!["--index-url=http://evil".to_owned()],
        index_urls: vec!["-x".to_owned()],
        ..Default::default()
    });
    spec.timeout = Some(prost_types::Duration {
        seconds: -1,
        nanos: 0,
    });
    spec.gang = Some(pb::Gang::default());
    let refused = runner.try_launch("../up", spec).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let details = refused.get_error_details();
    let mut fields: Vec<String> = details
        .bad_request()
        .unwrap()
        .field_violations
        .iter()
        .map(|violation| violation.field.clone())
        .collect();
    fields.sort();
    assert_eq!(
        fields,
        [
            "id",
            "spec.env[0].name",
            "spec.env[1].name",
            "spec.env[2].name",
            "spec.files[0].path",
            "spec.files[1].path",
            "spec.files[2].path",
            "spec.files[3].path",
            "spec.gang.name",
            "spec.gang.size",
            "spec.namespace",
            "spec.owner",
            "spec.python.index_urls",
            "spec.python.packages[0]",
            "spec.resources.cpu_request",
            "spec.resources.memory_limit",
            "spec.step.command.command",
            "spec.timeout",
            "spec.working_dir",
        ]
    );
    assert!(
        refused.message().contains("name the program"),
        "{}",
        refused.message()
    );
    let nothing = runner
        .client
        .clone()
        .launch(pb::LaunchRequest::default())
        .await;
    assert_eq!(nothing.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_page_without_gaps_and_refuse_foreign_tokens() {
    let dir = TempDir::new().unwrap();
    let runner = Fixture::new(&dir).await;
    for number in 0..5 {
        runner.launch(&format!("w{number}"), shell("true")).await;
    }
    let page = |token: String, owner: &str| {
        let request = pb::ListRequest {
            owner: owner.to_owned(),
            page_size: 2,
            page_token: token,
        };
        let mut client = runner.client.clone();
        async move { client.list(request).await.map(tonic::Response::into_inner) }
    };
    let mut seen = Vec::new();
    let mut token = String::new();
    loop {
        let answer = page(token, "tests").await.unwrap();
        seen.extend(answer.workloads.into_iter().map(|workload| workload.id));
        token = answer.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, ["w0", "w1", "w2", "w3", "w4"]);
    let first = page(String::new(), "tests").await.unwrap();
    for (token, owner) in [(first.next_page_token, "other"), ("x".to_owned(), "tests")] {
        let refused = page(token, owner).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        let details = refused.get_error_details();
        assert_eq!(details.error_info().unwrap().reason, "PAGE_TOKEN_INVALID");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_tells_what_is_there_then_every_end() {
    let dir = TempDir::new().unwrap();
    let runner = Fixture::new(&dir).await;
    runner.launch("before", shell("true")).await;
    runner.ended("before").await;
    let mut watch = runner.watch("tests/one").await;
    let mut other = shell("true");
    other.owner = "tests/other".to_owned();
    runner.launch("other", other).await;
    for number in 0..20 {
        runner.launch(&format!("w{number}"), shell("true")).await;
    }
    let mut last: HashMap<String, pb::Workload> = HashMap::new();
    let mut synced = false;
    let all = async {
        // Ends may be told before what was there has been told whole.
        while !synced
            || last
                .values()
                .filter(|workload| workload.ended_at.is_some())
                .count()
                < 21
        {
            let told = watch.message().await.unwrap().unwrap();
            synced |= told.synced;
            let Some(workload) = told.workload else {
                continue;
            };
            let older = last
                .insert(workload.id.clone(), workload.clone())
                .is_none_or(|old| old.version <= workload.version);
            assert!(older, "{} went back", workload.id);
        }
    };
    tokio::time::timeout(LIMIT, all).await.unwrap();
    assert!(synced && last.contains_key("before") && !last.contains_key("other"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_not_found() {
    let dir = TempDir::new().unwrap();
    let runner = Fixture::new(&dir).await;
    assert_eq!(runner.get("x").await.unwrap_err().code(), Code::NotFound);
    let request = pb::LogsRequest {
        id: "x".to_owned(),
        ..Default::default()
    };
    let logs = runner.client.clone().logs(request).await;
    assert_eq!(logs.unwrap_err().code(), Code::NotFound);
    let described = runner
        .client
        .clone()
        .describe(pb::DescribeRequest { id: "x".to_owned() })
        .await;
    assert_eq!(described.unwrap_err().code(), Code::NotFound);
    runner.launch("done", shell("true")).await;
    assert_eq!(state(&runner.ended("done").await), pb::State::Succeeded);
    let usage = runner
        .client
        .clone()
        .usage(pb::UsageRequest {
            id: "done".to_owned(),
        })
        .await;
    assert_eq!(usage.unwrap_err().code(), Code::FailedPrecondition);
    assert_eq!(state(&runner.stop("done").await), pb::State::Succeeded);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_can_be_read_from_an_offset_and_in_part() {
    let dir = TempDir::new().unwrap();
    let runner = Fixture::new(&dir).await;
    runner
        .launch(
            "log",
            shell("head -c 200000 /dev/zero | tr '\\0' x; printf end"),
        )
        .await;
    runner.ended("log").await;
    let part = |offset, limit_bytes| {
        let request = pb::LogsRequest {
            id: "log".to_owned(),
            offset,
            limit_bytes,
            follow: false,
        };
        let mut client = runner.client.clone();
        async move {
            let mut parts = client.logs(request).await.unwrap().into_inner();
            let mut data = Vec::new();
            while let Some(part) = parts.message().await.unwrap() {
                data.extend_from_slice(&part.data);
            }
            data
        }
    };
    assert_eq!(part(0, 0).await.len(), 200_003);
    assert_eq!(part(200_000, 0).await, b"end");
    assert_eq!(part(199_999, 2).await, b"xe");
    assert_eq!(part(999_999, 0).await, b"");
}
