//! Use cases: each is one transaction, and a wake-up of the engine where a run changes.

mod backfills;
mod clones;
mod details;
mod experiments;
mod lists;
pub(crate) mod loaded;
mod metrics;
mod pipelines;
mod plans;
mod recurring;
mod roots;
pub(crate) mod runs;
pub(crate) mod slots;

use std::sync::Arc;

use clock::Clock;
use ids::RunId;
use runtime::Supervisor;
use sql::{BoxFuture, Conn, Db};
use tokio::sync::Notify;

pub use backfills::NewBackfill;
pub use clones::Differences;
pub use lists::Listed;
pub use pipelines::{NewPipeline, NewVersion, TagChange};
pub use plans::Plans;
pub(crate) use plans::features;
pub use recurring::{NewSchedule, ScheduleDetails, ScheduleEdit};
pub use roots::Roots;
pub use runs::{CACHE_FIELD, NewRun, NewSource, RunDetails};

use crate::domain::CachePolicy;
use crate::error::Error;
use crate::metrics::OrchestratorMetrics;
use crate::store::{CallKey, Known, idempotency};
use crate::work::Wake;

/// What the use cases need.
#[derive(Clone)]
pub struct App(Arc<Parts>);

/// The parts of an [`App`].
pub struct Parts {
    /// The database.
    pub db: Db,
    /// The time.
    pub clock: Clock,
    /// Whoever brings runs forward.
    pub engine: Arc<dyn Wake>,
    /// Owns mutations until they end.
    pub supervisor: Supervisor,
    /// Where runs may put their outputs.
    pub roots: Roots,
    /// Plans by specification.
    pub plans: Plans,
    /// How runs use the cache unless they say otherwise.
    pub cache: CachePolicy,
    /// Counters.
    pub metrics: OrchestratorMetrics,
    /// Asks for a look at the schedules.
    pub schedules: Arc<Notify>,
    /// The time zone of schedules that name none.
    pub time_zone: String,
}

/// A mutation that a caller may repeat.
pub struct Call<T> {
    /// The caller's key; none when it gave none.
    pub key: Option<CallKey>,
    /// The answer as it is kept for a repetition.
    pub encode: Encode<T>,
}

/// Writes an answer as it is kept.
pub type Encode<T> = Box<dyn Fn(&T) -> Vec<u8> + Send>;

/// What a mutation answers.
#[derive(Debug)]
pub enum Reply<T> {
    /// It was done now.
    Fresh(T),
    /// It was done before, and this was the answer.
    Replayed(Vec<u8>),
}

impl App {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    fn parts(&self) -> &Parts {
        &self.0
    }

    /// The database, for a transaction of another part of the service.
    pub fn db(&self) -> &Db {
        &self.0.db
    }

    /// Plans by specification.
    pub fn plans(&self) -> &Plans {
        &self.0.plans
    }

    /// Runs a mutation in one transaction, with its answer if the caller gave a key.
    async fn mutate<T, F>(&self, call: Call<T>, run: F) -> Result<Reply<T>, Error>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut Conn) -> BoxFuture<'c, Result<T, Error>> + Send + 'static,
    {
        let now = self.0.clock.now();
        let write = self.0.db.write(move |conn| {
            Box::pin(async move {
                let Some(key) = call.key else {
                    return run(conn).await.map(Reply::Fresh);
                };
                match idempotency::find(conn, &key).await? {
                    Known::New => {}
                    Known::Done(answer) => return Ok(Reply::Replayed(answer)),
                    Known::Other => return Err(Error::RequestIdReused),
                }
                let value = run(conn).await?;
                let answer = (call.encode)(&value);
                match idempotency::keep(conn, &key, answer, now).await {
                    Ok(()) => Ok(Reply::Fresh(value)),
                    // The same call at the same time on another connection.
                    Err(sql::Error::Unique { .. }) => Err(Error::Conflict),
                    Err(error) => Err(error.into()),
                }
            })
        });
        write.await
    }

    /// The answer of a mutation that was done before. Asked before anything that the call names is looked for, which may be
    /// gone by now; [`App::mutate`] asks again in its transaction.
    async fn repeated<T>(&self, key: Option<CallKey>) -> Result<Option<Reply<T>>, Error> {
        let Some(key) = key else {
            return Ok(None);
        };
        let read = self
            .read(move |conn| Box::pin(async move { Ok(idempotency::find(conn, &key).await?) }));
        match read.await? {
            Known::New => Ok(None),
            Known::Done(answer) => Ok(Some(Reply::Replayed(answer))),
            Known::Other => Err(Error::RequestIdReused),
        }
    }

    /// The same as [`App::mutate`], and then wakes the engine for a run; also when the caller goes away meanwhile.
    async fn mutate_run<T, F>(
        &self,
        call: Call<T>,
        run_id: RunId,
        run: F,
    ) -> Result<Reply<T>, Error>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut Conn) -> BoxFuture<'c, Result<T, Error>> + Send + 'static,
    {
        self.mutate_then(call, move |engine| engine.wake(run_id), run)
            .await
    }

    /// The same for what only lists show, of one run or of any number of them.
    async fn mutate_listed<T, F>(
        &self,
        call: Call<T>,
        run_id: Option<RunId>,
        run: F,
    ) -> Result<Reply<T>, Error>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut Conn) -> BoxFuture<'c, Result<T, Error>> + Send + 'static,
    {
        self.mutate_then(call, move |engine| engine.relisted(run_id), run)
            .await
    }

    async fn mutate_then<T, F>(
        &self,
        call: Call<T>,
        then: impl FnOnce(&dyn Wake) + Send + 'static,
        run: F,
    ) -> Result<Reply<T>, Error>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut Conn) -> BoxFuture<'c, Result<T, Error>> + Send + 'static,
    {
        let app = self.clone();
        let whole = async move {
            let reply = app.mutate(call, run).await?;
            runtime::abort_point("orchestrator.call.committed");
            then(app.0.engine.as_ref());
            Ok(reply)
        };
        self.0.supervisor.run_to_end(whole).await
    }

    /// Reads from one state of the database.
    async fn read<T, F>(&self, run: F) -> Result<T, Error>
    where
        F: for<'c> FnOnce(&'c mut Conn) -> BoxFuture<'c, Result<T, Error>>,
    {
        self.0.db.read(run).await
    }
}
