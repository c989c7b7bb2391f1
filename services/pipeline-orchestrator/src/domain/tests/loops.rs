//! Loops: one rule per test.

use pipeline_spec::plan::{
    ArtifactSource, Body, Component, Items, Iterator as Loop, OutputSelector, ParameterType, Plan,
};
use serde_json::{Value, json};

use super::build::*;
use crate::domain::*;

const ITEM: &str = "pipelinechannel--xs-loop-item";

fn iterate(
    name: &str,
    component: &str,
    items: Items,
    parallelism: u32,
) -> pipeline_spec::plan::Task {
    let mut task = task(name, component, &[]);
    task.iterator = Some(Loop {
        items,
        item_input: ITEM.into(),
        parallelism,
    });
    task
}

/// A group of one program `t` that takes the item and gives its output and its artifact on.
fn body() -> Component {
    let mut inner = task("t", "takes", &[]);
    inner.parameters.insert("x".into(), from_group(ITEM));
    let mut dag = dag(vec![inner]);
    let select = |output: &str| {
        vec![OutputSelector {
            task: "t".into(),
            output: output.into(),
        }]
    };
    dag.output_parameters.insert("out".into(), select("out"));
    dag.output_artifacts.insert("art".into(), select("art"));
    let mut group = component(Body::Dag(dag));
    group
        .input_parameters
        .insert(ITEM.into(), text(None, false));
    group
        .output_parameters
        .insert("out".into(), ParameterType::List);
    group
        .output_artifacts
        .insert("art".into(), output_artifact());
    group
}

fn takes() -> Component {
    let mut takes = program();
    let number = typed(ParameterType::NumberInteger, None, false);
    takes.input_parameters.insert("x".into(), number);
    takes
}

/// A loop over what the pipeline is given as `xs`, and a program that takes all its outputs.
fn collected(given: ParameterType, parallelism: u32) -> Plan {
    let mut each = iterate("each", "body", Items::Parameter("xs".into()), parallelism);
    each.parameters.insert("xs".into(), from_group("xs"));
    let mut all = task("all", "all", &["each"]);
    all.parameters
        .insert("values".into(), from_task("each", "out"));
    let from = ArtifactSource::TaskOutput {
        task: "each".into(),
        output: "art".into(),
    };
    all.artifacts.insert("data".into(), from);
    let mut takes_all = program();
    let list = typed(ParameterType::List, None, false);
    takes_all.input_parameters.insert("values".into(), list);
    takes_all
        .input_artifacts
        .insert("data".into(), input_artifact(false));
    let mut root = component(Body::Dag(dag(vec![each, all])));
    let xs = typed(given, None, false);
    root.input_parameters.insert("xs".into(), xs.clone());
    let mut body = body();
    body.input_parameters.insert("xs".into(), xs);
    let components = vec![
        ("program", program()),
        ("takes", takes()),
        ("body", body),
        ("all", takes_all),
    ];
    plan(root, components)
}

fn report(value: Value) -> WorkloadState {
    let artifact = ProducedArtifact {
        uri: format!("/data/{value}"),
        present: true,
        ..ProducedArtifact::default()
    };
    WorkloadState::Succeeded(Box::new(StepReport {
        parameters: json!({ "out": value }).as_object().unwrap().clone(),
        artifacts: vec![("art".into(), vec![artifact])],
        ..StepReport::default()
    }))
}

#[test]
fn outputs_are_gathered_in_the_order_of_the_items() {
    for (given, xs) in [
        (ParameterType::List, json!([10, 20, 30])),
        (ParameterType::String, json!("[10, 20, 30]")),
    ] {
        let mut bench = Bench::started(collected(given, 0), json!({ "xs": xs }));
        for at in [2, 0, 1] {
            let path = format!("each[{at}]/t");
            let task = bench.get(&path);
            assert_eq!(task.body.inputs.parameters["x"], json!(10 * (at + 1)));
            assert_eq!((task.iteration, task.status), (at, TaskStatus::Ready));
            bench.end(&path, report(json!(format!("from {at}"))));
        }
        let all = bench.get("all");
        assert_eq!(
            all.body.inputs.parameters["values"],
            json!(["from 0", "from 1", "from 2"])
        );
        let uris: Vec<&str> = all.body.inputs.artifacts["data"]
            .iter()
            .map(|id| bench.state.artifact(*id).unwrap().uri.as_str())
            .collect();
        assert_eq!(
            uris,
            ["/data/\"from 0\"", "/data/\"from 1\"", "/data/\"from 2\""]
        );
        bench.succeed("all");
        assert_eq!(bench.state.run.status, RunStatus::Succeeded);
        // The list itself does not go into each iteration: nobody there reads it.
        assert_eq!(
            bench.get("each[1]").body.inputs.parameters,
            json!({ ITEM: 20 }).as_object().unwrap().clone()
        );
    }
}

#[test]
fn a_loop_over_nothing_succeeds_with_empty_lists() {
    let mut bench = Bench::started(collected(ParameterType::List, 0), json!({"xs": []}));
    let each = bench.get("each");
    assert_eq!(
        (each.kind, each.status),
        (TaskKind::Loop, TaskStatus::Succeeded)
    );
    let all = bench.get("all");
    assert_eq!(all.body.inputs.parameters["values"], json!([]));
    assert!(all.body.inputs.artifacts["data"].is_empty());
    bench.succeed("all");
    assert_eq!(bench.state.run.status, RunStatus::Succeeded);
}

#[test]
fn what_is_no_list_fails_the_loop_by_name() {
    for (xs, found) in [
        (json!("ten"), "not \"ten\""),
        (json!("{\"a\": 1}"), "not \"{"),
        (json!(""), "not \"\""),
    ] {
        let bench = Bench::started(collected(ParameterType::String, 0), json!({ "xs": xs }));
        let each = bench.get("each");
        assert_eq!(each.body.reason, "NO_ITEMS");
        let message = &each.body.message;
        assert!(
            message.starts_with("task `each`: `xs` must be a list") && message.contains(found),
            "{message}"
        );
        assert_eq!(bench.state.run.status, RunStatus::Failed);
    }
}

#[test]
fn a_million_items_are_a_named_failure() {
    let xs: Vec<u32> = (0..1_000_000).collect();
    let bench = Bench::started(collected(ParameterType::List, 2), json!({ "xs": xs }));
    let each = bench.get("each");
    assert_eq!(
        (each.status, each.body.reason.as_str()),
        (TaskStatus::Failed, "TOO_MANY_ITEMS")
    );
    assert!(
        each.body.message.contains("1000000 items"),
        "{}",
        each.body.message
    );
    assert_eq!(bench.state.run.status, RunStatus::Failed);
    assert_eq!(bench.state.tasks().count(), 3);
}

#[test]
fn a_limit_gives_each_iteration_its_turn_in_order() {
    let plan = collected(ParameterType::List, 2);
    let mut bench = Bench::started(plan, json!({"xs": [1, 2, 3, 4]}));
    let running = |bench: &Bench| -> Vec<usize> {
        let runs = |at: &usize| bench.get(&format!("each[{at}]")).status == TaskStatus::Running;
        (0..4).filter(runs).collect()
    };
    assert_eq!(running(&bench), [0, 1]);
    bench.end("each[1]/t", report(json!("b")));
    assert_eq!(running(&bench), [0, 2]);
    bench.restart();
    bench.end("each[2]/t", report(json!("c")));
    assert_eq!(running(&bench), [0, 3]);
    bench.end("each[0]/t", report(json!("a")));
    bench.end("each[3]/t", report(json!("d")));
    let values = &bench.get("all").body.inputs.parameters["values"];
    assert_eq!(*values, json!(["a", "b", "c", "d"]));
}

#[test]
fn a_failed_iteration_fails_the_loop_and_no_other_begins() {
    let plan = collected(ParameterType::List, 2);
    let mut bench = Bench::started(plan, json!({"xs": [1, 2, 3, 4]}));
    bench.fail("each[0]/t");
    assert_eq!(bench.get("each").status, TaskStatus::Running);
    assert_eq!(bench.get("each[2]").body.reason, "UPSTREAM_FAILED");
    bench.end("each[1]/t", report(json!("b")));
    assert_eq!(
        bench.statuses(),
        [
            "run FAILED",
            "root FAILED",
            "each FAILED",
            "all SKIPPED",
            "each[0] FAILED",
            "each[1] SUCCEEDED",
            "each[2] SKIPPED",
            "each[3] SKIPPED",
            "each[0]/t FAILED",
            "each[1]/t SUCCEEDED",
        ]
    );
}

#[test]
fn lists_of_loops_in_loops_are_nested_and_their_artifacts_are_not() {
    let mut inner = iterate("inner", "body", Items::Raw(vec![json!(1), json!(2)]), 0);
    inner.parameters.clear();
    let mut middle = dag(vec![inner]);
    let select = |output: &str| {
        vec![OutputSelector {
            task: "inner".into(),
            output: output.into(),
        }]
    };
    middle.output_parameters.insert("out".into(), select("out"));
    middle.output_artifacts.insert("art".into(), select("art"));
    let mut group = component(Body::Dag(middle));
    group
        .input_parameters
        .insert(ITEM.into(), text(None, false));
    group
        .output_parameters
        .insert("out".into(), ParameterType::List);
    group
        .output_artifacts
        .insert("art".into(), output_artifact());
    let outer = iterate(
        "outer",
        "group",
        Items::Raw(vec![json!("a"), json!("b")]),
        1,
    );
    let root = component(Body::Dag(dag(vec![outer])));
    let components = vec![("takes", takes()), ("body", body()), ("group", group)];
    let mut bench = Bench::started(plan(root, components), json!({}));
    for (outer, inner) in [(0, 0), (0, 1), (1, 1), (1, 0)] {
        let path = format!("outer[{outer}]/inner[{inner}]/t");
        assert_eq!(bench.get(&path).iteration, inner);
        bench.end(&path, report(json!(format!("{outer}{inner}"))));
    }
    let outputs = &bench.get("outer").body.outputs;
    assert_eq!(
        outputs.parameters["out"],
        json!([["00", "01"], ["10", "11"]])
    );
    assert_eq!(outputs.artifacts["art"].len(), 4);
    assert_eq!(bench.state.run.status, RunStatus::Succeeded);
}

#[test]
fn a_loop_goes_through_artifacts() {
    let mut make = task("make", "program", &[]);
    make.parameters.clear();
    let mut each = iterate("each", "body", Items::Artifact("list".into()), 0);
    each.dependencies = vec!["make".into()];
    let from = ArtifactSource::TaskOutput {
        task: "make".into(),
        output: "art".into(),
    };
    each.artifacts.insert("list".into(), from);
    let mut inner = task("t", "takes", &[]);
    let one = ArtifactSource::ComponentInput(ITEM.into());
    inner.artifacts.insert("one".into(), one);
    let mut takes = program();
    takes
        .input_artifacts
        .insert("one".into(), input_artifact(false));
    let mut body = component(Body::Dag(dag(vec![inner])));
    for name in ["list", ITEM] {
        body.input_artifacts
            .insert(name.into(), input_artifact(false));
    }
    let root = component(Body::Dag(dag(vec![make, each])));
    let components = vec![("program", program()), ("takes", takes), ("body", body)];
    let mut bench = Bench::started(plan(root, components), json!({}));
    let made = ["/data/a", "/data/b"].map(|uri| ProducedArtifact {
        uri: uri.into(),
        present: true,
        ..ProducedArtifact::default()
    });
    let report = StepReport {
        artifacts: vec![("art".into(), made.to_vec())],
        ..StepReport::default()
    };
    bench.end("make", WorkloadState::Succeeded(Box::new(report)));
    for (at, uri) in ["/data/a", "/data/b"].into_iter().enumerate() {
        let path = format!("each[{at}]/t");
        let ids = bench.get(&path).body.inputs.artifacts["one"].clone();
        assert_eq!(bench.state.artifact(ids[0]).unwrap().uri, uri);
        bench.succeed(&path);
    }
    assert_eq!(bench.state.run.status, RunStatus::Succeeded);
}

#[test]
fn a_program_can_be_the_body_of_a_loop() {
    let mut takes = takes();
    let number = typed(ParameterType::NumberInteger, None, false);
    takes.input_parameters.insert(ITEM.into(), number);
    takes.input_parameters.remove("x");
    let each = iterate("each", "takes", Items::Raw(vec![json!(7), json!(8)]), 0);
    let root = component(Body::Dag(dag(vec![each])));
    let mut bench = Bench::started(plan(root, vec![("takes", takes)]), json!({}));
    assert_eq!(bench.get("each[1]").kind, TaskKind::Container);
    assert_eq!(bench.get("each[1]").body.inputs.parameters[ITEM], json!(8));
    bench.end("each[0]", WorkloadState::Lost);
    assert_eq!(bench.get("each[0]").body.attempts.len(), 2);
    bench.end("each[0]", report(json!("a")));
    bench.end("each[1]", report(json!("b")));
    assert_eq!(
        bench.get("each").body.outputs.parameters["out"],
        json!(["a", "b"])
    );
}

#[test]
fn a_loop_that_is_stopped_ends() {
    let plan = collected(ParameterType::List, 1);
    let mut bench = Bench::started(plan, json!({"xs": [1, 2]}));
    bench.step(Event::Terminate {
        reason: "test".into(),
        exit_tasks: false,
    });
    bench.end("each[0]/t", WorkloadState::Stopped(None));
    assert_eq!(bench.state.run.status, RunStatus::Canceled);
    assert_eq!(bench.get("each[1]").status, TaskStatus::Canceled);
}

/// A loop of ten items whose tasks are given a thousand bytes each, twice: the iteration and its program.
fn with_large_values() -> Plan {
    let mut inner = task("t", "takes", &[]);
    inner.parameters.insert("x".into(), from_group(ITEM));
    inner.parameters.insert("large".into(), from_group("large"));
    let mut takes = takes();
    takes
        .input_parameters
        .insert("large".into(), text(None, false));
    let mut body = component(Body::Dag(dag(vec![inner])));
    body.input_parameters.insert(ITEM.into(), text(None, false));
    body.input_parameters
        .insert("large".into(), text(None, false));
    let items = (0..10).map(|item| json!(item)).collect();
    let mut each = iterate("each", "body", Items::Raw(items), 0);
    each.parameters
        .insert("large".into(), constant(json!("x".repeat(1_000))));
    let root = component(Body::Dag(dag(vec![each])));
    plan(root, vec![("body", body), ("takes", takes)])
}

#[test]
fn what_iterations_receive_together_is_bounded() {
    let mut bench = Bench::new(with_large_values(), json!({}));
    bench.step(Event::Start);
    assert!(bench.state.input_bytes > 21_000 && bench.state.input_bytes < 25_000);
    let loaded = bench.rows.load();
    assert_eq!(loaded.input_bytes, bench.state.input_bytes);

    let mut bench = Bench::new(with_large_values(), json!({}));
    bench.state.input_limit = 9_000;
    bench.step(Event::Start);
    assert!(bench.state.input_bytes <= 9_000);
    let tasks = bench.state.tasks();
    let refused = tasks.filter(|task| task.body.reason == "INPUTS_TOO_LARGE");
    let refused: Vec<&Task> = refused.collect();
    assert!(!refused.is_empty());
    let message = &refused[0].body.message;
    assert!(
        message.contains("pass large values as artifacts"),
        "{message}"
    );
}

/// A retry asks again for what was too much, and says the same when it still is.
#[test]
fn a_run_that_held_too_much_is_retried_as_a_whole() {
    let mut bench = Bench::new(with_large_values(), json!({}));
    bench.state.input_limit = 9_000;
    bench.step(Event::Start);
    let end_all = |bench: &mut Bench| {
        let open = |task: &&Task| task.open_attempt().is_some();
        let open: Vec<String> = bench
            .state
            .tasks()
            .filter(open)
            .map(|task| task.path.clone())
            .collect();
        open.iter().for_each(|path| drop(bench.succeed(path)));
        open.len()
    };
    end_all(&mut bench);
    assert_eq!(bench.state.run.status, RunStatus::Failed);
    let said = bench.state.run.body.message.clone();
    assert!(said.contains("pass large values as artifacts"), "{said}");

    // The limit is as narrow as before.
    let mut run = bench.state.run.clone();
    run.retry(clock::Timestamp::from_micros(bench.now)).unwrap();
    bench.rows.store_run(&run);
    bench.state = bench.rows.load();
    bench.state.input_limit = 9_000;
    bench.step(Event::Start);
    end_all(&mut bench);
    assert_eq!(bench.state.run.status, RunStatus::Failed);
    assert_eq!(bench.state.run.body.message, said);

    // There is room for everything.
    bench.retry();
    assert!(end_all(&mut bench) > 0);
    assert_eq!(bench.state.run.status, RunStatus::Succeeded);
    assert_eq!(bench.rows.load().input_bytes, bench.state.input_bytes);
}
