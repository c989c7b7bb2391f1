//! Our translation against prost-reflect's, which builds messages and is slower: both must agree.

use flumina_gateway::json::{Limits, Reader, Schema, print};
use proptest::prelude::*;
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::{Map, Value, json};

fn pool() -> DescriptorPool {
    let mut pool = DescriptorPool::new();
    pool.decode_file_descriptor_set(api_kfp::DESCRIPTOR)
        .unwrap();
    pool.decode_file_descriptor_set(api_pipelines::DESCRIPTOR)
        .unwrap();
    pool
}

fn read(schema: &Schema, message: &str, text: &str) -> Result<Vec<u8>, String> {
    let mut reader = Reader::new(schema, Limits::default());
    reader
        .document(schema.find(message).unwrap(), text.as_bytes())
        .map_err(|error| error.to_string())?;
    Ok(reader.finish())
}

fn printed(schema: &Schema, message: &str, bytes: &[u8]) -> Value {
    let mut out = Vec::new();
    print(schema, schema.find(message).unwrap(), bytes, &mut out).unwrap();
    serde_json::from_slice(&out)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&out)))
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(|number| json!(f64::from(number))),
        any::<f64>()
            .prop_filter("JSON has finite numbers", |number| number.is_finite())
            .prop_map(Value::from),
        "[^\u{0}]{0,40}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 60, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map("[a-z\"\\\\ü]{0,8}", inner, 0..6)
                .prop_map(|map| Value::from(map.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

prop_compose! {
    fn run()(
        name in "[^\u{0}]{0,200}",
        parameters in prop::collection::btree_map("[a-z]{1,200}", value(), 0..5),
        seconds in -62_135_596_800_i64..253_402_300_800,
        nanos in prop_oneof![Just(0), Just(500_000_000), 0_i32..1_000_000_000],
        ids in prop::collection::vec(any::<i64>(), 0..6),
        state in 0_i32..12,
        code in any::<i32>(),
    ) -> api_kfp::v2beta1::Run {
        use api_kfp::v2beta1 as kfp;
        let list = kfp::ArtifactList { artifact_ids: ids.clone() };
        let task = kfp::PipelineTaskDetail {
            execution_id: ids.first().copied().unwrap_or_default(),
            inputs: [("a".to_owned(), list.clone()), ("b".to_owned(), list)].into(),
            child_tasks: vec![kfp::pipeline_task_detail::ChildTask {
                child_task: Some(kfp::pipeline_task_detail::child_task::ChildTask::PodName(String::new())),
            }],
            ..Default::default()
        };
        kfp::Run {
            display_name: name,
            created_at: Some(prost_types::Timestamp { seconds, nanos }),
            runtime_config: Some(kfp::RuntimeConfig {
                parameters: parameters.into_iter().map(|(key, value)| (key, proto(value))).collect(),
                ..Default::default()
            }),
            state,
            error: Some(api_google::rpc::Status { code, ..Default::default() }),
            run_details: Some(kfp::RunDetails { task_details: vec![task.clone(), task], ..Default::default() }),
            ..Default::default()
        }
    }
}

fn proto(value: Value) -> prost_types::Value {
    use prost_types::value::Kind;
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(flag) => Kind::BoolValue(flag),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap()),
        Value::String(text) => Kind::StringValue(text),
        Value::Array(items) => Kind::ListValue(prost_types::ListValue {
            values: items.into_iter().map(proto).collect(),
        }),
        Value::Object(map) => Kind::StructValue(prost_types::Struct {
            fields: map
                .into_iter()
                .map(|(key, value)| (key, proto(value)))
                .collect(),
        }),
    };
    prost_types::Value { kind: Some(kind) }
}

/// Numbers compared by value: prost-reflect prints integral doubles with a fraction.
fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => left.as_f64() == right.as_f64(),
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len()
                && left
                    .iter()
                    .zip(right)
                    .all(|(left, right)| same(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left
                    .iter()
                    .all(|(key, value)| right.get(key).is_some_and(|other| same(value, other)))
        }
        _ => left == right,
    }
}

const RUN: &str = "kubeflow.pipelines.backend.api.v2beta1.Run";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn printing_agrees_with_prost_reflect_and_reads_back(run in run()) {
        let pool = pool();
        let schema = Schema::new([&pool]);
        let bytes = run.encode_to_vec();
        let ours = printed(&schema, RUN, &bytes);

        let descriptor = pool.get_message_by_name(RUN).unwrap();
        let dynamic = DynamicMessage::decode(descriptor, &bytes[..]).unwrap();
        let options = SerializeOptions::new().use_proto_field_name(true);
        let theirs = dynamic.serialize_with_options(serde_json::value::Serializer, &options).unwrap();
        prop_assert!(same(&ours, &theirs), "{ours}\n{theirs}");

        let back = read(&schema, RUN, &ours.to_string()).unwrap();
        prop_assert_eq!(api_kfp::v2beta1::Run::decode(&back[..]).unwrap(), run);
    }

    #[test]
    fn no_text_and_no_bytes_break_the_translation(text in ".{0,200}", bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let pool = pool();
        let schema = Schema::new([&pool]);
        read(&schema, RUN, &text).ok();
        let mut out = Vec::new();
        print(&schema, schema.find(RUN).unwrap(), &bytes, &mut out).ok();
    }
}

#[test]
fn inputs_of_every_kind_are_read_as_the_mapping_says() {
    let pool = pool();
    let schema = Schema::new([&pool]);
    let task = "kubeflow.pipelines.backend.api.v2beta1.PipelineTaskDetail";
    let table = [
        (
            task,
            r#"{"executionId":"9007199254740993"}"#,
            r#"{"execution_id":"9007199254740993"}"#,
        ),
        (task, r#"{"execution_id":5}"#, r#"{"execution_id":"5"}"#),
        (task, r#"{"execution_id":5.0}"#, r#"{"execution_id":"5"}"#),
        (
            task,
            r#"{"execution_id":"-1e3"}"#,
            r#"{"execution_id":"-1000"}"#,
        ),
        (task, r#"{"execution_id":0,"task_id":"","inputs":{}}"#, "{}"),
        (
            task,
            r#"{"execution_id":null,"error":null,"child_tasks":null,"inputs":null}"#,
            "{}",
        ),
        (task, r#"{"state":"RUNNING"}"#, r#"{"state":"RUNNING"}"#),
        (task, r#"{"state":3}"#, r#"{"state":"SUCCEEDED"}"#),
        (task, r#"{"state":99}"#, r#"{"state":99}"#),
        (task, r#"{"error":{}}"#, r#"{"error":{}}"#),
        (
            task,
            r#"{"child_tasks":[{"pod_name":""}]}"#,
            r#"{"child_tasks":[{"pod_name":""}]}"#,
        ),
        (
            task,
            r#"{"create_time":"2026-01-31T13:00:00.25+01:00"}"#,
            r#"{"create_time":"2026-01-31T12:00:00.250Z"}"#,
        ),
        (
            "kubeflow.pipelines.backend.api.v2beta1.ListRecurringRunsResponse",
            r#"{"recurringRuns":[{"max_concurrency":"3","no_catchup":true}],"totalSize":1}"#,
            r#"{"recurringRuns":[{"max_concurrency":"3","no_catchup":true}],"total_size":1}"#,
        ),
        (
            "flumina.pipelines.v1.Attempt",
            r#"{"exitCode":0,"cpu_us":"18446744073709551615","notes":["a"]}"#,
            r#"{"exit_code":0,"cpu_us":"18446744073709551615","notes":["a"]}"#,
        ),
        (
            "flumina.pipelines.v1.ReadLogsResponse",
            r#"{"data":"_-8="}"#,
            r#"{"data":"/+8="}"#,
        ),
        (
            "google.protobuf.Struct",
            r#"{"a":1.0,"b":-0.5,"c":1e300,"d":9007199254740993,"e":1e-9,"f":123456789012}"#,
            r#"{"a":1,"b":-0.5,"c":1e300,"d":9007199254740992,"e":1e-9,"f":123456789012}"#,
        ),
    ];
    for (message, given, expected) in table {
        let bytes =
            read(&schema, message, given).unwrap_or_else(|error| panic!("{given}: {error}"));
        let mut out = Vec::new();
        print(&schema, schema.find(message).unwrap(), &bytes, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), expected, "{given}");
    }
}

#[test]
fn values_out_of_range_are_refused() {
    let pool = pool();
    let schema = Schema::new([&pool]);
    let task = "kubeflow.pipelines.backend.api.v2beta1.PipelineTaskDetail";
    for given in [
        r#"{"execution_id":9223372036854775808}"#,
        r#"{"execution_id":1.5}"#,
        r#"{"execution_id":"x"}"#,
        r#"{"execution_id":true}"#,
        r#"{"create_time":"2026-01-31"}"#,
        r#"{"create_time":"2026-01-31T12:00:00"}"#,
        r#"{"create_time":"2026-02-31T12:00:00Z"}"#,
        r#"{"create_time":5}"#,
        r#"{"state":4294967296}"#,
        r#"{"inputs":[]}"#,
        r#"{"child_tasks":{}}"#,
    ] {
        assert!(read(&schema, task, given).is_err(), "{given}");
    }
}

#[test]
fn what_nests_too_deeply_for_other_readers_is_refused_here() {
    let pool = pool();
    let schema = Schema::new([&pool]);
    let nested = |depth: usize| format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
    let deepest = (1..60).rev().find_map(|depth| {
        read(&schema, "google.protobuf.Struct", &nested(depth))
            .ok()
            .map(|bytes| (depth, bytes))
    });
    let (depth, bytes) = deepest.unwrap();
    assert!(depth >= 30, "{depth}");
    prost_types::Struct::decode(&bytes[..]).expect("prost must read what we accept");
}
