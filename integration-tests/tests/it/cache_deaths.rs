//! Equal steps of two runs, of which one runs and the other waits, while our process or the one that runs dies.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;

use api_pipelines::v1::{State, Task};
use api_runner::v1::State as Workload;
use flumina_integration_tests::{Client, LIMIT, Node, Options, Pipeline, Step, Verdict, Witness};

use crate::cases::each;
use crate::service_deaths::{Death, armed};

#[derive(Debug)]
struct Case {
    point: &'static str,
    hit: u32,
    death: Death,
}

/// Two steps that may use the cache; the second takes what the first puts out.
fn pair(witness: &Witness) -> Pipeline {
    let make = "sleep 0.05; printf 42 > \"$OUTPUT_number\"; printf x > \"$OUTPUT_model\"";
    let make = Step::witnessed("make", witness, make);
    let test = "test \"$INPUT_number\" = 42 && test \"$(cat \"$INPUT_model\")\" = x || exit 9";
    Pipeline::new("pair")
        .step(make.parameter("number").artifact("model").cached())
        .step(
            Step::witnessed("test", witness, test)
                .takes("make", "number")
                .reads("make", "model")
                .cached(),
        )
}

#[test]
fn of_equal_steps_one_runs_wherever_the_service_dies() {
    let mut cases = Vec::new();
    for (point, hits) in [
        ("orchestrator.cache.answered", 1..=4),
        ("orchestrator.step.computed", 1..=6),
        ("orchestrator.step.committed", 1..=6),
        ("orchestrator.launch.sent", 1..=2),
        ("orchestrator.launch.answered", 1..=2),
    ] {
        for hit in hits {
            let death = Death::ALL[hit as usize % 3];
            cases.push(Case { point, hit, death });
        }
    }
    each(cases, survives);
}

async fn survives(case: &Case) {
    let mut node = Node::new();
    let witness = node.witness();
    let pipeline = pair(&witness);
    node.start(&armed(case.point, case.hit));
    let client = node.client();
    for key in ["a", "b"] {
        // The answer may be lost with the service.
        drop(client.try_submit(&pipeline, key).await);
    }
    let (status, _) = node.wait();
    assert_eq!(status.signal(), Some(9), "the point was not reached");
    case.death.finish(&mut node);

    let client = node.client();
    let mut verdicts = Vec::new();
    for key in ["a", "b"] {
        let run = client.submit(&pipeline, key).await;
        let verdict = Verdict::of(&client, &run, &witness).await;
        verdict.assert_promise();
        assert_eq!(verdict.run.state(), State::Succeeded, "{verdict:#?}");
        verdicts.push(verdict);
    }
    for step in ["make", "test"] {
        let tasks: Vec<&Task> = verdicts.iter().map(|verdict| verdict.task(step)).collect();
        let [ran, cached] = match tasks[0].state() {
            State::Cached => [tasks[1], tasks[0]],
            _ => [tasks[0], tasks[1]],
        };
        assert_eq!(ran.state(), State::Succeeded, "{verdicts:#?}");
        assert_eq!(cached.state(), State::Cached, "{verdicts:#?}");
        assert!(cached.attempts.is_empty(), "{verdicts:#?}");
        let source = cached.cache.as_ref().map(|cache| &cache.source_task_id);
        assert_eq!(source, Some(&ran.task_id), "{verdicts:#?}");
        if case.death == Death::Service {
            assert_eq!(ran.attempts.len(), 1, "{verdicts:#?}");
        }
    }
    node.wait_quiet().await;
}

/// Two runs of one step, and which of them waits for the other: `(leader, waiter)`.
async fn one_waits(client: &Client, pipeline: &Pipeline) -> (String, String) {
    let runs = [
        client.submit(pipeline, "a").await,
        client.submit(pipeline, "b").await,
    ];
    testkit::eventually("one waits", LIMIT, || async {
        for (run, other) in [(&runs[0], &runs[1]), (&runs[1], &runs[0])] {
            if awaited(client, run).await.as_ref() == Some(other) {
                return Ok((other.clone(), run.clone()));
            }
        }
        Err("nobody waits")
    })
    .await
}

/// The run that the step of a run waits for.
async fn awaited(client: &Client, run: &str) -> Option<String> {
    let tasks = client.tasks(run).await;
    let task = tasks.into_iter().find(|task| task.name == "slow")?;
    let awaited = task.cache?.awaited_run_id;
    (!awaited.is_empty()).then_some(awaited)
}

fn gated(witness: &Witness, gate: &Path) -> Pipeline {
    Pipeline::new("gated").step(Step::gated("slow", witness, gate).cached())
}

#[test]
fn who_waits_is_known_after_a_restart_and_leads_when_the_first_is_stopped() {
    each(Death::ALL.to_vec(), async |death| {
        let mut node = Node::new();
        let (witness, gate) = (node.witness(), node.path("gate"));
        node.start(&Options::default().boot("boot-one"));
        let (leader, waiter) = one_waits(&node.client(), &gated(&witness, &gate)).await;
        witness.wait_for("start", "slow").await;
        node.kill();
        death.finish(&mut node);
        let client = node.client();
        assert_eq!(awaited(&client, &waiter).await.as_ref(), Some(&leader));
        client.terminate(&leader).await.unwrap();
        testkit::eventually("the next runs", LIMIT, || async {
            match witness.starts(&waiter).len() {
                1 => Ok(()),
                other => Err(other),
            }
        })
        .await;
        std::fs::write(&gate, "").unwrap();
        let verdict = Verdict::of(&client, &waiter, &witness).await;
        verdict.assert_promise();
        verdict.assert_succeeded();
        assert_eq!(client.wait_end(&leader).await.state(), State::Canceled);
        node.wait_quiet().await;
    });
}

#[test]
fn the_next_leads_when_the_first_was_lost_too_often() {
    let mut node = Node::new();
    let witness = node.witness();
    // The agents of the first attempt and of both repetitions die, each after its program.
    node.start(&Options::default().env("FLUMINA_AGENT_ABORT", "agent.ended@3"));
    let slow = Step::witnessed("slow", &witness, "sleep 0.4").cached();
    let pipeline = Pipeline::new("lost").step(slow);
    each(vec![()], async |()| {
        let client = node.client();
        let (leader, waiter) = one_waits(&client, &pipeline).await;
        let lost = Verdict::of(&client, &leader, &witness).await;
        lost.assert_promise();
        assert_eq!(lost.run.state(), State::Failed, "{lost:#?}");
        assert_eq!(lost.lost(), 3, "{lost:#?}");
        let next = Verdict::of(&client, &waiter, &witness).await;
        next.assert_promise();
        next.assert_succeeded();
        let attempts = &next.task("slow").attempts;
        assert_eq!(attempts.len(), 1, "{next:#?}");
        assert_eq!(attempts[0].state(), Workload::Succeeded);
        node.wait_quiet().await;
    });
}
