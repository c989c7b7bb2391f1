//! `flumina run …`.

use std::path::Path;

use anyhow::{Context as _, Result};
use api_kfp::v2beta1 as kfp;
use api_kfp::v2beta1::run::PipelineSource;
use api_pipelines::v1 as own;

use super::{again, lists};
use crate::args::{Output, Page, Run, Submit};
use crate::client::{Client, Missing};
use crate::output::{Printer, bytes, duration, fields, one_line, print, safe, table, time, write};
use crate::{timeline, values, watch};

const RUN: &str = "kubeflow.pipelines.backend.api.v2beta1.Run";
const LIST: &str = "kubeflow.pipelines.backend.api.v2beta1.ListRunsResponse";
const DETAIL: &str = "flumina.pipelines.v1.Run";
const TASK: &str = "flumina.pipelines.v1.Task";

pub(crate) async fn execute(command: Run, client: &Client, printer: &Printer) -> Result<()> {
    let mut service = client.runs();
    match command {
        Run::Submit(submit) => self::submit(submit, client, printer).await,
        Run::List { experiment, page } => list(experiment, page, client, printer).await,
        Run::Get { run, timeline } => get(&run, timeline, client, printer).await,
        Run::Tag { run, tags, remove } => lists::tag(run, &tags, remove, client, printer).await,
        Run::Compare { runs } => lists::compare(runs, client, printer).await,
        Run::Watch { run } => watch::follow(&run, client, printer).await,
        Run::Logs {
            run,
            task,
            follow,
            attempt,
        } => logs(&run, task.as_deref(), follow, attempt, client).await,
        Run::Terminate { run } => {
            let request = kfp::TerminateRunRequest {
                run_id: run.clone(),
                ..Default::default()
            };
            service.terminate_run(request).await?;
            printer.done(&format!("stopping {run}"))
        }
        Run::Retry { run, watch } => again::retry(&run, watch, client, printer).await,
        Run::Clone(clone) => again::clone(clone, client, printer).await,
        Run::Archive { run } => {
            let request = kfp::ArchiveRunRequest {
                run_id: run.clone(),
                ..Default::default()
            };
            service.archive_run(request).await?;
            printer.done(&format!("archived {run}"))
        }
        Run::Unarchive { run } => {
            let request = kfp::UnarchiveRunRequest {
                run_id: run.clone(),
                ..Default::default()
            };
            service.unarchive_run(request).await?;
            printer.done(&format!("restored {run}"))
        }
        Run::Delete {
            run,
            keep_artifacts,
        } => {
            let request = own::DeleteRunRequest {
                run_id: run.clone(),
                keep_artifacts,
                request_id: uuid::Uuid::now_v7().to_string(),
            };
            client.run_details().delete_run(request).await?;
            let rest = if keep_artifacts {
                "; its artifacts stay"
            } else {
                ""
            };
            printer.done(&format!("deleted {run}{rest}"))
        }
    }
}

async fn submit(submit: Submit, client: &Client, printer: &Printer) -> Result<()> {
    let (source, name, spec) = source(&submit.file, client).await?;
    let parameters = values::parameters(&submit.params, spec.as_ref())?;
    let experiment_id = match &submit.experiment {
        None => String::new(),
        Some(experiment) => experiment_or_new(experiment, client).await?,
    };
    let display_name = submit.name.unwrap_or_else(|| {
        format!(
            "{name} {}",
            jiff::Zoned::now().strftime("%Y-%m-%d %H-%M-%S")
        )
    });
    let run = kfp::Run {
        experiment_id,
        display_name,
        runtime_config: Some(kfp::RuntimeConfig {
            parameters: parameters.into_iter().collect(),
            ..Default::default()
        }),
        pipeline_source: Some(source),
        ..Default::default()
    };
    let mut request = tonic::Request::new(kfp::CreateRunRequest {
        run: Some(run),
        ..Default::default()
    });
    if let Some(policy) = &submit.cache {
        let policy = policy
            .parse()
            .with_context(|| format!("--cache cannot be `{}`", safe(policy)))?;
        request.metadata_mut().insert("flumina-cache", policy);
    }
    let created = match submit.tags.as_slice() {
        [] => client.runs().create_run(request).await?.into_inner(),
        tags => tagged(request, tags, client).await?,
    };
    if !submit.watch {
        return printer.message(RUN, &created, |run| format!("{}\n", one_line(&run.run_id)));
    }
    if printer.form() == Output::Table {
        print(&format!(
            "run {} ({})\n",
            one_line(&created.display_name),
            one_line(&created.run_id)
        ))?;
    }
    watch::follow(&created.run_id, client, printer).await
}

/// Creates a run with its tags, which the adopted contract cannot say.
async fn tagged(
    request: tonic::Request<kfp::CreateRunRequest>,
    tags: &[String],
    client: &Client,
) -> Result<kfp::Run> {
    let (metadata, extensions, request) = request.into_parts();
    let run = request.run.unwrap_or_default();
    let config = run.runtime_config.unwrap_or_default();
    let fields = config.parameters.into_iter().collect();
    let submission = own::SubmitRunRequest {
        display_name: run.display_name,
        experiment_id: run.experiment_id,
        source: run
            .pipeline_source
            .map(|source| super::schedule::own_source(source, false)),
        parameters: Some(prost_types::Struct { fields }),
        tags: lists::pairs(tags)?,
        request_id: uuid::Uuid::now_v7().to_string(),
        ..Default::default()
    };
    let submission = tonic::Request::from_parts(metadata, extensions, submission);
    let submitted = client
        .run_lists()
        .submit_run(submission)
        .await?
        .into_inner();
    let request = kfp::GetRunRequest {
        run_id: submitted.run_id,
        ..Default::default()
    };
    Ok(client.runs().get_run(request).await?.into_inner())
}

/// What to run: a file when there is one of that name, else a stored pipeline.
pub(super) async fn source(
    file: &str,
    client: &Client,
) -> Result<(PipelineSource, String, Option<values::Object>)> {
    let path = Path::new(file);
    if path.is_file() {
        let spec = values::read_spec(path)?;
        let source = PipelineSource::PipelineSpec(values::to_struct(&spec));
        let name = values::pipeline_name(&spec).unwrap_or("run").to_owned();
        return Ok((source, name, Some(spec)));
    }
    let pipeline = match client.pipeline(file).await {
        Err(error) if error.is::<Missing>() => {
            return Err(Missing::new("file or stored pipeline", file).into());
        }
        other => other?,
    };
    let request = kfp::ListPipelineVersionsRequest {
        pipeline_id: pipeline.pipeline_id.clone(),
        page_size: 1,
        sort_by: "created_at desc".to_owned(),
        ..Default::default()
    };
    let versions = client
        .pipelines()
        .list_pipeline_versions(request)
        .await?
        .into_inner();
    let version = versions
        .pipeline_versions
        .into_iter()
        .next()
        .with_context(|| format!("the pipeline `{file}` has no version"))?;
    let spec = version.pipeline_spec.as_ref().map(values::fields_to_json);
    let reference = kfp::PipelineVersionReference {
        pipeline_id: pipeline.pipeline_id,
        pipeline_version_id: version.pipeline_version_id,
    };
    Ok((
        PipelineSource::PipelineVersionReference(reference),
        pipeline.name,
        spec,
    ))
}

pub(crate) async fn experiment_or_new(name: &str, client: &Client) -> Result<String> {
    match client.experiment(name).await {
        Ok(found) => Ok(found.experiment_id),
        Err(error) if error.is::<Missing>() => {
            let experiment = kfp::Experiment {
                display_name: name.to_owned(),
                ..Default::default()
            };
            let request = kfp::CreateExperimentRequest {
                experiment: Some(experiment),
            };
            Ok(client
                .experiments()
                .create_experiment(request)
                .await?
                .into_inner()
                .experiment_id)
        }
        Err(error) => Err(error),
    }
}

async fn list(
    experiment: Option<String>,
    page: Page,
    client: &Client,
    printer: &Printer,
) -> Result<()> {
    let experiment_id = match experiment {
        None => String::new(),
        Some(experiment) => client.experiment(&experiment).await?.experiment_id,
    };
    // What other programs read stays the adopted contract's; its filters are JSON, and it orders by any field.
    let json = page.filter.trim_start().starts_with('{');
    let plain = page.filter.is_empty() && printer.form() != Output::Table;
    if !json && !plain && page.sort_by == "created_at desc" {
        return lists::list(&experiment_id, page, client, printer).await;
    }
    let request = kfp::ListRunsRequest {
        experiment_id,
        page_size: page.paging.page_size,
        page_token: page.paging.page_token,
        sort_by: page.sort_by,
        filter: page.filter,
        ..Default::default()
    };
    let found = client.runs().list_runs(request).await?.into_inner();
    printer.message(LIST, &found, |found| {
        let rows: Vec<Vec<String>> = found
            .runs
            .iter()
            .map(|run| {
                vec![
                    run.run_id.clone(),
                    safe(&run.display_name),
                    run.state().as_str_name().to_lowercase(),
                    time(run.created_at.as_ref()),
                    duration(run.created_at.as_ref(), run.finished_at.as_ref()),
                ]
            })
            .collect();
        table(&["ID", "NAME", "STATE", "CREATED", "TOOK"], &rows) + &more(&found.next_page_token)
    })
}

/// The line that says how to get the next page; empty on the last.
pub(crate) fn more(token: &str) -> String {
    if token.is_empty() {
        String::new()
    } else {
        format!("\nmore: --page-token {}\n", one_line(token))
    }
}

async fn get(run_id: &str, timeline: bool, client: &Client, printer: &Printer) -> Result<()> {
    let request = own::GetRunRequest {
        run_id: run_id.to_owned(),
    };
    let run = client.run_details().get_run(request).await?.into_inner();
    let tasks = tasks(run_id, client).await?;
    if printer.form() != Output::Table {
        let mut json = printer.json(DETAIL, &run)?;
        let tasks: Vec<serde_json::Value> = tasks
            .iter()
            .map(|task| printer.json(TASK, task))
            .collect::<Result<_>>()?;
        json["tasks"] = tasks.into();
        return printer.value(&json);
    }
    print(&show(&run))?;
    if timeline {
        let now = jiff::Timestamp::now().as_microsecond() as f64 / 1e6;
        return print(&format!("\n{}", timeline::draw(&tasks, now)));
    }
    print(&format!("\n{}", task_table(&tasks)))
}

/// All tasks of a run, in the order in which they came to be.
pub(crate) async fn tasks(run_id: &str, client: &Client) -> Result<Vec<own::Task>> {
    let mut tasks = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = own::ListTasksRequest {
            run_id: run_id.to_owned(),
            page_size: 1000,
            page_token,
        };
        let page = client.run_details().list_tasks(request).await?.into_inner();
        tasks.extend(page.tasks);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(tasks);
        }
    }
}

fn show(run: &own::Run) -> String {
    let json = |value: &prost_types::Struct| {
        if value.fields.is_empty() {
            String::new()
        } else {
            values::struct_to_json(value).to_string()
        }
    };
    fields(&[
        ("run", run.run_id.clone()),
        ("name", safe(&run.display_name)),
        ("pipeline", safe(&run.pipeline_name)),
        ("state", watch::state_name(run.state()).to_owned()),
        ("message", safe(&run.message)),
        ("created", time(run.created_at.as_ref())),
        (
            "took",
            duration(run.created_at.as_ref(), run.finished_at.as_ref()),
        ),
        (
            "parameters",
            run.parameters.as_ref().map(json).unwrap_or_default(),
        ),
        (
            "outputs",
            run.outputs.as_ref().map(json).unwrap_or_default(),
        ),
    ])
}

/// Tasks with what they cost.
pub(crate) fn task_table(tasks: &[own::Task]) -> String {
    let rows: Vec<Vec<String>> = tasks
        .iter()
        .filter(|task| task.kind() != own::TaskKind::Root)
        .map(|task| {
            let attempt = task.attempts.last();
            vec![
                safe(&task.path),
                watch::state_name(task.state()).to_owned(),
                duration(task.started_at.as_ref(), task.ended_at.as_ref()),
                attempt.map_or_else(String::new, |attempt| {
                    format!("{:.2} s", attempt.cpu_us as f64 / 1e6)
                }),
                attempt.map_or_else(String::new, |attempt| bytes(attempt.peak_memory_bytes)),
                if task.attempts.len() > 1 {
                    task.attempts.len().to_string()
                } else {
                    String::new()
                },
                safe(note(task)),
            ]
        })
        .collect();
    table(
        &[
            "TASK", "STATE", "TOOK", "CPU", "MEMORY", "ATTEMPTS", "MESSAGE",
        ],
        &rows,
    )
}

/// What there is to say of a task: about its state, or why a result that was there is not used.
fn note(task: &own::Task) -> &str {
    match &task.cache {
        Some(cache) if task.message.is_empty() => &cache.note,
        Some(_) | None => &task.message,
    }
}

async fn logs(
    run_id: &str,
    task: Option<&str>,
    follow: bool,
    attempt: i32,
    client: &Client,
) -> Result<()> {
    if let Some(task) = task {
        return stream_log(run_id, task, follow, attempt, client).await;
    }
    if follow {
        return watch::follow_logs(run_id, client).await;
    }
    for task in tasks(run_id, client).await? {
        if task.attempts.is_empty() {
            continue;
        }
        print(&format!("=== {} ===\n", one_line(&task.path)))?;
        stream_log(run_id, &task.task_id, false, attempt, client).await?;
    }
    Ok(())
}

async fn stream_log(
    run_id: &str,
    task: &str,
    follow: bool,
    attempt: i32,
    client: &Client,
) -> Result<()> {
    let request = own::ReadLogsRequest {
        run_id: run_id.to_owned(),
        task: task.to_owned(),
        attempt,
        offset: 0,
        follow,
        tail_bytes: 0,
    };
    let mut stream = client.run_details().read_logs(request).await?.into_inner();
    while let Some(part) = stream.message().await? {
        write(&part.data)?;
    }
    Ok(())
}

/// The end of a task's log, at most 64 KiB, as text.
pub(crate) async fn log_tail(run_id: &str, task: &str, client: &Client) -> Result<String> {
    const TAIL: usize = 64 * 1024;
    let request = own::ReadLogsRequest {
        run_id: run_id.to_owned(),
        task: task.to_owned(),
        attempt: 0,
        offset: 0,
        follow: false,
        tail_bytes: 0,
    };
    let mut stream = client.run_details().read_logs(request).await?.into_inner();
    let mut tail: Vec<u8> = Vec::new();
    while let Some(part) = stream.message().await? {
        tail.extend_from_slice(&part.data);
        if tail.len() > 2 * TAIL {
            tail.drain(..tail.len() - TAIL);
        }
    }
    Ok(String::from_utf8_lossy(&tail).into_owned())
}
