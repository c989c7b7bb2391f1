//! The arguments of lists.

use clap::Args;

/// Which part of a list to print.
#[derive(Debug, Args)]
pub(crate) struct Paging {
    /// How many to print
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=200))]
    pub(crate) page_size: i32,
    /// The token that the page before printed
    #[arg(
        long,
        default_value = "",
        value_name = "TOKEN",
        hide_default_value = true
    )]
    pub(crate) page_token: String,
}

/// Which part of a list to print, of what is chosen, in which order.
#[derive(Debug, Args)]
pub(crate) struct Page {
    #[command(flatten)]
    pub(crate) paging: Paging,
    /// The order: a field, then `asc` or `desc`
    #[arg(long, default_value = "created_at desc", value_name = "FIELD")]
    pub(crate) sort_by: String,
    /// A filter as JSON: {"predicates":[{"operation":"EQUALS","key":"name","string_value":"x"}]}; of runs also
    /// `state = FAILED AND tag.team = x AND param.lr > 0.1 AND metric.accuracy > 0.9`; names and values with spaces stand
    /// in quotes: `tag."my team" = "a b"`
    #[arg(
        long,
        default_value = "",
        value_name = "JSON",
        hide_default_value = true
    )]
    pub(crate) filter: String,
}
