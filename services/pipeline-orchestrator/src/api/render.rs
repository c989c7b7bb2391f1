//! What the use cases answer, as messages of the adopted contract.

use std::collections::BTreeMap;

use aip::time::to_proto;
use api_google::rpc::Status as RpcStatus;
use api_kfp::v2beta1 as kfp;
use api_kfp::v2beta1::RuntimeState;
use api_kfp::v2beta1::pipeline_task_detail::ChildTask;
use api_kfp::v2beta1::pipeline_task_detail::child_task::ChildTask as Child;
use api_kfp::v2beta1::run::PipelineSource;
use clock::Timestamp;
use ids::{ArtifactId, TaskId};
use serde_json::Value;

use super::value;
use crate::app::RunDetails;
use crate::domain::{
    AttemptStatus, Experiment, Pipeline, RunRecord, RunStatus, Source, StorageState, Task,
    TaskStatus, Version,
};

/// Bytes of the tasks of a run that are shown.
const TASK_DETAILS: usize = 32 << 20;

/// An experiment. Single-user installations have no namespaces, so none is shown.
pub(super) fn experiment(experiment: &Experiment) -> kfp::Experiment {
    let state = match experiment.storage_state {
        StorageState::Available => kfp::experiment::StorageState::Available,
        StorageState::Archived => kfp::experiment::StorageState::Archived,
    };
    kfp::Experiment {
        experiment_id: experiment.id.to_string(),
        display_name: experiment.name.clone(),
        description: experiment.description.clone(),
        created_at: Some(to_proto(experiment.created_at)),
        namespace: String::new(),
        storage_state: state.into(),
        last_run_created_at: Some(to_proto(experiment.last_run_created_at)),
    }
}

/// A pipeline.
pub(super) fn pipeline(pipeline: &Pipeline) -> kfp::Pipeline {
    kfp::Pipeline {
        pipeline_id: pipeline.id.to_string(),
        display_name: pipeline.display_name.clone(),
        name: pipeline.name.clone(),
        description: pipeline.description.clone(),
        created_at: Some(to_proto(pipeline.created_at)),
        namespace: String::new(),
        error: None,
        tags: pipeline.tags.clone().into_iter().collect(),
    }
}

/// A version.
pub(super) fn version(version: &Version) -> kfp::PipelineVersion {
    kfp::PipelineVersion {
        pipeline_id: version.pipeline_id.to_string(),
        pipeline_version_id: version.id.to_string(),
        display_name: version.display_name.clone(),
        name: version.name.clone(),
        description: version.description.clone(),
        created_at: Some(to_proto(version.created_at)),
        package_url: None,
        code_source_url: version.code_source_url.clone(),
        pipeline_spec: spec(&version.spec.body),
        error: None,
        tags: version.tags.clone().into_iter().collect(),
    }
}

pub(super) fn spec(body: &str) -> Option<prost_types::Struct> {
    match serde_json::from_str(body) {
        Ok(Value::Object(map)) => Some(value::to_struct(&map)),
        Ok(_) | Err(_) => {
            tracing::error!("a stored specification cannot be read");
            None
        }
    }
}

/// A run with its tasks.
pub(super) fn run(details: &RunDetails) -> kfp::Run {
    let record = &details.record;
    let run = &record.run;
    let storage = match record.storage_state {
        StorageState::Available => kfp::run::StorageState::Available,
        StorageState::Archived => kfp::run::StorageState::Archived,
    };
    let source = match record.source {
        Source::Inline => details
            .spec
            .as_deref()
            .and_then(spec)
            .map(PipelineSource::PipelineSpec),
        Source::Version(pipeline, version) => Some(PipelineSource::PipelineVersionReference(
            kfp::PipelineVersionReference {
                pipeline_id: pipeline.to_string(),
                pipeline_version_id: version.to_string(),
            },
        )),
    };
    let parameters = run.body.parameters.iter();
    let parameters = parameters.map(|(name, given)| (name.clone(), value::to_proto(given)));
    let state = RuntimeState::from_str_name(record.shown_state()).unwrap_or_default();
    let details = (!details.tasks.is_empty()).then(|| kfp::RunDetails {
        pipeline_context_id: 0,
        pipeline_run_context_id: 0,
        task_details: tasks(&details.tasks),
    });
    kfp::Run {
        experiment_id: run.experiment_id.to_string(),
        run_id: run.id.to_string(),
        display_name: run.display_name.clone(),
        storage_state: storage.into(),
        description: record.description.clone(),
        runtime_config: Some(kfp::RuntimeConfig {
            parameters: parameters.collect(),
            pipeline_root: record.requested_root.clone(),
        }),
        service_account: record.service_account.clone(),
        created_at: Some(to_proto(run.created_at)),
        scheduled_at: Some(to_proto(run.scheduled_at.unwrap_or(run.created_at))),
        finished_at: Some(to_proto(run.finished_at.unwrap_or(Timestamp::EPOCH))),
        state: state.into(),
        error: run_error(record),
        run_details: details,
        recurring_run_id: record.recurring_run_id.clone(),
        state_history: run_history(record),
        plugins_input: Default::default(),
        plugins_output: Default::default(),
        pipeline_source: source,
    }
}

/// Why a run failed. A stopped one is FAILED too, and only here and in the history is it told apart.
fn run_error(record: &RunRecord) -> Option<RpcStatus> {
    let body = &record.run.body;
    match record.run.status {
        RunStatus::Failed => Some(error(aip::Code::Unknown, &body.reason, &body.message)),
        RunStatus::Canceled => Some(error(aip::Code::Cancelled, &body.reason, &body.message)),
        RunStatus::Pending | RunStatus::Running | RunStatus::Succeeded | RunStatus::Canceling => {
            None
        }
    }
}

pub(super) fn error(code: aip::Code, reason: &str, message: &str) -> RpcStatus {
    let text = if message.is_empty() { reason } else { message };
    RpcStatus {
        code: code.into(),
        message: text.to_owned(),
        details: Vec::new(),
    }
}

fn run_history(record: &RunRecord) -> Vec<kfp::RuntimeStatus> {
    let body = &record.run.body;
    let mut history: Vec<kfp::RuntimeStatus> = body
        .history
        .iter()
        .map(|entered| entry(run_state(entered.status), entered.at))
        .collect();
    let cancel_shown = matches!(record.run.status, RunStatus::Pending | RunStatus::Running);
    if let Some(cancel) = record.cancel.as_ref().filter(|_| cancel_shown) {
        history.push(entry(RuntimeState::Canceling, cancel.at));
    }
    if let Some(last) = history.last_mut() {
        last.error = run_error(record);
    }
    history
}

fn entry(state: RuntimeState, at: Timestamp) -> kfp::RuntimeStatus {
    kfp::RuntimeStatus {
        update_time: Some(to_proto(at)),
        state: state.into(),
        error: None,
    }
}

fn run_state(status: RunStatus) -> RuntimeState {
    match status {
        RunStatus::Pending => RuntimeState::Pending,
        RunStatus::Running => RuntimeState::Running,
        RunStatus::Succeeded => RuntimeState::Succeeded,
        RunStatus::Failed => RuntimeState::Failed,
        RunStatus::Canceling => RuntimeState::Canceling,
        RunStatus::Canceled => RuntimeState::Canceled,
    }
}

fn tasks(tasks: &[Task]) -> Vec<kfp::PipelineTaskDetail> {
    let mut children: BTreeMap<TaskId, Vec<TaskId>> = BTreeMap::new();
    for task in tasks {
        if let Some(parent) = task.parent {
            children.entry(parent).or_default().push(task.id);
        }
    }
    let inner = |task: &Task| children.get(&task.id).map_or(&[][..], Vec::as_slice);
    let mut bytes = 0;
    let details = tasks.iter().map(|task| task_detail(task, inner(task)));
    // This contract has no pages of tasks, and those who wait for a run must not be refused since it has many.
    let fitting = details.take_while(|detail| {
        bytes += prost::Message::encoded_len(detail);
        bytes <= TASK_DETAILS
    });
    fitting.collect()
}

/// A task. What upstream calls a pod is a workload here.
fn task_detail(task: &Task, children: &[TaskId]) -> kfp::PipelineTaskDetail {
    let body = &task.body;
    let workload = task
        .last_attempt()
        .map(|attempt| attempt.workload_id.to_string());
    let failed = body
        .attempts
        .iter()
        .filter(|attempt| matches!(attempt.status, AttemptStatus::Failed | AttemptStatus::Lost));
    let detail = workload
        .clone()
        .map(|workload| kfp::PipelineTaskExecutorDetail {
            main_job: workload,
            pre_caching_check_job: String::new(),
            failed_main_jobs: failed
                .map(|attempt| attempt.workload_id.to_string())
                .collect(),
            failed_pre_caching_check_jobs: Vec::new(),
        });
    let child = |id: &TaskId| ChildTask {
        child_task: Some(Child::TaskId(id.to_string())),
    };
    kfp::PipelineTaskDetail {
        run_id: task.run_id.to_string(),
        task_id: task.id.to_string(),
        display_name: body.display_name.clone(),
        create_time: Some(to_proto(task.created_at)),
        start_time: task.started_at.map(to_proto),
        end_time: task.ended_at.map(to_proto),
        executor_detail: detail,
        state: task_state(task.status).into(),
        execution_id: task.id.0,
        error: task_error(task),
        inputs: artifacts(&body.inputs.artifacts),
        outputs: artifacts(&body.outputs.artifacts),
        parent_task_id: task
            .parent
            .map(|parent| parent.to_string())
            .unwrap_or_default(),
        state_history: task_history(task),
        pod_name: workload.unwrap_or_default(),
        child_tasks: children.iter().map(child).collect(),
    }
}

fn task_error(task: &Task) -> Option<RpcStatus> {
    let code = match task.status {
        TaskStatus::Failed => aip::Code::Unknown,
        TaskStatus::Canceled => aip::Code::Cancelled,
        TaskStatus::Pending
        | TaskStatus::Ready
        | TaskStatus::Running
        | TaskStatus::Succeeded
        | TaskStatus::Skipped
        | TaskStatus::Canceling
        | TaskStatus::Cached => return None,
    };
    Some(error(code, &task.body.reason, &task.body.message))
}

fn task_history(task: &Task) -> Vec<kfp::RuntimeStatus> {
    let mut history: Vec<kfp::RuntimeStatus> = Vec::new();
    for entered in &task.body.history {
        let state = task_state(entered.status);
        // Waiting for others and for the machine are one state there.
        if history
            .last()
            .is_none_or(|last| last.state != i32::from(state))
        {
            history.push(entry(state, entered.at));
        }
    }
    if let Some(last) = history.last_mut() {
        last.error = task_error(task);
    }
    history
}

fn task_state(status: TaskStatus) -> RuntimeState {
    match status {
        TaskStatus::Pending | TaskStatus::Ready => RuntimeState::Pending,
        TaskStatus::Running => RuntimeState::Running,
        TaskStatus::Succeeded => RuntimeState::Succeeded,
        TaskStatus::Failed => RuntimeState::Failed,
        // There is no state for a task whose outputs are those of another; upstream shows it as not run.
        TaskStatus::Skipped | TaskStatus::Cached => RuntimeState::Skipped,
        TaskStatus::Canceling => RuntimeState::Canceling,
        TaskStatus::Canceled => RuntimeState::Canceled,
    }
}

fn artifacts(
    artifacts: &BTreeMap<String, Vec<ArtifactId>>,
) -> std::collections::HashMap<String, kfp::ArtifactList> {
    let list = |(name, ids): (&String, &Vec<ArtifactId>)| {
        let artifact_ids = ids.iter().map(|id| id.0).collect();
        (name.clone(), kfp::ArtifactList { artifact_ids })
    };
    artifacts.iter().map(list).collect()
}
