//! Our process dies in a run with a loop, retries, a branch and an exit task: while a retry waits, while a limit runs
//! out, while exit tasks run, and when a run goes on.

use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

use api_pipelines::v1::{Run, State};
use api_runner::v1::State as Workload;
use flumina_integration_tests::{Client, Flow, LIMIT, Node, Options, Verdict};

use crate::cases::each;
use crate::random_kills::{Done, Fault, Random, ended, strike};
use crate::service_deaths::{Death, armed};

#[derive(Debug)]
struct Case {
    point: &'static str,
    hit: u32,
    death: Death,
}

fn flow(node: &Node) -> Flow {
    Flow::new(&node.witness(), node.path("status"))
}

/// Everything ran as often as it should: of `flaky` each failure is one of the user's own, and what was lost is not.
fn judge(verdict: &Verdict, node: &Node) {
    verdict.assert_promise();
    verdict.assert_succeeded();
    assert_eq!(verdict.tasks.len(), Flow::PROGRAMS, "{verdict:#?}");
    let failures = |workload: &str| {
        let marks = verdict.marks.iter();
        marks
            .filter(|mark| mark.what == "fail" && mark.workload == workload)
            .count()
    };
    let attempts = &verdict.task("flaky").attempts;
    let by_program: usize = attempts
        .iter()
        .map(|attempt| failures(&attempt.workload_id))
        .sum();
    assert_eq!(by_program, Flow::FAILURES, "{verdict:#?}");
    for task in &verdict.tasks {
        for attempt in &task.attempts {
            let failed = failures(&attempt.workload_id);
            match attempt.state() {
                Workload::Failed => assert_eq!(failed, 1, "{verdict:#?}"),
                // It may have been lost just after it said so.
                Workload::Lost => assert!(failed <= 1, "{verdict:#?}"),
                _ => assert_eq!(failed, 0, "{verdict:#?}"),
            }
        }
    }
    let status = std::fs::read_to_string(node.path("status")).unwrap();
    let told: Vec<&str> = status.lines().collect();
    assert_eq!(
        told.len(),
        verdict.task("tidy").attempts.len() - lost_before_start(verdict, "tidy"),
        "{verdict:#?}"
    );
    assert!(
        told.iter().all(|line| line.contains("COMPLETE")),
        "{status}"
    );
}

/// Attempts of a step that were lost before their program could say anything.
fn lost_before_start(verdict: &Verdict, step: &str) -> usize {
    let attempts = verdict.task(step).attempts.iter();
    let silent = attempts.filter(|attempt| {
        let mut marks = verdict.marks.iter();
        !marks.any(|mark| mark.workload == attempt.workload_id)
    });
    silent.count()
}

#[test]
fn a_run_with_everything_ends_as_it_should_wherever_the_service_dies() {
    let mut cases = Vec::new();
    for (point, hits) in [
        ("orchestrator.call.committed", &[1][..]),
        ("orchestrator.step.computed", &[2, 5, 8, 11, 14]),
        ("orchestrator.step.committed", &[3, 6, 9, 12, 14]),
        ("orchestrator.launch.sent", &[2, 4, 7, 10]),
        ("orchestrator.launch.answered", &[3, 6, 10]),
    ] {
        for hit in hits {
            let death = Death::ALL[cases.len() % 3];
            cases.push(Case {
                point,
                hit: *hit,
                death,
            });
        }
    }
    each(cases, async |case| {
        let mut node = Node::new();
        let pipeline = flow(&node).pipeline();
        node.start(&armed(case.point, case.hit));
        // The answer may be lost with the service.
        drop(node.client().try_submit(&pipeline, "key").await);
        let (status, _) = node.wait();
        assert_eq!(status.signal(), Some(9), "the point was not reached");
        case.death.finish(&mut node);
        let client = node.client();
        let run = client.submit(&pipeline, "key").await;
        let verdict = Verdict::of(&client, &run, &node.witness()).await;
        judge(&verdict, &node);
        if case.death == Death::Service {
            assert_eq!(verdict.lost(), 0, "{verdict:#?}");
            assert_eq!(verdict.task("flaky").attempts.len(), 1 + Flow::FAILURES);
        }
        node.wait_quiet().await;
    });
}

/// At most so many faults of a run may lose attempts: a task that is lost three times fails.
const LOSSES: usize = 2;

#[tokio::test]
async fn a_run_with_everything_survives_random_kills() {
    let mut random = Random::new();
    let mut node = Node::new();
    let mut boot = 1;
    let options = |boot: u32| Options::default().boot(&format!("boot-{boot}"));
    node.start(&options(boot));
    for round in 0..3 {
        std::fs::write(node.path("status"), "").unwrap();
        let pipeline = flow(&node).pipeline();
        let run = node.client().submit(&pipeline, &format!("{round}")).await;
        let mut done = Done::default();
        let mut losses = 0;
        loop {
            tokio::time::sleep(Duration::from_millis(30 + random.below(250) as u64)).await;
            if ended(node.client().run(&run).await.unwrap().state()) {
                break;
            }
            let fault = match random.below(5) {
                0 if losses < LOSSES => Fault::Everything,
                1 if losses < LOSSES => Fault::OtherBoot,
                2 if losses < LOSSES => Fault::Agent,
                _ => Fault::Service,
            };
            if !strike(fault, &mut random, &mut node, &run, &mut done).await {
                continue;
            }
            losses += usize::from(fault != Fault::Service);
            if !node.running() {
                boot += u32::from(fault == Fault::OtherBoot);
                node.start(&options(boot));
            }
        }
        let verdict = Verdict::of(&node.client(), &run, &node.witness()).await;
        judge(&verdict, &node);
    }
    node.wait_quiet().await;
}

#[test]
fn a_retry_that_waits_is_neither_forgotten_nor_made_twice() {
    each(Death::ALL.to_vec(), async |death| {
        let mut node = Node::new();
        let mut flow = flow(&node);
        flow.pause = "1s";
        node.start(&Options::default().boot("boot-one"));
        let client = node.client();
        let run = client.submit(&flow.pipeline(), "key").await;
        testkit::eventually("it waits", LIMIT, || async {
            let tasks = client.tasks(&run).await;
            match tasks.iter().find(|task| task.reason == "RETRY_WAITS") {
                Some(_) => Ok(()),
                None => Err(tasks),
            }
        })
        .await;
        node.kill();
        death.finish(&mut node);
        let verdict = Verdict::of(&node.client(), &run, &node.witness()).await;
        judge(&verdict, &node);
        // Nothing ran when everything died.
        assert_eq!(verdict.lost(), 0, "{verdict:#?}");
        node.wait_quiet().await;
    });
}

#[test]
fn a_limit_of_a_run_runs_out_although_the_service_died() {
    each(Death::ALL.to_vec(), async |death| {
        let mut node = Node::new();
        let mut flow = flow(&node);
        (flow.gate, flow.limit) = (Some(node.path("never")), 4);
        node.start(&Options::default().boot("boot-one"));
        let run = node.client().submit(&flow.pipeline(), "key").await;
        node.witness().wait_for("start", "gather").await;
        node.kill();
        death.finish(&mut node);
        let verdict = Verdict::of(&node.client(), &run, &node.witness()).await;
        verdict.assert_promise();
        assert_eq!(verdict.run.state(), State::Failed, "{verdict:#?}");
        assert_eq!(verdict.task("gather").reason, "DEADLINE_EXCEEDED");
        assert_eq!(verdict.task("gather").state(), State::Canceled);
        assert_eq!(verdict.task("tidy").state(), State::Succeeded);
        node.wait_quiet().await;
    });
}

/// A run that is stopped, and whose exit task runs and does not end by itself.
async fn tidying(node: &mut Node, options: &Options) -> String {
    let mut flow = flow(node);
    flow.gate = Some(node.path("never"));
    flow.tidy_gate = Some(node.path("gate"));
    node.start(options);
    let client = node.client();
    let run = client.submit(&flow.pipeline(), "key").await;
    node.witness().wait_for("start", "gather").await;
    client.terminate(&run).await.unwrap();
    node.witness().wait_for("start", "tidy").await;
    run
}

#[test]
fn exit_tasks_of_a_stopped_run_end_although_the_service_died() {
    each(Death::ALL.to_vec(), async |death| {
        let mut node = Node::new();
        let run = tidying(&mut node, &Options::default().boot("boot-one")).await;
        node.kill();
        death.finish(&mut node);
        std::fs::write(node.path("gate"), "").unwrap();
        let verdict = Verdict::of(&node.client(), &run, &node.witness()).await;
        verdict.assert_promise();
        assert_eq!(verdict.run.state(), State::Canceled, "{verdict:#?}");
        let tidy = verdict.task("tidy");
        assert_eq!(tidy.state(), State::Succeeded, "{verdict:#?}");
        let lost = usize::from(*death != Death::Service);
        assert_eq!(tidy.attempts.len(), 1 + lost, "{verdict:#?}");
        node.wait_quiet().await;
    });
}

#[test]
fn a_second_request_stops_exit_tasks_wherever_the_service_dies() {
    let mut cases = Vec::new();
    for (point, hit) in [
        // Of the first call and the first stop, then of the second.
        ("orchestrator.call.committed", 3),
        ("orchestrator.stop.sent", 2),
    ] {
        cases.extend(Death::ALL.map(|death| Case { point, hit, death }));
    }
    each(cases, async |case| {
        let mut node = Node::new();
        let run = tidying(&mut node, &armed(case.point, case.hit)).await;
        drop(node.client().terminate(&run).await);
        let (status, _) = node.wait();
        assert_eq!(status.signal(), Some(9), "the point was not reached");
        case.death.finish(&mut node);
        let verdict = Verdict::of(&node.client(), &run, &node.witness()).await;
        verdict.assert_promise();
        assert_eq!(verdict.run.state(), State::Canceled, "{verdict:#?}");
        assert_eq!(verdict.task("tidy").state(), State::Canceled);
        node.wait_quiet().await;
    });
}

#[test]
fn a_run_goes_on_once_for_each_request_wherever_the_service_dies() {
    let mut cases = Vec::new();
    for (point, after) in [
        ("orchestrator.call.committed", 1),
        ("orchestrator.step.computed", 1),
        ("orchestrator.step.committed", 1),
        ("orchestrator.launch.sent", 1),
        ("orchestrator.launch.answered", 1),
    ] {
        let death = Death::ALL[cases.len() % 3];
        cases.push(Case {
            point,
            hit: after,
            death,
        });
    }
    each(cases, async |case| {
        let mut node = Node::new();
        let mut flow = flow(&node);
        flow.needs = Some(node.path("needed"));
        node.start(&Options::default().boot("boot-one"));
        let client = node.client();
        let run = client.submit(&flow.pipeline(), "key").await;
        assert_eq!(client.wait_end(&run).await.state(), State::Failed);
        std::fs::write(node.path("needed"), "").unwrap();
        node.stop();
        // Only what the retry does from here on is counted.
        node.start(&armed(case.point, case.hit));
        drop(node.client().retry(&run, "again").await);
        let (status, _) = node.wait();
        assert_eq!(status.signal(), Some(9), "the point was not reached");
        case.death.finish(&mut node);
        let client = node.client();
        client.retry(&run, "again").await.unwrap();
        let verdict = Verdict::of(&client, &run, &node.witness()).await;
        went_on_once(&client, &verdict).await;
        // The same request once more, now that the run has ended.
        client.retry(&run, "again").await.unwrap();
        let now = client.run(&run).await.unwrap();
        assert_eq!(now.version, verdict.run.version, "{now:#?}");
        node.wait_quiet().await;
    });
}

async fn went_on_once(client: &Client, verdict: &Verdict) {
    assert_eq!(verdict.run.state(), State::Succeeded, "{verdict:#?}");
    let run: Run = client.run(&verdict.run.run_id).await.unwrap();
    assert_eq!(run.state(), State::Succeeded);
    for task in &verdict.tasks {
        let lost = task.attempts.iter();
        let lost = lost.filter(|attempt| attempt.state() == Workload::Lost);
        let expected = match task.name.as_str() {
            "flaky" => 1 + Flow::FAILURES,
            // What failed, and the exit task after it.
            "gather" | "tidy" => 2,
            _ => 1,
        };
        assert_eq!(task.attempts.len(), expected + lost.count(), "{verdict:#?}");
    }
}
