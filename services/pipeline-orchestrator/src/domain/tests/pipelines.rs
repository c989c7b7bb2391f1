//! Random pipelines: trees of tasks, and the plans of them.

use std::collections::BTreeMap;

use pipeline_spec::plan::{
    ArtifactSource, Body, Component, Executor, Importer, ImporterUri, OutputSelector,
    ParameterType, ParameterValue, Plan, Retry,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::build::*;
use super::reference::{Condition, Items, ItemsFrom, Kind, Node, Reference, Retries, item, join};

pub(super) fn nodes() -> impl proptest::strategy::Strategy<Value = Vec<Node>> {
    let leaf = prop_oneof![
        12 => Just(Kind::Program),
        1 => Just(Kind::Broken),
        2 => Just(Kind::Importer),
    ];
    let kind = leaf.prop_recursive(3, 24, 5, |inner| {
        prop_oneof![
            3 => inner.clone(),
            1 => group(inner.clone(), 1).prop_map(Kind::Group),
            1 => (group(inner, 1), items()).prop_map(|(nodes, items)| Kind::Loop(nodes, items)),
        ]
    });
    group(kind, 0)
}

fn items() -> impl proptest::strategy::Strategy<Value = Items> {
    let from = prop_oneof![
        Just(ItemsFrom::Document),
        Just(ItemsFrom::List),
        Just(ItemsFrom::Text)
    ];
    (0..4_usize, 0..3_usize, from).prop_map(|(count, limit, from)| Items { count, limit, from })
}

fn condition() -> impl proptest::strategy::Strategy<Value = Condition> {
    prop_oneof![
        16 => Just(Condition::None),
        2 => Just(Condition::True),
        2 => Just(Condition::False),
        2 => Just(Condition::Odd),
        1 => Just(Condition::Senseless),
    ]
}

fn retries() -> impl proptest::strategy::Strategy<Value = Option<Retries>> {
    let some = (0..3_u32, any::<bool>()).prop_map(|(most, pause)| Retries { most, pause });
    prop::option::weighted(0.3, some)
}

fn group(
    kind: impl proptest::strategy::Strategy<Value = Kind>,
    least: usize,
) -> impl proptest::strategy::Strategy<Value = Vec<Node>> {
    let any_end = prop::bool::weighted(0.2);
    let member = (kind, any::<u8>(), condition(), any_end, retries());
    prop::collection::vec(member, least..6).prop_map(|members| {
        let node = |(at, (kind, mask, condition, any_end, retry)): (
            usize,
            (Kind, u8, Condition, bool, Option<Retries>),
        )| {
            let imports = matches!(kind, Kind::Importer);
            Node {
                kind,
                after: (0..at).filter(|on| mask >> on & 1 == 1).collect(),
                // The validator refuses it.
                condition: if imports { Condition::None } else { condition },
                any_end,
                retry,
            }
        };
        members.into_iter().enumerate().map(node).collect()
    })
}

/// The plan of a tree: each task has a component of its own, named after its place.
pub(super) fn plan_of(reference: &Reference) -> Plan {
    let mut components = BTreeMap::new();
    let mut root = component(Body::Dag(dag_of(reference, "", &mut components)));
    let inputs = &mut root.input_parameters;
    inputs.insert("g".into(), text(Some(json!("root")), true));
    let number = typed(ParameterType::NumberInteger, Some(json!(-1)), true);
    inputs.insert("item".into(), number);
    let mut plan = plan(root, vec![]);
    plan.components = components;
    let importer = Importer {
        uri: ImporterUri::Parameter("uri".into()),
        artifact_type: dataset(),
        metadata: json!({}),
        reimport: true,
        download_to_workspace: false,
    };
    plan.executors
        .insert("exec-import".into(), Executor::Importer(importer));
    plan
}

fn dag_of(
    reference: &Reference,
    group: &str,
    components: &mut BTreeMap<String, Component>,
) -> pipeline_spec::plan::Dag {
    let mut tasks = Vec::new();
    for at in 0..reference.members(group).len() {
        let path = join(group, at);
        let (node, _) = reference.node(&path);
        let before: Vec<String> = node.after.iter().map(|on| format!("t{on}")).collect();
        let before: Vec<&str> = before.iter().map(String::as_str).collect();
        let mut task = task(&format!("t{at}"), &path, &before);
        set_trigger(node, &mut task);
        task.retry = node.retry.map(|retries| Retry {
            max_retries: retries.most,
            backoff_ms: if retries.pause { 1_000 } else { 0 },
            backoff_factor: 2.0,
            backoff_max_ms: 60_000,
        });
        let first = reference.first_text(&path).map(|on| format!("t{on}"));
        let component = match &node.kind {
            Kind::Program | Kind::Broken => {
                task.parameters.insert("g".into(), from_group("g"));
                task.parameters.insert("item".into(), from_group("item"));
                if let Some(first) = &first {
                    let text = json!("<{{$.inputs.parameters['channel']}}>");
                    task.parameters.insert("f".into(), constant(text));
                    task.parameters
                        .insert("channel".into(), from_task(first, "out"));
                }
                program_of(reference, &path, &mut task)
            }
            Kind::Importer => {
                task.parameters.insert("uri".into(), constant(json!(path)));
                let mut import = component(Body::Executor("exec-import".into()));
                import
                    .input_parameters
                    .insert("uri".into(), text(None, false));
                import
                    .output_artifacts
                    .insert("art".into(), output_artifact());
                import
            }
            Kind::Group(inner) | Kind::Loop(inner, _) => {
                let value = first.map_or_else(|| from_group("g"), |first| from_task(&first, "out"));
                task.parameters.insert("g".into(), value);
                let dag = dag_of(reference, &path, components);
                let puts_out = reference.puts_out(&join(&path, inner.len() - 1)).is_some();
                let mut group = group_of(dag, inner.len() - 1, puts_out);
                match &node.kind {
                    Kind::Loop(_, items) => iterate(*items, &mut group, &mut task),
                    _ => {
                        task.parameters.insert("item".into(), from_group("item"));
                    }
                }
                group
            }
        };
        components.insert(path, component);
        tasks.push(task);
    }
    dag(tasks)
}

fn set_trigger(node: &Node, task: &mut pipeline_spec::plan::Task) {
    if node.any_end {
        task.trigger.strategy = pipeline_spec::plan::Strategy::AllCompleted;
    }
    let text = match node.condition {
        Condition::None => return,
        Condition::True => "1 < 2",
        Condition::False => "inputs.parameter_values['seen'] == 'x'",
        Condition::Odd => "int(inputs.parameter_values['seen']) % 2 != 0",
        Condition::Senseless => "inputs.parameter_values['seen'] + 1.0",
    };
    task.trigger.condition = text.to_owned();
    task.parameters.insert("seen".into(), from_group("item"));
}

/// A group that gives on what its last task puts out.
fn group_of(mut dag: pipeline_spec::plan::Dag, last: usize, puts_out: bool) -> Component {
    let select = |output: &str| {
        vec![OutputSelector {
            task: format!("t{last}"),
            output: output.into(),
        }]
    };
    dag.output_artifacts.insert("art".into(), select("art"));
    if puts_out {
        dag.output_parameters.insert("out".into(), select("out"));
    }
    let mut group = component(Body::Dag(dag));
    let inputs = &mut group.input_parameters;
    inputs.insert("g".into(), text(Some(json!("none")), false));
    let number = typed(ParameterType::NumberInteger, None, false);
    inputs.insert("item".into(), number);
    if puts_out {
        group
            .output_parameters
            .insert("out".into(), ParameterType::String);
    }
    group
        .output_artifacts
        .insert("art".into(), output_artifact());
    group
}

fn iterate(items: Items, group: &mut Component, task: &mut pipeline_spec::plan::Task) {
    let values: Vec<Value> = (0..items.count).map(|at| json!(item(at))).collect();
    let (kind, value) = match items.from {
        ItemsFrom::Document => (None, Value::Null),
        ItemsFrom::List => (Some(ParameterType::List), json!(values)),
        ItemsFrom::Text => (
            Some(ParameterType::String),
            json!(json!(values).to_string()),
        ),
    };
    let source = match kind {
        None => pipeline_spec::plan::Items::Raw(values),
        Some(kind) => {
            task.parameters.insert("xs".into(), constant(value));
            group
                .input_parameters
                .insert("xs".into(), typed(kind, None, false));
            pipeline_spec::plan::Items::Parameter("xs".into())
        }
    };
    task.iterator = Some(pipeline_spec::plan::Iterator {
        items: source,
        item_input: "item".into(),
        parallelism: items.limit as u32,
    });
}

fn program_of(
    reference: &Reference,
    path: &str,
    task: &mut pipeline_spec::plan::Task,
) -> Component {
    let (node, group) = reference.node(path);
    let mut program = program();
    let inputs = &mut program.input_parameters;
    inputs.insert("g".into(), text(None, false));
    let number = || typed(ParameterType::NumberInteger, None, false);
    inputs.insert("item".into(), number());
    inputs.insert("f".into(), text(None, true));
    if matches!(node.kind, Kind::Broken) {
        inputs.insert("n".into(), number());
        let value = constant(json!("no number"));
        task.parameters.insert("n".into(), value);
    }
    for on in &node.after {
        let producer = format!("t{on}");
        if let Some(list) = reference.puts_out(&join(&group, *on)) {
            let input = if list {
                typed(ParameterType::List, Some(json!([])), true)
            } else {
                text(Some(json!("none")), true)
            };
            inputs.insert(format!("i{on}"), input);
            task.parameters
                .insert(format!("i{on}"), from_task(&producer, "out"));
        }
        if node.any_end {
            let input = typed(ParameterType::TaskFinalStatus, None, false);
            inputs.insert(format!("s{on}"), input);
            let status = source(ParameterValue::FinalStatus {
                task: producer.clone(),
            });
            task.parameters.insert(format!("s{on}"), status);
        }
        program
            .input_artifacts
            .insert(format!("a{on}"), input_artifact(true));
        let source = ArtifactSource::TaskOutput {
            task: producer,
            output: "art".into(),
        };
        task.artifacts.insert(format!("a{on}"), source);
    }
    program
}
