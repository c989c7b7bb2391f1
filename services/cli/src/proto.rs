//! The proto files of the public API, as they are in the repository.

macro_rules! files {
    ($($path:literal),* $(,)?) => {
        /// Path relative to the proto root, and content.
        pub(crate) const FILES: &[(&str, &str)] =
            &[$(($path, include_str!(concat!("../../../proto/", $path)))),*];
    };
}

files!(
    "flumina/pipelines/v1/pipelines.proto",
    "flumina/pipelines/v1/programs.proto",
    "flumina/pipelines/v1/run_lists.proto",
    "flumina/pipelines/v1/schedules.proto",
    "flumina/runner/v1/runner.proto",
    "flumina/runner/v1/store.proto",
    "flumina/step/v1/step.proto",
    "flumina/step/v1/transfer.proto",
    "google/api/annotations.proto",
    "google/api/http.proto",
    "google/rpc/status.proto",
    "kubeflow/pipelines/backend/api/v1beta1/auth.proto",
    "kubeflow/pipelines/backend/api/v1beta1/experiment.proto",
    "kubeflow/pipelines/backend/api/v1beta1/job.proto",
    "kubeflow/pipelines/backend/api/v1beta1/pipeline.proto",
    "kubeflow/pipelines/backend/api/v1beta1/pipeline_spec.proto",
    "kubeflow/pipelines/backend/api/v1beta1/resource_reference.proto",
    "kubeflow/pipelines/backend/api/v1beta1/run.proto",
    "kubeflow/pipelines/backend/api/v2beta1/auth.proto",
    "kubeflow/pipelines/backend/api/v2beta1/experiment.proto",
    "kubeflow/pipelines/backend/api/v2beta1/filter.proto",
    "kubeflow/pipelines/backend/api/v2beta1/healthz.proto",
    "kubeflow/pipelines/backend/api/v2beta1/pipeline.proto",
    "kubeflow/pipelines/backend/api/v2beta1/recurring_run.proto",
    "kubeflow/pipelines/backend/api/v2beta1/run.proto",
    "kubeflow/pipelines/backend/api/v2beta1/runtime_config.proto",
);

/// Writes the files below `dir`.
pub(crate) fn export(dir: &std::path::Path) -> anyhow::Result<usize> {
    use anyhow::Context as _;
    for (path, content) in FILES {
        let target = dir.join(path);
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent)
                .with_context(|| format!("cannot make {}", parent.display()))?;
        }
        std::fs::write(&target, content)
            .with_context(|| format!("cannot write {}", target.display()))?;
    }
    Ok(FILES.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Packages that clients never call.
    const INTERNAL: &[&str] = &["ml_pipelines", "kfp_kubernetes"];

    #[test]
    fn every_public_proto_file_is_exported() {
        let root = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../proto"));
        let mut found = Vec::new();
        let mut folders = vec![root.to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let relative = path.strip_prefix(root).unwrap().display().to_string();
                if !INTERNAL.iter().any(|package| relative.starts_with(package)) {
                    found.push(relative);
                }
            }
        }
        found.sort();
        let listed: Vec<&str> = FILES.iter().map(|(path, _)| *path).collect();
        assert_eq!(found, listed);
    }
}
