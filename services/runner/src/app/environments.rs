//! Python environments: built once however many want them, by a workload of their own, and collected when unused.
//!
//! `environments/<key>/` has `venv/` and, when it is whole, `complete`. Packages that are installed by themselves, kfp
//! and pip, are in `environments/layers/<digest>/site`, shared by many environments.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api_runner::v1::WorkloadSpec;
use api_step::v1::step::Program;
use api_step::v1::{Command, File, Step};
use clock::Timestamp;
use ids::WorkloadId;
use serde_json::json;
use tokio::sync::watch;

use super::{Plan, Runner, files, venv};
use crate::domain::admission::{Amount, Ask};
use crate::domain::python::{self, Wanted};
use crate::domain::redact;
use crate::domain::state::{Event, State};
use crate::error::Error;

/// The owner of builds.
pub(crate) const OWNER: &str = "runner/environments";
const SCRIPT: &str = include_str!("build.py");
/// The exit code of a build that could not install kfp.
const NO_KFP: i32 = 21;
/// That of one that could not install pip.
const NO_PIP: i32 = 23;
/// How often the use of an environment is written down.
const USE_PERIOD: Duration = Duration::from_secs(3600);

/// An environment that is there.
#[derive(Debug, Clone)]
pub(crate) struct Resolved {
    pub(crate) key: String,
    /// Its `venv` directory.
    pub(crate) venv: PathBuf,
    /// The site directory of kfp, if it has one.
    pub(crate) kfp: Option<PathBuf>,
    pub(crate) notes: Vec<String>,
}

/// Why an environment cannot be built, for people.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) message: String,
    without_kfp: bool,
}

type Outcome = Option<Result<Resolved, Failure>>;

/// What is being built, and what is known of what is there.
#[derive(Debug, Default)]
pub(crate) struct Environments {
    building: Mutex<HashMap<String, watch::Receiver<Outcome>>>,
    /// Environments that stand in for others whose kfp cannot be installed.
    stand_ins: Mutex<HashMap<String, Resolved>>,
    used: Mutex<HashMap<String, Timestamp>>,
}

impl Environments {
    fn building(&self) -> MutexGuard<'_, HashMap<String, watch::Receiver<Outcome>>> {
        self.building.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Runner {
    fn environments_dir(&self) -> PathBuf {
        self.0.config.data_dir.join("environments")
    }

    fn layer_dir(&self, wanted: &Wanted, requirement: &str) -> PathBuf {
        let layers = self.environments_dir().join("layers");
        layers.join(wanted.layer(requirement))
    }

    /// The site directory of pip for an interpreter, for private environments.
    pub(super) fn pip_site(&self, wanted: &Wanted) -> PathBuf {
        self.layer_dir(wanted, "pip").join("site")
    }

    /// The environment, if nothing needs to be built.
    pub(super) fn find_environment(&self, wanted: &Wanted, private: bool) -> Option<Resolved> {
        let key = wanted.key();
        let dir = self.environments_dir().join(&key);
        let pip = private.then(|| self.layer_dir(wanted, "pip").join("complete"));
        if pip.is_some_and(|pip| !pip.exists()) {
            return None;
        }
        let stand_ins = &self.0.environments.stand_ins;
        let resolved = if dir.join("complete").exists() {
            Resolved {
                venv: dir.join("venv"),
                kfp: (!wanted.kfp.is_empty())
                    .then(|| self.layer_dir(wanted, &wanted.kfp).join("site")),
                notes: Vec::new(),
                key,
            }
        } else {
            let stand_ins = stand_ins.lock().unwrap_or_else(PoisonError::into_inner);
            let found = stand_ins.get(&key).cloned()?;
            found.venv.exists().then_some(found)?
        };
        self.note_use(&resolved.key);
        Some(resolved)
    }

    /// Writes down that an environment is used, now and then.
    fn note_use(&self, key: &str) {
        let now = self.0.clock.now();
        {
            let mut used = self
                .0
                .environments
                .used
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let recent = used.get(key).is_some_and(|at| now.since(*at) < USE_PERIOD);
            if recent {
                return;
            }
            used.insert(key.to_owned(), now);
        }
        let (runner, key) = (self.clone(), key.to_owned());
        self.spawn("environment-use", async move {
            if let Err(error) = runner.0.store.use_environment(&key, now).await {
                tracing::warn!(
                    error = aip::chain(&error),
                    "cannot note the use of an environment"
                );
            }
        });
    }

    /// Gets the environment of a workload that is PREPARING, then queues it.
    pub(super) fn prepare_environment(&self, id: &WorkloadId) {
        let (runner, id) = (self.clone(), id.clone());
        self.spawn("prepare", async move {
            let plan = runner
                .live()
                .workloads
                .get(&id)
                .map(|live| Arc::clone(&live.plan));
            let Some(plan) = plan else { return };
            let Some(wanted) = &plan.environment else {
                return runner.prepared(&id, Plan::clone(&plan)).await;
            };
            match runner.environment(wanted, plan.private).await {
                Ok(resolved) => {
                    let mut plan = Plan::clone(&plan);
                    runner.use_in(&mut plan, &resolved);
                    runner.prepared(&id, plan).await;
                }
                Err(failure) => {
                    runner
                        .fail(&id, "ENVIRONMENT_FAILED", &failure.message)
                        .await
                }
            }
        });
    }

    /// Makes a plan use an environment that is there.
    pub(super) fn use_in(&self, plan: &mut Plan, resolved: &Resolved) {
        let bin = resolved.venv.join("bin");
        plan.python = bin.join("python");
        plan.path_prefix = vec![bin];
        plan.notes.extend(resolved.notes.iter().cloned());
        if plan.private
            && let Some(wanted) = plan.environment.take()
        {
            plan.venv = Some(venv::Private {
                over: resolved.venv.clone(),
                kfp: resolved.kfp.clone(),
                pip: self.pip_site(&wanted),
                interpreter: PathBuf::from(&wanted.interpreter),
                version: wanted.version,
            });
        }
        plan.environment = None;
    }

    async fn prepared(&self, id: &WorkloadId, plan: Plan) {
        let (record, ask) = {
            let mut live = self.live();
            let Some(live) = live.workloads.get_mut(id) else {
                return;
            };
            // It may have been stopped meanwhile.
            if live.record.state != State::Preparing
                || !self.advance(&mut live.record, Event::Ready, "WAITING_IN_LINE", "")
            {
                return;
            }
            live.record.notes = plan.notes.iter().map(|note| redact::urls(note)).collect();
            live.plan = Arc::new(plan);
            (live.record.clone(), live.ask.clone())
        };
        self.publish(record);
        self.enqueue(ask).await;
    }

    /// The environment, built if need be; everybody who wants the same waits for the same build.
    async fn environment(&self, wanted: &Wanted, private: bool) -> Result<Resolved, Failure> {
        if let Some(resolved) = self.find_environment(wanted, private) {
            return Ok(resolved);
        }
        let key = format!("{}{}", wanted.key(), if private { "-private" } else { "" });
        let mut outcome = {
            let mut building = self.0.environments.building();
            match building.get(&key) {
                Some(outcome) => outcome.clone(),
                None => {
                    let (sender, outcome) = watch::channel(None);
                    building.insert(key.clone(), outcome.clone());
                    let (runner, wanted) = (self.clone(), wanted.clone());
                    self.spawn("environment", async move {
                        let built = runner.build_or_stand_in(&wanted, private).await;
                        runner.0.environments.building().remove(&key);
                        sender.send_replace(Some(built));
                    });
                    outcome
                }
            }
        };
        if let Ok(outcome) = outcome.wait_for(Option::is_some).await
            && let Some(outcome) = outcome.clone()
        {
            return outcome;
        }
        // The runner ends; the workload stays as it is and is prepared by the next one.
        std::future::pending().await
    }

    /// Builds an environment; when its kfp cannot be had, the one that was asked for does, or a newer one that is there.
    async fn build_or_stand_in(&self, wanted: &Wanted, private: bool) -> Result<Resolved, Failure> {
        let failure = match self.build(wanted, private).await {
            Ok(resolved) => return Ok(resolved),
            Err(failure) => failure,
        };
        if !failure.without_kfp {
            return Err(failure);
        }
        let installed = self.installed_layers();
        let kfp = match python::stand_in(&wanted.pinned, &installed) {
            Some(kfp) => kfp.to_owned(),
            None if wanted.pinned != wanted.kfp => wanted.pinned.clone(),
            None => return Err(failure),
        };
        let other = Wanted {
            kfp: kfp.clone(),
            ..wanted.clone()
        };
        let mut resolved = match self.find_environment(&other, private) {
            Some(resolved) => resolved,
            None => self.build(&other, private).await?,
        };
        let note = format!("{} cannot be installed here; {kfp} is used", wanted.kfp);
        resolved.notes.push(note);
        let stand_ins = &self.0.environments.stand_ins;
        let mut stand_ins = stand_ins.lock().unwrap_or_else(PoisonError::into_inner);
        stand_ins.insert(wanted.key(), resolved.clone());
        Ok(resolved)
    }

    /// The requirements that were installed by themselves.
    fn installed_layers(&self) -> Vec<String> {
        let layers = self.environments_dir().join("layers");
        let entries = std::fs::read_dir(layers).into_iter().flatten().flatten();
        entries
            .filter(|entry| entry.path().join("complete").exists())
            .filter_map(|entry| {
                let mut name = entry.path().into_os_string();
                name.push(".requirement");
                std::fs::read_to_string(name).ok()
            })
            .collect()
    }

    /// Builds an environment in a workload of its own, or waits for one that an earlier runner started.
    async fn build(&self, wanted: &Wanted, private: bool) -> Result<Resolved, Failure> {
        let failed = |error: Error| Failure {
            message: aip::chain(&error),
            without_kfp: false,
        };
        let key = wanted.key();
        let prefix = format!("env.{key}.");
        let running = {
            let live = self.live();
            let mut ids = live.workloads.keys();
            ids.find(|id| id.as_str().starts_with(&prefix)).cloned()
        };
        let id = match running {
            Some(id) => id,
            None => self.launch_build(wanted, private).await.map_err(failed)?,
        };
        self.wait_ended(&id).await;
        if self.shutdown().requested() {
            return std::future::pending().await;
        }
        let ended = self.get(&id).await.map_err(failed)?;
        let code = ended.result.as_ref().and_then(|result| result.exit_code);
        let said = files::tail(&self.0.files.log(&id), 2000);
        let log = last_lines(&said, 20);
        if let Err(error) = self.remove(&id).await {
            tracing::warn!(%id, error = aip::chain(&error), "cannot remove a build");
        }
        match self.find_environment(wanted, private) {
            Some(resolved) => Ok(resolved),
            None => Err(Failure {
                message: format!(
                    "its Python environment cannot be built ({}): {}",
                    if ended.message.is_empty() {
                        &ended.reason
                    } else {
                        &ended.message
                    },
                    log
                ),
                without_kfp: code == Some(NO_KFP),
            }),
        }
    }

    async fn launch_build(&self, wanted: &Wanted, private: bool) -> Result<WorkloadId, Error> {
        let key = wanted.key();
        let number = self.0.store.count_build(&key, self.0.clock.now()).await?;
        let text = format!("env.{key}.{number}");
        let id: WorkloadId = text.parse().map_err(|_| Error::NotFound(text))?;
        let spec = self.build_spec(&id, wanted, private)?;
        let ask = Ask {
            id: id.clone(),
            namespace: "runner".to_owned(),
            // Those who wait for it hold nothing either, so it must not wait for them.
            amount: Amount::default(),
            gang: None,
        };
        let plan = Plan {
            python: PathBuf::from(&wanted.interpreter),
            ..Plan::default()
        };
        self.launch_now(id.clone(), spec, ask, plan).await?;
        Ok(id)
    }

    /// The layers of an environment, as its build wants them.
    fn layers(&self, wanted: &Wanted, private: bool) -> Result<Vec<serde_json::Value>, Error> {
        let kfp = (!wanted.kfp.is_empty()).then_some((wanted.kfp.as_str(), true, NO_KFP));
        let pip = private.then_some(("pip", false, NO_PIP));
        let mut layers = Vec::new();
        for (requirement, always, failure) in [kfp, pip].into_iter().flatten() {
            let dir = self.layer_dir(wanted, requirement);
            let mut name = dir.clone().into_os_string();
            name.push(".requirement");
            let path = PathBuf::from(name);
            let parent = self.environments_dir().join("layers");
            std::fs::create_dir_all(&parent).map_err(Error::io(&parent))?;
            std::fs::write(&path, requirement).map_err(Error::io(&path))?;
            layers.push(json!({
                "dir": dir, "requirement": requirement, "always": always, "failure": failure,
            }));
        }
        Ok(layers)
    }

    fn build_spec(
        &self,
        id: &WorkloadId,
        wanted: &Wanted,
        private: bool,
    ) -> Result<WorkloadSpec, Error> {
        let config = json!({
            "dir": self.environments_dir().join(wanted.key()),
            "interpreter": wanted.interpreter,
            "minor": wanted.minor(),
            "packages": wanted.packages,
            "layers": self.layers(wanted, private)?,
            "index_urls": wanted.index_urls,
            "trusted_hosts": wanted.trusted_hosts,
            "tools": self.0.config.data_dir.join("tools"),
            "uv": self.0.config.uv,
        });
        let place = self.0.files.dir(id).join("build");
        let text = |name: &str| place.join(name).display().to_string();
        let file = |name: &str, content: String| File {
            path: format!("build/{name}"),
            content: content.into_bytes(),
            mode: 0o644,
        };
        let command = Command {
            command: vec![
                wanted.interpreter.clone(),
                "-I".to_owned(),
                text("build.py"),
                text("build.json"),
            ],
            args: Vec::new(),
        };
        Ok(WorkloadSpec {
            owner: OWNER.to_owned(),
            step: Some(Step {
                program: Some(Program::Command(command)),
                ..Step::default()
            }),
            files: vec![
                file("build.py", SCRIPT.to_owned()),
                file("build.json", config.to_string()),
            ],
            ..WorkloadSpec::default()
        })
    }

    /// Removes environments that nothing has used for long and nothing uses now.
    pub(crate) async fn collect_environments(&self) -> Result<usize, Error> {
        let keep = Duration::from_secs(self.0.config.keep_environments_days.saturating_mul(86_400));
        let micros = self.0.clock.now().as_micros();
        let keep = i64::try_from(keep.as_micros()).unwrap_or(i64::MAX);
        let before = Timestamp::from_micros(micros.saturating_sub(keep));
        let mut removed = 0;
        for key in self.0.store.unused_environments(before).await? {
            let dir = self.environments_dir().join(&key);
            let used: HashSet<PathBuf> = {
                let live = self.live();
                let plans = live.workloads.values().map(|live| &live.plan);
                plans.flat_map(|plan| plan.environments()).collect()
            };
            let building = self
                .0
                .environments
                .building()
                .keys()
                .any(|other| other.starts_with(&key));
            if building || used.iter().any(|path| path.starts_with(&dir)) {
                continue;
            }
            // The row first: who finds the mark afterwards writes a new one.
            if !self.0.store.drop_environment(&key, before).await? {
                continue;
            }
            let gone = tokio::task::spawn_blocking(move || {
                // Without its mark it counts as not there, even half removed.
                let mark = dir.join("complete");
                std::fs::remove_file(&mark).or_else(|error| match error.kind() {
                    std::io::ErrorKind::NotFound => Ok(()),
                    _ => Err(Error::io(&mark)(error)),
                })?;
                files::remove_tree(&dir)
            });
            match gone.await {
                Ok(done) => done?,
                Err(error) => tracing::error!(%error, "cannot remove an environment"),
            }
            removed += 1;
            tracing::info!(key, "removed an environment that nothing used");
        }
        Ok(removed)
    }
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
