//! Calls to the runner and look-ups that follow from a step, and what their answers mean.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use api_runner::v1 as runner;
use futures_util::future::BoxFuture;
use ids::WorkloadId;
use tonic::{Code, Status};

use super::engine::Inner;
use super::launch;
use crate::domain::{Artifact, Effect, Event};
use crate::store::artifacts;

/// How long a call to the runner may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// The pause after a failure, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// The answer to a call.
pub(super) enum Answer {
    Event(Box<Event>),
    /// The call failed for now, and why.
    Again(Effect, String),
    Nothing,
}

impl Answer {
    fn again(effect: Effect, status: &Status) -> Self {
        Self::Again(effect, format!("{:?}: {}", status.code(), status.message()))
    }
}

/// How often launches were not taken in a row.
#[derive(Debug, Default)]
pub(super) struct Refusals(HashMap<WorkloadId, u32>);

impl Refusals {
    /// Notes that a launch was not taken, and says what the task is to be told: at the third time, since a runner that
    /// starts again is soon there, and then about once a minute.
    pub(super) fn note(&mut self, effect: &Effect, cause: &str) -> Option<Event> {
        let Effect::Launch { workload_id, .. } = effect else {
            return None;
        };
        let count = self.0.entry(workload_id.clone()).or_default();
        *count = count.saturating_add(1);
        (*count == 3 || count.is_multiple_of(12)).then(|| Event::LaunchDelayed {
            workload_id: workload_id.clone(),
            cause: cause.to_owned(),
        })
    }

    /// Forgets them, since the runner answered.
    pub(super) fn forget(&mut self, event: &Event) {
        match event {
            Event::Workload(update) => drop(self.0.remove(&update.workload_id)),
            Event::LaunchRefused { workload_id, .. } => drop(self.0.remove(workload_id)),
            _ => {}
        }
    }
}

/// Does an effect after a pause; `request` is what a launch asks for.
pub(super) fn call(
    engine: Arc<Inner>,
    effect: Effect,
    request: Option<runner::LaunchRequest>,
    pause: Duration,
) -> BoxFuture<'static, Answer> {
    match &effect {
        Effect::Launch { .. } => Box::pin(async move {
            let Some(request) = request else {
                return Answer::Nothing;
            };
            launch_call(&engine, request, effect, pause).await
        }),
        Effect::Stop {
            workload_id,
            reason,
        } => {
            let request = runner::StopRequest {
                id: workload_id.to_string(),
                reason: reason.clone(),
            };
            Box::pin(async move { stop_call(&engine, request, effect, pause).await })
        }
        Effect::FindArtifact { .. } => {
            Box::pin(async move { find_call(&engine, effect, pause).await })
        }
        // The actor asks the cache itself.
        Effect::FindCached { .. } | Effect::RunEnded => Box::pin(async { Answer::Nothing }),
    }
}

/// The pause after that many failures in a row.
pub(super) fn pause(failures: u32) -> Duration {
    if failures == 0 {
        Duration::ZERO
    } else {
        (PAUSE.0 * 2_u32.pow(failures.min(7))).min(PAUSE.1)
    }
}

/// A sleep of no time would still last until the timer's next tick.
async fn wait(pause: Duration) {
    if !pause.is_zero() {
        tokio::time::sleep(pause).await;
    }
}

async fn launch_call(
    engine: &Inner,
    request: runner::LaunchRequest,
    effect: Effect,
    pause: Duration,
) -> Answer {
    wait(pause).await;
    let Ok(workload_id) = request.id.parse::<WorkloadId>() else {
        return Answer::Nothing;
    };
    let context = rpc::Context::background("pipeline-orchestrator");
    runtime::abort_point("orchestrator.launch.sent");
    let answer = engine
        .workloads()
        .launch(context.request(CALL_TIMEOUT, request))
        .await;
    runtime::abort_point("orchestrator.launch.answered");
    match answer {
        Ok(workload) => match launch::update(workload.into_inner()) {
            Some(update) => Answer::Event(Box::new(Event::Workload(update))),
            None => Answer::Again(effect, "its answer cannot be read".to_owned()),
        },
        Err(status) if refused(&status) => {
            let reason = aip::reason_of(&status).unwrap_or_else(|| "LAUNCH_REFUSED".to_owned());
            let message = status.message().to_owned();
            Answer::Event(Box::new(Event::LaunchRefused {
                workload_id,
                reason,
                message,
            }))
        }
        Err(status) => Answer::again(effect, &status),
    }
}

/// Whether the runner will never run this. What is refused for want of room may be taken later.
fn refused(status: &Status) -> bool {
    match status.code() {
        Code::InvalidArgument
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented => true,
        Code::ResourceExhausted => aip::retry_delay(status).is_none(),
        _ => false,
    }
}

async fn stop_call(
    engine: &Inner,
    request: runner::StopRequest,
    effect: Effect,
    pause: Duration,
) -> Answer {
    wait(pause).await;
    let context = rpc::Context::background("pipeline-orchestrator");
    runtime::abort_point("orchestrator.stop.sent");
    match engine
        .workloads()
        .stop(context.request(CALL_TIMEOUT, request))
        .await
    {
        Ok(workload) => launch::update(workload.into_inner()).map_or(Answer::Nothing, |update| {
            Answer::Event(Box::new(Event::Workload(update)))
        }),
        Err(status) => Answer::again(effect, &status),
    }
}

async fn find_call(engine: &Inner, effect: Effect, pause: Duration) -> Answer {
    wait(pause).await;
    let Effect::FindArtifact {
        task,
        uri,
        artifact_type,
        metadata,
    } = &effect
    else {
        return Answer::Nothing;
    };
    let wanted = uri.clone();
    let known = engine
        .db
        .read(move |conn| Box::pin(async move { artifacts::by_uri(conn, &wanted).await }))
        .await;
    match known {
        Ok(known) => {
            let same = |artifact: &Artifact| {
                artifact.artifact_type == *artifact_type && artifact.metadata == *metadata
            };
            let found = known.into_iter().find(same).map(Box::new);
            Answer::Event(Box::new(Event::ArtifactLookedUp { task: *task, found }))
        }
        Err(sql::Error::Corrupt { .. }) => Answer::Event(Box::new(Event::ArtifactLookedUp {
            task: *task,
            found: None,
        })),
        Err(error) => Answer::Again(effect, aip::chain(&error)),
    }
}

#[cfg(test)]
mod tests {
    use ids::TaskId;

    use super::*;

    #[test]
    fn a_task_is_told_at_the_third_refusal_and_then_seldom() {
        let workload_id: WorkloadId = "w".parse().unwrap();
        let launch = Effect::Launch {
            task: TaskId(1),
            attempt: 1,
            workload_id: workload_id.clone(),
        };
        let mut refusals = Refusals::default();
        let told = |refusals: &mut Refusals| -> Vec<u32> {
            let all = 1..=24;
            all.filter(|_| refusals.note(&launch, "full").is_some())
                .collect()
        };
        assert_eq!(told(&mut refusals), [3, 12, 24]);
        refusals.forget(&Event::LaunchRefused {
            workload_id,
            reason: String::new(),
            message: String::new(),
        });
        assert_eq!(told(&mut refusals), [3, 12, 24]);
    }
}
