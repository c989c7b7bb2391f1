//! A workflow of the SDK 1.8 with a loop and an exit handler, while our process dies.

use std::os::unix::process::ExitStatusExt as _;

use api_kfp::v2beta1 as kfp;
use api_pipelines::v1::State;
use flumina_integration_tests::{Client, Node, Verdict, Witness, structure};
use serde_json::{Value, json};
use tonic::{Request, Status};

use crate::cases::each;
use crate::service_deaths::{Death, armed};

#[derive(Debug)]
struct Case {
    point: &'static str,
    hit: u32,
    death: Death,
}

/// A loop over four items, a step behind it, and one that runs at the end.
fn workflow(witness: &Witness) -> Value {
    let file = witness.path().display();
    let program = |name: &str, inputs: &[&str], body: &str| {
        let script = format!(
            "mark() {{ echo \"$1 {name} $FLUMINA_ATTEMPT $$\" >> '{file}'; }}\n\
             echo 'one {name}'; mark start\n{body}\necho 'two {name}'; mark end\n"
        );
        let parameters: Vec<Value> = inputs.iter().map(|name| json!({"name": name})).collect();
        json!({
            "name": name,
            "container": {"image": "alpine", "command": ["sh", "-c"], "args": [script]},
            "inputs": {"parameters": parameters},
        })
    };
    let item = json!({"parameters": [{"name": "item", "value": "{{item}}"}]});
    json!({
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": {"generateName": "deaths-"},
        "spec": {
            "entrypoint": "main",
            "onExit": "at-end",
            "templates": [
                {"name": "main", "dag": {"tasks": [
                    {"name": "loop", "template": "each", "arguments": item, "withItems": [1, 2, 3, 4]},
                    {"name": "behind", "template": "behind", "dependencies": ["loop"]},
                ]}},
                program("each", &["item"], "test {{inputs.parameters.item}} -le 4 || exit 9; sleep 0.05"),
                program("behind", &[], ""),
                program("at-end", &[], "test {{workflow.status}} = Succeeded || exit 9"),
            ],
        },
    })
}

async fn submit(client: &Client, workflow: &Value) -> Result<String, Status> {
    let run = kfp::Run {
        display_name: "deaths".to_owned(),
        pipeline_source: Some(kfp::run::PipelineSource::PipelineSpec(structure(workflow))),
        ..kfp::Run::default()
    };
    let mut request = Request::new(kfp::CreateRunRequest {
        run: Some(run),
        ..Default::default()
    });
    let key = "key".parse().unwrap();
    request.metadata_mut().insert("idempotency-key", key);
    let answer = client.kfp_runs().create_run(request).await?;
    Ok(answer.into_inner().run_id)
}

#[test]
fn a_loop_and_its_exit_handler_run_once_wherever_the_service_dies() {
    let mut cases = Vec::new();
    for (point, hits) in [
        ("orchestrator.step.computed", [1, 5, 9]),
        ("orchestrator.step.committed", [1, 5, 9]),
        ("orchestrator.launch.sent", [1, 4, 6]),
        ("orchestrator.launch.answered", [2, 5, 6]),
    ] {
        for (at, hit) in hits.into_iter().enumerate() {
            let death = Death::ALL[at];
            cases.push(Case { point, hit, death });
        }
    }
    each(cases, survives);
}

async fn survives(case: &Case) {
    let mut node = Node::new();
    let witness = node.witness();
    let workflow = workflow(&witness);
    node.start(&armed(case.point, case.hit));
    // The answer may be lost with the service.
    let first = submit(&node.client(), &workflow).await;
    let (status, _) = node.wait();
    assert_eq!(status.signal(), Some(9), "the point was not reached");
    case.death.finish(&mut node);

    let client = node.client();
    let run = submit(&client, &workflow).await.unwrap();
    if let Ok(first) = first {
        assert_eq!(first, run, "a repeated call made another run");
    }
    let verdict = Verdict::of(&client, &run, &witness).await;
    verdict.assert_promise();
    assert_eq!(verdict.run.state(), State::Succeeded, "{verdict:#?}");
    if case.death == Death::Service {
        verdict.assert_nothing_lost();
    }
    let programs = verdict.tasks.iter();
    let programs = programs.filter(|task| !task.attempts.is_empty());
    assert_eq!(programs.count(), 6, "{verdict:#?}");
    let mut marks = verdict.marks.iter();
    let last = marks.rfind(|mark| mark.what == "start");
    assert_eq!(last.map(|mark| mark.step.as_str()), Some("at-end"));
    node.wait_quiet().await;
}
