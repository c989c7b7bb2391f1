//! Our process dies at every commit, fork and rename of an ordinary run.

use std::os::unix::process::ExitStatusExt as _;

use flumina_integration_tests::{LIMIT, Node, Options, Pipeline, Step, Verdict, Witness, kill_all};

use crate::cases::each;

/// What else dies with the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Death {
    /// Nothing: agents and programs go on.
    Service,
    /// Agents and programs.
    Everything,
    /// Agents and programs, and the machine comes up again.
    OtherBoot,
}

impl Death {
    pub(crate) const ALL: [Self; 3] = [Self::Service, Self::Everything, Self::OtherBoot];

    /// Kills what else dies, once the service is dead, and starts the service again.
    pub(crate) fn finish(self, node: &mut Node) {
        if self != Self::Service {
            kill_all(&node.data_dir());
        }
        let boot = if self == Self::OtherBoot {
            "boot-two"
        } else {
            "boot-one"
        };
        node.start(&Options::default().boot(boot));
    }
}

/// How a node is started that dies when it comes to `point` for the n-th time.
pub(crate) fn armed(point: &str, hit: u32) -> Options {
    Options::default()
        .env("FLUMINA_ABORT", &format!("{point}:{hit}"))
        .boot("boot-one")
}

/// Points that only a stop, the removal of a run, its loss, the cache or a schedule passes; other tests take those.
const SPECIAL: [&str; 5] = [".stop.", ".delete.", ".give_up.", ".cache.", ".schedule."];

/// The points of every run.
fn points() -> Vec<&'static str> {
    let all = [
        runner::ABORT_POINTS,
        pipeline_orchestrator::work::ABORT_POINTS,
    ]
    .concat();
    let ordinary = |point: &&str| !SPECIAL.iter().any(|part| point.contains(part));
    all.into_iter().filter(ordinary).collect()
}

#[derive(Debug)]
struct Case {
    point: &'static str,
    hit: u32,
    death: Death,
}

/// One step, three beside each other, one that takes what they produced.
pub(crate) fn diamond(witness: &Witness) -> Pipeline {
    let step = |name: &str| Step::witnessed(name, witness, "sleep 0.05");
    let first = Step::witnessed("first", witness, "printf 42 > \"$OUTPUT_number\"");
    let middle = |name: &str| step(name).takes("first", "number");
    let left = Step::witnessed("left", witness, "printf x > \"$OUTPUT_model\"");
    let last = "test \"$INPUT_number\" = 42 && test \"$(cat \"$INPUT_model\")\" = x || exit 9";
    Pipeline::new("diamond")
        .step(first.parameter("number"))
        .step(left.artifact("model").takes("first", "number"))
        .step(middle("centre"))
        .step(middle("right"))
        .step(
            Step::witnessed("last", witness, last)
                .after(&["centre", "right"])
                .takes("first", "number")
                .reads("left", "model"),
        )
}

#[test]
fn no_step_is_lost_or_repeated_wherever_the_service_dies() {
    let mut cases = Vec::new();
    for point in points() {
        for (death, hit) in [
            (Death::Service, 1),
            (Death::Service, 3),
            (Death::Everything, 3),
            (Death::OtherBoot, 2),
        ] {
            cases.push(Case {
                point,
                hit: if once(point) { 1 } else { hit },
                death,
            });
        }
    }
    assert!(cases.len() >= 40, "{cases:?}");
    each(cases, survives);
}

/// Points that a run passes only once.
fn once(point: &str) -> bool {
    point.contains(".call.")
}

async fn survives(case: &Case) {
    let mut node = Node::new();
    let witness = node.witness();
    let pipeline = diamond(&witness);
    node.start(&armed(case.point, case.hit));
    let first = node.client().try_submit(&pipeline, "key").await;
    let (status, _) = node.wait();
    assert_eq!(status.signal(), Some(9), "the point was not reached");
    case.death.finish(&mut node);

    let client = node.client();
    let run = client.submit(&pipeline, "key").await;
    if let Ok(first) = first {
        assert_eq!(first, run, "a repeated call made another run");
    }
    let verdict = Verdict::of(&client, &run, &witness).await;
    verdict.assert_promise();
    verdict.assert_succeeded();
    if case.death == Death::Service {
        verdict.assert_nothing_lost();
    }
    // At most three ran when everything died.
    assert!(verdict.lost() <= 3, "{verdict:#?}");
    node.wait_quiet().await;
}

/// Steps beside each other that end when the gate opens; a node has four cores.
const BESIDE: usize = 6;
const CORES: usize = 4;

#[test]
fn only_what_ran_is_lost_when_everything_dies() {
    each(vec![Death::Everything, Death::OtherBoot], async |death| {
        let mut node = Node::new();
        let witness = node.witness();
        let gate = node.path("gate");
        let mut pipeline = Pipeline::new("wide").step(Step::witnessed("before", &witness, ""));
        for number in 0..BESIDE {
            let step = Step::gated(&format!("step-{number}"), &witness, &gate);
            pipeline = pipeline.step(step.after(&["before"]));
        }
        node.start(&Options::default().boot("boot-one"));
        let run = node.client().submit(&pipeline, "key").await;
        testkit::eventually("every core is busy", LIMIT, || async {
            let starts = witness.starts(&run).len();
            if starts == 1 + CORES {
                Ok(())
            } else {
                Err(starts)
            }
        })
        .await;
        node.kill_everything();
        death.finish(&mut node);
        std::fs::write(&gate, "").unwrap();
        let verdict = Verdict::of(&node.client(), &run, &witness).await;
        verdict.assert_promise();
        verdict.assert_succeeded();
        assert_eq!(verdict.lost(), CORES, "{verdict:#?}");
        for task in &verdict.tasks {
            let first = &task.attempts[0];
            if task.attempts.len() == 2 {
                let reason = match death {
                    Death::OtherBoot => ["AGENT_DIED", "MACHINE_RESTARTED"],
                    Death::Service | Death::Everything => ["AGENT_DIED"; 2],
                };
                assert!(reason.contains(&first.reason.as_str()), "{task:#?}");
                assert_ne!(first.message, "");
            } else {
                assert_eq!(task.attempts.len(), 1, "{task:#?}");
            }
        }
        node.wait_quiet().await;
    });
}
