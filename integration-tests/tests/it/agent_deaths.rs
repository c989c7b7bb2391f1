//! The agent dies at every fork, exec and rename of an attempt.

use std::process::Command;

use api_pipelines::v1::State;
use api_runner::v1::State as Workload;
use flumina_integration_tests::{Node, Options, Pipeline, Step, Verdict};

use crate::cases::each;
use crate::service_deaths::diamond;

/// How many lost attempts of a task are repeated.
const BUDGET: usize = 2;

/// What the death of an agent at a point means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// Nothing was started: the same attempt is tried again.
    NotStarted,
    /// The program may have run.
    Lost,
    /// The result counts.
    Finished,
}

fn meaning(point: &str) -> Meaning {
    match point {
        "agent.locked" | "agent.prepared" | "agent.before_started" => Meaning::NotStarted,
        "agent.after_started"
        | "agent.after_fork"
        | "agent.ended"
        | "agent.collected"
        | "agent.before_result"
        | "agent.result_tmp" => Meaning::Lost,
        "agent.after_result"
        | "agent.before_exit_record"
        | "agent.exit_tmp"
        | "agent.after_exit_record" => Meaning::Finished,
        other => panic!("what does {other} mean?"),
    }
}

fn points() -> Vec<String> {
    let output = Command::new(testkit::binary("flumina-agent"))
        .arg("--abort-points")
        .output();
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// The first `count` agents die at `point`.
fn armed(point: &str, count: usize) -> Options {
    Options::default().env("FLUMINA_AGENT_ABORT", &format!("{point}@{count}"))
}

#[test]
fn only_attempts_that_may_have_run_are_lost_wherever_the_agent_dies() {
    let points = points();
    assert!(points.len() >= 12, "{points:?}");
    let cases = points
        .into_iter()
        .flat_map(|point| [1, 2].map(|count| (point.clone(), count)));
    each(cases.collect(), async |(point, count)| {
        let mut node = Node::new();
        let witness = node.witness();
        node.start(&armed(point, *count));
        let client = node.client();
        let run = client.submit(&diamond(&witness), "key").await;
        let verdict = Verdict::of(&client, &run, &witness).await;
        verdict.assert_promise();
        verdict.assert_succeeded();
        match meaning(point) {
            Meaning::Lost => {
                assert_eq!(verdict.lost(), *count, "{verdict:#?}");
                // The second agent belongs to the second attempt of the first task, and the third succeeds.
                assert_eq!(
                    verdict.task("first").attempts.len(),
                    count + 1,
                    "{verdict:#?}"
                );
            }
            Meaning::NotStarted | Meaning::Finished => verdict.assert_nothing_lost(),
        }
        node.wait_quiet().await;
    });
}

#[test]
fn lost_attempts_are_repeated_within_their_budget_only() {
    let cases = vec!["agent.after_started", "agent.ended"];
    each(cases, async |point| {
        let mut node = Node::new();
        let witness = node.witness();
        node.start(&armed(point, BUDGET + 1));
        let client = node.client();
        let run = client.submit(&diamond(&witness), "key").await;
        let verdict = Verdict::of(&client, &run, &witness).await;
        verdict.assert_promise();
        assert_eq!(verdict.run.state(), State::Failed, "{verdict:#?}");
        let task = verdict.task("first");
        assert_eq!(task.reason, "LOST", "{verdict:#?}");
        assert!(
            verdict.run.message.contains("first"),
            "{}",
            verdict.run.message
        );
        assert_eq!(task.attempts.len(), BUDGET + 1, "{verdict:#?}");
        assert_eq!(verdict.lost(), BUDGET + 1, "{verdict:#?}");
        let marks = witness.of_run(&run);
        assert!(marks.iter().all(|mark| mark.step == "first"), "{marks:?}");
        node.wait_quiet().await;
    });
}

#[tokio::test]
async fn a_new_attempt_starts_only_when_the_survivors_of_the_lost_one_are_dead() {
    let mut node = Node::new();
    let witness = node.witness();
    let pid = node.path("pid");
    let body = format!(
        "case $FLUMINA_ATTEMPT in\n\
         *.1) echo $$ > '{pid}'; mark wait; sleep 60;;\n\
         *) if grep -q ') [RSD] ' /proc/$(cat '{pid}')/stat 2>/dev/null; then mark alive; fi;;\n\
         esac",
        pid = pid.display()
    );
    let pipeline = Pipeline::new("survivor").step(Step::witnessed("step", &witness, &body));
    node.start(&Options::default());
    let client = node.client();
    let run = client.submit(&pipeline, "key").await;
    let mark = witness.wait_for("wait", "step").await;
    let agents = node.processes();
    let agent = agents.iter().find(|process| {
        process.kind == flumina_integration_tests::Kind::Agent && process.workload == mark.workload
    });
    flumina_integration_tests::kill(agent.unwrap());
    let ended = client.wait_end(&run).await;
    assert_eq!(ended.state(), State::Succeeded, "{ended:?}");
    let whats: Vec<String> = witness.marks().into_iter().map(|mark| mark.what).collect();
    assert_eq!(whats, ["start", "wait", "start", "end"]);
    let task = client.task(&run, "step").await;
    assert_eq!(task.attempts[0].state(), Workload::Lost);
    assert_eq!(task.attempts[0].reason, "AGENT_DIED");
    assert!(
        task.attempts[0].message.contains("signal 9"),
        "{}",
        task.attempts[0].message
    );
    assert_eq!(client.log(&run, "step", 1).await.unwrap(), "one step\n");
    node.wait_quiet().await;
}

#[tokio::test]
async fn a_killed_program_has_failed_and_is_not_lost() {
    let mut node = Node::new();
    let witness = node.witness();
    node.start(&Options::default());
    let pipeline = Pipeline::new("killed").step(Step::gated("step", &witness, &node.path("gate")));
    let client = node.client();
    let run = client.submit(&pipeline, "key").await;
    let mark = witness.wait_for("start", "step").await;
    let programs = node.processes();
    let program = programs.iter().find(|process| process.pid == mark.pid);
    flumina_integration_tests::kill(program.unwrap());
    let ended = client.wait_end(&run).await;
    assert_eq!(ended.state(), State::Failed);
    let task = client.task(&run, "step").await;
    assert_eq!(task.attempts.len(), 1);
    let attempt = &task.attempts[0];
    assert_eq!(
        (attempt.state(), attempt.signal),
        (Workload::Failed, Some(9))
    );
    assert_eq!(attempt.reason, "PROGRAM_SIGNALED");
    assert!(ended.message.contains("step"), "{}", ended.message);
    assert!(task.message.contains("signal 9"), "{}", task.message);
    node.wait_quiet().await;
}
