//! Properties over random documents.

use std::collections::HashMap;

use flumina_pipeline_spec::{Body, Document, parse, plan};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// A pipeline of tasks where task i waits for `before[i]` (indices, possibly with circles).
fn pipeline(before: &[Vec<usize>]) -> Value {
    let mut tasks = Map::new();
    for (index, before) in before.iter().enumerate() {
        let names: Vec<String> = before.iter().map(|index| format!("t{index}")).collect();
        let task = json!({"componentRef": {"name": "comp-a"}, "dependentTasks": names});
        tasks.insert(format!("t{index}"), task);
    }
    json!({
        "schemaVersion": "2.1.0",
        "pipelineInfo": {"name": "random"},
        "components": {"comp-a": {"executorLabel": "exec-a"}},
        "deploymentSpec": {"executors": {"exec-a": {"container": {"image": "alpine"}}}},
        "root": {"dag": {"tasks": tasks}},
    })
}

fn graphs() -> impl Strategy<Value = Vec<Vec<usize>>> {
    (1_usize..40).prop_flat_map(|count| {
        proptest::collection::vec(proptest::collection::vec(0..count, 0..5), count)
    })
}

const FIXTURES: [&str; 4] = [
    include_str!("../fixtures/f_strings.yaml"),
    include_str!("../fixtures/kubernetes.yaml"),
    include_str!("../fixtures/loops.yaml"),
    include_str!("../fixtures/containers.yaml"),
];

/// Reads and, when that works, plans: neither may panic.
fn survive(bytes: &[u8]) {
    if let Ok(document) = parse(bytes)
        && let Ok(plan) = plan(&document)
    {
        let features = flumina_pipeline_spec::Features::default();
        flumina_pipeline_spec::unsupported(&plan, &features);
        flumina_pipeline_spec::notes(&plan);
    }
}

/// Puts `with` in the place of the `index`-th value of the document.
fn replace(value: &mut Value, index: &mut usize, with: &Value) {
    if *index == 0 {
        *value = with.clone();
    }
    *index = index.wrapping_sub(1);
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| replace(item, index, with)),
        Value::Object(map) => map.values_mut().for_each(|item| replace(item, index, with)),
        _ => {}
    }
}

fn values() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z{}$.'\\[\\]-]{0,12}".prop_map(Value::from),
        Just(json!("{{$.inputs.parameters['x']}}")),
        Just(json!("comp-echo")),
        Just(json!({})),
        Just(json!([[]])),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn tasks_come_after_all_that_they_wait_for(mut before in graphs()) {
        // Only edges to smaller numbers: no circles.
        for (index, before) in before.iter_mut().enumerate() {
            before.retain(|other| *other < index);
        }
        let document = Document::from_value(pipeline(&before)).unwrap();
        let plan = plan(&document).unwrap();
        let Body::Dag(dag) = &plan.root.body else { panic!() };
        prop_assert_eq!(dag.order.len(), before.len());
        let place: HashMap<&str, usize> =
            dag.order.iter().enumerate().map(|(place, name)| (name.as_str(), place)).collect();
        for (name, task) in &dag.tasks {
            for dependency in &task.dependencies {
                prop_assert!(place[dependency.as_str()] < place[name.as_str()]);
            }
        }
    }

    #[test]
    fn reported_circles_are_circles(before in graphs()) {
        let document = Document::from_value(pipeline(&before)).unwrap();
        match plan(&document) {
            Ok(plan) => {
                let Body::Dag(dag) = &plan.root.body else { panic!() };
                prop_assert_eq!(dag.order.len(), before.len());
            }
            Err(faults) => for fault in faults {
                let (_, circle) = fault.message.split_once(": ").unwrap();
                let circle: Vec<usize> =
                    circle.split(" → ").map(|name| name[1..].parse().unwrap()).collect();
                prop_assert_eq!(circle.first(), circle.last());
                for pair in circle.windows(2) {
                    prop_assert!(before[pair[0]].contains(&pair[1]), "{:?}", circle);
                }
            },
        }
    }

    #[test]
    fn random_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        survive(&bytes);
    }

    #[test]
    fn random_text_does_no_harm(text in "[\\-:{}\\[\\]&*!|>'\"%@` \\n\\ta-f0-9]{0,200}") {
        survive(text.as_bytes());
    }

    #[test]
    fn damaged_text_does_no_harm(
        fixture in 0..FIXTURES.len(),
        at in 0.0..1.0_f64,
        length in 0_usize..40,
        insert in "[\\-:{}\\[\\]&*!|>'\" \\na-z0-9]{0,8}",
    ) {
        let mut bytes = FIXTURES[fixture].as_bytes().to_vec();
        let start = (bytes.len() as f64 * at) as usize;
        let end = (start + length).min(bytes.len());
        bytes.splice(start..end, insert.bytes());
        survive(&bytes);
    }

    #[test]
    fn changed_values_do_no_harm(
        fixture in 0..FIXTURES.len(),
        changes in proptest::collection::vec((0_usize..400, values()), 1..4),
    ) {
        let mut value = parse(FIXTURES[fixture].as_bytes()).unwrap().to_value();
        for (mut index, with) in changes {
            replace(&mut value, &mut index, &with);
        }
        survive(value.to_string().as_bytes());
    }
}
