//! Makes the runs of schedules and backfills when they are due.

use std::time::Duration;

use clock::{Clock, Timestamp};
use reconcile::{Next, Reconciler, Report};

use super::RunEngine;
use super::slots::{Failure, Made};
use crate::app::App;
use crate::store::schedules;

/// Schedules that are read at a time.
const PAGE: u32 = 100;

/// Looks at what is due. All it knows is in the store, so it may be stopped at any line.
pub(crate) struct Scheduler {
    /// The use cases.
    pub app: App,
    /// Holds the number of this start of the service.
    pub engine: RunEngine,
    /// The time.
    pub clock: Clock,
}

impl Reconciler for Scheduler {
    fn name(&self) -> &'static str {
        "schedules"
    }

    async fn pass(&self) -> Report {
        match self.look().await {
            Ok(report) => report,
            Err(Failure::Fenced) => {
                self.engine.0.fenced();
                Report::default()
            }
            Err(failure) => Report::problem(aip::chain(&failure)),
        }
    }
}

impl Scheduler {
    async fn look(&self) -> Result<Report, Failure> {
        let mut report = Report::default();
        let now = self.clock.now();
        self.due_schedules(now, &mut report).await?;
        self.due_backfills(now, &mut report).await?;
        let read = self
            .app
            .db()
            .read(|conn| Box::pin(async move { schedules::next_due(conn, now).await }));
        if let Some(next) = read.await? {
            let wait = next.since(self.clock.now());
            report.next = Next::After(wait.max(Duration::from_millis(1)));
        }
        Ok(report)
    }

    async fn due_schedules(&self, now: Timestamp, report: &mut Report) -> Result<(), Failure> {
        let mut after = (0, String::new());
        loop {
            let place = after.clone();
            let read = self.app.db().read(move |conn| {
                Box::pin(async move { schedules::due(conn, now, place, PAGE).await })
            });
            let due = read.await?;
            let Some(last) = due.last() else {
                return Ok(());
            };
            after = (
                last.next_at.map_or(0, Timestamp::as_micros),
                last.id.to_string(),
            );
            for schedule in due {
                let id = schedule.id;
                let made = self.make_due(schedule, now).await?;
                note(made, &format!("schedule {id}"), report);
            }
        }
    }

    async fn due_backfills(&self, now: Timestamp, report: &mut Report) -> Result<(), Failure> {
        let mut after = String::new();
        loop {
            let place = after.clone();
            let read = self.app.db().read(move |conn| {
                Box::pin(async move { schedules::active_backfills(conn, now, &place, PAGE).await })
            });
            let active = read.await?;
            let Some(last) = active.last() else {
                return Ok(());
            };
            after = last.id.to_string();
            for backfill in active {
                let id = backfill.id;
                let made = self.make_backfill(backfill, now).await?;
                note(made, &format!("backfill {id}"), report);
            }
        }
    }
}

fn note(made: Made, what: &str, report: &mut Report) {
    report.examined += 1;
    match made {
        Made::Runs(count) => report.changed += count,
        Made::Nothing => {}
        Made::Problem(problem) => {
            report.failed += 1;
            let (reason, message) = (problem.reason, problem.message);
            tracing::warn!(what, reason, message, "a run that is due cannot be made");
        }
    }
}
