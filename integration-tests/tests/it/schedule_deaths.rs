//! Our process dies while a schedule makes runs: no slot is missed, and none has two runs.

use std::os::unix::process::ExitStatusExt as _;

use api_pipelines::v1 as own;
use flumina_integration_tests::{LIMIT, Node, Options, Pipeline, Step, structure};
use own::run_list_service_client::RunListServiceClient;
use own::schedule_service_client::ScheduleServiceClient;

use crate::cases::each;
use crate::service_deaths::{Death, armed};

/// Slots after the last death that are waited for.
const MORE: usize = 4;

#[derive(Debug)]
struct Case {
    point: &'static str,
    hits: [u32; 2],
}

#[test]
fn no_slot_is_missed_or_repeated_wherever_the_service_dies() {
    let cases = vec![
        Case {
            point: "orchestrator.schedule.computed",
            hits: [1, 3],
        },
        Case {
            point: "orchestrator.schedule.committed",
            hits: [1, 2],
        },
        Case {
            point: "orchestrator.launch.sent",
            hits: [2, 2],
        },
    ];
    each(cases, survives);
}

async fn survives(case: &Case) {
    let mut node = Node::new();
    let witness = node.witness();
    let pipeline = Pipeline::new("tick").step(Step::witnessed("one", &witness, ""));
    node.start(&Options::default().boot("boot-one"));
    let (schedule, created) = create(&node, &pipeline).await;
    for hit in case.hits {
        node.kill();
        // It may die before it is ready: a slot that came meanwhile is made at once.
        node.spawn(&armed(case.point, hit));
        let (status, _) = node.wait();
        assert_eq!(status.signal(), Some(9), "the point was not reached");
        Death::Service.finish(&mut node);
    }
    let known = slots(&node, &schedule).await.len();
    let probe = async || {
        let slots = slots(&node, &schedule).await;
        if slots.len() >= known + MORE {
            Ok(())
        } else {
            Err(slots)
        }
    };
    testkit::eventually("more slots", LIMIT, probe).await;
    let disable = own::EnableScheduleRequest {
        schedule_id: schedule.clone(),
        disable: true,
        request_id: String::new(),
    };
    schedules(&node).enable_schedule(disable).await.unwrap();
    let made = runs(&node, &schedule).await;
    let mut seconds: Vec<i64> = made
        .iter()
        .map(|run| run.scheduled_at.unwrap().seconds)
        .collect();
    seconds.sort_unstable();
    // The first slot is a second after the schedule was set, in whole seconds.
    let expected: Vec<i64> = (created + 1..).take(seconds.len()).collect();
    assert_eq!(seconds, expected, "{case:?}");
    for run in made {
        node.client().wait_end(&run.run_id).await;
        let starts: Vec<usize> = witness.starts(&run.run_id).into_values().collect();
        assert_eq!(starts, [1], "{case:?}: {}", run.display_name);
    }
    node.wait_quiet().await;
}

fn schedules(node: &Node) -> ScheduleServiceClient<rpc::Channel> {
    ScheduleServiceClient::new(node.client().channel())
}

/// A schedule with a slot each second, and the second in which it was set.
async fn create(node: &Node, pipeline: &Pipeline) -> (String, i64) {
    let spec = own::run_source::Source::PipelineSpec(structure(&pipeline.spec()));
    let request = own::CreateScheduleRequest {
        display_name: "tick".to_owned(),
        source: Some(own::RunSource { source: Some(spec) }),
        trigger: Some(own::ScheduleTrigger {
            timing: Some(own::schedule_trigger::Timing::IntervalSeconds(1)),
            ..Default::default()
        }),
        max_concurrency: 10,
        ..Default::default()
    };
    let created = schedules(node).create_schedule(request).await.unwrap();
    let created = created.into_inner();
    (created.schedule_id, created.created_at.unwrap().seconds)
}

async fn runs(node: &Node, schedule: &str) -> Vec<own::RunSummary> {
    let request = own::ListRunsRequest {
        filter: format!("schedule_id = {schedule}"),
        page_size: 1000,
        page_token: String::new(),
    };
    let mut service = RunListServiceClient::new(node.client().channel());
    service.list_runs(request).await.unwrap().into_inner().runs
}

async fn slots(node: &Node, schedule: &str) -> Vec<i64> {
    let runs = runs(node, schedule).await.into_iter();
    runs.map(|run| run.scheduled_at.unwrap().seconds).collect()
}
