//! Metrics that clients reported.

use clock::Timestamp;
use ids::RunId;
use sql::{Conn, Error, FromRow, Row, args};

use super::sql as text;
use crate::domain::RunMetric;

impl FromRow for RunMetric {
    fn from_row(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            node_id: row.get("node_id")?,
            name: row.get("name")?,
            number: row.get("number_value")?,
            format: row.get("format")?,
        })
    }
}

/// Adds a metric; false when there is one of its node and name.
pub(crate) async fn report(
    conn: &mut Conn,
    run: RunId,
    metric: &RunMetric,
    now: Timestamp,
) -> Result<bool, Error> {
    let args = args![
        run,
        &metric.node_id,
        &metric.name,
        metric.number,
        &metric.format,
        now
    ];
    Ok(conn.execute(text::REPORT_METRIC, args).await? > 0)
}

/// The metrics that were reported for a run, the first of them at most `limit`.
pub(crate) async fn of_run(
    conn: &mut Conn,
    run: RunId,
    limit: u32,
) -> Result<Vec<RunMetric>, Error> {
    conn.fetch_all(text::METRICS_OF_RUN, args![run, limit])
        .await
}
