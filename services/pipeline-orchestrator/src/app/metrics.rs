//! Metrics of runs: those of their artifacts, and those that clients report.

use std::collections::BTreeMap;

use ids::{ArtifactId, RunId};

use super::App;
use crate::domain::{RunMetric, metrics_of};
use crate::error::Error;
use crate::store::{artifacts, metrics, runs};

/// Artifacts of metrics that are looked at per run.
const MAX_ARTIFACTS: u32 = 200;
/// Metrics that are shown of a run.
const MAX_METRICS: usize = 1_000;
/// The type of artifacts whose metadata are metrics.
const TYPE: &str = "system.Metrics";

impl App {
    /// The metrics of runs, from one state of the database.
    pub async fn run_metrics(
        &self,
        ids: Vec<RunId>,
    ) -> Result<BTreeMap<RunId, Vec<RunMetric>>, Error> {
        let read = self.read(move |conn| {
            Box::pin(async move {
                let mut found = BTreeMap::new();
                for id in ids {
                    let newest = ArtifactId(i64::MAX);
                    let shown =
                        artifacts::page(conn, Some(id), TYPE, newest, MAX_ARTIFACTS).await?;
                    // Oldest first, as they came to be.
                    let mut all: Vec<RunMetric> =
                        shown.0.iter().rev().flat_map(metrics_of).collect();
                    let taken_over = artifacts::metrics_taken_over(conn, id).await?;
                    all.extend(taken_over.iter().flat_map(metrics_of));
                    all.extend(metrics::of_run(conn, id, MAX_METRICS as u32).await?);
                    all.truncate(MAX_METRICS);
                    found.insert(id, all);
                }
                Ok(found)
            })
        });
        read.await
    }

    /// Keeps metrics that a client reports; says of each whether it is the first of its node and name.
    pub async fn report_metrics(
        &self,
        id: RunId,
        reported: Vec<RunMetric>,
    ) -> Result<Vec<bool>, Error> {
        let now = self.parts().clock.now();
        let write = self.parts().db.write(move |conn| {
            let reported = reported.clone();
            Box::pin(async move {
                if runs::visible(conn, id).await?.is_none() {
                    return Err(Error::not_found("run", id));
                }
                let mut new = Vec::with_capacity(reported.len());
                for metric in &reported {
                    new.push(metrics::report(conn, id, metric, now).await?);
                }
                Ok(new)
            })
        });
        write.await
    }
}
