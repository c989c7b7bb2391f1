//! What a task wrote, from the runner that keeps it.

use api_pipelines::v1 as own;
use api_runner::v1 as runner;
use futures_util::Stream;
use futures_util::stream::unfold;
use ids::{RunId, TaskId};
use tokio::sync::watch::Receiver;
use tonic::{Code, Status};

use super::{Flumina, status};
use crate::domain::Task;
use crate::error::{Error, SERVICE};
use crate::work::News;

const GET_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);

/// The attempt that is asked for: the number, or the newest for 0. 0 again when there is none yet.
pub(super) fn attempt(task: &Task, number: i32) -> Result<u32, Error> {
    let newest = task.last_attempt().map_or(0, |attempt| attempt.number);
    match u32::try_from(number) {
        Ok(0) => Ok(newest),
        Ok(number) if number <= newest => Ok(number),
        _ => Err(Error::field(
            "attempt",
            format!(
                "task {} has {newest} attempts, got {number}; 0 is the newest",
                task.label()
            ),
        )),
    }
}

/// What a refusal of the runner means here.
pub(super) fn runner_status(refused: &Status) -> Status {
    match refused.code() {
        Code::NotFound => status(&Error::not_found("log", "of this attempt")),
        _ => aip::peer_status(SERVICE, "runner", refused),
    }
}

struct Logs {
    flumina: Flumina,
    context: rpc::Context,
    changes: Receiver<News>,
    run: RunId,
    task: TaskId,
    /// The attempt that is read; 0 while there is none.
    attempt: u32,
    offset: u64,
    /// How much of the end to begin with; 0 once that is known, or for a beginning at `offset`.
    tail_bytes: u64,
    follow: bool,
    /// Whether to go on with a newer attempt when one ends.
    newest: bool,
    open: Option<tonic::Streaming<runner::LogsResponse>>,
    done: bool,
}

/// The log of an attempt; when the newest is followed, also of those that come after it.
pub(super) fn stream(
    flumina: Flumina,
    context: rpc::Context,
    run: RunId,
    task: TaskId,
    attempt: u32,
    request: &own::ReadLogsRequest,
) -> impl Stream<Item = Result<own::ReadLogsResponse, Status>> + Send + use<> {
    let changes = flumina.engine.subscribe(run);
    let logs = Logs {
        flumina,
        context,
        changes,
        run,
        task,
        attempt,
        offset: request.offset,
        tail_bytes: request.tail_bytes,
        follow: request.follow,
        newest: request.attempt == 0,
        open: None,
        done: false,
    };
    unfold(logs, |mut logs| async move {
        if logs.done {
            return None;
        }
        match logs.next().await {
            Ok(Some(part)) => Some((Ok(part), logs)),
            Ok(None) => None,
            Err(status) => {
                logs.done = true;
                Some((Err(status), logs))
            }
        }
    })
}

impl Logs {
    async fn next(&mut self) -> Result<Option<own::ReadLogsResponse>, Status> {
        loop {
            if self.attempt == 0 && !self.wait_for_attempt().await? {
                return Ok(None);
            }
            if self.open.is_none() {
                self.skip_to_tail().await?;
                self.open = Some(self.open().await?);
            }
            let Some(stream) = &mut self.open else {
                return Ok(None);
            };
            if let Some(part) = stream
                .message()
                .await
                .map_err(|failed| runner_status(&failed))?
            {
                return Ok(Some(own::ReadLogsResponse {
                    offset: part.offset,
                    data: part.data,
                    attempt: i32::try_from(self.attempt).unwrap_or(i32::MAX),
                }));
            }
            self.open = None;
            let more = self.follow && self.newest && self.wait_for_attempt().await?;
            if !more {
                return Ok(None);
            }
            self.offset = 0;
        }
    }

    /// Begins near the end where that was asked for.
    async fn skip_to_tail(&mut self) -> Result<(), Status> {
        let tail = std::mem::take(&mut self.tail_bytes);
        if tail == 0 {
            return Ok(());
        }
        let id = ids::WorkloadId::of_attempt(self.run, self.task, self.attempt).to_string();
        let request = self.context.request(GET_TIMEOUT, runner::GetRequest { id });
        let workload = self.flumina.engine.workloads().get(request).await;
        let workload = workload.map_err(|failed| runner_status(&failed))?;
        self.offset = workload.into_inner().log_bytes.saturating_sub(tail);
        Ok(())
    }

    async fn open(&self) -> Result<tonic::Streaming<runner::LogsResponse>, Status> {
        let id = ids::WorkloadId::of_attempt(self.run, self.task, self.attempt).to_string();
        let request = runner::LogsRequest {
            id,
            offset: self.offset,
            follow: self.follow,
            limit_bytes: 0,
        };
        let answer = self
            .flumina
            .engine
            .workloads()
            .logs(self.context.stream_request(request))
            .await;
        answer
            .map(tonic::Response::into_inner)
            .map_err(|failed| runner_status(&failed))
    }

    /// Waits for an attempt after the one that was read; false when none will come.
    async fn wait_for_attempt(&mut self) -> Result<bool, Status> {
        loop {
            self.changes.mark_unchanged();
            let task = self
                .flumina
                .find_task(self.run, self.task.to_string())
                .await;
            let task = task.map_err(|error| status(&error))?;
            let newest = task.last_attempt().map_or(0, |attempt| attempt.number);
            if newest > self.attempt {
                self.attempt = newest;
                return Ok(true);
            }
            if !self.follow || task.status.ended() || self.changes.changed().await.is_err() {
                return Ok(false);
            }
        }
    }
}
