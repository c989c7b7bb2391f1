//! Tasks and the cache: keys, answers, who leads and who waits.

use std::collections::BTreeMap;

use ids::{ArtifactId, RunId, TaskId};
use pipeline_spec::plan::{ArtifactSource, Executor, Plan};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::build::*;
use crate::domain::*;

/// `first`, then `second`, which takes what the first put out; both use the cache.
fn chain() -> Plan {
    let mut plan = flat(&[("first", &[]), ("second", &["first"])]);
    let mut second = program();
    second
        .input_parameters
        .insert("x".into(), text(None, false));
    second
        .input_artifacts
        .insert("data".into(), input_artifact(false));
    plan.components.insert("second".into(), second);
    tasks(&mut plan, |task| {
        task.caching.enabled = true;
        if task.name == "second" {
            task.component = "second".into();
            task.parameters
                .insert("x".into(), from_task("first", "out"));
            let source = ArtifactSource::TaskOutput {
                task: "first".into(),
                output: "art".into(),
            };
            task.artifacts.insert("data".into(), source);
        }
    });
    plan
}

fn tasks(plan: &mut Plan, mut change: impl FnMut(&mut pipeline_spec::plan::Task)) {
    match &mut plan.root.body {
        pipeline_spec::plan::Body::Dag(dag) => dag.tasks.values_mut().for_each(&mut change),
        pipeline_spec::plan::Body::Executor(_) => panic!("no group"),
    }
}

fn env(plan: &mut Plan, name: &str, value: &str) {
    match plan.executors.get_mut("exec") {
        Some(Executor::Container(container)) => container.env.push((name.into(), value.into())),
        _ => panic!("no program"),
    }
}

/// The question that a task asks.
fn question(bench: &Bench, path: &str) -> (TaskId, String) {
    let id = bench.get(path).id;
    let asked = bench.effects.iter().rev().find_map(|effect| match effect {
        Effect::FindCached { task, key, .. } if *task == id => Some(key.clone()),
        _ => None,
    });
    (id, asked.unwrap_or_else(|| panic!("{path} asks nothing")))
}

fn answer(bench: &mut Bench, path: &str, answer: CacheAnswer) -> Outcome {
    let (task, _) = question(bench, path);
    bench.step(Event::CacheLookedUp { task, answer })
}

fn miss() -> CacheAnswer {
    CacheAnswer::Miss {
        note: String::new(),
    }
}

fn artifact(id: i64, sha256: &str) -> Artifact {
    Artifact {
        id: ArtifactId(id),
        run_id: RunId::derived("earlier"),
        task_id: TaskId(900),
        name: "art".into(),
        artifact_type: dataset(),
        uri: format!("/data/{id}"),
        metadata: Default::default(),
        size_bytes: 1,
        sha256: sha256.into(),
        present: true,
        directory: false,
        created_at: clock::Timestamp::from_secs(1),
    }
}

fn hit(out: &str, art: Artifact) -> CacheAnswer {
    CacheAnswer::Hit(Box::new(CacheHit {
        run: RunId::derived("earlier"),
        task: TaskId(900),
        path: "first".into(),
        parameters: json!({ "out": out }).as_object().unwrap().clone(),
        artifacts: BTreeMap::from([("art".into(), vec![art])]),
    }))
}

/// The key of `second` after a first step that put out an artifact.
fn second_key(plan: Plan, mode: CacheMode, art: Artifact) -> String {
    let mut bench = Bench::new(plan, json!({}));
    bench.state.run.body.cache.mode = mode;
    bench.rows = super::rows::Rows::new(bench.state.run.clone(), bench.state.plan().clone());
    bench.step(Event::Start);
    answer(&mut bench, "first", hit("7", art));
    question(&bench, "second").1
}

#[test]
fn a_key_is_the_hash_of_upstreams_document() {
    let mut plan = chain();
    env(&mut plan, "A", "<1>");
    env(&mut plan, CACHE_VARIABLE, "identity");
    let key = second_key(plan, CacheMode::Identity, artifact(71, "aa"));
    let document = "{\"containerSpec\":{\"cmdArgs\":[\"echo\",\"{{$.inputs.parameters['x']}}\"],\
        \"env\":[{\"name\":\"A\",\"value\":\"\\u003c1\\u003e\"}],\"image\":\"python:3.12\"},\
        \"inputArtifactNames\":{\"data\":{\"artifactNames\":[\"71\"]}},\
        \"inputParameterValues\":{\"x\":\"7\"},\
        \"outputArtifactsSpec\":{\"art\":{\"name\":\"art\",\"type\":{\"schemaTitle\":\"system.Dataset\",\
        \"schemaVersion\":\"0.0.1\"}}},\"outputParametersSpec\":{\"out\":\"STRING\"}}";
    let digest = Sha256::digest(document);
    let expected: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(key, expected);
}

#[test]
fn volumes_count_by_name_wherever_the_name_comes_from() {
    let key = |parameter: Value, made: &str| {
        let mut plan = chain();
        let root = &mut plan.root.input_parameters;
        root.insert("claim".into(), text(Some(json!(made)), false));
        match plan.executors.get_mut("exec") {
            Some(Executor::Container(container)) => {
                container.platform =
                    json!({"pvcMount": [{"mountPath": "/v", "pvcNameParameter": parameter}]});
            }
            _ => panic!("no program"),
        }
        let mut bench = Bench::new(plan, json!({}));
        bench.step(Event::Start);
        question(&bench, "first").1
    };
    let constant = |name: &str| json!({"runtimeValue": {"constant": name}});
    let input = json!({"componentInputParameter": "claim"});
    assert_eq!(key(constant("a"), ""), key(input.clone(), "a"));
    assert_ne!(key(constant("a"), ""), key(constant("b"), ""));
    assert_ne!(key(input.clone(), "a"), key(input, "b"));
}

#[test]
fn texts_of_files_count() {
    let key = |content: &str| {
        let mut plan = chain();
        match plan.executors.get_mut("exec") {
            Some(Executor::Container(container)) => {
                container.files.inputs.push(pipeline_spec::plan::InputFile {
                    path: "/tmp/inputs/text/data".into(),
                    source: pipeline_spec::plan::FileSource::Text(content.into()),
                });
            }
            _ => panic!("no program"),
        }
        second_key(plan, CacheMode::Identity, artifact(71, "aa"))
    };
    assert_eq!(key("one"), key("one"));
    assert_ne!(key("one"), key("other"));
}

#[test]
fn a_key_of_the_pipelines_own_leaves_everything_else_out() {
    let mut plan = chain();
    tasks(&mut plan, |task| task.caching.key = "mine".into());
    let key = second_key(plan, CacheMode::Content, artifact(71, "aa"));
    let digest = Sha256::digest(b"second\0mine");
    let expected: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(key, expected);
}

#[test]
fn an_artifact_counts_by_its_id_or_by_its_content() {
    let key = |mode, id, sha256| second_key(chain(), mode, artifact(id, sha256));
    assert_ne!(
        key(CacheMode::Identity, 71, "aa"),
        key(CacheMode::Identity, 72, "aa")
    );
    assert_eq!(
        key(CacheMode::Identity, 71, "aa"),
        key(CacheMode::Identity, 71, "bb")
    );
    assert_eq!(
        key(CacheMode::Content, 71, "aa"),
        key(CacheMode::Content, 72, "aa")
    );
    assert_ne!(
        key(CacheMode::Content, 71, "aa"),
        key(CacheMode::Content, 71, "bb")
    );
    // Nobody knows what is in an artifact without a digest.
    assert_ne!(
        key(CacheMode::Content, 71, ""),
        key(CacheMode::Content, 72, "")
    );
}

#[test]
fn a_hit_gives_the_outputs_without_an_attempt_and_starts_what_waited() {
    let mut bench = Bench::started(chain(), json!({}));
    assert_eq!(bench.get("first").status, TaskStatus::Pending);
    let outcome = answer(&mut bench, "first", hit("7", artifact(71, "aa")));
    assert_eq!(outcome.changes.artifacts, [ArtifactId(71)]);
    assert_eq!(outcome.changes.cache, []);
    let first = bench.get("first");
    assert_eq!(first.status, TaskStatus::Cached);
    assert!(first.body.attempts.is_empty());
    assert!(
        first.body.message.contains("`first`"),
        "{}",
        first.body.message
    );
    let second = bench.get("second");
    assert_eq!(second.body.inputs.parameters["x"], json!("7"));
    assert_eq!(second.body.inputs.artifacts["data"], [ArtifactId(71)]);

    answer(&mut bench, "second", hit("8", artifact(72, "bb")));
    assert_eq!(bench.state.run.status, RunStatus::Succeeded);
    // A second answer comes too late.
    let task = bench.get("second").id;
    let late = bench.step(Event::CacheLookedUp {
        task,
        answer: miss(),
    });
    assert!(late.changes.is_empty() && late.effects.is_empty());
}

#[test]
fn a_miss_leads_and_its_row_changes_with_its_end() {
    for succeeds in [true, false] {
        let mut bench = Bench::started(chain(), json!({}));
        let first = bench.get("first").id;
        let outcome = answer(&mut bench, "first", miss());
        assert_eq!(outcome.changes.cache, [first]);
        let leading = CacheEntry::of(&bench.state, bench.get("first")).unwrap();
        assert_eq!((leading.id, leading.key), question(&bench, "first"));
        let outcome = if succeeds {
            bench.end("first", succeeded("7"))
        } else {
            bench.fail("first")
        };
        assert_eq!(outcome.changes.cache, [first]);
        let entry = CacheEntry::of(&bench.state, bench.get("first")).unwrap();
        let out = entry.outputs.parameters.get("out");
        assert_eq!(out, succeeds.then(|| json!("7")).as_ref());
    }
}

fn succeeded(out: &str) -> WorkloadState {
    let report = StepReport {
        parameters: json!({ "out": out }).as_object().unwrap().clone(),
        artifacts: vec![("art".into(), vec![ProducedArtifact::default()])],
        ..StepReport::default()
    };
    WorkloadState::Succeeded(Box::new(report))
}

fn running() -> CacheAnswer {
    CacheAnswer::Running {
        run: RunId::derived("other"),
        task: TaskId(901),
    }
}

#[test]
fn a_task_that_waits_says_for_what_and_asks_again_after_a_restart() {
    let mut bench = Bench::started(chain(), json!({}));
    let outcome = answer(&mut bench, "first", running());
    assert!(outcome.effects.is_empty());
    let first = bench.get("first");
    assert_eq!(first.status, TaskStatus::Pending);
    assert_eq!(first.body.reason, "SAME_STEP_RUNS");
    let other = RunId::derived("other").to_string();
    assert!(
        first.body.message.contains(&other),
        "{}",
        first.body.message
    );
    // The same answer again changes nothing.
    assert!(answer(&mut bench, "first", running()).changes.is_empty());
    assert_eq!(bench.restart(), bench.state.cache_questions());
    assert_eq!(bench.state.cache_questions().len(), 1);
    answer(&mut bench, "first", miss());
    let first = bench.get("first");
    assert_eq!(
        (first.status, first.body.reason.as_str()),
        (TaskStatus::Ready, "")
    );
    assert_eq!(bench.state.cache_questions(), []);
}

#[test]
fn a_task_that_waits_is_stopped_with_its_run() {
    let mut bench = Bench::started(chain(), json!({}));
    answer(&mut bench, "first", running());
    bench.step(Event::Terminate {
        reason: "no need".into(),
        exit_tasks: false,
    });
    assert_eq!(bench.get("first").status, TaskStatus::Canceled);
    assert_eq!(bench.state.run.status, RunStatus::Canceled);
    let late = answer(&mut bench, "first", hit("7", artifact(71, "aa")));
    assert!(late.changes.is_empty());
}

#[test]
fn switches_of_the_run_and_the_task_count() {
    let asks = |enabled: bool, mode: CacheMode, own: &str| {
        let mut plan = chain();
        tasks(&mut plan, |task| task.caching.enabled = enabled);
        if !own.is_empty() {
            env(&mut plan, CACHE_VARIABLE, own);
        }
        let mut bench = Bench::new(plan, json!({}));
        bench.state.run.body.cache.mode = mode;
        let outcome = bench.step_uncommitted(Event::Start);
        let asked = |effect: &Effect| matches!(effect, Effect::FindCached { .. });
        (outcome.effects.iter().any(asked), bench)
    };
    assert!(asks(true, CacheMode::Identity, "").0);
    assert!(!asks(false, CacheMode::Identity, "content").0);
    assert!(!asks(true, CacheMode::Off, "content").0);
    assert!(!asks(true, CacheMode::Identity, "off").0);
    let (_, bench) = asks(true, CacheMode::Identity, "content; max-age=60");
    let cache = bench.get("first").body.cache.clone().unwrap();
    assert_eq!((cache.kind, cache.max_age_s), (KeyKind::Content, 60));
    let (asked, bench) = asks(true, CacheMode::Identity, "sometimes");
    let first = bench.get("first");
    assert!(!asked);
    assert_eq!(first.body.reason, "CACHE_POLICY_INVALID");
    for part in ["`first`", "FLUMINA_CACHE", "sometimes", "max-age"] {
        assert!(first.body.message.contains(part), "{}", first.body.message);
    }
}

#[test]
fn policies_are_read_whole_or_refused() {
    let base = CachePolicy {
        mode: CacheMode::Identity,
        max_age_s: 5,
    };
    let policy = |mode, max_age_s| Ok(CachePolicy { mode, max_age_s });
    assert_eq!(base.refined("content"), policy(CacheMode::Content, 5));
    assert_eq!(base.refined("max-age=0"), policy(CacheMode::Identity, 0));
    assert_eq!(base.refined(" off ;max-age=7"), policy(CacheMode::Off, 7));
    for wrong in [
        "",
        "on",
        "content;content",
        "max-age=",
        "max-age=-1",
        "max-age=1;max-age=1",
        "off,",
    ] {
        assert!(base.refined(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn entries_grow_old() {
    let mut bench = Bench::started(chain(), json!({}));
    answer(&mut bench, "first", miss());
    bench.end("first", succeeded("7"));
    let task = bench.get("first").clone();
    let mut aging = task.clone();
    if let Some(cache) = &mut aging.body.cache {
        cache.max_age_s = 10;
    }
    let seconds = |by: i64| {
        clock::Timestamp::from_micros(task.ended_at.unwrap().as_micros() + by * 1_000_000)
    };
    let entry = CacheEntry::of(&bench.state, &task).unwrap();
    assert_eq!(entry.expires_at, None);
    assert_eq!(entry.refusal(seconds(1_000_000), 0), None);
    assert!(entry.refusal(seconds(60), 60).is_some());
    assert_eq!(entry.refusal(seconds(59), 60), None);
    let entry = CacheEntry::of(&bench.state, &aging).unwrap();
    assert_eq!(entry.expires_at, Some(seconds(10)));
    assert_eq!(entry.refusal(seconds(9), 0), None);
    assert_eq!(entry.refusal(seconds(10), 0), Some("has expired"));
    assert_eq!(Value::from(entry.key), json!(question(&bench, "first").1));
}

#[test]
fn a_retried_run_keeps_hits_and_asks_again_for_what_failed() {
    let mut bench = Bench::started(chain(), json!({}));
    answer(&mut bench, "first", hit("7", artifact(1, "aa")));
    answer(&mut bench, "second", miss());
    bench.fail("second");
    let first = bench.get("first").clone();
    bench.retry();
    assert_eq!(bench.get("first"), &first);
    assert!(!open_attempt(&bench, "second"), "it asks before it runs");
    // Another run made it meanwhile.
    answer(&mut bench, "second", hit("8", artifact(2, "bb")));
    let second = bench.get("second");
    assert_eq!(second.status, TaskStatus::Cached);
    assert_eq!(second.body.attempts.len(), 1, "that of before the retry");
    assert_eq!(bench.state.run.status, RunStatus::Succeeded);
}

#[test]
fn a_retried_task_leads_again_and_its_row_is_written_again() {
    let mut bench = Bench::started(chain(), json!({}));
    answer(&mut bench, "first", miss());
    let id = bench.get("first").id;
    let failed = bench.fail("first");
    assert_eq!(failed.changes.cache, [id]);
    bench.retry();
    bench.restart();
    let led = answer(&mut bench, "first", miss());
    assert_eq!(led.changes.cache, [id]);
    assert!(matches!(
        &led.effects[..],
        [Effect::Launch { attempt: 2, .. }]
    ));
    assert_eq!(bench.succeed("first").changes.cache, [id]);
}

fn open_attempt(bench: &Bench, path: &str) -> bool {
    bench.get(path).open_attempt().is_some()
}

/// What an Argo workflow calls at its end is told that the entry point succeeded, also when the cache had its outputs.
#[test]
fn a_workflow_whose_entry_point_was_cached_has_succeeded() {
    let label = json!({"labels": {"pipelines.kubeflow.org/enable_caching": "true"}});
    let program = json!({"image": "alpine", "command": ["echo"]});
    let say = json!({"image": "alpine", "command": ["echo"], "args": ["{{workflow.status}}"]});
    let step = json!({"name": "step", "metadata": label, "container": program});
    let call = json!({"name": "call", "template": "step"});
    let group = json!({"name": "group", "dag": {"tasks": [call]}});
    for (entry, cached) in [("step", "step"), ("group", "group/call")] {
        let workflow = json!({
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "Workflow",
            "metadata": {"generateName": "w-"},
            "spec": {
                "entrypoint": entry,
                "onExit": "bye",
                "templates": [step, group, {"name": "bye", "container": say}],
            },
        });
        let plan = pipeline_spec::Source::from_value(workflow).unwrap().plan();
        let mut bench = Bench::started(plan.unwrap(), json!({}));
        let found = CacheAnswer::Hit(Box::new(CacheHit {
            run: RunId::derived("earlier"),
            task: TaskId(900),
            path: "step".into(),
            parameters: Default::default(),
            artifacts: BTreeMap::new(),
        }));
        answer(&mut bench, cached, found);
        assert_eq!(bench.get(cached).status, TaskStatus::Cached);
        let exit = bench.get("bye");
        let inputs = &exit.body.inputs;
        let told = inputs.parameters.values().chain(inputs.channels.values());
        let told: Vec<&Value> = told.collect();
        assert_eq!(told, [&json!("Succeeded")], "{entry}");
        bench.succeed("bye");
        assert_eq!(bench.state.run.status, RunStatus::Succeeded);
    }
}
