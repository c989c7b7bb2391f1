//! Time as an argument: the system's clock, or one that a test moves.
//!
//! Instants are [`Timestamp`]s, microseconds since 1970 in UTC, the unit that tables and messages use.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

/// Microseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// 1970-01-01T00:00:00Z, which adopted contracts print for "not yet".
    pub const EPOCH: Self = Self(0);

    /// From microseconds since 1970.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// From seconds since 1970.
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1_000_000))
    }

    /// Microseconds since 1970.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since 1970, rounded down.
    pub const fn as_secs(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Microseconds within the second, 0 to 999,999.
    pub const fn subsec_micros(self) -> u32 {
        self.0.rem_euclid(1_000_000) as u32
    }

    /// The instant that is `by` later.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(micros))
    }

    /// The time since `earlier`, zero when that is later.
    pub fn since(self, earlier: Self) -> Duration {
        let micros = self.0.saturating_sub(earlier.0);
        Duration::from_micros(u64::try_from(micros).unwrap_or(0))
    }
}

/// RFC 3339 in UTC, with as many digits of the second as are needed.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(timestamp) => timestamp.fmt(f),
            Err(_) => write!(f, "{}us", self.0),
        }
    }
}

/// The text is not an RFC 3339 instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError(String);

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is not an RFC 3339 time such as 2026-01-31T12:00:00Z",
            self.0
        )
    }
}

impl std::error::Error for ParseError {}

impl FromStr for Timestamp {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        jiff::Timestamp::from_str(text)
            .map(|timestamp| Self(timestamp.as_microsecond()))
            .map_err(|_| ParseError(text.to_owned()))
    }
}

/// Where time comes from; cloning shares the source.
#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    System,
    Manual {
        micros: Arc<AtomicI64>,
        base: Instant,
        start: i64,
    },
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands at `start` until it is moved.
    pub fn manual(start: Timestamp) -> (Self, ManualClock) {
        let micros = Arc::new(AtomicI64::new(start.0));
        let source = Source::Manual {
            micros: Arc::clone(&micros),
            base: now_monotonic(),
            start: start.0,
        };
        (Self(source), ManualClock(micros))
    }

    /// The time of day; it may jump.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System => Timestamp(jiff::Timestamp::now().as_microsecond()),
            Source::Manual { micros, .. } => Timestamp(micros.load(Ordering::SeqCst)),
        }
    }

    /// A time that only grows, for durations.
    pub fn monotonic(&self) -> Instant {
        match &self.0 {
            Source::System => now_monotonic(),
            Source::Manual {
                micros,
                base,
                start,
            } => {
                let passed = micros.load(Ordering::SeqCst).saturating_sub(*start);
                *base + Duration::from_micros(u64::try_from(passed).unwrap_or(0))
            }
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the place that reads the machine's clock"
)]
fn now_monotonic() -> Instant {
    Instant::now()
}

/// Moves the clock that it was made with.
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<AtomicI64>);

impl ManualClock {
    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        self.0.fetch_add(micros, Ordering::SeqCst);
    }

    /// Sets the clock, backwards too.
    pub fn set(&self, to: Timestamp) {
        self.0.store(to.0, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_is_rfc_3339_and_reads_back() {
        let timestamp = Timestamp::from_micros(1_700_000_000_250_000);
        assert_eq!(timestamp.to_string(), "2023-11-14T22:13:20.25Z");
        assert_eq!("2023-11-14T22:13:20.25Z".parse(), Ok(timestamp));
        assert!("yesterday".parse::<Timestamp>().is_err());
    }

    #[test]
    fn seconds_before_1970_round_down() {
        let timestamp = Timestamp::from_micros(-1);
        assert_eq!(
            (timestamp.as_secs(), timestamp.subsec_micros()),
            (-1, 999_999)
        );
    }

    #[test]
    fn manual_clock_moves_only_when_told() {
        let (clock, hand) = Clock::manual(Timestamp::from_secs(10));
        let before = clock.monotonic();
        assert_eq!(clock.now(), Timestamp::from_secs(10));
        hand.advance(Duration::from_secs(5));
        assert_eq!(clock.now(), Timestamp::from_secs(15));
        assert_eq!(clock.monotonic() - before, Duration::from_secs(5));
        assert_eq!(clock.now().since(Timestamp::from_secs(20)), Duration::ZERO);
    }
}
