//! Forgets answers that no caller asks for any more, and results of steps that have expired.

use std::time::Duration;

use clock::Clock;
use reconcile::{Reconciler, Report};
use sql::Db;

use crate::metrics::OrchestratorMetrics;
use crate::store::{cache, idempotency};

/// Removes kept answers after a time.
pub(crate) struct Retention {
    /// The database.
    pub db: Db,
    /// The time.
    pub clock: Clock,
    /// How long answers are kept.
    pub keep: Duration,
    /// Counters.
    pub metrics: OrchestratorMetrics,
}

impl Reconciler for Retention {
    fn name(&self) -> &'static str {
        "retention"
    }

    async fn pass(&self) -> Report {
        let micros = i64::try_from(self.keep.as_micros()).unwrap_or(i64::MAX);
        let now = self.clock.now().as_micros();
        let before = clock::Timestamp::from_micros(now.saturating_sub(micros));
        let purge = self
            .db
            .write(move |conn| Box::pin(async move { idempotency::purge(conn, before).await }));
        if let Err(error) = purge_cache(&self.db, self.clock.now()).await {
            return Report::problem(sql::Error::to_string(&error));
        }
        match purge.await {
            Ok(changed) => {
                self.metrics.answers_purged.inc_by(changed);
                Report {
                    changed,
                    ..Report::default()
                }
            }
            Err(error) => Report::problem(sql::Error::to_string(&error)),
        }
    }
}

/// Results that have expired are not used any more.
async fn purge_cache(db: &Db, now: clock::Timestamp) -> Result<u64, sql::Error> {
    db.write(move |conn| Box::pin(async move { cache::purge(conn, now).await }))
        .await
}

#[cfg(test)]
mod tests {
    use runtime::Metrics;
    use sql::{Options, args};

    use super::*;

    #[tokio::test]
    async fn answers_are_kept_for_their_time_only() {
        let dir = testkit::temp_dir();
        let options = Options::file(&dir.path().join("p.sqlite"));
        let db = Db::open(&options, &crate::store::migrations())
            .await
            .unwrap();
        let (clock, hand) = Clock::manual(clock::Timestamp::from_secs(1_000));
        let key = crate::store::CallKey {
            caller: "user:a".to_owned(),
            method: "CreateRun",
            request_id: "k".to_owned(),
            body_hash: "h".to_owned(),
        };
        let now = clock.now();
        let keep = db.write(move |conn| {
            Box::pin(async move { idempotency::keep(conn, &key, Vec::new(), now).await })
        });
        keep.await.map_err(|error: sql::Error| error).unwrap();
        let retention = Retention {
            db: db.clone(),
            clock,
            keep: Duration::from_secs(60),
            metrics: OrchestratorMetrics::new(&Metrics::new()),
        };
        let count = async || -> i64 {
            db.fetch_one("SELECT COUNT(*) AS value FROM idempotency", args![])
                .await
                .unwrap()
        };
        assert_eq!(retention.pass().await.changed, 0);
        hand.advance(Duration::from_secs(61));
        assert_eq!(
            (count().await, retention.pass().await.changed, count().await),
            (1, 1, 0)
        );
    }
}
