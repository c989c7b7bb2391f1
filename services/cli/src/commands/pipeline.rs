//! `flumina pipeline …`.

use std::path::Path;

use anyhow::{Context as _, Result};
use api_kfp::v2beta1 as kfp;

use crate::args::{Output, Page, Pipeline};
use crate::client::{Client, Missing};
use crate::output::{Printer, fields, print, safe, table, time};
use crate::values;

const PIPELINE: &str = "kubeflow.pipelines.backend.api.v2beta1.Pipeline";
const VERSION: &str = "kubeflow.pipelines.backend.api.v2beta1.PipelineVersion";
const LIST: &str = "kubeflow.pipelines.backend.api.v2beta1.ListPipelinesResponse";

pub(crate) async fn execute(command: Pipeline, client: &Client, printer: &Printer) -> Result<()> {
    match command {
        Pipeline::Upload {
            file,
            name,
            version_name: version,
            description,
        } => upload(&file, name, version, description, client, printer).await,
        Pipeline::List(page) => list(page, client, printer).await,
        Pipeline::Get { pipeline } => get(&pipeline, client, printer).await,
        Pipeline::Delete { pipeline } => {
            let found = client.pipeline(&pipeline).await?;
            let request = kfp::DeletePipelineRequest {
                pipeline_id: found.pipeline_id,
                cascade: true,
            };
            client.pipelines().delete_pipeline(request).await?;
            printer.done(&format!("deleted {pipeline} and its versions; runs stay"))
        }
    }
}

async fn upload(
    file: &Path,
    name: Option<String>,
    version: Option<String>,
    description: String,
    client: &Client,
    printer: &Printer,
) -> Result<()> {
    let spec = values::read_spec(file)?;
    let name = name
        .or_else(|| values::pipeline_name(&spec).map(str::to_owned))
        .with_context(|| format!("{} has no pipelineInfo.name: say --name", file.display()))?;
    let pipeline_spec = Some(values::to_struct(&spec));
    let known = match client.pipeline(&name).await {
        Ok(known) => Some(known),
        Err(error) if error.is::<Missing>() => None,
        Err(error) => return Err(error),
    };
    let Some(known) = known else {
        let version = version.unwrap_or_else(|| name.clone());
        let created = first_version(name, version, description, pipeline_spec, client).await?;
        return printer.message(PIPELINE, &created, show);
    };
    let version_name = version.unwrap_or_else(|| {
        format!(
            "{name} {}",
            jiff::Zoned::now().strftime("%Y-%m-%d %H-%M-%S")
        )
    });
    let request = kfp::CreatePipelineVersionRequest {
        pipeline_id: known.pipeline_id.clone(),
        pipeline_version: Some(kfp::PipelineVersion {
            pipeline_id: known.pipeline_id,
            name: version_name.clone(),
            display_name: version_name,
            description,
            pipeline_spec,
            ..Default::default()
        }),
    };
    let mut service = client.pipelines();
    let created = service.create_pipeline_version(request).await?.into_inner();
    printer.message(VERSION, &created, fields_of_version)
}

/// Makes a pipeline with its first version.
async fn first_version(
    name: String,
    version_name: String,
    description: String,
    pipeline_spec: Option<prost_types::Struct>,
    client: &Client,
) -> Result<kfp::Pipeline> {
    let request = kfp::CreatePipelineAndVersionRequest {
        pipeline: Some(kfp::Pipeline {
            name: name.clone(),
            display_name: name,
            description,
            ..Default::default()
        }),
        pipeline_version: Some(kfp::PipelineVersion {
            name: version_name.clone(),
            display_name: version_name,
            pipeline_spec,
            ..Default::default()
        }),
    };
    let mut service = client.pipelines();
    Ok(service
        .create_pipeline_and_version(request)
        .await?
        .into_inner())
}

async fn list(page: Page, client: &Client, printer: &Printer) -> Result<()> {
    let request = kfp::ListPipelinesRequest {
        page_size: page.paging.page_size,
        page_token: page.paging.page_token,
        sort_by: page.sort_by,
        filter: page.filter,
        ..Default::default()
    };
    let found = client
        .pipelines()
        .list_pipelines(request)
        .await?
        .into_inner();
    printer.message(LIST, &found, |found| {
        let rows: Vec<Vec<String>> = found
            .pipelines
            .iter()
            .map(|pipeline| {
                vec![
                    pipeline.pipeline_id.clone(),
                    safe(&pipeline.name),
                    time(pipeline.created_at.as_ref()),
                    safe(&pipeline.description),
                ]
            })
            .collect();
        table(&["ID", "NAME", "CREATED", "DESCRIPTION"], &rows)
            + &super::run::more(&found.next_page_token)
    })
}

async fn get(name: &str, client: &Client, printer: &Printer) -> Result<()> {
    let pipeline = client.pipeline(name).await?;
    let versions = versions(&pipeline.pipeline_id, client).await?;
    if printer.form() != Output::Table {
        let mut json = printer.json(PIPELINE, &pipeline)?;
        let versions: Vec<serde_json::Value> = versions
            .iter()
            .map(|version| printer.json(VERSION, version))
            .collect::<Result<_>>()?;
        json["pipeline_versions"] = versions.into();
        return printer.value(&json);
    }
    let rows: Vec<Vec<String>> = versions
        .iter()
        .map(|version| {
            vec![
                version.pipeline_version_id.clone(),
                safe(&version.name),
                time(version.created_at.as_ref()),
            ]
        })
        .collect();
    print(&format!(
        "{}\n{}",
        show(&pipeline),
        table(&["VERSION", "NAME", "CREATED"], &rows)
    ))
}

/// All versions of a pipeline, newest first.
async fn versions(pipeline_id: &str, client: &Client) -> Result<Vec<kfp::PipelineVersion>> {
    let mut versions = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = kfp::ListPipelineVersionsRequest {
            pipeline_id: pipeline_id.to_owned(),
            page_size: 200,
            page_token,
            sort_by: "created_at desc".to_owned(),
            ..Default::default()
        };
        let page = client
            .pipelines()
            .list_pipeline_versions(request)
            .await?
            .into_inner();
        versions.extend(page.pipeline_versions);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(versions);
        }
    }
}

fn show(pipeline: &kfp::Pipeline) -> String {
    fields(&[
        ("id", pipeline.pipeline_id.clone()),
        ("name", safe(&pipeline.name)),
        ("description", safe(&pipeline.description)),
        ("created", time(pipeline.created_at.as_ref())),
    ])
}

fn fields_of_version(version: &kfp::PipelineVersion) -> String {
    fields(&[
        ("pipeline", version.pipeline_id.clone()),
        ("version", version.pipeline_version_id.clone()),
        ("name", safe(&version.name)),
        ("created", time(version.created_at.as_ref())),
    ])
}
