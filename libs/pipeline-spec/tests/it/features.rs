//! What the first release does not execute is named; what has no effect is noted.

use flumina_pipeline_spec::{Features, notes, unsupported};

use crate::{lines, planned};

fn refused(name: &str) -> Vec<String> {
    lines(&unsupported(&planned(name), &Features::default()))
}

#[test]
fn plain_pipelines_use_nothing_special() {
    for name in [
        "all_types",
        "artifacts",
        "containers",
        "f_strings",
        "importer",
        "nested",
        "optional_inputs",
        "required_inputs",
    ] {
        assert_eq!(refused(name), Vec::<String>::new(), "{name}");
        assert!(notes(&planned(name)).is_empty(), "{name}");
    }
}

#[test]
fn every_use_is_named_by_task_and_field() {
    let mut text = String::new();
    for name in [
        "artifact_loop",
        "conditions",
        "exit_handler",
        "kubernetes",
        "loops",
        "one_of_artifacts",
        "retries_and_resources",
        "workspace",
    ] {
        text.push_str(&format!("[{name}]\n{}\n\n", refused(name).join("\n")));
    }
    let expected = include_str!("../fixtures/unsupported.txt");
    assert!(text.trim() == expected.trim(), "the uses are now:\n{text}");
}

#[test]
fn an_engine_that_executes_all_refuses_nothing() {
    let keys = "activeDeadlineSeconds configMapAsEnv configMapAsVolume createPvc deletePvc emptyDirMounts \
                fieldPathAsEnv genericEphemeralVolume pvcMount secretAsEnv secretAsVolume";
    let features = Features {
        conditions: true,
        loops: true,
        artifact_loops: true,
        exit_strategies: true,
        retries: true,
        final_status: true,
        task_config: true,
        selectors: true,
        one_of: true,
        workspace: true,
        platform: keys.split_whitespace().map(str::to_owned).collect(),
    };
    for name in [
        "conditions",
        "exit_handler",
        "kubernetes",
        "loops",
        "workspace",
    ] {
        assert_eq!(unsupported(&planned(name), &features), [], "{name}");
    }
}

#[test]
fn settings_without_effect_are_noted() {
    let notes = lines(&notes(&planned("kubernetes")));
    let at = "platforms.kubernetes.deploymentSpec.executors.exec-echo";
    let keys = [
        "imagePullPolicy",
        "imagePullSecret",
        "nodeAffinity",
        "nodeSelector",
        "podMetadata",
        "securityContext",
        "tolerations",
    ];
    let expected: Vec<String> = keys
        .iter()
        .map(|key| format!("{at}.{key}: has no effect on one machine"))
        .collect();
    assert_eq!(notes, expected);
}
