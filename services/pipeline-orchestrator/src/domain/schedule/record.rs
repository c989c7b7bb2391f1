//! Schedules and backfills as they are kept, and the runs that they make.

use std::collections::BTreeMap;
use std::time::Duration;

use clock::Timestamp;
use ids::{BackfillId, ExperimentId, PipelineId, PipelineVersionId, RunId, ScheduleId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::TriggerSpec;
use crate::domain::fields::{Field, Fields};
use crate::domain::macros::{self, Facts};
use crate::domain::violation::RUN_NAME;

/// What recurring runs are ordered and filtered by.
pub static SCHEDULE_FIELDS: Fields = Fields {
    resource: "recurring_run",
    key: "schedules.id",
    tags: false,
    all: &[
        Field::text("recurring_run_id", &["id"], "schedules.id"),
        Field::text("display_name", &["name"], "schedules.display_name"),
        Field::time("created_at", "schedules.created_at"),
        Field::time("updated_at", "schedules.updated_at"),
        Field::text("description", &[], "schedules.description"),
    ],
};

/// How far the cursor may be ahead of the time before a schedule follows a clock that was set back. Small corrections make
/// it wait, so that nothing depends on them.
const SET_BACK: Duration = Duration::from_secs(3600);

/// A schedule.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// The id; clients of the adopted contract call it a recurring run's.
    pub id: ScheduleId,
    /// The experiment of its runs.
    pub experiment_id: ExperimentId,
    /// The name; its runs are named after it.
    pub display_name: String,
    /// For people.
    pub description: String,
    /// Whether it makes runs.
    pub enabled: bool,
    /// What its runs execute.
    pub source: ScheduleSource,
    /// The hash of the specification; none where each run takes the newest version of a pipeline.
    pub spec_hash: Option<String>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When somebody last changed it.
    pub updated_at: Timestamp,
    /// The last slot that was dealt with.
    pub cursor: Timestamp,
    /// The slot after it; none when no more come.
    pub next_at: Option<Timestamp>,
    /// Until when it is left alone after a problem.
    pub blocked_until: Option<Timestamp>,
    /// How many runs it has made.
    pub runs: i64,
    /// Grows with every change.
    pub version: i64,
    /// The rest.
    pub body: ScheduleBody,
}

impl Schedule {
    /// Whether the cursor is so far ahead of the time that the clock must have been set back since, and more than a little.
    /// A start in the future is no sign of that.
    pub fn outran(&self, now: Timestamp) -> bool {
        self.cursor > self.earliest(now).plus(SET_BACK)
    }

    /// Goes on from now, on the grid that it had: otherwise it would be silent until the time of the mistake has come. A
    /// slot that has a run already does not get another.
    pub fn follow_clock_back(&mut self, now: Timestamp) {
        self.cursor = self.earliest(now);
        // It was set while the clock was ahead.
        self.body.anchor = self.body.anchor.min(now.as_micros());
        self.blocked_until = None;
    }

    /// The earliest cursor that makes sense.
    fn earliest(&self, now: Timestamp) -> Timestamp {
        let start = self.body.trigger.start.map(Timestamp::from_micros);
        start.map_or(now, |start| start.max(now))
    }
}

/// What the runs of a schedule execute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScheduleSource {
    /// A specification of its own.
    Inline,
    /// A stored version; it may be gone by now.
    Version(PipelineId, PipelineVersionId),
    /// The version that is the newest at the time of a slot.
    Latest(PipelineId),
}

/// What is stored of a schedule as one document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScheduleBody {
    /// The trigger.
    pub trigger: TriggerSpec,
    /// When the trigger was set, in microseconds since 1970.
    pub anchor: i64,
    /// The parameters of its runs, with macros.
    pub parameters: Map<String, Value>,
    /// Where outputs go; empty for the default.
    pub pipeline_root: String,
    /// The account of its runs.
    pub service_account: String,
    /// How many of its runs may be active at a time.
    pub max_concurrency: u32,
    /// Whether late slots are made one by one; otherwise only the newest is.
    pub catch_up: bool,
    /// What keeps it from making the run of its next slot.
    pub problem: Option<Problem>,
}

/// Why a run cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// In `UPPER_SNAKE_CASE`.
    pub reason: String,
    /// One sentence.
    pub message: String,
}

/// Runs for slots of the past, or for combinations of parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Backfill {
    /// The id.
    pub id: BackfillId,
    /// The schedule.
    pub schedule_id: ScheduleId,
    /// The state.
    pub state: BackfillState,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// The next of its runs, from 0.
    pub next: i64,
    /// How many of its runs were there already.
    pub skipped: i64,
    /// Until when it is left alone after a problem.
    pub blocked_until: Option<Timestamp>,
    /// The rest.
    pub body: BackfillBody,
}

/// How far a backfill is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackfillState {
    /// It still makes runs.
    Active,
    /// It has made them all.
    Complete,
    /// It was stopped.
    Stopped,
}

/// What is stored of a backfill as one document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackfillBody {
    /// The slots, in microseconds since 1970; empty for runs without a slot.
    pub slots: Vec<i64>,
    /// The values of parameters; every combination is run for every slot.
    pub grid: BTreeMap<String, Vec<Value>>,
    /// How many of its runs may be active at a time.
    pub max_concurrency: u32,
    /// Whether runs are made although there are some of the same slot and parameters.
    pub again: bool,
    /// What keeps it from making its next run.
    pub problem: Option<Problem>,
}

impl BackfillState {
    /// The name that is stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Complete => "COMPLETE",
            Self::Stopped => "STOPPED",
        }
    }

    /// The state of a stored name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Active, Self::Complete, Self::Stopped]
            .into_iter()
            .find(|state| state.as_str() == text)
    }
}

impl BackfillBody {
    /// How many runs it makes.
    pub fn total(&self) -> i64 {
        let slots = self.slots.len().max(1) as u64;
        let total = combinations(&self.grid).and_then(|count| count.checked_mul(slots));
        total
            .and_then(|total| i64::try_from(total).ok())
            .unwrap_or(i64::MAX)
    }

    /// The slot and the parameters of a run, from 0: slot after slot, in each every combination.
    pub fn item(&self, index: u64) -> (Option<Timestamp>, Map<String, Value>) {
        let count = combinations(&self.grid).unwrap_or(1).max(1);
        let slot = usize::try_from(index / count).ok();
        let slot = slot.and_then(|slot| self.slots.get(slot)).copied();
        (
            slot.map(Timestamp::from_micros),
            combination(&self.grid, index % count),
        )
    }
}

/// How many combinations a grid has, 1 for an empty one; none when they cannot be counted.
pub fn combinations(grid: &BTreeMap<String, Vec<Value>>) -> Option<u64> {
    grid.values().try_fold(1_u64, |count, values| {
        count.checked_mul(values.len() as u64)
    })
}

/// A combination of a grid, from 0; the last parameter changes fastest.
pub fn combination(grid: &BTreeMap<String, Vec<Value>>, index: u64) -> Map<String, Value> {
    let mut rest = index;
    let mut chosen = Map::new();
    for (name, values) in grid.iter().rev() {
        let count = (values.len() as u64).max(1);
        let value = usize::try_from(rest % count).ok();
        if let Some(value) = value.and_then(|value| values.get(value)) {
            chosen.insert(name.clone(), value.clone());
        }
        rest /= count;
    }
    chosen
}

/// The id of the run of a slot with these parameters of a grid: the same for the same.
pub fn run_key(
    schedule: ScheduleId,
    slot: Option<Timestamp>,
    chosen: &Map<String, Value>,
    backfill: Option<BackfillId>,
) -> RunId {
    let slot = slot.map_or_else(String::new, |slot| slot.as_micros().to_string());
    let mut name = format!("{schedule}/{slot}");
    if !chosen.is_empty() {
        // The keys of a map are sorted when it is written.
        let sorted: BTreeMap<&String, &Value> = chosen.iter().collect();
        let text = serde_json::to_string(&sorted).unwrap_or_default();
        name.push('/');
        name.push_str(&text);
    }
    if let Some(backfill) = backfill {
        name.push_str(&format!("/{backfill}"));
    }
    RunId::derived(&name)
}

/// The name of a run: the schedule's with its macros replaced, or followed by the run's number.
pub fn run_name(display_name: &str, facts: &Facts) -> String {
    let expanded = macros::expand(display_name, facts);
    let name = match facts.index {
        Some(index) if expanded == display_name => format!("{display_name}-{index}"),
        Some(_) | None => expanded,
    };
    name.chars().take(RUN_NAME).collect()
}
