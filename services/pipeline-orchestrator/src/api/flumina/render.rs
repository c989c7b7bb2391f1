//! Domain → messages of `flumina.pipelines.v1`.

use std::collections::{BTreeMap, HashMap};

use api_pipelines::v1 as own;
use api_runner::v1 as runner;
use clock::Timestamp;
use ids::ArtifactId;
use prost_types::value::Kind;
use serde_json::{Map, Value};

use crate::domain::{
    Artifact, Attempt, AttemptStatus, CacheEntry, CacheRole, KeyKind, Run, RunStatus, Task,
    TaskCache, TaskKind, TaskStatus,
};

pub(super) fn run(run: &Run, parameters: &Map<String, Value>) -> own::Run {
    let body = &run.body;
    own::Run {
        run_id: run.id.to_string(),
        display_name: run.display_name.clone(),
        experiment_id: run.experiment_id.to_string(),
        pipeline_name: run.pipeline_name.clone(),
        state: run_state(run.status).into(),
        message: body.message.clone(),
        created_at: Some(aip::time::to_proto(run.created_at)),
        finished_at: time(run.finished_at),
        task_counts: counts(&body.task_counts),
        failed_task_id: body
            .failed_task
            .map_or_else(String::new, |id| id.to_string()),
        parameters: Some(structure(parameters)),
        outputs: Some(structure(&body.outputs.parameters)),
        version: run.version,
    }
}

/// States with several names inside are one for clients.
pub(super) fn counts(by_status: &BTreeMap<TaskStatus, u32>) -> HashMap<String, i64> {
    let mut counts: HashMap<String, i64> = HashMap::new();
    for (status, count) in by_status {
        let name = task_state(*status).as_str_name().to_owned();
        *counts.entry(name).or_default() += i64::from(*count);
    }
    counts
}

pub(super) fn run_state(status: RunStatus) -> own::State {
    match status {
        RunStatus::Pending => own::State::Pending,
        RunStatus::Running => own::State::Running,
        RunStatus::Succeeded => own::State::Succeeded,
        RunStatus::Failed => own::State::Failed,
        RunStatus::Canceling => own::State::Canceling,
        RunStatus::Canceled => own::State::Canceled,
    }
}

fn task_state(status: TaskStatus) -> own::State {
    match status {
        TaskStatus::Pending | TaskStatus::Ready => own::State::Pending,
        TaskStatus::Running => own::State::Running,
        TaskStatus::Succeeded => own::State::Succeeded,
        TaskStatus::Failed => own::State::Failed,
        TaskStatus::Skipped => own::State::Skipped,
        TaskStatus::Canceling => own::State::Canceling,
        TaskStatus::Canceled => own::State::Canceled,
        TaskStatus::Cached => own::State::Cached,
    }
}

pub(super) fn task(task: &Task) -> own::Task {
    let body = &task.body;
    let kind = match task.kind {
        TaskKind::Root => own::TaskKind::Root,
        TaskKind::Container => own::TaskKind::Container,
        TaskKind::Dag => own::TaskKind::Dag,
        TaskKind::Importer => own::TaskKind::Importer,
        TaskKind::Loop => own::TaskKind::Loop,
    };
    own::Task {
        task_id: task.id.to_string(),
        run_id: task.run_id.to_string(),
        path: task.path.clone(),
        name: task.name.clone(),
        parent_task_id: task.parent.map_or_else(String::new, |id| id.to_string()),
        kind: kind.into(),
        state: task_state(task.status).into(),
        reason: body.reason.clone(),
        message: body.message.clone(),
        created_at: Some(aip::time::to_proto(task.created_at)),
        started_at: time(task.started_at),
        ended_at: time(task.ended_at),
        input_parameters: Some(structure(&body.inputs.parameters)),
        input_artifacts: artifact_ids(&body.inputs.artifacts),
        output_parameters: Some(structure(&body.outputs.parameters)),
        output_artifacts: artifact_ids(&body.outputs.artifacts),
        attempts: body.attempts.iter().map(attempt).collect(),
        dependencies: body.dependencies.iter().map(ToString::to_string).collect(),
        component: body.component.clone(),
        image: body.image.clone(),
        iteration_index: task.iteration,
        retry_at: time(body.retry_at),
        retries: retries(task),
        cache: task
            .body
            .cache
            .as_ref()
            .map(|cache| task_cache(task, cache)),
    }
}

fn task_cache(task: &Task, cache: &TaskCache) -> own::TaskCache {
    let mut shown = own::TaskCache {
        key: cache.key.clone(),
        key_kind: key_kind(cache.kind).into(),
        note: cache.note.clone(),
        ..Default::default()
    };
    match cache.role {
        CacheRole::Asks | CacheRole::Leads => {}
        CacheRole::Uses { run, task } => {
            (shown.source_run_id, shown.source_task_id) = (run.to_string(), task.to_string());
        }
        CacheRole::Waits { .. } if task.status.ended() => {}
        CacheRole::Waits { run, task } => {
            (shown.awaited_run_id, shown.awaited_task_id) = (run.to_string(), task.to_string());
        }
    }
    shown
}

fn key_kind(kind: KeyKind) -> own::CacheKeyKind {
    match kind {
        KeyKind::Identity => own::CacheKeyKind::Identity,
        KeyKind::Content => own::CacheKeyKind::Content,
        KeyKind::Given => own::CacheKeyKind::Given,
    }
}

pub(super) fn cache_entry(entry: &CacheEntry) -> own::CacheEntry {
    own::CacheEntry {
        entry_id: entry.id.to_string(),
        pipeline_name: entry.pipeline_name.clone(),
        key: entry.key.clone(),
        key_kind: key_kind(entry.kind).into(),
        run_id: entry.run_id.to_string(),
        task_id: entry.id.to_string(),
        task_path: entry.task_path.clone(),
        created_at: Some(aip::time::to_proto(entry.created_at)),
        expires_at: time(entry.expires_at),
        hits: entry.hits,
        last_hit_at: time(entry.last_hit_at),
        output_parameters: Some(structure(&entry.outputs.parameters)),
        output_artifacts: artifact_ids(&entry.outputs.artifacts),
        used_by: Vec::new(),
    }
}

/// Failed attempts that another one followed.
fn retries(task: &Task) -> u32 {
    let failed = task.ended_so(AttemptStatus::Failed);
    let last = task.last_attempt().map(|attempt| attempt.status);
    let unfollowed = usize::from(last == Some(AttemptStatus::Failed));
    u32::try_from(failed.saturating_sub(unfollowed)).unwrap_or(u32::MAX)
}

fn attempt(attempt: &Attempt) -> own::Attempt {
    let state = match attempt.status {
        // The runner has not answered yet: for people that is a queue of one.
        AttemptStatus::Committed | AttemptStatus::Queued => runner::State::Queued,
        AttemptStatus::Preparing => runner::State::Preparing,
        AttemptStatus::Running => runner::State::Running,
        AttemptStatus::Stopping => runner::State::Stopping,
        AttemptStatus::Succeeded => runner::State::Succeeded,
        AttemptStatus::Failed => runner::State::Failed,
        AttemptStatus::Stopped => runner::State::Stopped,
        AttemptStatus::Lost => runner::State::Lost,
    };
    own::Attempt {
        number: i32::try_from(attempt.number).unwrap_or(i32::MAX),
        workload_id: attempt.workload_id.to_string(),
        state: state.into(),
        reason: attempt.reason.clone(),
        message: attempt.message.clone(),
        launched_at: Some(aip::time::to_proto(attempt.launched_at)),
        started_at: time(attempt.started_at),
        ended_at: time(attempt.ended_at),
        exit_code: attempt.exit_code,
        signal: attempt.signal,
        peak_memory_bytes: attempt.usage.peak_memory_bytes,
        cpu_us: attempt.usage.user_cpu_us + attempt.usage.system_cpu_us,
        notes: attempt.notes.clone(),
        queue_position: attempt.queue_position,
        prepare_us: attempt.prepare_us,
        collect_us: attempt.collect_us,
        preparing_at: time(attempt.preparing_at),
    }
}

pub(super) fn artifact(artifact: &Artifact) -> own::Artifact {
    let kind = &artifact.artifact_type;
    let name = if kind.schema_title.is_empty() {
        &kind.instance_schema
    } else {
        &kind.schema_title
    };
    own::Artifact {
        artifact_id: artifact.id.0,
        name: artifact.name.clone(),
        r#type: name.clone(),
        uri: artifact.uri.clone(),
        metadata: Some(structure(&artifact.metadata)),
        size_bytes: artifact.size_bytes,
        sha256: artifact.sha256.clone(),
        run_id: artifact.run_id.to_string(),
        task_id: artifact.task_id.to_string(),
        created_at: Some(aip::time::to_proto(artifact.created_at)),
        present: artifact.present,
        directory: artifact.directory,
    }
}

fn artifact_ids(by_name: &BTreeMap<String, Vec<ArtifactId>>) -> HashMap<String, own::ArtifactIds> {
    let convert = |ids: &Vec<ArtifactId>| own::ArtifactIds {
        ids: ids.iter().map(|id| id.0).collect(),
    };
    by_name
        .iter()
        .map(|(name, ids)| (name.clone(), convert(ids)))
        .collect()
}

fn time(timestamp: Option<Timestamp>) -> Option<prost_types::Timestamp> {
    timestamp.map(aip::time::to_proto)
}

pub(super) fn structure(fields: &Map<String, Value>) -> prost_types::Struct {
    let fields = fields
        .iter()
        .map(|(name, value)| (name.clone(), value_message(value)));
    prost_types::Struct {
        fields: fields.collect(),
    }
}

fn value_message(value: &Value) -> prost_types::Value {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(flag) => Kind::BoolValue(*flag),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(f64::NAN)),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(items) => {
            let values = items.iter().map(value_message).collect();
            Kind::ListValue(prost_types::ListValue { values })
        }
        Value::Object(fields) => Kind::StructValue(structure(fields)),
    };
    prost_types::Value { kind: Some(kind) }
}
