//! What a request becomes on this machine: interpreter, environment, limits, and notes on what differs.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aip::FieldViolation;
use api_runner::v1::volume::Source;
use api_runner::v1::{Placement, WorkloadSpec};
use api_step::v1::step::Program;
use api_step::v1::{Assignment, EnvVar, Transfer};
use tokio::sync::OnceCell;

use super::{Runner, likeness, venv};
use crate::api::validate::Wanted;
use crate::domain::accelerators::{self, Slots};
use crate::domain::admission::Amount;
use crate::domain::image::{self, Meaning};
use crate::domain::python;
use crate::error::{Error, Missing};
use crate::store::Record;

const ACCELERATORS: &str = "spec.resources.accelerator_count";

/// How a workload runs here.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plan {
    /// The interpreter; empty when there is none.
    pub(crate) python: PathBuf,
    /// Directories that come first on PATH.
    pub(crate) path_prefix: Vec<PathBuf>,
    /// The environment that is needed and not yet resolved into the two above.
    pub(crate) environment: Option<python::Wanted>,
    /// Whether the command installs packages by itself.
    pub(crate) private: bool,
    /// The environment of its own that is made in its directory.
    pub(crate) venv: Option<venv::Private>,
    /// What differs from what was asked.
    pub(crate) notes: Vec<String>,
    /// 0 for no limit, in bytes.
    pub(crate) memory_limit: u64,
    /// 0 for no limit, in thousandths of a core.
    pub(crate) cpu_limit: u64,
    /// None for no limit.
    pub(crate) timeout: Option<Duration>,
}

impl Plan {
    /// The directories of environments that it uses.
    pub(crate) fn environments(&self) -> Vec<PathBuf> {
        let below = self.venv.as_ref().map(|venv| venv.over.clone());
        self.path_prefix.iter().cloned().chain(below).collect()
    }
}

/// Why a request cannot run here.
#[derive(Debug, Default)]
struct Refusals(Vec<(Missing, FieldViolation)>);

impl Refusals {
    fn add(&mut self, missing: Missing, field: &str, text: impl Into<String>) {
        self.0.push((missing, FieldViolation::new(field, text)));
    }

    fn error(self) -> Option<Error> {
        let missing = self.0.first()?.0;
        let violations = self.0.into_iter().map(|(_, violation)| violation).collect();
        Some(Error::CannotRun {
            missing,
            violations,
        })
    }
}

/// A Python interpreter of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interpreter {
    /// Its absolute path, without links.
    pub(crate) path: PathBuf,
    /// Its version, such as 3.11.7.
    pub(crate) version: String,
}

/// The interpreters of this machine, asked once each.
#[derive(Debug)]
pub(crate) struct Interpreters {
    default: String,
    search: Vec<PathBuf>,
    known: Mutex<HashMap<String, Arc<OnceCell<Arc<Interpreter>>>>>,
}

impl Interpreters {
    pub(super) fn new(default: &str, env: &[(String, String)]) -> Self {
        let path = env.iter().find(|(name, _)| name == "PATH");
        let path = path.map_or("/usr/local/bin:/usr/bin:/bin", |(_, path)| path);
        Self {
            default: default.to_owned(),
            search: path.split(':').map(PathBuf::from).collect(),
            known: Mutex::default(),
        }
    }

    /// Finds a program on the PATH that programs get.
    pub(crate) fn find_program(&self, name: &str) -> Option<PathBuf> {
        if name.contains('/') {
            return Some(PathBuf::from(name)).filter(|path| path.is_file());
        }
        self.search
            .iter()
            .map(|dir| dir.join(name))
            .find(|path| path.is_file())
    }

    /// The interpreter with a name, or at a path.
    pub(crate) async fn named(&self, name: &str) -> Option<Arc<Interpreter>> {
        let cell = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(known.entry(name.to_owned()).or_default())
        };
        // However many ask at the same time, one process answers; through a shim it can take long.
        let found = cell.get_or_try_init(async || {
            let path = self.find_program(name).ok_or(())?;
            let asked = tokio::task::spawn_blocking(move || ask_version(&path)).await;
            asked.ok().flatten().map(Arc::new).ok_or(())
        });
        // What is missing may be installed later, so only what was found is kept.
        found.await.ok().cloned()
    }

    pub(crate) async fn default(&self) -> Option<Arc<Interpreter>> {
        self.named(&self.default).await
    }
}

fn ask_version(path: &Path) -> Option<Interpreter> {
    let program = "import os,sys;print(os.path.abspath(sys.executable));print('.'.join(map(str,sys.version_info[:3])))";
    let output = Command::new(path)
        .args(["-I", "-S", "-c", program])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let mut lines = text.lines();
    Some(Interpreter {
        path: PathBuf::from(lines.next()?),
        version: lines.next()?.to_owned(),
    })
}

impl Runner {
    /// Decides how a request runs here, and what it reserves.
    pub(super) async fn plan(
        &self,
        spec: &WorkloadSpec,
        wanted: &Wanted,
    ) -> Result<(Arc<Plan>, Amount), Error> {
        let mut plan = Plan {
            memory_limit: wanted.memory_limit,
            cpu_limit: wanted.cpu_limit,
            timeout: wanted.timeout,
            ..Plan::default()
        };
        let mut refusals = Refusals::default();
        let mut amount = self.clamp(wanted, &mut plan, &mut refusals);
        amount.slots = self.choose_accelerators(wanted, &mut plan, &mut refusals);
        let interpreter = self.choose_python(spec, &mut plan, &mut refusals).await;
        note_ignored(spec, &mut plan);
        self.note_limits(&mut plan);
        if let Some(text) = likeness::lacks_source(spec, &self.0.config.images) {
            refusals.add(Missing::Image, "spec.image", text);
        }
        match interpreter {
            Some(interpreter) => self.want_environment(spec, &interpreter, &mut plan),
            None if needs_python(spec) => {
                let wanted = &self.0.config.python;
                refusals.add(
                    Missing::Python,
                    "spec.step",
                    format!("needs Python, and there is no `{wanted}` on PATH: install it or set `python`"),
                );
            }
            None => {}
        }
        match refusals.error() {
            None => Ok((Arc::new(plan), amount)),
            Some(error) => Err(error),
        }
    }

    /// Finds the environment that a request needs, or leaves it to be built.
    fn want_environment(&self, spec: &WorkloadSpec, interpreter: &Interpreter, plan: &mut Plan) {
        plan.python.clone_from(&interpreter.path);
        let asked = spec.python.clone().unwrap_or_default();
        let mut packages = asked.packages;
        if let Meaning::Rule(rule) = image::meaning(&spec.image, &self.0.config.images) {
            packages.extend(rule.packages.iter().cloned());
        }
        let mut wanted = python::Wanted {
            interpreter: interpreter.path.display().to_string(),
            version: interpreter.version.clone(),
            packages,
            kfp: asked.kfp,
            pinned: String::new(),
            index_urls: asked.index_urls,
            trusted_hosts: asked.trusted_hosts,
        };
        wanted.normalize();
        if wanted.bare() && !asked.private {
            return;
        }
        plan.private = asked.private;
        let found = self.find_environment(&wanted, asked.private);
        plan.environment = Some(wanted);
        if let Some(found) = found {
            self.use_in(plan, &found);
        }
    }

    /// Says which limits the kernel does not keep.
    fn note_limits(&self, plan: &mut Plan) {
        if let Some(cgroups) = &self.0.cgroups {
            let limits = [
                (
                    plan.memory_limit > 0 && !cgroups.memory,
                    "memory is sampled",
                ),
                (plan.cpu_limit > 0 && !cgroups.cpu, "cores is not enforced"),
            ];
            let missing = limits.into_iter().filter(|(missing, _)| *missing);
            plan.notes.extend(missing.map(|(_, what)| {
                format!("the limit of {what}: the runner's cgroup has no such controller")
            }));
        }
    }

    /// Cuts a request to the machine, so that nothing waits for ever.
    fn clamp(&self, wanted: &Wanted, plan: &mut Plan, refusals: &mut Refusals) -> Amount {
        let capacity = self.live().scheduler.capacity();
        let amount = wanted.amount.clamped(capacity);
        if amount == wanted.amount {
            return amount;
        }
        let cores = |milli: u64| milli as f64 / 1000.0;
        let mib = |bytes: u64| bytes >> 20;
        let text = if amount.cpu_milli < wanted.amount.cpu_milli {
            let (asked, has) = (cores(wanted.amount.cpu_milli), cores(capacity.cpu_milli));
            format!("asked for {asked} cores, this machine has {has}")
        } else {
            let (asked, has) = (mib(wanted.amount.memory), mib(capacity.memory));
            format!("asked for {asked} MiB of memory, this machine has {has} MiB")
        };
        if self.0.config.strict {
            refusals.add(Missing::Resources, "spec.resources", text);
        } else {
            plan.notes
                .push(format!("{text}: it runs with what there is"));
        }
        amount
    }

    /// The accelerators that a request gets; where there are none of its type, it runs without.
    fn choose_accelerators(
        &self,
        wanted: &Wanted,
        plan: &mut Plan,
        refusals: &mut Refusals,
    ) -> Slots {
        let mut slots = Slots::default();
        let Some((kind, count)) = &wanted.accelerators else {
            return slots;
        };
        let live = self.live();
        let pools = live.scheduler.pools();
        let asked = format!("asked for {count} {kind}");
        let has = |text: String| format!("{asked}, this machine has {text}");
        let Some(at) = accelerators::serving(pools, kind, *count) else {
            let kinds: Vec<&str> = pools.iter().map(|pool| pool.kind.as_str()).collect();
            let text = match kinds.as_slice() {
                [] => has("no accelerators".to_owned()),
                kinds => has(format!("only {}", kinds.join(", "))),
            };
            if self.0.config.strict {
                refusals.add(Missing::Accelerators, ACCELERATORS, text);
            } else {
                plan.notes.push(format!("{text}: it runs without"));
            }
            return slots;
        };
        let pool = &pools[at];
        let there = pool.ids.len();
        if there < *count as usize {
            let text = has(format!("{there} {}", pool.kind));
            let text = format!("{text}: ask for at most {there}, or name more in `accelerators`");
            refusals.add(Missing::Accelerators, ACCELERATORS, text);
            return slots;
        }
        if !pool.kind.eq_ignore_ascii_case(kind) {
            plan.notes.push(format!("{asked}: it has {}", pool.kind));
        }
        slots[at] = *count;
        slots
    }

    /// The interpreter for an image; what stands in for another is noted, or refused when images are strict.
    async fn choose_python(
        &self,
        spec: &WorkloadSpec,
        plan: &mut Plan,
        refusals: &mut Refusals,
    ) -> Option<Arc<Interpreter>> {
        let known = &self.0.interpreters;
        let image = spec.image.as_str();
        let meaning = image::meaning(image, &self.0.config.images);
        // Asking an interpreter who it is costs a process; PATH finds the same one for a command.
        let whatever = matches!(meaning, Meaning::None | Meaning::Unknown);
        let default = if whatever && !needs_python(spec) {
            None
        } else {
            known.default().await
        };
        let (found, differs) = match meaning {
            Meaning::None | Meaning::Python(None) => (default, None),
            Meaning::Rule(rule) => match &rule.python {
                Some(name) => match known.named(name).await {
                    Some(found) => (Some(found), None),
                    None => (default, Some(format!("there is no interpreter `{name}`"))),
                },
                None => (default, None),
            },
            Meaning::Python(Some((major, minor))) => {
                let name = format!("python{major}.{minor}");
                match known.named(&name).await {
                    Some(found) => (Some(found), None),
                    None => {
                        let differs = other_version(default.as_deref(), major, minor);
                        (default, differs)
                    }
                }
            }
            Meaning::Unknown => (default, Some(likeness::UNUSED.to_owned())),
        };
        if let Some(differs) = differs {
            let text = format!("image {image}: {differs}");
            if self.0.config.strict_images {
                refusals.add(Missing::Image, "spec.image", text);
            } else {
                plan.notes.push(text);
            }
        }
        found
    }

    /// Makes the directory of a workload with all that its agent needs.
    pub(super) fn place(
        &self,
        record: &Record,
        spec: &WorkloadSpec,
        plan: &Plan,
    ) -> Result<(), Error> {
        let id = &record.id;
        let mut assignment = self.assignment(record, spec, plan)?;
        if let Some(cgroups) = &self.0.cgroups {
            let made = cgroups.make(id.as_str(), plan.memory_limit, plan.cpu_limit);
            let dir = made.map_err(Error::io(Path::new("the cgroup of the step")))?;
            assignment.cgroup_dir = dir.display().to_string();
        }
        if let Some(private) = &plan.venv {
            let dir = self.0.files.dir(id).join("venv");
            private.make(&dir).map_err(Error::io(&dir))?;
            let bin = dir.join("bin").display().to_string();
            assignment.python = format!("{bin}/python");
            assignment.path_prefix.insert(0, bin);
        }
        let dir = self.0.files.dir(id);
        if let Some(bin) = likeness::bring_python(&spec.image, &self.0.config.images, plan, &dir)? {
            assignment.path_prefix.push(bin.display().to_string());
        }
        if let Some(shell) = &self.0.shell
            && !image::plain_shell(&spec.image)
        {
            assignment.path_prefix.push(shell.display().to_string());
        }
        self.0.files.place(id, &assignment)?;
        if !spec.working_dir.is_empty() {
            return Ok(());
        }
        let work = Path::new(&assignment.working_dir);
        likeness::bring_source(&spec.image, &self.0.config.images, work)
    }

    fn transfer(&self, spec: &WorkloadSpec) -> Result<Option<Transfer>, Error> {
        let Some(step) = &spec.step else {
            return Ok(None);
        };
        let namespace = super::launch::namespace(spec);
        let transfer = self.0.stores.transfer(&namespace, step);
        transfer.map_err(Error::io(Path::new("the stores of the network")))
    }

    fn assignment(
        &self,
        record: &Record,
        spec: &WorkloadSpec,
        plan: &Plan,
    ) -> Result<Assignment, Error> {
        let id = &record.id;
        let config = &self.0.config;
        let dir = self.0.files.dir(id);
        let mut env: Vec<(String, String)> = self.0.base_env.clone();
        let mut set =
            |name: &str, value: String| match env.iter_mut().find(|(known, _)| known == name) {
                Some((_, old)) => *old = value,
                None => env.push((name.to_owned(), value)),
            };
        let temporary = self.0.files.temporary(id);
        set("TMPDIR", temporary.display().to_string());
        for (name, value) in accelerators::hidden(self.live().scheduler.pools()) {
            set(name, value);
        }
        for (name, value) in &config.environment {
            set(name, value.clone());
        }
        for (name, value) in ports(spec)? {
            set(&name, value);
        }
        for variable in &spec.env {
            set(&variable.name, variable.value.clone());
        }
        for (name, value) in accelerators::granted(&record.accelerators) {
            set(name, value);
        }
        let working_dir = if spec.working_dir.is_empty() {
            dir.join("work").display().to_string()
        } else {
            spec.working_dir.clone()
        };
        let text = |path: &PathBuf| path.display().to_string();
        let mut assignment = Assignment {
            attempt_id: id.to_string(),
            step: spec.step.clone(),
            env: env
                .into_iter()
                .map(|(name, value)| EnvVar { name, value })
                .collect(),
            working_dir,
            python: text(&plan.python),
            memory_limit_bytes: plan.memory_limit,
            timeout_ms: plan.timeout.map_or(0, |timeout| {
                u64::try_from(timeout.as_millis())
                    .unwrap_or(u64::MAX)
                    .max(1)
            }),
            stop_grace_ms: config.stop_grace_seconds.saturating_mul(1000),
            max_parameter_bytes: config.max_parameter_bytes,
            path_prefix: plan.path_prefix.iter().map(text).collect(),
            files: spec.files.clone(),
            oom_score_adj: config.oom_score_adj,
            transfer: self.transfer(spec)?,
            ..Default::default()
        };
        self.add_supplies(id, spec, &mut assignment);
        Ok(assignment)
    }
}

/// `PORT_NAME` of each port; a port without a number gets a free one.
fn ports(spec: &WorkloadSpec) -> Result<Vec<(String, String)>, Error> {
    let mut ports = Vec::new();
    for port in &spec.ports {
        let number = if port.number == 0 {
            let loopback = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
            std::net::TcpListener::bind(loopback)
                .and_then(|listener| listener.local_addr())
                .map_err(Error::io(Path::new("a free port")))?
                .port()
                .to_string()
        } else {
            port.number.to_string()
        };
        let name = port.name.to_uppercase().replace('-', "_");
        ports.push((format!("PORT_{name}"), number));
    }
    Ok(ports)
}

/// How the default interpreter differs from a version that was asked for.
fn other_version(default: Option<&Interpreter>, major: u32, minor: u32) -> Option<String> {
    let ran = match default {
        Some(python) if python.version.starts_with(&format!("{major}.{minor}.")) => return None,
        Some(python) => format!("Python {} ran instead", python.version),
        None => "nothing stands for it".to_owned(),
    };
    Some(format!("this machine has no Python {major}.{minor}; {ran}"))
}

fn needs_python(spec: &WorkloadSpec) -> bool {
    let program = spec.step.as_ref().and_then(|step| step.program.as_ref());
    spec.python.is_some() || matches!(program, Some(Program::PythonFunction(_)))
}

/// What of a placement has no effect, by name.
fn ignored(placement: &Placement) -> Vec<String> {
    let asked: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(&placement.pod_spec_json).unwrap_or_default();
    let selector = (!placement.node_selector.is_empty()).then(|| "nodeSelector".to_owned());
    asked
        .into_iter()
        .map(|(key, _)| key)
        .chain(selector)
        .collect()
}

fn note_ignored(spec: &WorkloadSpec, plan: &mut Plan) {
    for volume in &spec.volumes {
        let limit = match &volume.source {
            Some(Source::Scratch(scratch)) => &scratch.size_limit,
            Some(Source::Workspace(workspace)) => &workspace.size_limit,
            _ => continue,
        };
        if !limit.is_empty() {
            let path = &volume.mount_path;
            plan.notes
                .push(format!("the size of {path} ({limit}) is not enforced"));
        }
    }
    let ignored = spec.placement.as_ref().map(ignored).unwrap_or_default();
    if !ignored.is_empty() {
        let text = format!(
            "without effect on a process of this machine: {}",
            ignored.join(", ")
        );
        plan.notes.push(text);
    }
}
