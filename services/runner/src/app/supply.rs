//! What a workload gets besides its program: volumes, secrets, config maps, fields.
//!
//! The assignment, which lies on a disk, says what goes where. The values of secrets and config maps reach the agent in
//! memory when it is started, and are looked up each time, so that nothing of them is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use aip::ApiError as _;
use api_runner::v1::volume::Source;
use api_runner::v1::{Volume as Wanted, WorkloadSpec, env_from};
use api_step::v1::{Assignment, Confidential, ConfidentialFile, EnvVar, Mount};
use ids::{RequestId, WorkloadId};
use prost::Message as _;

use super::Runner;
use super::run::Ending;
use super::volumes::make_dir;
use crate::domain::bundle::{Kind, Values};
use crate::domain::field_path::{self, Pod};
use crate::domain::state::Event;
use crate::error::Error;
use crate::store::{Record, Volume};
use crate::sys;

/// How long a replay may take to fetch what it needs.
const KEPT: Duration = Duration::from_secs(60);
/// Where the kfp SDK expects the workspace.
const WORKSPACE: &str = "/kfp-workspace";

/// Why a workload cannot have what it needs.
struct Unsupplied {
    reason: &'static str,
    message: String,
}

impl From<Error> for Unsupplied {
    fn from(error: Error) -> Self {
        Self {
            reason: error.reason(),
            message: aip::chain(&error),
        }
    }
}

/// Bundles that were looked up: each once, so that a workload sees one version of it.
type Found = BTreeMap<(Kind, String), Option<Values>>;

impl Runner {
    /// Adds to an assignment where volumes go and what fields of the workload its variables have.
    pub(super) fn add_supplies(
        &self,
        id: &WorkloadId,
        spec: &WorkloadSpec,
        assignment: &mut Assignment,
    ) {
        for volume in &spec.volumes {
            let Some(source) = &volume.source else {
                continue;
            };
            let dir = self.source_dir(id, spec, volume, source);
            if let Source::Workspace(_) = source
                && let Some(dir) = &dir
                && volume.mount_path == WORKSPACE
            {
                assignment.workspace_dir = dir.display().to_string();
            }
            assignment.mounts.push(Mount {
                path: volume.mount_path.clone(),
                read_only: volume.read_only || dir.is_none(),
                source: dir.map_or_else(String::new, |dir| dir.display().to_string()),
            });
        }
        let secrets = spec.step.as_ref().map(|step| {
            let namespace = super::launch::namespace(spec);
            self.0.stores.secrets(&namespace, step)
        });
        assignment.confidential =
            needs_values(spec) || secrets.is_some_and(|secrets| !secrets.is_empty());
        let uid = RequestId::derived(id.as_str()).to_string();
        let none = api_runner::v1::Placement::default();
        let placement = spec.placement.as_ref().unwrap_or(&none);
        let namespace = super::launch::namespace(spec);
        let pod = Pod {
            name: id.as_str(),
            uid: &uid,
            namespace: &namespace,
            node: &self.0.host_name,
            labels: &placement.labels,
            annotations: &placement.annotations,
        };
        // Every program of a pipeline finds these; what it is given by name wins.
        let known = [
            ("KFP_POD_NAME", pod.name),
            ("KFP_POD_UID", pod.uid),
            ("NAMESPACE", pod.namespace),
        ];
        let known = known.map(|(name, value)| EnvVar {
            name: name.to_owned(),
            value: value.to_owned(),
        });
        assignment.env.splice(..0, known);
        for variable in &spec.env_from {
            let Some(env_from::Source::FieldPath(path)) = &variable.source else {
                continue;
            };
            if let Some(value) = field_path::value(path, &pod) {
                let name = variable.name.clone();
                assignment.env.push(EnvVar { name, value });
            }
        }
    }

    /// The directory that is mounted; none for files in memory.
    fn source_dir(
        &self,
        id: &WorkloadId,
        spec: &WorkloadSpec,
        volume: &Wanted,
        source: &Source,
    ) -> Option<PathBuf> {
        match source {
            Source::Volume(wanted) => {
                let dir = self.volume_dir(&super::launch::namespace(spec), &wanted.name);
                Some(match wanted.sub_path.as_str() {
                    "" => dir,
                    below => dir.join(below),
                })
            }
            Source::Scratch(_) => Some(self.0.files.dir(id).join("scratch").join(&volume.name)),
            Source::Workspace(_) => Some(self.workspace_dir(&spec.owner)),
            Source::Secret(_) | Source::ConfigMap(_) => None,
        }
    }

    /// Makes the directories of a workload and looks up its values, just before its agent is started.
    pub(super) async fn supply(&self, id: &WorkloadId) -> Result<Option<Confidential>, Ending> {
        let Some(record) = self.live_record(id) else {
            return Ok(None);
        };
        let spec = &record.spec;
        let bare = spec.volumes.is_empty() && spec.env_from.is_empty();
        if bare && !self.0.stores.has_secrets() {
            return Ok(None);
        }
        let supplied = async {
            self.make_volumes(&record).await?;
            self.look_up(&record).await
        };
        supplied
            .await
            .map_err(|missing| Ending::new(Event::Fail, missing.reason, missing.message))
    }

    async fn make_volumes(&self, record: &Record) -> Result<(), Unsupplied> {
        for volume in &record.spec.volumes {
            let Some(source) = &volume.source else {
                continue;
            };
            if let Source::Volume(wanted) = source {
                self.want_volume(record, &wanted.name).await?;
            }
            if let Some(dir) = self.source_dir(&record.id, &record.spec, volume, source) {
                make_dir(&dir)?;
            }
        }
        Ok(())
    }

    /// Makes a volume that does not exist, and says so, unless that is refused.
    async fn want_volume(&self, record: &Record, name: &str) -> Result<(), Unsupplied> {
        let namespace = &record.namespace;
        match self.volume(namespace, name).await {
            Err(Error::NoObject { .. }) if !self.0.config.strict_volumes => {}
            Err(error @ Error::NoObject { .. }) => {
                return Err(Unsupplied {
                    reason: error.reason(),
                    message: format!("{error}: make it with `flumina volume create {name}`"),
                });
            }
            other => return other.map(drop).map_err(Into::into),
        }
        let volume = Volume {
            namespace: namespace.clone(),
            name: name.to_owned(),
            size: String::new(),
            access_modes: Vec::new(),
            storage_class: String::new(),
            created_by: record.id.to_string(),
            deleting: false,
            created_at: self.0.clock.now(),
        };
        match self.create_volume(volume, String::new()).await {
            Ok(_) => {
                self.note(
                    &record.id,
                    format!("volume `{name}` did not exist: it was made"),
                );
                Ok(())
            }
            // Another workload was faster.
            Err(Error::ObjectExists { .. }) => self
                .volume(namespace, name)
                .await
                .map(drop)
                .map_err(Into::into),
            Err(error) => Err(error.into()),
        }
    }

    async fn look_up(&self, record: &Record) -> Result<Option<Confidential>, Unsupplied> {
        let spec = &record.spec;
        let stores = self.store_secrets(record)?;
        if !needs_values(spec) && stores.is_empty() {
            return Ok(None);
        }
        let mut found = Found::new();
        let mut confidential = Confidential::default();
        let mut secrets = BTreeMap::new();
        for name in stores {
            let values = self.find(&mut found, record, Kind::Secret, &name, false);
            let values = values.await?.into_iter().flatten();
            // Keys of stores are texts; what is none is named where it is needed.
            let texts =
                values.map(|(key, value)| (key.clone(), String::from_utf8(value.clone()).ok()));
            secrets.insert(name, texts.collect::<BTreeMap<_, _>>());
        }
        if !secrets.is_empty() {
            confidential.store_secrets = serde_json::to_vec(&secrets)
                .map_err(|error| Error::io(Path::new("the secrets of stores"))(error.into()))?;
        }
        let named = named(spec);
        for variable in &spec.env_from {
            let (kind, wanted) = match &variable.source {
                Some(env_from::Source::Secret(wanted)) => (Kind::Secret, wanted),
                Some(env_from::Source::ConfigMap(wanted)) => (Kind::ConfigMap, wanted),
                Some(env_from::Source::FieldPath(_)) | None => continue,
            };
            let values = self
                .find(&mut found, record, kind, &wanted.name, wanted.optional)
                .await?;
            let Some(values) = values else { continue };
            if wanted.key.is_empty() {
                for (key, value) in values {
                    let name = format!("{}{key}", variable.name);
                    if !named.contains(&name) && is_variable(&name) {
                        let value = text(kind, &wanted.name, key, value)?;
                        confidential.env.push(EnvVar { name, value });
                    }
                }
                continue;
            }
            let Some(value) = values.get(&wanted.key) else {
                if wanted.optional {
                    continue;
                }
                return Err(no_key(kind, &wanted.name, &wanted.key, values));
            };
            let value = text(kind, &wanted.name, &wanted.key, value)?;
            let name = variable.name.clone();
            confidential.env.push(EnvVar { name, value });
        }
        for volume in &spec.volumes {
            let (kind, wanted) = match &volume.source {
                Some(Source::Secret(wanted)) => (Kind::Secret, wanted),
                Some(Source::ConfigMap(wanted)) => (Kind::ConfigMap, wanted),
                _ => continue,
            };
            let values = self
                .find(&mut found, record, kind, &wanted.name, wanted.optional)
                .await?;
            let files = values.into_iter().flatten();
            confidential
                .files
                .extend(files.map(|(key, content)| ConfidentialFile {
                    mount: volume.mount_path.clone(),
                    name: key.clone(),
                    content: content.clone(),
                }));
        }
        Ok(Some(confidential))
    }

    /// The secrets that its artifacts need, by its assignment: what is kept of a request has no inputs.
    fn store_secrets(&self, record: &Record) -> Result<BTreeSet<String>, Error> {
        if !self.0.stores.has_secrets() {
            return Ok(BTreeSet::new());
        }
        let assignment = self.0.files.assignment(&record.id)?;
        let step = assignment.step.unwrap_or_default();
        Ok(self.0.stores.secrets(&record.namespace, &step))
    }

    /// The values of a bundle; none for one that does not exist and need not.
    async fn find<'a>(
        &self,
        found: &'a mut Found,
        record: &Record,
        kind: Kind,
        name: &str,
        optional: bool,
    ) -> Result<Option<&'a Values>, Unsupplied> {
        let key = (kind, name.to_owned());
        if !found.contains_key(&key) {
            let values = match self.bundle(kind, &record.namespace, name).await {
                Ok(bundle) => Some(self.values(&bundle)?),
                Err(Error::NoObject { .. }) => None,
                Err(error) => return Err(error.into()),
            };
            found.insert(key.clone(), values);
        }
        match found.get(&key) {
            Some(Some(values)) => Ok(Some(values)),
            _ if optional => Ok(None),
            _ => {
                let error = super::bundles::missing(kind.word(), &record.namespace, name);
                Err(Unsupplied {
                    reason: error.reason(),
                    message: format!(
                        "{error}: create it with `flumina {} create {name}`",
                        kind.command()
                    ),
                })
            }
        }
    }

    /// A file in memory with the values of a workload, for a replay by the same user; it is gone after a while.
    pub(crate) async fn hand_over(&self, id: &WorkloadId) -> Result<String, Error> {
        let record = self.get(id).await?;
        let looked_up = self
            .look_up(&record)
            .await
            .map_err(|missing| Error::Unsupplied(missing.reason, missing.message))?;
        let Some(confidential) = looked_up else {
            return Ok(String::new());
        };
        let file = sys::memory_file(&confidential.encode_to_vec())
            .map_err(Error::io(&PathBuf::from("a file in memory")))?;
        use std::os::fd::AsRawFd as _;
        let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
        self.spawn("hand-over", async move {
            tokio::time::sleep(KEPT).await;
            drop(file);
        });
        Ok(path)
    }

    /// Adds a note to a workload that has not ended; it is stored with the next change.
    fn note(&self, id: &WorkloadId, note: String) {
        let mut live = self.live();
        if let Some(live) = live.workloads.get_mut(id)
            && !live.record.notes.contains(&note)
        {
            live.record.notes.push(note);
        }
    }
}

/// The variables that are named one by one: those win over all keys of a secret or a config map.
fn named(spec: &WorkloadSpec) -> BTreeSet<String> {
    let alone = spec.env_from.iter().filter(|variable| {
        !matches!(
            &variable.source,
            Some(env_from::Source::Secret(wanted) | env_from::Source::ConfigMap(wanted))
                if wanted.key.is_empty()
        )
    });
    let alone = alone.map(|variable| variable.name.clone());
    let known = spec.env.iter().map(|variable| variable.name.clone());
    alone.chain(known).collect()
}

/// Whether a key can be a variable; Kubernetes leaves out the others too.
fn is_variable(name: &str) -> bool {
    let digit = name.starts_with(|first: char| first.is_ascii_digit());
    !name.is_empty() && !digit && !name.starts_with("FLUMINA_")
}

/// Whether a workload needs values that must not be on a disk.
fn needs_values(spec: &WorkloadSpec) -> bool {
    let env = spec.env_from.iter().any(|variable| {
        matches!(
            variable.source,
            Some(env_from::Source::Secret(_) | env_from::Source::ConfigMap(_))
        )
    });
    let files = |volume: &Wanted| {
        matches!(
            volume.source,
            Some(Source::Secret(_) | Source::ConfigMap(_))
        )
    };
    env || spec.volumes.iter().any(files)
}

fn no_key(kind: Kind, name: &str, key: &str, values: &Values) -> Unsupplied {
    let keys: Vec<&str> = values.keys().map(String::as_str).take(20).collect();
    Unsupplied {
        reason: match kind {
            Kind::Secret => "SECRET_KEY_NOT_FOUND",
            Kind::ConfigMap => "CONFIG_MAP_KEY_NOT_FOUND",
        },
        message: format!(
            "{} `{name}` has no key `{key}`; it has {}",
            kind.word(),
            if keys.is_empty() {
                "none".to_owned()
            } else {
                keys.join(", ")
            }
        ),
    }
}

/// The value of a variable, which must be text.
fn text(kind: Kind, name: &str, key: &str, value: &[u8]) -> Result<String, Unsupplied> {
    let text = String::from_utf8(value.to_vec())
        .ok()
        .filter(|text| !text.contains('\0'));
    text.ok_or_else(|| Unsupplied {
        reason: "VALUE_NOT_TEXT",
        message: format!(
            "key `{key}` of {} `{name}` is not text without NUL, so it cannot be a variable: mount it as a file",
            kind.word()
        ),
    })
}
