//! Places where a test can end the process as if the machine had died.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The variable that arms a point: `NAME`, or `NAME:N` for the N-th time that it is reached.
pub(crate) const VARIABLE: &str = "FLUMINA_ABORT";

static ARMED: AtomicBool = AtomicBool::new(false);
static POINT: OnceLock<Point> = OnceLock::new();

struct Point {
    name: String,
    left: AtomicU64,
}

/// Reads `FLUMINA_ABORT` once; `main` calls this before anything else. Without the variable, points cost one load.
pub fn arm_abort_points() {
    let Some(text) = crate::env::var(VARIABLE).filter(|text| !text.is_empty()) else {
        return;
    };
    POINT.get_or_init(|| parse(&text));
    ARMED.store(true, Ordering::Release);
}

/// Ends the process with SIGKILL when a test armed the point `name`. Names are `service.place.when`, such as
/// `runner.launch.after_commit`.
#[inline]
pub fn abort_point(name: &'static str) {
    if ARMED.load(Ordering::Relaxed) {
        reached(name);
    }
}

#[cold]
fn reached(name: &str) {
    if let Some(point) = POINT.get()
        && point.is_hit_by(name)
    {
        kill_self();
    }
}

fn parse(text: &str) -> Point {
    let (name, count) = match text.rsplit_once(':') {
        Some((name, count)) => (name, count.parse().unwrap_or(1)),
        None => (text, 1),
    };
    Point {
        name: name.to_owned(),
        left: AtomicU64::new(count),
    }
}

impl Point {
    fn is_hit_by(&self, name: &str) -> bool {
        self.name == name && self.left.fetch_sub(1, Ordering::SeqCst) == 1
    }
}

/// No destructor, no handler, no flush: as little as a power cut would leave.
fn kill_self() -> ! {
    // A failure to signal oneself leaves only the next best end.
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).ok();
    std::process::abort()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_hit_at_the_named_time_only() {
        let point = parse("runner.launch.after_commit:2");
        assert!(!point.is_hit_by("runner.launch.before_commit"));
        assert!(!point.is_hit_by("runner.launch.after_commit"));
        assert!(point.is_hit_by("runner.launch.after_commit"));
        assert!(!point.is_hit_by("runner.launch.after_commit"));
        assert!(parse("a.b.c").is_hit_by("a.b.c"));
    }

    #[test]
    fn an_unarmed_point_does_nothing() {
        abort_point("runtime.test.never");
    }
}
