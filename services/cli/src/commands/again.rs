//! `flumina run retry` and `flumina run clone`: runs that follow on runs.

use anyhow::Result;
use api_kfp::v2beta1 as kfp;
use api_kfp::v2beta1::run::PipelineSource;
use api_pipelines::v1 as own;

use super::run::experiment_or_new;
use crate::args::{Clone, Output};
use crate::client::Client;
use crate::output::{Printer, one_line, print};
use crate::{values, watch};

const DETAIL: &str = "flumina.pipelines.v1.Run";

pub(crate) async fn retry(
    run: &str,
    follow: bool,
    client: &Client,
    printer: &Printer,
) -> Result<()> {
    let request = kfp::RetryRunRequest {
        run_id: run.to_owned(),
        ..Default::default()
    };
    client.runs().retry_run(request).await?;
    if follow {
        watch::follow(run, client, printer).await
    } else {
        printer.done(&format!("retrying {run}"))
    }
}

pub(crate) async fn clone(clone: Clone, client: &Client, printer: &Printer) -> Result<()> {
    let spec = if clone.params.is_empty() {
        None
    } else {
        spec_of(&clone.run, client).await?
    };
    let parameters = values::parameters(&clone.params, spec.as_ref())?;
    let experiment_id = match &clone.experiment {
        None => String::new(),
        Some(experiment) => experiment_or_new(experiment, client).await?,
    };
    let request = own::CloneRunRequest {
        run_id: clone.run,
        parameters: Some(prost_types::Struct { fields: parameters }),
        display_name: clone.name.unwrap_or_default(),
        experiment_id,
        request_id: uuid::Uuid::now_v7().to_string(),
    };
    let created = client.run_details().clone_run(request).await?.into_inner();
    if !clone.watch {
        return printer.message(DETAIL, &created, |run| {
            format!("{}\n", one_line(&run.run_id))
        });
    }
    if printer.form() == Output::Table {
        let (name, id) = (one_line(&created.display_name), one_line(&created.run_id));
        print(&format!("run {name} ({id})\n"))?;
    }
    watch::follow(&created.run_id, client, printer).await
}

/// The specification of a run, for the types of its parameters; none when its version is gone.
async fn spec_of(run_id: &str, client: &Client) -> Result<Option<values::Object>> {
    let request = kfp::GetRunRequest {
        run_id: run_id.to_owned(),
        ..Default::default()
    };
    let run = client.runs().get_run(request).await?.into_inner();
    let spec = match run.pipeline_source {
        Some(PipelineSource::PipelineSpec(spec)) => Some(spec),
        Some(PipelineSource::PipelineVersionReference(reference)) => {
            let request = kfp::GetPipelineVersionRequest {
                pipeline_id: reference.pipeline_id,
                pipeline_version_id: reference.pipeline_version_id,
            };
            let version = client.pipelines().get_pipeline_version(request).await;
            version
                .ok()
                .and_then(|version| version.into_inner().pipeline_spec)
        }
        _ => None,
    };
    Ok(spec.as_ref().map(values::fields_to_json))
}
