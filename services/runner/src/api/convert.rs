//! Domain values as messages.

use api_runner::v1 as pb;

use crate::app::Runner;
use crate::domain::state::State;
use crate::store::Record;

/// A workload as callers see it.
pub(crate) fn workload(runner: &Runner, record: &Record) -> pb::Workload {
    // As it is now: places change with every start of another.
    let place = runner.place_in_queue(record);
    let reason = place.map_or(record.reason.as_str(), |(_, why)| why.reason());
    pb::Workload {
        id: record.id.to_string(),
        spec: Some((*record.spec).clone()),
        state: state(record.state).into(),
        reason: reason.to_owned(),
        message: record.message.clone(),
        queue_position: place.map_or(0, |(place, _)| place),
        notes: record.notes.clone(),
        result: record.result.as_deref().cloned(),
        created_at: Some(aip::time::to_proto(record.created_at)),
        admitted_at: record.admitted_at.map(aip::time::to_proto),
        started_at: record.started_at.map(aip::time::to_proto),
        ended_at: record.ended_at.map(aip::time::to_proto),
        node_id: record.node_id.clone(),
        version: record.version,
        log_bytes: runner.log_bytes(record),
        accelerators: record
            .accelerators
            .iter()
            .map(ToString::to_string)
            .collect(),
    }
}

fn state(state: State) -> pb::State {
    match state {
        State::Queued => pb::State::Queued,
        State::Preparing => pb::State::Preparing,
        State::Running => pb::State::Running,
        State::Stopping => pb::State::Stopping,
        State::Succeeded => pb::State::Succeeded,
        State::Failed => pb::State::Failed,
        State::Stopped => pb::State::Stopped,
        State::Lost => pb::State::Lost,
    }
}
