//! A list of runs as it changes: its first page, then what changed since.
//!
//! A reader holds no state of the list but its conditions: what changed is looked up by id. One that falls behind is told
//! the first page again.

use std::collections::BTreeSet;
use std::time::Duration;

use api_pipelines::v1 as own;
use futures_util::Stream;
use futures_util::stream::unfold;
use ids::RunId;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::time::Instant;
use tonic::Status;

use super::lists::{List, summary};
use super::status;
use crate::app::App;
use crate::error::{Error, SERVICE};
use crate::work::{Relisted, RunEngine};

/// Changes that come within this time are told together.
const TOGETHER: Duration = Duration::from_millis(10);
/// The least time between two messages.
const PACE: Duration = Duration::from_millis(200);
/// The same for each reader, which bounds what all of them together read.
const PACE_EACH: Duration = Duration::from_millis(10);
/// Runs that are looked up at a time; when more changed, the first page is read.
const LOOKED_UP: usize = 200;
/// Runs that are remembered as told to be gone.
const TOLD: usize = 1000;

struct Watch {
    app: App,
    engine: RunEngine,
    list: List,
    changes: Receiver<Relisted>,
    /// The first page is to be told.
    whole: bool,
    /// Runs that changed since the last message.
    changed: BTreeSet<RunId>,
    /// Runs that the reader knows not to be in the list, so that those of others are told once.
    told_gone: BTreeSet<RunId>,
    /// When the next message may be told.
    next_at: Instant,
    done: bool,
}

/// The first page now, then what changed; without end.
pub(super) fn stream(
    app: App,
    engine: RunEngine,
    list: List,
) -> impl Stream<Item = Result<own::WatchRunsResponse, Status>> + Send {
    let watch = Watch {
        changes: engine.subscribe_lists(),
        app,
        engine,
        list,
        whole: true,
        changed: BTreeSet::new(),
        told_gone: BTreeSet::new(),
        next_at: Instant::now(),
        done: false,
    };
    unfold(watch, |mut watch| async move {
        if watch.done {
            return None;
        }
        let next = watch.next().await;
        watch.done = next.is_err();
        let item = next.map_err(|error| status(&error)).transpose()?;
        let item = item.and_then(|message| aip::sized(SERVICE, message));
        watch.done |= item.is_err();
        Some((item, watch))
    })
}

impl Watch {
    /// The next message; none when the service ends.
    async fn next(&mut self) -> Result<Option<own::WatchRunsResponse>, Error> {
        loop {
            // Those that did not fit into the last message are told at once.
            if !self.whole && self.changed.is_empty() && !self.wait().await {
                return Ok(None);
            }
            let message = match self.whole {
                true => Some(self.page().await?),
                false => self.difference().await?,
            };
            let readers = u32::try_from(self.engine.list_readers()).unwrap_or(u32::MAX);
            self.next_at = Instant::now() + PACE.max(PACE_EACH.saturating_mul(readers));
            if let Some(message) = message {
                return Ok(Some(message));
            }
        }
    }

    /// Waits for a change and those that come soon after it; false when none comes any more.
    async fn wait(&mut self) -> bool {
        match self.changes.recv().await {
            Ok(what) => self.note(what),
            Err(RecvError::Lagged(_)) => self.whole = true,
            Err(RecvError::Closed) => return false,
        }
        tokio::time::sleep_until(self.next_at.max(Instant::now() + TOGETHER)).await;
        loop {
            match self.changes.try_recv() {
                Ok(what) => self.note(what),
                Err(TryRecvError::Lagged(_)) => self.whole = true,
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        if self.changed.len() > LOOKED_UP {
            self.whole = true;
        }
        true
    }

    fn note(&mut self, what: Relisted) {
        match what {
            Relisted::Run(run) => drop(self.changed.insert(run)),
            Relisted::Many => self.whole = true,
        }
    }

    async fn page(&mut self) -> Result<own::WatchRunsResponse, Error> {
        // Before reading, so that a change during the read is told after it.
        self.changes = self.changes.resubscribe();
        self.changed.clear();
        self.told_gone.clear();
        let (runs, next_page_token) = self.list.page(&self.app, None).await?;
        self.whole = false;
        Ok(own::WatchRunsResponse {
            whole: true,
            runs,
            gone: Vec::new(),
            next_page_token,
        })
    }

    /// What became of the runs that changed; none when nobody needs to hear it.
    async fn difference(&mut self) -> Result<Option<own::WatchRunsResponse>, Error> {
        let changed = std::mem::take(&mut self.changed);
        let ids = changed.iter().copied().collect();
        let conditions = self.list.conditions.clone();
        let (found, left) = self.app.find_among(conditions, ids).await?;
        let mut gone = changed;
        for run in &left {
            gone.remove(run);
        }
        self.changed.extend(left);
        for listed in &found {
            gone.remove(&listed.record.run.id);
            self.told_gone.remove(&listed.record.run.id);
        }
        if self.told_gone.len() > TOLD {
            self.told_gone.clear();
        }
        gone.retain(|run| self.told_gone.insert(*run));
        if found.is_empty() && gone.is_empty() {
            return Ok(None);
        }
        Ok(Some(own::WatchRunsResponse {
            whole: false,
            runs: found.iter().map(summary).collect(),
            gone: gone.iter().map(RunId::to_string).collect(),
            next_page_token: String::new(),
        }))
    }
}
