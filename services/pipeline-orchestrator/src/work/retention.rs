//! Forgets answers that no caller asks for any more.

use std::time::Duration;

use clock::Clock;
use reconcile::{Reconciler, Report};
use sql::Db;

use crate::metrics::OrchestratorMetrics;
use crate::store::idempotency;

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
