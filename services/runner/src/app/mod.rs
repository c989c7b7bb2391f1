//! The use cases of the runner and the life of each workload.

mod adopt;
mod agent_abort;
mod bundles;
mod end;
mod environments;
pub(crate) mod files;
mod hub;
mod launch;
mod likeness;
mod logs;
mod plan;
mod read;
mod run;
mod stop;
pub(crate) mod stores;
mod supply;
mod usage;
mod vault;
mod venv;
mod volumes;

use std::collections::HashMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api_runner::v1::WorkloadSpec;
use clock::Clock;
use ids::WorkloadId;
use runtime::{OnCancel, Shutdown, Supervisor};
use tokio::sync::watch;

use crate::cgroups::Cgroups;
use crate::config::Config;
use crate::domain::admission::{Ask, Scheduler};
use crate::domain::redact;
use crate::domain::state::{self, Event};
use crate::error::Error;
use crate::metrics::Metrics;
use crate::store::{Record, Store};
use crate::sys::{self, Process};

pub(crate) use bundles::{Put, read_values};
pub(crate) use hub::Told;
pub(crate) use plan::Plan;
pub(crate) use vault::Vault;
pub use vault::VaultError;
pub(crate) use volumes::name_problem as volume_name_problem;

/// How many ids, and owners, can be changed at the same time; two with the same place wait for each other.
const LOCKS: usize = 256;
/// The longest wait between two tries to write to the database.
const LAST_BACKOFF: Duration = Duration::from_secs(5);

/// The runner of this node. Clones are the same runner.
#[derive(Clone)]
pub struct Runner(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    pub(crate) store: Store,
    pub(crate) supervisor: Supervisor,
    pub(crate) metrics: Metrics,
    pub(crate) files: files::Files,
    /// The agent's program; its path has its content's digest.
    pub(crate) agent: PathBuf,
    /// Stores of the network.
    pub(crate) stores: stores::Stores,
    pub(crate) boot_id: String,
    /// What every program gets.
    pub(crate) base_env: Vec<(String, String)>,
    pub(crate) interpreters: plan::Interpreters,
    /// The directory of the shell for images whose own knows more than POSIX.
    pub(crate) shell: Option<PathBuf>,
    vault: Vault,
    cgroups: Option<Cgroups>,
    /// The name of the machine, for programs that ask for their node.
    host_name: String,
    live: Mutex<LiveSet>,
    id_locks: Vec<tokio::sync::Mutex<()>>,
    owner_locks: Vec<tokio::sync::Mutex<()>>,
    hub: hub::Hub,
    growth: logs::Growth,
    environments: environments::Environments,
    queue_changed: tokio::sync::Notify,
    /// An abort point of agents, for fault tests.
    agent_abort: Option<agent_abort::AgentAbort>,
    /// The lock of the data directory, for as long as the runner lives.
    _data_lock: File,
}

/// What the runner is made of.
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    pub(crate) store: Store,
    pub(crate) supervisor: Supervisor,
    pub(crate) metrics: Metrics,
    pub(crate) agent: PathBuf,
    pub(crate) stores: stores::Stores,
    pub(crate) boot_id: String,
    pub(crate) base_env: Vec<(String, String)>,
    pub(crate) agent_abort: Option<String>,
    pub(crate) scheduler: Scheduler,
    pub(crate) cgroups: Option<Cgroups>,
    pub(crate) data_lock: File,
    pub(crate) vault: Vault,
    pub(crate) host_name: String,
}

pub(crate) struct LiveSet {
    workloads: HashMap<WorkloadId, Live>,
    scheduler: Scheduler,
}

/// A workload that has not ended.
struct Live {
    record: Record,
    /// What was asked, whole, until its directory has it.
    request: Option<Arc<WorkloadSpec>>,
    ask: Ask,
    plan: Arc<Plan>,
    process: Option<Arc<Process>>,
    /// Its receivers see the end of the sender when the workload has ended.
    signal: watch::Sender<Signal>,
}

impl Live {
    fn new(record: Record, request: Option<WorkloadSpec>, ask: Ask, plan: Arc<Plan>) -> Self {
        Self {
            record,
            request: request.map(Arc::new),
            ask,
            plan,
            process: None,
            signal: watch::Sender::new(Signal::default()),
        }
    }
}

/// What others tell the task that drives a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Signal {
    stop: Stop,
    /// Whether its directory is there.
    placed: bool,
}

/// Whether and how to end a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum Stop {
    #[default]
    No,
    /// SIGTERM first, SIGKILL after the grace.
    Gently,
    /// The same with a short grace, for it is deleted; one that is in its grace already keeps that.
    Now,
}

/// Which lock an id has.
fn id_place(id: &WorkloadId) -> usize {
    place(id.as_str())
}

fn place(name: &str) -> usize {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish() as usize % LOCKS
}

fn locks() -> Vec<tokio::sync::Mutex<()>> {
    (0..LOCKS).map(|_| tokio::sync::Mutex::default()).collect()
}

impl Runner {
    pub(crate) fn new(parts: Parts) -> std::io::Result<Self> {
        let files = files::Files::new(&parts.config.data_dir);
        let interpreters = plan::Interpreters::new(&parts.config.python, &parts.base_env);
        let bash = interpreters.find_program("bash");
        let shell = likeness::make_shell(&parts.config.data_dir, bash)?;
        Ok(Self(Arc::new(Inner {
            config: parts.config,
            clock: parts.clock,
            store: parts.store,
            supervisor: parts.supervisor,
            metrics: parts.metrics,
            files,
            agent: parts.agent,
            stores: parts.stores,
            boot_id: parts.boot_id,
            base_env: parts.base_env,
            interpreters,
            shell,
            vault: parts.vault,
            cgroups: parts.cgroups,
            host_name: parts.host_name,
            live: Mutex::new(LiveSet {
                workloads: HashMap::new(),
                scheduler: parts.scheduler,
            }),
            id_locks: locks(),
            owner_locks: locks(),
            hub: hub::Hub::default(),
            growth: logs::Growth::new()?,
            environments: environments::Environments::default(),
            queue_changed: tokio::sync::Notify::new(),
            agent_abort: parts
                .agent_abort
                .as_deref()
                .map(agent_abort::AgentAbort::parse),
            _data_lock: parts.data_lock,
        })))
    }

    /// How many workloads have an agent now.
    pub fn running(&self) -> usize {
        let live = self.live();
        let placed = |live: &&Live| live.record.state.placed();
        live.workloads.values().filter(placed).count()
    }

    /// The database, for backups.
    pub fn database(&self) -> &sql::Db {
        self.0.store.db()
    }

    pub(crate) fn live(&self) -> MutexGuard<'_, LiveSet> {
        self.0.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn shutdown(&self) -> Shutdown {
        self.0.supervisor.shutdown_signal()
    }

    /// Keeps other changes of the same id away.
    async fn lock_id(&self, id: &WorkloadId) -> tokio::sync::MutexGuard<'_, ()> {
        self.0.id_locks[id_place(id)].lock().await
    }

    /// Keeps other calls of Forget for the same owner away.
    async fn lock_owner(&self, owner: &str) -> tokio::sync::MutexGuard<'_, ()> {
        self.0.owner_locks[place(owner)].lock().await
    }

    /// Runs a task that belongs to a workload; at shutdown it is dropped, the workload goes on.
    fn spawn(&self, name: &str, future: impl Future<Output = ()> + Send + 'static) {
        self.0.supervisor.spawn_once(OnCancel::Abort, name, future);
    }

    /// Writes records until it works: what they say has already happened. False when the runner ends before.
    async fn commit(&self, records: &[Record]) -> bool {
        let shutdown = self.shutdown();
        let mut backoff = Duration::from_millis(50);
        loop {
            match self.0.store.save(records).await {
                Ok(()) => return true,
                Err(error @ sql::Error::Corrupt { .. }) => {
                    // Another runner has the node: nothing that we know is true any more.
                    self.0.supervisor.fail(aip::chain(&error));
                    return false;
                }
                Err(error) => {
                    tracing::warn!(error = aip::chain(&error), "cannot record a change yet");
                }
            }
            if shutdown.guard(tokio::time::sleep(backoff)).await.is_none() {
                return false;
            }
            backoff = (backoff * 2).min(LAST_BACKOFF);
        }
    }

    /// Tells watchers, unless something newer is known: a state must never be told after a later one. The lock is
    /// held until it is with all watchers, so that the check still holds then.
    fn publish(&self, record: Record) {
        self.measure();
        let live = self.live();
        let newer = match live.workloads.get(&record.id) {
            Some(live) => live.record.version > record.version,
            None => !record.state.ended(),
        };
        if !newer {
            self.0.hub.publish(&Arc::new(record));
        }
    }

    /// Shows how many run and wait now.
    fn measure(&self) {
        let live = self.live();
        let (running, queued) = (live.scheduler.held(), live.scheduler.queued());
        self.0.metrics.live(running, queued);
    }

    fn next_version(&self, last: i64) -> i64 {
        // Time, so that it grows over restarts too, whatever was told without being written.
        self.0.clock.now().as_micros().max(last + 1)
    }

    /// Moves a record through an event; an event that does not fit is a bug and changes nothing.
    fn advance(&self, record: &mut Record, event: Event, reason: &str, message: &str) -> bool {
        match state::next(record.state, event) {
            Ok(state) => {
                record.state = state;
                record.reason = reason.to_owned();
                record.message = redact::urls(message);
                record.version = self.next_version(record.version);
                true
            }
            Err(illegal) => {
                debug_assert!(false, "{illegal}");
                tracing::error!(id = %record.id, %illegal, "a change was dropped");
                false
            }
        }
    }

    /// Runs a mutation to its end even when its caller goes away.
    pub(crate) async fn to_end<T, F>(&self, future: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        if self.shutdown().requested() {
            return Err(Error::Draining);
        }
        self.0.supervisor.run_to_end(future).await
    }

    /// Kills everything that has the workload's id in its environment; false when something does not go away.
    pub(crate) async fn kill_survivors(&self, id: &WorkloadId) -> bool {
        let mark = sys::Mark::new(
            id.as_str(),
            &self.0.files.dir(id),
            &self.0.files.temporary(id),
        );
        for _ in 0..500 {
            let mark = mark.clone();
            let killed = tokio::task::spawn_blocking(move || sys::kill_marked(&mark)).await;
            match killed {
                Ok(0) => return true,
                Ok(count) => tracing::info!(%id, count, "killed survivors of a workload"),
                Err(error) => tracing::error!(%id, %error, "cannot look for survivors"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    }
}

impl std::fmt::Debug for Runner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runner")
            .field("node", &self.0.store.node_id())
            .finish_non_exhaustive()
    }
}
