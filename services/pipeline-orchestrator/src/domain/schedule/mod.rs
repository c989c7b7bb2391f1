//! When a schedule makes runs: its slots, as a function of its trigger, its cursor and the time.
//!
//! The cursor is the last slot that was dealt with. It only moves forward, and it moves in the transaction that inserts
//! the run of the slot; so a slot is neither missed nor repeated, whatever the clock and the processes do.
//!
//! A clock that is set forward makes the slots in between late, as a server that was down does: with catch-up each of
//! them is made, one after the other, without it only the newest. A clock that is set back makes nothing until it has
//! passed the cursor again; when that is more than an hour away, the cursor follows it, and slots that have their runs are
//! passed over. What changes of the offset of a time zone mean is said at [`Trigger::next_after`].

mod cron;
mod record;
#[cfg(test)]
mod tests;
mod zone;

use clock::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use serde::{Deserialize, Serialize};

use self::cron::{Cron, Expression};
use self::zone::Zone;
use super::violation::Violations;

pub use cron::MAX_CRON;
pub use record::{
    Backfill, BackfillBody, BackfillState, Problem, SCHEDULE_FIELDS, Schedule, ScheduleBody,
    ScheduleSource, combination, combinations, run_key, run_name,
};
pub use zone::check_time_zone;

/// The most runs of a schedule at a time, as upstream limits them.
pub const MAX_CONCURRENCY: u32 = 10;
/// The longest interval, in seconds: a hundred years.
const MAX_INTERVAL: i64 = 100 * 366 * 86_400;
const SECOND: i64 = 1_000_000;
/// Changes of offset that one search looks through: a zone has a few a year.
const MAX_TRANSITIONS: u32 = 100;

/// A trigger as it was asked for and is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TriggerSpec {
    /// When.
    pub timing: Timing,
    /// Slots come after it, in microseconds since 1970.
    pub start: Option<i64>,
    /// Slots come until then.
    pub end: Option<i64>,
    /// The time zone of a cron expression that names none; empty for the server's.
    #[serde(default)]
    pub time_zone: String,
}

/// Cron or interval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Timing {
    /// A cron expression.
    Cron(String),
    /// Seconds between slots.
    Interval(i64),
}

/// A trigger that can say its slots.
#[derive(Debug, Clone, PartialEq)]
pub struct Trigger {
    rule: Rule,
    /// Every slot is later.
    anchor: Timestamp,
    /// No slot is later.
    end: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq)]
enum Rule {
    Cron(Cron, Zone),
    /// Microseconds.
    Every(i64),
}

/// What is due of a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// The slots to make runs of, earliest first.
    pub slots: Vec<Timestamp>,
    /// The cursor after them.
    pub cursor: Timestamp,
    /// The slot after the cursor; none when there is none any more.
    pub next: Option<Timestamp>,
}

impl TriggerSpec {
    /// Reads the trigger. `anchor` is when it was set; it counts where no start is given. `zone` is the server's.
    pub fn parse(
        &self,
        field: &str,
        anchor: Timestamp,
        zone: &str,
        faults: &mut Violations,
    ) -> Option<Trigger> {
        let before = faults.clone();
        let rule = match &self.timing {
            Timing::Cron(text) => {
                let place = format!("{field}.cron_schedule.cron");
                let rule = self.cron(text, zone);
                rule.map_err(|message| faults.add(place, message)).ok()
            }
            Timing::Interval(seconds) => {
                if !(1..=MAX_INTERVAL).contains(seconds) {
                    let place = format!("{field}.periodic_schedule.interval_second");
                    faults.add(
                        place,
                        format!("must be 1 to {MAX_INTERVAL} seconds, got {seconds}"),
                    );
                }
                Some(Rule::Every(seconds.saturating_mul(SECOND)))
            }
        };
        let start = self.start.map(Timestamp::from_micros);
        let end = self.end.map(Timestamp::from_micros);
        if let (Some(start), Some(end)) = (start, end)
            && end <= start
        {
            let message = format!("{end} is not later than the start time {start}");
            faults.add(format!("{field}.end_time"), message);
        }
        if *faults != before {
            return None;
        }
        // Whole seconds, so that the slots of an interval are.
        let anchor = Timestamp::from_secs(start.unwrap_or(anchor).as_secs());
        Some(Trigger {
            rule: rule?,
            anchor,
            end,
        })
    }

    fn cron(&self, text: &str, default_zone: &str) -> Result<Rule, String> {
        if text.len() > MAX_CRON {
            return Err(format!("must not be longer than {MAX_CRON} bytes"));
        }
        let (named, expression) = cron::zone_of(text);
        if expression.is_empty() {
            return Err("must be given".to_owned());
        }
        if let Some(named) = named
            && !self.time_zone.is_empty()
            && named != self.time_zone
        {
            return Err(format!(
                "names another time zone than time_zone, which is {}",
                self.time_zone
            ));
        }
        let zone = match (named, self.time_zone.as_str()) {
            (Some(named), _) => named,
            (None, "") => default_zone,
            (None, zone) => zone,
        };
        let zone = Zone::named(zone)?;
        Ok(match cron::parse(expression)? {
            Expression::Fields(cron) => Rule::Cron(cron, zone),
            Expression::Every(seconds) => Rule::Every(seconds.saturating_mul(SECOND)),
        })
    }

    /// What people should know of it although it is valid.
    pub fn notes(&self) -> Vec<String> {
        let Timing::Cron(text) = &self.timing else {
            return Vec::new();
        };
        let (_, expression) = cron::zone_of(text);
        match cron::parse(expression) {
            Ok(Expression::Fields(cron)) if cron.five => vec![cron::five_fields(expression)],
            Ok(_) | Err(_) => Vec::new(),
        }
    }

    /// Says why there is no slot: of a trigger whose first slot is none.
    pub fn never(&self, trigger: &Trigger) -> (&'static str, String) {
        let endless = Trigger {
            end: None,
            ..trigger.clone()
        };
        match (&self.timing, endless.next_after(trigger.anchor)) {
            (Timing::Cron(text), None) => (
                "cron_schedule.cron",
                format!(
                    "\"{}\" never fires: no date has this day, month and weekday",
                    super::violation::clip(text)
                ),
            ),
            (_, Some(first)) => (
                "end_time",
                format!("the first slot, {first}, is later than the end time; it would never fire"),
            ),
            (Timing::Interval(_), None) => (
                "periodic_schedule.interval_second",
                "the first slot is beyond the year 9999".to_owned(),
            ),
        }
    }
}

impl Trigger {
    /// The first slot after an instant; none when there is none until the end.
    ///
    /// Slots of an interval are whole intervals after the start. Slots of a cron expression that restricts the hour are
    /// times of day: one that the zone leaves out when clocks go forward comes at the first instant after the gap, and one
    /// that comes twice when they go back is a slot the first time only. An expression for every hour follows the time
    /// that passes: it has no slot in a gap, and has both passes of an hour that comes twice.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let after = after.max(self.anchor);
        let next = match &self.rule {
            Rule::Every(interval) => {
                let passed = after.as_micros().checked_sub(self.anchor.as_micros())?;
                let count = (passed / interval).checked_add(1)?;
                let offset = count.checked_mul(*interval)?;
                let next = self.anchor.as_micros().checked_add(offset)?;
                jiff::Timestamp::from_microsecond(next).ok()?;
                Timestamp::from_micros(next)
            }
            Rule::Cron(cron, zone) => {
                let after = jiff::Timestamp::from_microsecond(after.as_micros()).ok()?;
                let next = if cron.every_hour() {
                    passing(cron, zone.zone(), after)
                } else {
                    time_of_day(cron, zone.zone(), after)
                };
                Timestamp::from_micros(next?.as_microsecond())
            }
        };
        self.end.is_none_or(|end| next <= end).then_some(next)
    }

    /// The slot after a slot.
    pub fn following(&self, slot: Timestamp) -> Option<Timestamp> {
        match &self.rule {
            Rule::Every(interval) => {
                let next = slot.as_micros().checked_add(*interval)?;
                jiff::Timestamp::from_microsecond(next).ok()?;
                let next = Timestamp::from_micros(next);
                self.end.is_none_or(|end| next <= end).then_some(next)
            }
            Rule::Cron(..) => self.next_after(slot),
        }
    }

    /// The last slot after `after` and not later than `until`.
    pub fn newest(&self, after: Timestamp, until: Timestamp) -> Option<Timestamp> {
        let first = self.next_after(after).filter(|first| *first <= until)?;
        // The slot after `low` is at most `until`; the one after `high` is not, or there is none.
        let (mut low, mut high) = (after.as_micros(), until.as_micros());
        let mut newest = first;
        while high.saturating_sub(low) > 1 {
            let middle = low + (high - low) / 2;
            match self.next_after(Timestamp::from_micros(middle)) {
                Some(slot) if slot <= until => {
                    newest = slot;
                    low = middle.max(slot.as_micros() - 1);
                }
                Some(_) | None => high = middle,
            }
        }
        Some(newest)
    }

    /// What is due after the cursor while `room` more runs may be active.
    pub fn due(&self, cursor: Timestamp, now: Timestamp, catch_up: bool, room: usize) -> Due {
        let mut slots = Vec::new();
        let mut reached = cursor;
        if catch_up {
            while slots.len() < room
                && let Some(slot) = self.next_after(reached).filter(|slot| *slot <= now)
            {
                slots.push(slot);
                reached = slot;
            }
        } else if room > 0
            && let Some(slot) = self.newest(cursor, now)
        {
            slots.push(slot);
            reached = slot;
        }
        Due {
            slots,
            cursor: reached,
            next: self.next_after(reached),
        }
    }

    /// The slots from `from` on and before `to`, at most `limit`.
    pub fn between(&self, from: Timestamp, to: Timestamp, limit: usize) -> Vec<Timestamp> {
        // A range may begin before the schedule did; an interval keeps its grid there.
        let anchor = match &self.rule {
            Rule::Every(interval) => {
                let back = self.anchor.as_micros().saturating_sub(from.as_micros());
                let shift = (back.max(0) / interval + 1).saturating_mul(*interval);
                Timestamp::from_micros(self.anchor.as_micros().saturating_sub(shift))
            }
            Rule::Cron(..) => Timestamp::from_micros(from.as_micros().saturating_sub(SECOND)),
        };
        let unbounded = Self {
            rule: self.rule.clone(),
            anchor,
            end: None,
        };
        let mut slots = Vec::new();
        let mut reached = Timestamp::from_micros(from.as_micros().saturating_sub(1));
        while slots.len() < limit
            && let Some(slot) = unbounded.next_after(reached).filter(|slot| *slot < to)
        {
            slots.push(slot);
            reached = slot;
        }
        slots
    }
}

/// The next slot of an expression for every hour: it follows the time that passes.
fn passing(cron: &Cron, zone: &TimeZone, after: jiff::Timestamp) -> Option<jiff::Timestamp> {
    let mut from = after
        .checked_add(jiff::SignedDuration::from_nanos(1))
        .ok()?;
    for _ in 0..MAX_TRANSITIONS {
        let offset = zone.to_offset(from);
        let found = cron.first_from(offset.to_datetime(from))?;
        let found = offset.to_timestamp(found).ok()?;
        let change = zone.following(from).next().map(|change| change.timestamp());
        match change {
            Some(change) if found >= change => from = change,
            Some(_) | None => return Some(found),
        }
    }
    None
}

/// The next slot of an expression for some hours: times of day, each once a day.
fn time_of_day(cron: &Cron, zone: &TimeZone, after: jiff::Timestamp) -> Option<jiff::Timestamp> {
    let mut from = zone.to_datetime(after);
    loop {
        let found = cron.first_from(from)?;
        let slot = instant(zone, found)?;
        if slot > after {
            return Some(slot);
        }
        // Times in a gap, and the second pass of an hour that comes twice.
        from = found.checked_add(jiff::SignedDuration::from_secs(1)).ok()?;
    }
}

/// When a time of day is: the first time where it comes twice, the end of the gap where it does not come.
fn instant(zone: &TimeZone, at: DateTime) -> Option<jiff::Timestamp> {
    match zone.to_ambiguous_timestamp(at).offset() {
        AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(at).ok(),
        AmbiguousOffset::Fold { before, .. } => before.to_timestamp(at).ok(),
        AmbiguousOffset::Gap { before, after } => {
            // With the offset after the gap the time lies before it, and with the one before it, at or after its end.
            let inside = after.to_timestamp(at).ok()?;
            let late = before.to_timestamp(at).ok()?;
            let change = zone.following(inside).next()?.timestamp();
            Some(change.min(late))
        }
    }
}
