//! Volumes: named directories that outlive workloads.
//!
//! A volume is a row first and a directory after it; whoever uses one makes the directory when it is not there. Its end is
//! a mark on the row, then the directory goes, then the row: killed anywhere, the next start goes on with what is marked.

use std::path::{Path, PathBuf};

use api_runner::v1::volume::Source;
use api_runner::v1::volume_task::Task;
use api_runner::v1::{NewVolume, VolumeTask};
use api_step::v1::{Outcome, ParameterValue, StepResult};
use ids::{RequestId, WorkloadId};
use runtime::abort_point;

use super::Runner;
use super::bundles::{after, cut, missing, refused};
use super::files::remove_tree;
use super::run::Ending;
use crate::domain::bundle::is_name;
use crate::error::Error;
use crate::store::Volume;

/// The output parameter of a task that is about a volume.
const NAME: &str = "name";
const VOLUME: &str = "volume";

impl Runner {
    /// The directory of a volume. Namespaces and names are safe parts of paths.
    pub(crate) fn volume_dir(&self, namespace: &str, name: &str) -> PathBuf {
        let volumes = self.0.config.data_dir.join("volumes");
        volumes.join(namespace).join(name)
    }

    /// The directory that the workloads of an owner share.
    pub(super) fn workspace_dir(&self, owner: &str) -> PathBuf {
        self.0.config.data_dir.join("workspaces").join(owner)
    }

    /// Makes a volume; `request_id` is that of a call, `created_by` that of a workload.
    pub(crate) async fn create_volume(
        &self,
        volume: Volume,
        request_id: String,
    ) -> Result<Volume, Error> {
        let (namespace, name) = (volume.namespace.clone(), volume.name.clone());
        let by = volume.created_by.clone();
        let mutation = self.mutation(request_id, "create", target(&namespace, &name));
        let made = self.0.store.new_volume(volume, mutation).await;
        let (stored, made) = made.map_err(refused(VOLUME, &namespace, &name))?;
        abort_point("runner.volume.committed");
        // A workload that was killed meanwhile finds its own.
        let own = !by.is_empty() && stored.created_by == by;
        if stored.deleting || !(made || own) {
            return Err(Error::ObjectExists {
                kind: VOLUME,
                namespace,
                name,
            });
        }
        make_dir(&self.volume_dir(&namespace, &name))?;
        abort_point("runner.volume.made");
        tracing::info!(%namespace, %name, "made a volume");
        Ok(stored)
    }

    /// Reads a volume.
    pub(crate) async fn volume(&self, namespace: &str, name: &str) -> Result<Volume, Error> {
        let found = self.0.store.volume(namespace, name).await?;
        found
            .filter(|volume| !volume.deleting)
            .ok_or_else(|| missing(VOLUME, namespace, name))
    }

    /// A page of volumes by name, and the token of the next.
    pub(crate) async fn volumes(
        &self,
        namespace: &str,
        size: i32,
        token: &str,
    ) -> Result<(Vec<Volume>, String), Error> {
        let query = format!("volumes/{namespace}");
        let (after, size) = after(&query, size, token)?;
        let found = self.0.store.volumes(namespace, &after, size + 1);
        Ok(cut(found.await?, size, &query, |volume| &volume.name))
    }

    /// Removes a volume with its content, unless a workload uses it.
    pub(crate) async fn delete_volume(
        &self,
        namespace: &str,
        name: &str,
        request_id: String,
    ) -> Result<(), Error> {
        if let Some(by) = self.volume_user(namespace, name) {
            return Err(Error::VolumeInUse {
                name: name.to_owned(),
                by: by.to_string(),
            });
        }
        let mutation = self.mutation(request_id, "delete", target(namespace, name));
        let marked = self.0.store.leave_volume(namespace, name, mutation).await;
        if !marked.map_err(refused(VOLUME, namespace, name))? {
            return Err(missing(VOLUME, namespace, name));
        }
        abort_point("runner.volume.leaving");
        self.finish_volume(namespace, name).await
    }

    /// Removes the directory of a marked volume, then its row.
    async fn finish_volume(&self, namespace: &str, name: &str) -> Result<(), Error> {
        let dir = self.volume_dir(namespace, name);
        let removed = tokio::task::spawn_blocking(move || remove_tree(&dir)).await;
        match removed {
            Ok(removed) => removed?,
            Err(error) => tracing::error!(%error, "cannot remove a volume"),
        }
        abort_point("runner.volume.removed");
        self.0.store.drop_volume(namespace, name).await?;
        tracing::info!(%namespace, %name, "removed a volume");
        Ok(())
    }

    /// Goes on with removals that a restart interrupted.
    pub(super) async fn finish_volumes(&self) -> Result<(), Error> {
        for volume in self.0.store.leaving_volumes().await? {
            self.finish_volume(&volume.namespace, &volume.name).await?;
        }
        Ok(())
    }

    /// A workload that runs with a volume.
    fn volume_user(&self, namespace: &str, name: &str) -> Option<WorkloadId> {
        let live = self.live();
        let uses =
            |source: &Source| matches!(source, Source::Volume(volume) if volume.name == name);
        live.workloads
            .values()
            .filter(|live| live.record.state.placed() && live.record.namespace == namespace)
            .find(|live| {
                let mut sources = live.record.spec.volumes.iter();
                sources.any(|volume| volume.source.as_ref().is_some_and(uses))
            })
            .map(|live| live.record.id.clone())
    }

    /// Does what a workload is there for when that is no program but something with a volume. Done again after a restart,
    /// it comes to the same.
    pub(super) async fn volume_task(&self, id: &WorkloadId) -> Option<Ending> {
        let record = self.live_record(id)?;
        let task = record.spec.volume_task.clone()?;
        let done = self.do_volume_task(id, &record.namespace, task).await;
        Some(match done {
            Ok(name) => Ending::with_result(named(name)),
            Err(error) => {
                use aip::ApiError as _;
                Ending::new(
                    crate::domain::state::Event::Fail,
                    error.reason(),
                    aip::chain(&error),
                )
            }
        })
    }

    async fn do_volume_task(
        &self,
        id: &WorkloadId,
        namespace: &str,
        task: VolumeTask,
    ) -> Result<String, Error> {
        match task.task {
            Some(Task::Create(new)) => {
                let volume = Volume {
                    namespace: namespace.to_owned(),
                    name: volume_name(id, &new),
                    size: new.size,
                    access_modes: new.access_modes,
                    storage_class: new.storage_class,
                    created_by: id.to_string(),
                    deleting: false,
                    created_at: self.0.clock.now(),
                };
                Ok(self.create_volume(volume, String::new()).await?.name)
            }
            Some(Task::Delete(name)) => {
                match self.delete_volume(namespace, &name, String::new()).await {
                    // It may have been removed just before a restart.
                    Ok(()) | Err(Error::NoObject { .. }) => Ok(name),
                    Err(error) => Err(error),
                }
            }
            None => Ok(String::new()),
        }
    }
}

/// The name of a volume that a workload makes: the same each time that it is asked for.
pub(crate) fn volume_name(id: &WorkloadId, new: &NewVolume) -> String {
    if new.name.is_empty() {
        let uuid = RequestId::derived(id.as_str());
        format!("{uuid}{}", new.name_suffix)
    } else {
        new.name.clone()
    }
}

/// What is wrong with the name of a volume to make; none when it is fine.
pub(crate) fn name_problem(id: &WorkloadId, new: &NewVolume) -> Option<String> {
    let name = volume_name(id, new);
    (!is_name(&name)).then(|| {
        format!("`{name}` is no name of a volume: expected 1 to 253 characters of a-z 0-9 . -, the first and last one a letter or digit")
    })
}

fn target(namespace: &str, name: &str) -> String {
    format!("{VOLUME}/{namespace}/{name}")
}

/// Makes a directory for this user alone, with its parents.
pub(super) fn make_dir(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path);
    made.map_err(Error::io(path))
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A success with the name as its output.
fn named(name: String) -> Box<StepResult> {
    let value = serde_json::Value::from(name.as_str()).to_string();
    let parameter = ParameterValue {
        name: NAME.to_owned(),
        size_bytes: name.len() as u64,
        sha256: sha256(value.as_bytes()),
        value_json: value,
    };
    let mut result = StepResult {
        parameters: vec![parameter],
        ..Default::default()
    };
    result.set_outcome(Outcome::Succeeded);
    Box::new(result)
}
