//! Background work as repeated passes from stored state.
//!
//! A [`Reconciler`] reads what should be and what is, plans purely, applies and reports. It remembers nothing between
//! passes, so a restart at any line is an ordinary case. [`drive`] runs one pass at a time: at start, when the timer
//! fires, and when somebody notifies; a notification during a pass leads to another pass.

use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use clock::{Clock, Timestamp};
use runtime::{CatchPanic, Kind, Shutdown, Supervisor};
use tokio::sync::{Notify, watch};

/// The pause after the first panic in a row; it doubles with each.
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
const LAST_BACKOFF: Duration = Duration::from_secs(300);

/// Background work.
pub trait Reconciler: Send + Sync + 'static {
    /// The name in logs, such as `retention`.
    fn name(&self) -> &'static str;

    /// One pass over a bounded batch: idempotent, without retries inside. Failures of single items belong to the items,
    /// with a backoff that is stored with them; the report counts them.
    fn pass(&self) -> impl Future<Output = Report> + Send;
}

/// When the next pass begins, unless somebody notifies earlier.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Next {
    /// When the timer fires.
    #[default]
    AtTimer,
    /// At once: the batch was full.
    Now,
    /// After this time, if the timer does not fire earlier: an item becomes due.
    After(Duration),
}

/// What a pass did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Items looked at.
    pub examined: u64,
    /// Items changed.
    pub changed: u64,
    /// Items that failed.
    pub failed: u64,
    /// What kept the pass itself from its work, such as an unreachable database.
    pub problem: Option<String>,
    /// When to look again.
    pub next: Next,
}

impl Report {
    /// A pass that could not do its work.
    pub fn problem(text: impl Into<String>) -> Self {
        Self {
            problem: Some(text.into()),
            ..Self::default()
        }
    }
}

/// When passes begin by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// The longest time between passes. Each wait is up to a tenth shorter, so that services do not march in step.
    pub every: Duration,
}

impl Schedule {
    /// A pass at least every `period`.
    pub fn every(period: Duration) -> Self {
        Self { every: period }
    }
}

/// What is known of a reconciler.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// Passes that began since the process started.
    pub begun: u64,
    /// Passes that ended, in a panic too.
    pub ended: u64,
    /// The report of the last pass that ended without a panic.
    pub last: Option<Report>,
    /// When the last pass ended.
    pub last_at: Option<Timestamp>,
    /// Passes in a row that panicked or had a problem.
    pub failures: u32,
}

/// Runs the passes of `reconciler` in a task of `supervisor`; `wake` asks for a pass. The returned value shows how it
/// goes. At shutdown the running pass is waited for.
pub fn drive<R: Reconciler>(
    supervisor: &Supervisor,
    clock: &Clock,
    reconciler: Arc<R>,
    schedule: Schedule,
    wake: Arc<Notify>,
) -> watch::Receiver<Status> {
    let (sender, receiver) = watch::channel(Status::default());
    let driver = Arc::new(Driver {
        reconciler,
        schedule,
        wake,
        clock: clock.clone(),
        status: sender,
    });
    let name = driver.reconciler.name();
    supervisor.spawn(Kind::WORKER, name, move |shutdown| {
        let driver = Arc::clone(&driver);
        async move { driver.run(shutdown).await }
    });
    receiver
}

struct Driver<R> {
    reconciler: Arc<R>,
    schedule: Schedule,
    wake: Arc<Notify>,
    clock: Clock,
    status: watch::Sender<Status>,
}

impl<R: Reconciler> Driver<R> {
    async fn run(&self, shutdown: Shutdown) {
        while !shutdown.requested() {
            let pause = self.pass_once().await;
            let waited = match pause {
                Pause::Timer(pause) => shutdown.guard(self.wait_or_wake(pause)).await,
                // A pass that fails must not be driven by those who notify.
                Pause::Backoff(pause) => shutdown.guard(tokio::time::sleep(pause)).await,
            };
            if waited.is_none() {
                return;
            }
        }
    }

    async fn wait_or_wake(&self, pause: Duration) {
        tokio::select! {
            () = self.wake.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }

    async fn pass_once(&self) -> Pause {
        self.status.send_modify(|status| status.begun += 1);
        let outcome = CatchPanic::new(Box::pin(self.reconciler.pass())).await;
        let name = self.reconciler.name();
        let failed = match &outcome {
            Ok(report) => report.problem.clone(),
            Err(panic) => Some(panic.to_string()),
        };
        let mut failures = 0;
        self.status.send_modify(|status| {
            status.ended += 1;
            status.last_at = Some(self.clock.now());
            status.failures = if failed.is_some() {
                status.failures.saturating_add(1)
            } else {
                0
            };
            failures = status.failures;
            if let Ok(report) = &outcome {
                status.last = Some(report.clone());
            }
        });
        if let Some(problem) = failed {
            let pause = backoff(failures).min(self.schedule.every);
            tracing::warn!(
                reconciler = name,
                problem,
                failures,
                ?pause,
                "a pass failed"
            );
            return Pause::Backoff(pause);
        }
        let report = outcome.unwrap_or_default();
        if report.changed + report.failed > 0 {
            let Report {
                examined,
                changed,
                failed,
                ..
            } = report;
            tracing::debug!(reconciler = name, examined, changed, failed, "a pass ended");
        }
        let timer = self.schedule.every.mul_f64(1.0 - fraction() / 10.0);
        Pause::Timer(match report.next {
            Next::AtTimer => timer,
            Next::Now => Duration::ZERO,
            Next::After(pause) => pause.min(timer),
        })
    }
}

enum Pause {
    Timer(Duration),
    Backoff(Duration),
}

fn backoff(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    (FIRST_BACKOFF * (1 << doublings)).min(LAST_BACKOFF)
}

/// A number from 0 to below 1; each `RandomState` has other keys.
fn fraction() -> f64 {
    (RandomState::new().hash_one(0u8) >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);
    const PATIENCE: Duration = Duration::from_secs(10);

    #[derive(Default)]
    struct Sample {
        passes: AtomicU64,
        running: AtomicBool,
        hold: Notify,
        script: Vec<Step>,
    }

    #[derive(Clone)]
    enum Step {
        Report(Report),
        Panic,
        Hold,
    }

    impl Reconciler for Sample {
        fn name(&self) -> &'static str {
            "sample"
        }

        async fn pass(&self) -> Report {
            assert!(
                !self.running.swap(true, Ordering::SeqCst),
                "one pass at a time"
            );
            let pass = self.passes.fetch_add(1, Ordering::SeqCst);
            let step = self.script.get(usize::try_from(pass).unwrap()).cloned();
            if matches!(step, Some(Step::Hold)) {
                self.hold.notified().await;
            }
            self.running.store(false, Ordering::SeqCst);
            match step {
                Some(Step::Report(report)) => report,
                Some(Step::Panic) => panic!("scripted"),
                Some(Step::Hold) | None => Report::default(),
            }
        }
    }

    struct Running {
        supervisor: Supervisor,
        sample: Arc<Sample>,
        wake: Arc<Notify>,
        status: watch::Receiver<Status>,
    }

    fn start(every: Duration, script: Vec<Step>) -> Running {
        let supervisor = Supervisor::new("test");
        let sample = Arc::new(Sample {
            script,
            ..Sample::default()
        });
        let wake = Arc::new(Notify::new());
        let status = drive(
            &supervisor,
            &Clock::system(),
            Arc::clone(&sample),
            Schedule::every(every),
            Arc::clone(&wake),
        );
        Running {
            supervisor,
            sample,
            wake,
            status,
        }
    }

    impl Running {
        async fn until(&self, condition: impl FnMut(&Status) -> bool) -> Status {
            let mut status = self.status.clone();
            match tokio::time::timeout(PATIENCE, status.wait_for(condition)).await {
                Ok(status) => status.unwrap().clone(),
                Err(_) => panic!("still {:?}", self.status.borrow()),
            }
        }
    }

    #[tokio::test]
    async fn a_pass_begins_at_start_and_on_each_notification() {
        let running = start(LONG, Vec::new());
        running.until(|status| status.ended == 1).await;
        running.wake.notify_one();
        running.until(|status| status.ended == 2).await;
    }

    #[tokio::test]
    async fn a_notification_during_a_pass_leads_to_another() {
        let running = start(LONG, vec![Step::Hold]);
        running.until(|status| status.begun == 1).await;
        running.wake.notify_one();
        running.wake.notify_one();
        running.sample.hold.notify_one();
        running.until(|status| status.ended == 2).await;
    }

    #[tokio::test]
    async fn the_timer_and_the_report_bring_the_next_pass() {
        let running = start(Duration::from_millis(5), Vec::new());
        running.until(|status| status.ended >= 3).await;
        let now = Step::Report(Report {
            next: Next::Now,
            ..Report::default()
        });
        let soon = Step::Report(Report {
            next: Next::After(Duration::from_millis(5)),
            ..Report::default()
        });
        let running = start(LONG, vec![now, soon]);
        running.until(|status| status.ended == 3).await;
    }

    #[tokio::test]
    async fn panics_and_problems_are_failures_and_do_not_end_the_work() {
        let problem = Report::problem("no database");
        // The schedule bounds the backoff, which keeps this test short.
        let every = Duration::from_millis(5);
        let running = start(every, vec![Step::Report(problem.clone()), Step::Panic]);
        let seen = running.until(|status| status.ended >= 1).await;
        assert!(seen.failures >= 1 || seen.ended > 2);
        let seen = running.until(|status| status.ended >= 3).await;
        assert_eq!((seen.failures, seen.last), (0, Some(Report::default())));
    }

    #[tokio::test]
    async fn shutdown_waits_for_the_running_pass() {
        let running = start(LONG, vec![Step::Hold]);
        running.until(|status| status.begun == 1).await;
        let supervisor = running.supervisor.clone();
        let (late, ()) = tokio::join!(supervisor.shutdown(PATIENCE), async {
            running.supervisor.shutdown_signal().wait().await;
            running.sample.hold.notify_one();
        });
        assert_eq!(late, Vec::<String>::new());
        assert_eq!(running.status.borrow().ended, 1);
    }

    #[test]
    fn backoff_grows_to_its_cap() {
        assert_eq!(backoff(1), FIRST_BACKOFF);
        assert_eq!(backoff(2), FIRST_BACKOFF * 2);
        assert_eq!(backoff(u32::MAX), LAST_BACKOFF);
    }
}
