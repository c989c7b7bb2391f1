//! The arguments of `flumina schedule`.

use clap::{Args, Subcommand};

use crate::args::Paging;

#[derive(Debug, Subcommand)]
pub(crate) enum Schedule {
    /// Run a pipeline again and again
    Create(ScheduleCreate),
    /// List schedules, newest first
    List {
        #[command(flatten)]
        paging: Paging,
    },
    /// Show a schedule and its next slots
    Get {
        /// The schedule's id
        schedule: String,
    },
    /// Change a schedule; what is not given stays
    Edit(ScheduleEdit),
    /// Let a schedule make runs
    Enable {
        /// The schedule's id
        schedule: String,
    },
    /// Let a schedule make no runs
    Disable {
        /// The schedule's id
        schedule: String,
    },
    /// Delete a schedule; its runs stay
    Delete {
        /// The schedule's id
        schedule: String,
    },
    /// Make runs for slots of the past, or for combinations of parameters
    Backfill(BackfillArgs),
}

/// When a schedule makes runs.
#[derive(Debug, Args)]
pub(crate) struct Trigger {
    /// Six fields, seconds first: `0 0 3 * * *`; or @daily and the like
    #[arg(long, value_name = "EXPRESSION", conflicts_with = "every")]
    pub(crate) cron: Option<String>,
    /// The seconds between slots
    #[arg(long, value_name = "SECONDS")]
    pub(crate) every: Option<i64>,
    /// The time zone of the expression, such as Europe/Berlin
    #[arg(long, value_name = "ZONE", requires = "cron")]
    pub(crate) time_zone: Option<String>,
    /// Slots come after this time
    #[arg(long, value_name = "TIME")]
    pub(crate) start: Option<String>,
    /// No slot comes after this time
    #[arg(long, value_name = "TIME")]
    pub(crate) end: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ScheduleCreate {
    /// The file that the compiler wrote, or the name of a stored pipeline
    pub(crate) file: String,
    #[command(flatten)]
    pub(crate) trigger: Trigger,
    /// A parameter of the pipeline; JSON where the parameter is not text
    #[arg(short, long = "param", value_name = "K=V")]
    pub(crate) params: Vec<String>,
    /// The experiment that the runs belong to; made when it is new
    #[arg(short, long)]
    pub(crate) experiment: Option<String>,
    /// The schedule's name; default: the pipeline's
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Of a stored pipeline, run the version that is the newest at each slot
    #[arg(long)]
    pub(crate) latest: bool,
    /// How many runs may be active at a time, 1 to 10
    #[arg(long, value_name = "N")]
    pub(crate) max_concurrency: Option<i32>,
    /// Of several late slots, make only the newest
    #[arg(long)]
    pub(crate) no_catch_up: bool,
    /// Make no runs until it is enabled
    #[arg(long)]
    pub(crate) disabled: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ScheduleEdit {
    /// The schedule's id
    pub(crate) schedule: String,
    /// What its runs execute: a file, or the name of a stored pipeline
    #[arg(long)]
    pub(crate) file: Option<String>,
    #[command(flatten)]
    pub(crate) trigger: Trigger,
    /// A parameter of the pipeline; the ones that are given replace all
    #[arg(short, long = "param", value_name = "K=V")]
    pub(crate) params: Vec<String>,
    /// The schedule's name
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Of a stored pipeline, run the version that is the newest at each slot
    #[arg(long, requires = "file")]
    pub(crate) latest: bool,
    /// How many runs may be active at a time, 1 to 10
    #[arg(long, value_name = "N")]
    pub(crate) max_concurrency: Option<i32>,
    /// Whether late slots are made one by one
    #[arg(long, value_name = "BOOL")]
    pub(crate) catch_up: Option<bool>,
}

#[derive(Debug, Args)]
pub(crate) struct BackfillArgs {
    /// The schedule's id
    pub(crate) schedule: String,
    /// The first instant whose slot is made
    #[arg(long, value_name = "TIME", requires = "to")]
    pub(crate) from: Option<String>,
    /// The instant after the last
    #[arg(long, value_name = "TIME", requires = "from")]
    pub(crate) to: Option<String>,
    /// Values of a parameter as a JSON list; every combination is run for every slot
    #[arg(long, value_name = "K=[V, …]")]
    pub(crate) grid: Vec<String>,
    /// How many runs may be active at a time
    #[arg(long, value_name = "N")]
    pub(crate) max_concurrency: Option<i32>,
    /// Make runs although there are some of the same slot and combination
    #[arg(long)]
    pub(crate) again: bool,
}
