//! What a running workload uses now.

use ids::WorkloadId;

use super::Runner;
use crate::error::Error;
use crate::sys::{self, TreeUsage};

impl Runner {
    /// Measures a workload's processes; none when it has ended.
    pub(crate) async fn usage(&self, id: &WorkloadId) -> Result<Option<TreeUsage>, Error> {
        let pid = {
            let live = self.live();
            live.workloads
                .get(id)
                .map(|live| live.process.as_ref().map(|process| process.pid()))
        };
        match pid {
            None => Ok(None),
            Some(None) => Ok(Some(TreeUsage::default())),
            Some(Some(pid)) => {
                let measured = tokio::task::spawn_blocking(move || sys::tree_usage(pid)).await;
                Ok(Some(measured.unwrap_or_default()))
            }
        }
    }
}
