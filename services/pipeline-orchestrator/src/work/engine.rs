//! The engine at work: it starts an actor per run, feeds it from the runner's watch, and answers nobody.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api_runner::v1 as runner;
use api_runner::v1::workload_service_client::WorkloadServiceClient;
use clock::Clock;
use ids::RunId;
use objects::Store;
use runtime::prometheus_client::metrics::gauge::Gauge;
use runtime::{Kind, OnCancel, Shutdown, Supervisor};
use sql::Db;
use tokio::sync::{Notify, mpsc};

use super::Wake;
use super::actor::{self, Message};
use super::cache::Waiters;
use super::launch;
use super::numbers::Numbers;
use super::watchers::{Relisted, Watchers};
use crate::store::{runs, sequences};

/// The pause after the runner could not be watched, at first and at most.
const WATCH_PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// What the engine needs.
#[derive(Clone)]
pub struct Deps {
    /// The service's database.
    pub db: Db,
    /// The channel to the runner.
    pub runner: rpc::Channel,
    /// The artifact store.
    pub objects: Store,
    /// The time.
    pub clock: Clock,
    /// Where actors run.
    pub supervisor: Supervisor,
    /// How many runs are in memory.
    pub active: Gauge,
    /// Whoever waits for any run to end.
    pub any_end: Arc<Notify>,
}

/// The engine; cloning shares it.
#[derive(Clone)]
pub struct RunEngine(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) db: Db,
    pub(super) runner: rpc::Channel,
    pub(super) objects: Store,
    pub(super) clock: Clock,
    supervisor: Supervisor,
    active: Gauge,
    pub(super) numbers: Numbers,
    pub(super) watchers: Watchers,
    /// Who waits for a task that runs for its key in the cache.
    pub(super) waiters: Waiters,
    actors: Mutex<HashMap<RunId, mpsc::UnboundedSender<Message>>>,
    /// The number of this start of the service; a later start has a greater one and makes our writes fail.
    epoch: AtomicI64,
}

impl RunEngine {
    /// An engine that does nothing until [`RunEngine::start`].
    pub fn new(deps: Deps) -> Self {
        Self(Arc::new(Inner {
            db: deps.db,
            runner: deps.runner,
            objects: deps.objects,
            clock: deps.clock,
            supervisor: deps.supervisor,
            active: deps.active,
            numbers: Numbers::default(),
            watchers: Watchers::new(deps.any_end),
            waiters: Waiters::default(),
            actors: Mutex::default(),
            epoch: AtomicI64::new(0),
        }))
    }

    /// Goes on with every run that has not ended, and watches the runner.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn start(&self) -> Result<(), sql::Error> {
        let epoch = self
            .0
            .db
            .write(|conn| Box::pin(async move { sequences::next_epoch(conn).await }))
            .await?;
        self.0.epoch.store(epoch, Ordering::SeqCst);
        let open: Vec<RunId> = self
            .0
            .db
            .read(|conn| Box::pin(async move { runs::open(conn).await }))
            .await?;
        for run in open {
            self.wake_run(run);
        }
        let engine = self.clone();
        let make = move |shutdown: Shutdown| {
            let engine = engine.clone();
            async move { engine.watch(shutdown).await }
        };
        self.0.supervisor.spawn(Kind::HELPER, "runner-watch", make);
        Ok(())
    }

    fn wake_run(&self, run: RunId) {
        let mut actors = self.0.actors.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = match actors.entry(run) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let (sender, messages) = mpsc::unbounded_channel();
                let actor = actor::live(Arc::clone(&self.0), run, messages);
                self.0.supervisor.spawn_once(OnCancel::Abort, "run", actor);
                self.0.active.inc();
                entry.insert(sender)
            }
        };
        // The receiver lives as long as the entry: `Inner::retire` removes both under the same lock.
        let _delivered = sender.send(Message::Wake);
    }

    /// Changes of a run from now on.
    pub(crate) fn subscribe(&self, run: RunId) -> tokio::sync::watch::Receiver<super::News> {
        self.0.watchers.subscribe(run)
    }

    /// Changes of lists of runs from now on.
    pub(crate) fn subscribe_lists(&self) -> tokio::sync::broadcast::Receiver<Relisted> {
        self.0.watchers.subscribe_lists()
    }

    /// How many look at lists of runs.
    pub(crate) fn list_readers(&self) -> usize {
        self.0.watchers.list_readers()
    }

    /// A client of the runner.
    pub(crate) fn workloads(&self) -> WorkloadServiceClient<rpc::Channel> {
        self.0.workloads()
    }

    /// Watches the runner until the end, again and again after failures.
    async fn watch(self, shutdown: Shutdown) {
        let mut pause = WATCH_PAUSE.0;
        let mut failures = 0_u32;
        while !shutdown.requested() {
            match self.watch_once().await {
                Ok(()) => (pause, failures) = (WATCH_PAUSE.0, 0),
                Err(status) => {
                    failures += 1;
                    // The first failure, then about one a minute.
                    if failures % 30 == 1 {
                        let (code, message) = (status.code(), status.message());
                        tracing::warn!(?code, message, "the runner cannot be watched");
                    }
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(WATCH_PAUSE.1);
        }
    }

    async fn watch_once(&self) -> Result<(), tonic::Status> {
        let request = runner::WatchRequest {
            owner: launch::OWNERS.to_owned(),
            live_only: true,
        };
        let context = rpc::Context::background("pipeline-orchestrator");
        let mut stream = self
            .0
            .workloads()
            .watch(context.stream_request(request))
            .await?
            .into_inner();
        while let Some(update) = stream.message().await? {
            if let Some(workload) = update.workload {
                self.0.dispatch(workload);
            }
            if update.synced {
                // What ended while nobody watched is not in the stream: every actor asks for its open attempts.
                self.0.broadcast();
            }
        }
        Ok(())
    }
}

impl Wake for RunEngine {
    fn wake(&self, run: RunId) {
        self.0.watchers.relisted(Relisted::Run(run));
        self.wake_run(run);
    }

    fn relisted(&self, run: Option<RunId>) {
        self.0
            .watchers
            .relisted(run.map_or(Relisted::Many, Relisted::Run));
    }
}

impl Inner {
    pub(super) fn workloads(&self) -> WorkloadServiceClient<rpc::Channel> {
        WorkloadServiceClient::new(self.runner.clone())
            .max_decoding_message_size(rpc::MAX_MESSAGE_BYTES)
            .max_encoding_message_size(rpc::MAX_MESSAGE_BYTES)
    }

    /// Gives an update to the actor of its run; a run that has ended needs none.
    fn dispatch(&self, workload: runner::Workload) {
        let owner = workload
            .spec
            .as_ref()
            .map_or("", |spec| spec.owner.as_str());
        let run = owner
            .strip_prefix(launch::OWNERS)
            .and_then(|rest| rest.strip_prefix('/'));
        let Some(run) = run.and_then(|run| run.parse::<RunId>().ok()) else {
            return;
        };
        let Some(update) = launch::update(workload) else {
            return;
        };
        let actors = self.actors.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = actors.get(&run) {
            let _delivered = sender.send(Message::Update(Box::new(update)));
        }
    }

    /// Tells the actor of a run to ask the cache again.
    pub(super) fn ask_cache(&self, run: RunId) {
        let actors = self.actors.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = actors.get(&run) {
            let _delivered = sender.send(Message::AskCache);
        }
    }

    fn broadcast(&self) {
        let actors = self.actors.lock().unwrap_or_else(PoisonError::into_inner);
        for sender in actors.values() {
            let _delivered = sender.send(Message::Resync);
        }
    }

    /// The number of this start of the service.
    pub(super) fn epoch(&self) -> i64 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// Ends the process: another one has the database, and two must not drive the same runs.
    pub(super) fn fenced(&self) {
        self.supervisor
            .fail("another pipelines service took over the database");
    }

    /// Ends an actor unless somebody woke it meanwhile; true when it is over.
    pub(super) fn retire(&self, run: RunId, messages: &mpsc::UnboundedReceiver<Message>) -> bool {
        let mut actors = self.actors.lock().unwrap_or_else(PoisonError::into_inner);
        if !messages.is_empty() {
            return false;
        }
        actors.remove(&run);
        self.active.dec();
        true
    }
}
