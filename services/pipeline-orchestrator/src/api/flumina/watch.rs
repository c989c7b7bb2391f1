//! A run and its tasks as they change: state, not deltas, so a reader that is slow only skips.

use std::time::Duration;

use api_pipelines::v1 as own;
use futures_util::Stream;
use futures_util::stream::unfold;
use ids::{RunId, TaskId};
use serde_json::{Map, Value};
use sql::Db;
use tokio::sync::watch::Receiver;
use tonic::Status;

use super::runs::{parse, visible};
use super::{render, status};
use crate::domain::{RunRecord, Task, TaskKind};
use crate::error::{Error, SERVICE};
use crate::store::tasks;
use crate::work::News;

/// Tasks of one message at most.
const PART: u32 = 500;
/// Changes that come within this time are told together: the end of a step and the start of the next are one message.
/// The end of the run does not wait.
const TOGETHER: Duration = Duration::from_millis(10);

struct Watch {
    db: Db,
    changes: Receiver<News>,
    run: RunId,
    /// The newest task that was sent, by (version, id).
    after: (i64, TaskId),
    /// The version of the run that was sent.
    sent: Option<i64>,
    /// The parameters with their defaults, once the root task is there.
    parameters: Option<Map<String, Value>>,
    /// Everything up to the last change that was noticed is sent.
    caught_up: bool,
    done: bool,
}

/// The state of a run now, then whenever it changed; ends with the run.
pub(super) fn stream(
    db: Db,
    changes: Receiver<News>,
    run: RunId,
) -> impl Stream<Item = Result<own::WatchRunResponse, Status>> + Send {
    let watch = Watch {
        db,
        changes,
        run,
        after: (-1, TaskId(0)),
        sent: None,
        parameters: None,
        caught_up: false,
        done: false,
    };
    unfold(watch, |mut watch| async move {
        if watch.done {
            return None;
        }
        let next = watch.next().await;
        if next.is_err() {
            watch.done = true;
        }
        let item = next.map_err(|error| status(&error)).transpose()?;
        let item = item.and_then(|message| aip::sized(SERVICE, message));
        watch.done |= item.is_err();
        Some((item, watch))
    })
}

impl Watch {
    /// The next message; none when there is nothing more to come.
    async fn next(&mut self) -> Result<Option<own::WatchRunResponse>, Error> {
        loop {
            if self.caught_up && !self.changed().await {
                return Ok(None);
            }
            // Seen before reading, so that a change during the read is not missed.
            self.changes.mark_unchanged();
            let (record, changed, more) = match self.read().await {
                // The run was deleted while somebody looked at it: that is the end, not an error.
                Err(Error::NotFound { .. }) if self.sent.is_some() => return Ok(None),
                other => other?,
            };
            self.caught_up = !more;
            self.done = record.run.status.ended() && self.caught_up;
            if changed.is_empty() && self.sent == Some(record.run.version) {
                if self.done {
                    return Ok(None);
                }
                continue;
            }
            if let Some(last) = changed.last() {
                self.after = (last.version, last.id);
            }
            self.sent = Some(record.run.version);
            return Ok(Some(self.message(&record, &changed)));
        }
    }

    /// Waits for a change and those that follow it at once; false when none comes any more.
    async fn changed(&mut self) -> bool {
        if self.changes.changed().await.is_err() {
            return false;
        }
        let end = self.changes.wait_for(|news| news.ended);
        drop(tokio::time::timeout(TOGETHER, end).await);
        true
    }

    async fn read(&self) -> Result<(RunRecord, Vec<Task>, bool), Error> {
        let (run, after) = (self.run, self.after);
        let read = self.db.read(move |conn| {
            Box::pin(async move {
                let record = visible(conn, run).await?;
                Ok::<_, Error>((record, tasks::changed(conn, run, after, PART).await?))
            })
        });
        let (record, (records, more)) = read.await?;
        let tasks: Result<Vec<Task>, Error> = records.into_iter().map(parse).collect();
        Ok((record, tasks?, more))
    }

    fn message(&mut self, record: &RunRecord, changed: &[Task]) -> own::WatchRunResponse {
        if let Some(root) = changed.iter().find(|task| task.kind == TaskKind::Root) {
            self.parameters = Some(root.body.inputs.parameters.clone());
        }
        let parameters = self
            .parameters
            .as_ref()
            .unwrap_or(&record.run.body.parameters);
        own::WatchRunResponse {
            run: Some(render::run(&record.run, parameters)),
            tasks: changed.iter().map(render::task).collect(),
        }
    }
}
