//! Our copy of the schema against the descriptors of the published wheels.

use std::collections::BTreeMap;

use prost_reflect::DescriptorPool;
use serde::Deserialize;

#[derive(Deserialize)]
struct Upstream {
    messages: BTreeMap<String, BTreeMap<String, u32>>,
    enums: BTreeMap<String, BTreeMap<String, i32>>,
}

/// Written by `tests/fixtures/dump_descriptor.py`.
const UPSTREAM: &str = include_str!("../fixtures/upstream_descriptor.json");

/// In the source repository, and not yet in a published wheel.
const AHEAD: [&str; 2] = [
    "kfp_kubernetes.InitContainer",
    "kfp_kubernetes.KubernetesExecutorConfig.init_containers",
];

#[test]
fn our_names_and_numbers_are_those_of_the_wheels() {
    let upstream: Upstream = serde_json::from_str(UPSTREAM).unwrap();
    let pool = DescriptorPool::decode(flumina_pipeline_spec::DESCRIPTOR).unwrap();
    let ahead = |name: &str| AHEAD.iter().any(|ahead| name.starts_with(ahead));
    let mut messages = 0;
    for message in pool.all_messages() {
        let name = message.full_name();
        let ours = ["ml_pipelines", "kfp_kubernetes"].contains(&message.package_name());
        if !ours || message.is_map_entry() || ahead(name) {
            continue;
        }
        let theirs = upstream.messages.get(name);
        let theirs = theirs.unwrap_or_else(|| panic!("upstream has no message {name}"));
        for field in message.fields() {
            if ahead(field.full_name()) {
                continue;
            }
            assert_eq!(
                theirs.get(field.name()),
                Some(&field.number()),
                "{name}.{}",
                field.name()
            );
        }
        messages += 1;
    }
    for kind in pool.all_enums() {
        if !["ml_pipelines", "kfp_kubernetes"].contains(&kind.package_name()) {
            continue;
        }
        let theirs = &upstream.enums[kind.full_name()];
        for value in kind.values() {
            assert_eq!(
                theirs.get(value.name()),
                Some(&value.number()),
                "{}",
                value.full_name()
            );
        }
    }
    assert!(messages > 80, "only {messages} messages were compared");
}
