//! What a task asks of the platform, in the runner's terms.

use api_runner::v1 as runner;
use serde_json::Value;

use crate::domain::platform::{
    KeyOf, MountSource, Platform, PlatformMount, PlatformVariable, PlatformVolumeTask,
    VariableSource,
};

/// Parts of a workload.
pub(super) struct Asked {
    pub(super) volumes: Vec<runner::Volume>,
    pub(super) env_from: Vec<runner::EnvFrom>,
    pub(super) timeout: Option<prost_types::Duration>,
    pub(super) placement: Option<runner::Placement>,
}

/// Settings that mean nothing to a process are recorded and noted by the runner.
pub(super) fn settings(platform: Platform) -> Asked {
    let timeout = i64::try_from(platform.timeout_seconds).unwrap_or(i64::MAX);
    let placed = !platform.ignored.is_empty()
        || !platform.labels.is_empty()
        || !platform.annotations.is_empty();
    let pod_spec_json = match platform.ignored.is_empty() {
        true => String::new(),
        false => Value::Object(platform.ignored).to_string(),
    };
    Asked {
        volumes: platform.mounts.into_iter().map(volume).collect(),
        env_from: platform.env.into_iter().map(variable).collect(),
        timeout: (timeout > 0).then_some(prost_types::Duration {
            seconds: timeout,
            nanos: 0,
        }),
        placement: placed.then(|| runner::Placement {
            pod_spec_json,
            labels: platform.labels.into_iter().collect(),
            annotations: platform.annotations.into_iter().collect(),
            ..Default::default()
        }),
    }
}

fn volume(mount: PlatformMount) -> runner::Volume {
    use runner::volume::Source;
    let mut scratch = String::new();
    let source = match mount.source {
        MountSource::Volume { name, sub_path } => {
            Source::Volume(runner::VolumeSource { name, sub_path })
        }
        MountSource::Scratch { name, size } => {
            scratch = name;
            Source::Scratch(runner::ScratchSource { size_limit: size })
        }
        MountSource::Secret { name, optional } => {
            Source::Secret(runner::ObjectSource { name, optional })
        }
        MountSource::ConfigMap { name, optional } => {
            Source::ConfigMap(runner::ObjectSource { name, optional })
        }
        MountSource::Workspace { size } => {
            Source::Workspace(runner::WorkspaceSource { size_limit: size })
        }
    };
    runner::Volume {
        name: scratch,
        mount_path: mount.path,
        read_only: false,
        source: Some(source),
    }
}

fn variable(variable: PlatformVariable) -> runner::EnvFrom {
    use runner::env_from::Source;
    let key = |key: KeyOf| runner::KeySource {
        name: key.name,
        key: key.key,
        optional: key.optional,
    };
    let source = match variable.source {
        VariableSource::Secret(of) => Source::Secret(key(of)),
        VariableSource::ConfigMap(of) => Source::ConfigMap(key(of)),
        VariableSource::Field(path) => Source::FieldPath(path),
    };
    runner::EnvFrom {
        name: variable.name,
        source: Some(source),
    }
}

/// What the runner does in place of a program.
pub(super) fn volume_task(task: PlatformVolumeTask) -> runner::VolumeTask {
    use runner::volume_task::Task;
    let task = match task {
        PlatformVolumeTask::Create {
            name,
            suffix,
            size,
            access_modes,
            storage_class,
        } => Task::Create(runner::NewVolume {
            name,
            name_suffix: suffix,
            size,
            access_modes,
            storage_class,
        }),
        PlatformVolumeTask::Delete { name } => Task::Delete(name),
    };
    runner::VolumeTask { task: Some(task) }
}
