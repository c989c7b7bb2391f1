//! Checks what a workload asks for besides its program: volumes, secrets, config maps, fields.

use std::collections::HashSet;

use api_runner::v1::volume::Source;
use api_runner::v1::volume_task::Task;
use api_runner::v1::{Volume, WorkloadSpec, env_from};

use super::validate::Problems;
use crate::app;
use crate::domain::bundle::{is_key, is_name};
use crate::domain::{field_path, quantity};

const MAX_VOLUMES: usize = 100;
const MAX_ENV: usize = 1000;
const NAME: &str =
    "expected a name: 1 to 253 characters of a-z 0-9 . -, the first and last one a letter or digit";
const KEY: &str = "expected a key: 1 to 253 characters of a-z A-Z 0-9 . _ -";
const SIZE: &str = "expected a quantity such as 1Gi";
const PATH: &str =
    "expected an absolute path without `.`, `..` and empty parts, not one of / /proc /sys /dev";
const BELOW: &str = "expected a relative path without `.`, `..` and empty parts";

pub(super) fn check(problems: &mut Problems, id: &str, spec: &WorkloadSpec) {
    check_volumes(problems, spec);
    check_env(problems, spec);
    check_task(problems, id, spec);
    if let Some(placement) = &spec.placement {
        let maps = placement.labels.iter().chain(&placement.annotations);
        let size: usize = maps.map(|(key, value)| key.len() + value.len()).sum();
        let fine = size <= 256 * 1024;
        let text = "labels and annotations have at most 256 KiB";
        problems.check(fine, "spec.placement", text);
    }
}

fn check_volumes(problems: &mut Problems, spec: &WorkloadSpec) {
    let fine = spec.volumes.len() <= MAX_VOLUMES;
    problems.check(fine, "spec.volumes", "at most 100 volumes");
    let mut paths = HashSet::new();
    for (index, volume) in spec.volumes.iter().enumerate() {
        let field = format!("spec.volumes[{index}]");
        let path = volume.mount_path.as_str();
        problems.check(is_mount_path(path), &format!("{field}.mount_path"), PATH);
        if !paths.insert(path) {
            problems.add(
                format!("{field}.mount_path"),
                format!("`{path}` is there twice"),
            );
        }
        check_source(problems, &field, volume);
    }
}

fn check_source(problems: &mut Problems, field: &str, volume: &Volume) {
    let size = |text: &str| text.is_empty() || quantity::bytes(text).is_some();
    match &volume.source {
        None => problems.add(field, "must say what is mounted"),
        Some(Source::Volume(wanted)) => {
            let below = wanted.sub_path.as_str();
            problems.check(is_name(&wanted.name), &format!("{field}.volume.name"), NAME);
            let fine = below.is_empty() || is_plain(below);
            problems.check(fine, &format!("{field}.volume.sub_path"), BELOW);
        }
        Some(Source::Scratch(scratch)) => {
            // It becomes the name of a directory.
            let fine = is_key(&volume.name);
            problems.check(fine, &format!("{field}.name"), KEY);
            let fine = size(&scratch.size_limit);
            problems.check(fine, &format!("{field}.scratch.size_limit"), SIZE);
        }
        Some(Source::Workspace(workspace)) => {
            let fine = size(&workspace.size_limit);
            problems.check(fine, &format!("{field}.workspace.size_limit"), SIZE);
        }
        Some(Source::Secret(wanted)) => {
            problems.check(is_name(&wanted.name), &format!("{field}.secret.name"), NAME);
        }
        Some(Source::ConfigMap(wanted)) => {
            problems.check(
                is_name(&wanted.name),
                &format!("{field}.config_map.name"),
                NAME,
            );
        }
    }
}

fn check_env(problems: &mut Problems, spec: &WorkloadSpec) {
    let fine = spec.env_from.len() <= MAX_ENV;
    problems.check(fine, "spec.env_from", "at most 1000 variables");
    for (index, variable) in spec.env_from.iter().enumerate() {
        let field = format!("spec.env_from[{index}]");
        let name = &variable.name;
        // All keys of a source, behind a prefix that may be empty.
        let whole = matches!(
            &variable.source,
            Some(env_from::Source::Secret(key) | env_from::Source::ConfigMap(key))
                if key.key.is_empty()
        );
        let fine = (usize::from(!whole)..=1024).contains(&name.len())
            && !name.contains(['=', '\0'])
            && !name.starts_with("FLUMINA_");
        let text = "expected 1 to 1024 characters without `=` and NUL, not beginning with FLUMINA_";
        problems.check(fine, &format!("{field}.name"), text);
        let key = match &variable.source {
            None => {
                problems.add(&field, "must say where the value comes from");
                continue;
            }
            Some(env_from::Source::FieldPath(path)) => {
                let text = format!(
                    "`{path}` is no field of a pod that a program can have, such as metadata.name or metadata.labels['a']"
                );
                let fine = field_path::exists(path);
                problems.check(fine, &format!("{field}.field_path"), &text);
                continue;
            }
            Some(env_from::Source::Secret(key) | env_from::Source::ConfigMap(key)) => key,
        };
        problems.check(is_name(&key.name), &format!("{field}.name_of_source"), NAME);
        problems.check(whole || is_key(&key.key), &format!("{field}.key"), KEY);
    }
}

fn check_task(problems: &mut Problems, id: &str, spec: &WorkloadSpec) {
    let Some(task) = &spec.volume_task else {
        return;
    };
    match &task.task {
        None => problems.add("spec.volume_task", "must say what is done"),
        Some(Task::Delete(name)) => {
            problems.check(is_name(name), "spec.volume_task.delete", NAME);
        }
        Some(Task::Create(new)) => {
            let problem = id
                .parse()
                .ok()
                .and_then(|id| app::volume_name_problem(&id, new));
            if let Some(problem) = problem {
                problems.add("spec.volume_task.create.name", problem);
            }
            let fine = new.size.is_empty() || quantity::bytes(&new.size).is_some();
            problems.check(fine, "spec.volume_task.create.size", SIZE);
            let short = new.access_modes.len() <= 10
                && new.access_modes.iter().all(|mode| is_key(mode))
                && new.storage_class.len() <= 253
                && !new.storage_class.contains('\0');
            let text = "access modes and storage class are names";
            problems.check(short, "spec.volume_task.create", text);
        }
    }
}

/// What an agent can mount something at without taking the machine away from the program.
fn is_mount_path(path: &str) -> bool {
    let parts = path.strip_prefix('/').unwrap_or_default();
    let parts = parts.strip_suffix('/').unwrap_or(parts);
    let first = parts.split('/').next().unwrap_or_default();
    path.len() <= 1024 && is_plain(parts) && !["proc", "sys", "dev"].contains(&first)
}

fn is_plain(path: &str) -> bool {
    let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    !path.contains('\0') && path.len() <= 1024 && path.split('/').all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_do_not_take_the_machine_away() {
        for path in ["/data", "/mnt/a/b", "/data/"] {
            assert!(is_mount_path(path), "{path}");
        }
        for path in [
            "", "/", "data", "/a/../b", "/a//b", "/proc/x", "/sys", "/dev/shm", "/a\0",
        ] {
            assert!(!is_mount_path(path), "{path}");
        }
    }
}
