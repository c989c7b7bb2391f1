//! Ends a run that the engine cannot go on with, however often it tries: better a named end than none.
//!
//! Its programs are stopped before that is written, since nobody looks after a run that has ended.

use std::time::Duration;

use api_runner::v1 as runner;
use ids::RunId;

use super::actor::{self, Failure};
use super::engine::Inner;
use super::{cleanup, launch};
use crate::domain::{Entered, GIVEN_UP, RunStatus};
use crate::store::{cache, runs, sequences};

/// How often in a row a lasting failure is met before the run is given up.
const LASTING: u32 = 3;
/// How long the runner may take to say what it executes.
const LIST_TIMEOUT: Duration = Duration::from_secs(30);

/// The lasting failure that a run met last, and how often in a row.
#[derive(Debug, Default)]
pub(super) struct Streak {
    failure: String,
    count: u32,
}

impl Streak {
    /// Takes a failure in; true when it is time to give up. Any other failure between shows that trying again does not
    /// always give the same.
    pub(super) fn hopeless(&mut self, failure: &Failure) -> bool {
        if !failure.lasting() {
            *self = Self::default();
            return false;
        }
        // Ids that were drawn for the attempt are others each time.
        let text = aip::chain(failure).replace(|c: char| c.is_ascii_digit(), "");
        if text != self.failure {
            *self = Self {
                failure: text,
                count: 0,
            };
        }
        self.count += 1;
        self.count >= LASTING
    }
}

/// Stops the programs of a run and fails it. Nothing happens to one that has ended or is being removed.
pub(super) async fn end(engine: &Inner, run: RunId, error: &str) -> Result<(), Failure> {
    let Some(mut record) = actor::record(engine, run).await? else {
        return Ok(());
    };
    if record.run.status.ended() || record.deleting {
        return Ok(());
    }
    let epoch = engine.epoch();
    // By another process the programs are looked after; they are not ours to stop.
    let ours = engine.db.write(move |conn| {
        Box::pin(async move {
            match sequences::epoch(conn).await? == epoch {
                true => Ok(()),
                false => Err(Failure::Fenced),
            }
        })
    });
    ours.await?;
    let reason = "the stored run cannot be executed";
    cleanup::stop_open_attempts(engine, run, reason).await?;
    stop_programs(engine, run, reason).await?;
    runtime::abort_point("orchestrator.give_up.stopped");
    let now = engine.clock.now();
    let ended = &mut record.run;
    ended.status = RunStatus::Failed;
    ended.finished_at = Some(now);
    ended.version += 1;
    ended.body.reason = GIVEN_UP.to_owned();
    ended.body.message = format!("{reason}: {error}");
    ended.body.history.push(Entered {
        status: RunStatus::Failed,
        at: now,
    });
    let ended = record.run;
    let written = engine.db.write(move |conn| {
        Box::pin(async move {
            if sequences::epoch(conn).await? != epoch {
                return Err(Failure::Fenced);
            }
            runs::update(conn, &ended).await?;
            Ok::<_, Failure>(cache::release_run(conn, run).await?)
        })
    });
    engine.cache_ended(&written.await?);
    engine.watchers.changed(run, true);
    Ok(())
}

/// Stops what the runner executes for a run by its own account, since the rows of the tasks may not be readable.
async fn stop_programs(engine: &Inner, run: RunId, reason: &str) -> Result<(), cleanup::Error> {
    let request = runner::WatchRequest {
        owner: launch::owner(run),
        live_only: true,
    };
    let context = rpc::Context::background("pipeline-orchestrator");
    let mut client = engine.workloads();
    let watch = client.watch(context.stream_request(request)).await?;
    let mut stream = watch.into_inner();
    let mut programs = Vec::new();
    let there = async {
        while let Some(update) = stream.message().await? {
            programs.extend(update.workload.map(|workload| workload.id));
            if update.synced {
                return Ok(());
            }
        }
        Err(cleanup::Error::Unfinished)
    };
    let there = tokio::time::timeout(LIST_TIMEOUT, there).await;
    there.unwrap_or(Err(cleanup::Error::Unfinished))?;
    for id in programs {
        cleanup::stop(engine, id, reason).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use runtime::Host;

    use super::*;
    use crate::domain::StepError;
    use crate::store::experiments;
    use crate::store::tests::{both, insert, micros, run};
    use crate::work::{Deps, RunEngine};

    fn corrupt(text: &str) -> Failure {
        Failure::Corrupt(text.to_owned())
    }

    #[test]
    fn only_the_same_lasting_failure_in_a_row_is_hopeless() {
        let mut streak = Streak::default();
        assert!(!streak.hopeless(&corrupt("a")));
        assert!(!streak.hopeless(&corrupt("a")));
        assert!(!streak.hopeless(&Failure::Raced));
        assert!(!streak.hopeless(&corrupt("a")));
        assert!(!streak.hopeless(&corrupt("b")));
        let step = || Failure::Step(StepError::Inconsistent("no task `a`".to_owned()));
        assert!(!streak.hopeless(&step()));
        assert!(!streak.hopeless(&step()));
        assert!(streak.hopeless(&step()));
    }

    #[test]
    fn a_failure_that_names_ids_is_the_same_with_others() {
        let mut streak = Streak::default();
        let step = |id: i64| Failure::Step(StepError::Inconsistent(format!("no task `{id}`")));
        assert!(!streak.hopeless(&step(17)));
        assert!(!streak.hopeless(&step(1018)));
        assert!(streak.hopeless(&step(2019)));
    }

    /// A run is as it was, and no runner is asked: there is none.
    #[tokio::test]
    async fn an_older_process_ends_no_run_of_a_newer_one() {
        for opened in both().await {
            let db = opened.db;
            let experiment = db.write(|conn| {
                Box::pin(async move { experiments::ensure(conn, "e", "", micros(1)).await })
            });
            let experiment: Result<_, sql::Error> = experiment.await;
            let stored = run("a", 1, experiment.unwrap().id);
            let id = stored.run.id;
            insert(&db, stored).await;
            let dir = testkit::temp_dir();
            let host = Host::detached("test");
            let engine = RunEngine::new(Deps {
                db: db.clone(),
                runner: rpc::Switchboard::new().channel("flumina.runner.v1.WorkloadService"),
                objects: objects::Store::open(dir.path()).unwrap(),
                clock: host.clock.clone(),
                supervisor: host.supervisor.clone(),
                active: Default::default(),
                any_end: Arc::default(),
            });
            let newer = db.write(|conn| Box::pin(async move { sequences::next_epoch(conn).await }));
            let newer: Result<i64, sql::Error> = newer.await;
            assert!(newer.unwrap() > engine.0.epoch());
            let outcome = end(&engine.0, id, "broken").await;
            assert!(matches!(outcome, Err(Failure::Fenced)), "{outcome:?}");
            let left = actor::record(&engine.0, id).await.unwrap().unwrap();
            assert_eq!(left.run.status, RunStatus::Pending);
        }
    }
}
