//! `flumina experiment …`.

use anyhow::Result;
use api_kfp::v2beta1 as kfp;

use crate::args::{Experiment, Page};
use crate::client::Client;
use crate::output::{Printer, fields, safe, table, time};

const EXPERIMENT: &str = "kubeflow.pipelines.backend.api.v2beta1.Experiment";
const LIST: &str = "kubeflow.pipelines.backend.api.v2beta1.ListExperimentsResponse";

pub(crate) async fn execute(command: Experiment, client: &Client, printer: &Printer) -> Result<()> {
    let mut service = client.experiments();
    match command {
        Experiment::Create { name, description } => {
            let experiment = kfp::Experiment {
                display_name: name,
                description,
                ..Default::default()
            };
            let request = kfp::CreateExperimentRequest {
                experiment: Some(experiment),
            };
            let created = service.create_experiment(request).await?.into_inner();
            printer.message(EXPERIMENT, &created, show)
        }
        Experiment::List(page) => list(page, client, printer).await,
        Experiment::Get { experiment } => {
            printer.message(EXPERIMENT, &client.experiment(&experiment).await?, show)
        }
        Experiment::Archive { experiment } => {
            let found = client.experiment(&experiment).await?;
            let request = kfp::ArchiveExperimentRequest {
                experiment_id: found.experiment_id,
            };
            service.archive_experiment(request).await?;
            printer.done(&format!("archived {experiment} and its runs"))
        }
        Experiment::Unarchive { experiment } => {
            let found = client.experiment(&experiment).await?;
            let request = kfp::UnarchiveExperimentRequest {
                experiment_id: found.experiment_id,
            };
            service.unarchive_experiment(request).await?;
            printer.done(&format!("restored {experiment}; its runs stay archived"))
        }
        Experiment::Delete { experiment } => {
            let found = client.experiment(&experiment).await?;
            let request = kfp::DeleteExperimentRequest {
                experiment_id: found.experiment_id,
            };
            service.delete_experiment(request).await?;
            printer.done(&format!("deleted {experiment}; its runs stay"))
        }
    }
}

async fn list(page: Page, client: &Client, printer: &Printer) -> Result<()> {
    let request = kfp::ListExperimentsRequest {
        page_size: page.paging.page_size,
        page_token: page.paging.page_token,
        sort_by: page.sort_by,
        filter: page.filter,
        ..Default::default()
    };
    let found = client
        .experiments()
        .list_experiments(request)
        .await?
        .into_inner();
    printer.message(LIST, &found, |found| {
        let rows: Vec<Vec<String>> = found
            .experiments
            .iter()
            .map(|experiment| {
                vec![
                    experiment.experiment_id.clone(),
                    safe(&experiment.display_name),
                    storage(experiment).to_owned(),
                    time(experiment.created_at.as_ref()),
                    time(experiment.last_run_created_at.as_ref()),
                ]
            })
            .collect();
        let headings = ["ID", "NAME", "STATE", "CREATED", "LAST RUN"];
        table(&headings, &rows) + &super::run::more(&found.next_page_token)
    })
}

fn show(experiment: &kfp::Experiment) -> String {
    fields(&[
        ("id", experiment.experiment_id.clone()),
        ("name", safe(&experiment.display_name)),
        ("description", safe(&experiment.description)),
        ("state", storage(experiment).to_owned()),
        ("created", time(experiment.created_at.as_ref())),
        ("last run", time(experiment.last_run_created_at.as_ref())),
    ])
}

fn storage(experiment: &kfp::Experiment) -> &'static str {
    match experiment.storage_state() {
        kfp::experiment::StorageState::Archived => "archived",
        kfp::experiment::StorageState::Available | kfp::experiment::StorageState::Unspecified => {
            "available"
        }
    }
}
