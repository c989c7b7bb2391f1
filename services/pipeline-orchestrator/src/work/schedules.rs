//! Makes the runs of schedules and backfills when they are due.

use std::time::Duration;

use clock::{Clock, Timestamp};
use reconcile::{Next, Reconciler, Report};

use super::RunEngine;
use super::slots::{Failure, Made};
use crate::app::App;
use crate::store::schedules::{self, Readable};

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
        self.outran(now, &mut report).await?;
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

    /// Lets schedules go on whose cursor a clock that was ahead once has moved into the future.
    async fn outran(&self, now: Timestamp, report: &mut Report) -> Result<(), Failure> {
        let mut after = String::new();
        loop {
            let place = after.clone();
            let read = self.app.db().read(move |conn| {
                Box::pin(async move { schedules::ahead(conn, now, &place, PAGE).await })
            });
            let ahead: Vec<String> = read.await?;
            let Some(last) = ahead.last() else {
                return Ok(());
            };
            after.clone_from(last);
            for id in ahead {
                let Ok(id) = id.parse() else { continue };
                match self.follow_clock_back(id, now).await {
                    Ok(true) => {
                        report.changed += 1;
                        tracing::warn!(schedule = %id, "the clock was set back; the schedule goes on from now");
                    }
                    Ok(false) => {}
                    Err(Failure::Sql(error @ sql::Error::Corrupt { .. })) => {
                        unreadable(&format!("schedule {id}"), &error, report);
                    }
                    Err(failure) => return Err(failure),
                }
            }
        }
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
            after = match last {
                Readable::Yes(last) => (
                    last.next_at.map_or(0, Timestamp::as_micros),
                    last.id.to_string(),
                ),
                Readable::No(id, next_at, _) => (*next_at, id.clone()),
            };
            for schedule in due {
                match schedule {
                    Readable::Yes(schedule) => {
                        let id = schedule.id;
                        let made = self.make_due(schedule, now).await?;
                        note(made, &format!("schedule {id}"), report);
                    }
                    Readable::No(id, _, error) => {
                        unreadable(&format!("schedule {id}"), &error, report);
                    }
                }
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
            after = match last {
                Readable::Yes(last) => last.id.to_string(),
                Readable::No(id, ..) => id.clone(),
            };
            for backfill in active {
                match backfill {
                    Readable::Yes(backfill) => {
                        let id = backfill.id;
                        let made = self.make_backfill(backfill, now).await?;
                        note(made, &format!("backfill {id}"), report);
                    }
                    Readable::No(id, _, error) => {
                        unreadable(&format!("backfill {id}"), &error, report);
                    }
                }
            }
        }
    }
}

/// The others go on.
fn unreadable(what: &str, error: &sql::Error, report: &mut Report) {
    report.examined += 1;
    report.failed += 1;
    tracing::error!(what, error = aip::chain(error), "a row cannot be read");
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
