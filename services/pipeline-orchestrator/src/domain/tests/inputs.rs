//! What tasks receive, put out and are launched with.

use std::collections::BTreeMap;

use ids::TaskId;
use pipeline_spec::plan::*;
use serde_json::{Value, json};

use super::build::*;
use crate::domain::*;

/// A root of one program `t`, whose component and task `edit` completes.
fn single(edit: impl FnOnce(&mut Component, &mut pipeline_spec::plan::Task, &mut Plan)) -> Plan {
    let mut component_of_t = program();
    let mut t = task("t", "comp-t", &[]);
    let mut plan = plan(component(Body::Dag(dag(vec![]))), vec![]);
    edit(&mut component_of_t, &mut t, &mut plan);
    plan.components.insert("comp-t".into(), component_of_t);
    plan.root.body = Body::Dag(dag(vec![t]));
    plan
}

fn inputs_of(bench: &Bench, path: &str) -> Value {
    let spec = launch_spec(&bench.state, bench.get(path).id).unwrap();
    serde_json::from_str(&spec.inputs_json).unwrap()
}

#[test]
fn values_have_their_types_and_defaults() {
    let plan = single(|component, task, plan| {
        plan.root.input_parameters = BTreeMap::from([
            (
                "rows".to_owned(),
                typed(ParameterType::NumberInteger, None, false),
            ),
            ("none".to_owned(), text(None, true)),
            (
                "rate".to_owned(),
                typed(ParameterType::NumberDouble, Some(json!(0.5)), true),
            ),
        ]);
        component.input_parameters = BTreeMap::from([
            (
                "rows".to_owned(),
                typed(ParameterType::NumberInteger, None, false),
            ),
            ("rows_text".to_owned(), text(None, false)),
            (
                "rate".to_owned(),
                typed(ParameterType::NumberDouble, None, false),
            ),
            ("defaulted".to_owned(), text(Some(json!("d")), true)),
            ("absent".to_owned(), text(None, true)),
            ("list".to_owned(), typed(ParameterType::List, None, false)),
        ]);
        task.parameters = BTreeMap::from([
            ("rows".to_owned(), from_group("rows")),
            ("rows_text".to_owned(), from_group("rows")),
            ("rate".to_owned(), from_group("rate")),
            ("defaulted".to_owned(), from_group("none")),
            ("absent".to_owned(), from_group("none")),
            (
                "list".to_owned(),
                constant(json!([1, "{{$.inputs.parameters['chan']}}"])),
            ),
            ("chan".to_owned(), from_group("rows")),
        ]);
    });
    let bench = Bench::started(plan, json!({"rows": 2.0}));
    let expected = json!({
        "parameterValues": {
            "rows": 2, "rows_text": "2", "rate": 0.5, "defaulted": "d", "list": [1, 2]
        },
        "artifacts": {},
    });
    assert_eq!(inputs_of(&bench, "t"), expected);
    let spec = launch_spec(&bench.state, bench.get("t").id).unwrap();
    assert_eq!(
        spec.declared_inputs,
        ["absent", "defaulted", "list", "rate", "rows", "rows_text"]
    );
}

#[test]
fn constants_see_the_run_and_channels_are_not_passed_on() {
    let plan = single(|component, task, plan| {
        plan.root
            .input_parameters
            .insert("who".into(), text(Some(json!("you")), true));
        for name in ["hi", "job", "mix", "kept"] {
            component
                .input_parameters
                .insert(name.into(), text(None, false));
        }
        let constants = [
            ("hi", "hi {{$.inputs.parameters['pipelinechannel--who']}}"),
            ("job", "{{$.pipeline_job_name}}"),
            (
                "mix",
                "{{$.pipeline_task_name}} at {{$.pipeline_job_create_time_utc}}",
            ),
            ("kept", "{{$.workspace_path}} {{$}}"),
        ];
        for (name, text) in constants {
            task.parameters.insert(name.into(), constant(json!(text)));
        }
        task.parameters
            .insert("pipelinechannel--who".into(), from_group("who"));
        if let Executor::Container(container) = plan.executors.get_mut("exec").unwrap() {
            container.env = vec![("WHO".into(), "{{$.inputs.parameters['hi']}}".into())];
            let channel = "{{$.inputs.parameters['pipelinechannel--who']}}";
            container.resources.cpu_limit = channel.into();
            container.image = format!("registry/{channel}:1");
        }
    });
    let bench = Bench::started(plan, json!({}));
    assert_eq!(
        inputs_of(&bench, "t")["parameterValues"],
        json!({
            "hi": "hi you",
            "job": "my run",
            "mix": "t at 1970-01-01T00:16:40Z",
            "kept": "{{$.workspace_path}} {{$}}",
        })
    );
    let spec = launch_spec(&bench.state, bench.get("t").id).unwrap();
    assert_eq!(spec.settings.env, [("WHO".to_owned(), "hi you".to_owned())]);
    assert_eq!(spec.settings.resources.cpu_limit, "you");
    assert_eq!(spec.settings.image, "registry/you:1");
    assert_eq!(bench.get("t").body.image, "registry/you:1");
    assert_eq!(
        spec.placeholders["pipeline_job_uuid"],
        bench.state.run.id.to_string()
    );
    assert_eq!(
        spec.placeholders["pipeline_task_uuid"],
        bench.get("t").id.to_string()
    );
    assert!(!spec.placeholders.contains_key("workspace_path"));
}

#[test]
fn what_cannot_be_resolved_fails_the_task_by_name() {
    type Edit = fn(&mut Component, &mut pipeline_spec::plan::Task, &mut Plan);
    let number = || typed(ParameterType::NumberInteger, None, false);
    let cases: [(Edit, &str); 6] = [
        (
            |component, task, _| {
                let number = typed(ParameterType::NumberInteger, None, false);
                component.input_parameters.insert("n".into(), number);
                task.parameters.insert("n".into(), constant(json!("x")));
            },
            "task `t`, input `n`: expected NUMBER_INTEGER, got string",
        ),
        (
            |component, task, _| {
                component
                    .input_parameters
                    .insert("n".into(), text(None, false));
                task.parameters.insert("n".into(), from_group("nowhere"));
            },
            "task `t`, input `n`: the enclosing pipeline has no input `nowhere`",
        ),
        (
            |component, _, _| {
                component
                    .input_parameters
                    .insert("n".into(), text(None, false));
            },
            "task `t`, input `n`: a value is required and none was given",
        ),
        (
            |component, task, _| {
                component
                    .input_parameters
                    .insert("n".into(), text(None, false));
                task.parameters
                    .insert("n".into(), constant(json!("{{$.inputs.parameters['q']}}")));
            },
            "task `t`, input `n`: there is no input `q` to take for a placeholder",
        ),
        (
            |component, task, _| {
                let mut input = text(None, false);
                input.literals = vec![json!("a")];
                component.input_parameters.insert("n".into(), input);
                task.parameters.insert("n".into(), constant(json!("b")));
            },
            "task `t`, input `n`: \"b\" is not one of the allowed values",
        ),
        (
            |component, task, _| {
                component
                    .input_parameters
                    .insert("n".into(), text(None, false));
                let mut part = constant(json!("{}"));
                part.selector = "parseJson(string_value)['a']".into();
                task.parameters.insert("n".into(), part);
            },
            "task `t`, input `n`: `parseJson(string_value)['a']` takes nothing from the value: there is no `a`",
        ),
    ];
    for (edit, message) in cases {
        let bench = Bench::started(single(edit), json!({}));
        let task = bench.get("t");
        assert_eq!(task.body.message, message);
        assert_eq!(
            (task.status, task.body.attempts.len()),
            (TaskStatus::Failed, 0)
        );
        assert_eq!(bench.state.run.status, RunStatus::Failed);
        assert_eq!(
            bench.state.run.body.message,
            format!("`t` failed: {message}")
        );
    }
    let plan = single(|_, _, plan| {
        plan.root.input_parameters.insert("n".into(), number());
    });
    for (given, message) in [
        (
            json!({}),
            "task `root`, input `n`: a value is required and none was given",
        ),
        (
            json!({"n": 1, "m": 2}),
            "task `root`: there is no input `m`",
        ),
    ] {
        let bench = Bench::started(plan.clone(), given);
        assert_eq!(bench.state.run.body.message, message);
    }
}

fn report(out: &str, uri: &str) -> WorkloadState {
    let artifact = ProducedArtifact {
        uri: uri.into(),
        metadata: json!({"rows": 7}).as_object().unwrap().clone(),
        present: true,
        size_bytes: 12,
        ..ProducedArtifact::default()
    };
    WorkloadState::Succeeded(Box::new(StepReport {
        parameters: json!({"out": out, "stray": 1}).as_object().unwrap().clone(),
        artifacts: vec![
            ("art".into(), vec![artifact.clone()]),
            ("stray".into(), vec![artifact]),
        ],
        ..StepReport::default()
    }))
}

/// `make` in a nested pipeline; `take` outside reads its outputs.
fn nested() -> Plan {
    let mut inner = dag(vec![task("make", "comp-make", &[])]);
    let selector = |output: &str| {
        vec![OutputSelector {
            task: "make".into(),
            output: output.into(),
        }]
    };
    inner
        .output_parameters
        .insert("deep".into(), selector("out"));
    inner
        .output_artifacts
        .insert("deep_art".into(), selector("art"));
    let mut make = program();
    make.input_parameters.insert("x".into(), text(None, false));
    if let Some(make) = inner.tasks.get_mut("make") {
        make.parameters
            .insert("x".into(), from_group("pipelinechannel--x"));
    }
    let mut inner = component(Body::Dag(inner));
    inner
        .input_parameters
        .insert("pipelinechannel--x".into(), text(None, false));

    let mut nest = task("nest", "comp-nest", &[]);
    nest.parameters
        .insert("pipelinechannel--x".into(), constant(json!("in")));
    let mut take = program();
    take.input_parameters
        .insert("got".into(), text(None, false));
    take.input_artifacts
        .insert("data".into(), input_artifact(false));
    take.input_artifacts
        .insert("more".into(), input_artifact(true));
    let mut taker = task("take", "comp-take", &["nest"]);
    taker
        .parameters
        .insert("got".into(), from_task("nest", "deep"));
    let output = ArtifactSource::TaskOutput {
        task: "nest".into(),
        output: "deep_art".into(),
    };
    taker.artifacts.insert("data".into(), output);

    let mut root = dag(vec![nest, taker]);
    let selector = vec![OutputSelector {
        task: "take".into(),
        output: "out".into(),
    }];
    root.output_parameters.insert("result".into(), selector);
    plan(
        component(Body::Dag(root)),
        vec![
            ("comp-make", make),
            ("comp-nest", inner),
            ("comp-take", take),
        ],
    )
}

#[test]
fn outputs_leave_nested_pipelines_and_reach_the_run() {
    let mut bench = Bench::started(nested(), json!({}));
    assert_eq!(
        inputs_of(&bench, "nest/make")["parameterValues"],
        json!({"x": "in"})
    );
    bench.end("nest/make", report("made", "/data/made"));
    let artifact = bench.get("nest").body.outputs.artifacts["deep_art"][0];
    assert_eq!(
        inputs_of(&bench, "take"),
        json!({
            "parameterValues": {"got": "made"},
            "artifacts": {"data": {"artifacts": [{
                "name": artifact.to_string(),
                "type": {"schemaTitle": "system.Dataset", "schemaVersion": "0.0.1"},
                "uri": "/data/made",
                "metadata": {"rows": 7},
            }]}},
        })
    );
    let stored = bench.state.artifact(artifact).unwrap();
    assert_eq!(
        (stored.name.as_str(), stored.size_bytes, stored.present),
        ("art", 12, true)
    );
    assert_eq!(
        bench.rows.artifacts.len(),
        1,
        "undeclared outputs are not kept"
    );
    bench.end("take", report("taken", "/data/taken"));
    assert_eq!(bench.state.run.status, RunStatus::Succeeded);
    assert_eq!(
        Value::from(bench.state.run.body.outputs.parameters.clone()),
        json!({"result": "taken"})
    );
}

#[test]
fn a_missing_output_fails_the_task_that_needs_it() {
    let mut bench = Bench::started(nested(), json!({}));
    bench.succeed("nest/make");
    let take = bench.get("take");
    assert_eq!(
        take.body.message,
        "task `take`, input `got`: `nest` put out no `deep`"
    );
}

#[test]
fn every_attempt_has_a_place_of_its_own_and_is_described_the_same_again() {
    let mut bench = Bench::started(nested(), json!({}));
    let id = bench.get("nest/make").id;
    let first = launch_spec(&bench.state, id).unwrap();
    let run = bench.state.run.id;
    let place = format!("/data/artifacts/a-pipeline/{run}/{id}-make/1/art");
    assert_eq!(first.output_artifacts[0].uri, place);
    assert_eq!(
        first.output_parameters,
        [("out".to_owned(), ParameterType::String)]
    );
    let effects = bench.restart();
    assert_eq!(effects, bench.effects);
    assert_eq!(launch_spec(&bench.state, id).unwrap(), first);
    bench.end("nest/make", WorkloadState::Lost);
    let second = launch_spec(&bench.state, id).unwrap();
    assert_eq!(second.output_artifacts[0].uri, place.replace("/1/", "/2/"));
}

/// Two importers of one URI, one after the other.
fn importing(reimport: bool, uri: ImporterUri) -> Plan {
    let mut import = component(Body::Executor("exec-import".into()));
    import
        .input_parameters
        .insert("uri".into(), text(None, false));
    import
        .input_parameters
        .insert("n".into(), typed(ParameterType::NumberInteger, None, false));
    import
        .output_artifacts
        .insert("artifact".into(), output_artifact());
    let of = |name: &str, dependencies: &[&str]| {
        let mut task = task(name, "comp-import", dependencies);
        task.parameters.insert("uri".into(), from_group("uri"));
        task.parameters.insert("n".into(), constant(json!(3)));
        task
    };
    let mut plan = plan(
        component(Body::Dag(dag(vec![of("one", &[]), of("two", &["one"])]))),
        vec![("comp-import", import)],
    );
    plan.root
        .input_parameters
        .insert("uri".into(), text(None, false));
    let metadata = json!({
        "{{$.inputs.parameters['uri']}}": ["{{$.inputs.parameters['n']}}", "n {{$.inputs.parameters['n']}}"]
    });
    let importer = Importer {
        uri,
        artifact_type: dataset(),
        metadata,
        reimport,
        download_to_workspace: false,
    };
    plan.executors
        .insert("exec-import".into(), Executor::Importer(importer));
    plan
}

#[test]
fn importers_record_what_they_bring_in() {
    let uri = ImporterUri::Parameter("uri".into());
    let bench = Bench::started(importing(true, uri), json!({"uri": "s3://b/k"}));
    assert_eq!(bench.state.run.status, RunStatus::Succeeded);
    let artifact = |path: &str| {
        let id = bench.get(path).body.outputs.artifacts["artifact"][0];
        bench.state.artifact(id).unwrap().clone()
    };
    let one = artifact("one");
    assert_eq!(one.uri, "s3://b/k");
    assert_eq!(
        Value::from(one.metadata.clone()),
        json!({"s3://b/k": [3, "n 3"]})
    );
    assert_ne!(one.id, artifact("two").id);
}

#[test]
fn importers_use_known_artifacts_again() {
    let uri = || ImporterUri::Constant("/data/x".into());
    let mut bench = Bench::started(importing(false, uri()), json!({"uri": "u"}));
    let [
        Effect::FindArtifact {
            task, uri: asked, ..
        },
    ] = &bench.effects[..]
    else {
        panic!("{:?}", bench.effects)
    };
    let task: TaskId = *task;
    assert_eq!(asked, "/data/x");
    assert_eq!(bench.restart(), bench.effects);
    bench.step(Event::ArtifactLookedUp { task, found: None });
    assert_eq!(bench.state.run.status, RunStatus::Succeeded);
    assert_eq!(bench.rows.artifacts.len(), 1);
    let ids = |path: &str| bench.get(path).body.outputs.artifacts["artifact"].clone();
    assert_eq!(ids("one"), ids("two"));
    let known = bench.rows.artifacts.values().next().unwrap().clone();
    assert_eq!(
        bench.step(Event::ArtifactLookedUp { task, found: None }),
        Outcome::default()
    );

    // Another run finds it.
    let mut bench = Bench::started(importing(false, uri()), json!({"uri": "u"}));
    let foreign = Artifact {
        id: ids::ArtifactId(9_000),
        run_id: ids::RunId::derived("another"),
        ..known
    };
    bench.rows.artifacts.insert(foreign.id, foreign.clone());
    let task = bench.get("one").id;
    let outcome = bench.step(Event::ArtifactLookedUp {
        task,
        found: Some(Box::new(foreign)),
    });
    // Its use is recorded, so that it stays when the run that made it goes.
    assert_eq!(outcome.changes.artifacts, [ids::ArtifactId(9_000)]);
    assert_eq!(
        bench.get("two").body.outputs.artifacts["artifact"],
        [ids::ArtifactId(9_000)]
    );
    assert_eq!(bench.state.run.status, RunStatus::Succeeded);
}

#[test]
fn an_importer_that_waits_for_an_answer_can_be_stopped() {
    let uri = ImporterUri::Constant("/data/x".into());
    let mut bench = Bench::started(importing(false, uri), json!({"uri": "u"}));
    bench.step(Event::Terminate {
        reason: "enough".into(),
        exit_tasks: false,
    });
    assert_eq!(
        bench.statuses(),
        [
            "run CANCELED",
            "root CANCELED",
            "one CANCELED",
            "two CANCELED"
        ]
    );
}
