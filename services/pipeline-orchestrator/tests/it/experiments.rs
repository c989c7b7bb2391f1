//! Experiments.

use api_kfp::v2beta1 as kfp;
use kfp::experiment::StorageState;
use serde_json::json;
use tonic::Code;

use crate::support::{START, Server, importer, inline, seconds, server, servers};

async fn get(server: &Server, id: &str) -> Result<kfp::Experiment, Code> {
    let request = kfp::GetExperimentRequest {
        experiment_id: id.to_owned(),
    };
    let found = server.experiments().get_experiment(request).await;
    found
        .map(tonic::Response::into_inner)
        .map_err(|status| status.code())
}

async fn list(server: &Server, sort_by: &str, filter: &str) -> kfp::ListExperimentsResponse {
    let request = kfp::ListExperimentsRequest {
        sort_by: sort_by.to_owned(),
        filter: filter.to_owned(),
        namespace: "kubeflow".to_owned(),
        ..Default::default()
    };
    server
        .experiments()
        .list_experiments(request)
        .await
        .unwrap()
        .into_inner()
}

#[tokio::test]
async fn the_default_experiment_is_there_as_clients_look_for_it() {
    for server in servers().await {
        // Exactly what the SDK sends.
        let filter = r#"{"predicates": [{"operation": 1, "key": "display_name", "stringValue": "Default"}]}"#;
        let found = list(&server, "", filter).await;
        assert_eq!((found.experiments.len(), found.total_size), (1, 1));
        assert_eq!(found.experiments[0].namespace, "");
        assert_eq!(seconds(found.experiments[0].last_run_created_at), Some(0));
    }
}

#[tokio::test]
async fn a_restart_keeps_one_default_experiment() {
    let first = server().await;
    let before = list(&first, "", "").await;
    let Server { dir, .. } = first;
    let again = crate::support::open(dir, None).await;
    assert_eq!(list(&again, "", "").await, before);
}

#[tokio::test]
async fn experiments_are_created_listed_and_deleted() {
    for server in servers().await {
        let id = server.experiment("first").await;
        let found = get(&server, &id).await.unwrap();
        assert_eq!(found.display_name, "first");
        assert_eq!(seconds(found.created_at), Some(START));
        assert_eq!(found.storage_state(), StorageState::Available);
        let names: Vec<String> = list(&server, "name desc", "")
            .await
            .experiments
            .into_iter()
            .map(|one| one.display_name)
            .collect();
        assert_eq!(names, ["first", "Default"]);
        let run = inline("r", &importer(), &json!({}));
        let run = server
            .run(kfp::Run {
                experiment_id: id.clone(),
                ..run
            })
            .await
            .unwrap();
        let touched = get(&server, &id).await.unwrap();
        assert_eq!(seconds(touched.last_run_created_at), Some(START));
        let delete = kfp::DeleteExperimentRequest {
            experiment_id: id.clone(),
        };
        server
            .experiments()
            .delete_experiment(delete.clone())
            .await
            .unwrap();
        assert_eq!(get(&server, &id).await, Err(Code::NotFound));
        let again = server
            .experiments()
            .delete_experiment(delete)
            .await
            .unwrap_err();
        assert_eq!(again.code(), Code::NotFound);
        assert_eq!(
            server.get(&run.run_id).await.unwrap().experiment_id,
            id,
            "its runs stay"
        );
    }
}

#[tokio::test]
async fn an_archived_experiment_takes_its_runs_along_and_takes_no_new_ones() {
    for server in servers().await {
        let id = server.experiment("e").await;
        let new = kfp::Run {
            experiment_id: id.clone(),
            ..inline("r", &importer(), &json!({}))
        };
        let run = server.run(new.clone()).await.unwrap();
        let archive = kfp::ArchiveExperimentRequest {
            experiment_id: id.clone(),
        };
        server
            .experiments()
            .archive_experiment(archive)
            .await
            .unwrap();
        assert_eq!(
            get(&server, &id).await.unwrap().storage_state(),
            StorageState::Archived
        );
        let archived = server.get(&run.run_id).await.unwrap();
        assert_eq!(archived.storage_state(), kfp::run::StorageState::Archived);
        let refused = server.run(new).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
        let unarchive = kfp::UnarchiveRunRequest {
            run_id: run.run_id.clone(),
            ..Default::default()
        };
        let refused = server
            .runs()
            .unarchive_run(unarchive.clone())
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert!(
            refused.message().contains("is archived"),
            "{}",
            refused.message()
        );
        let back = kfp::UnarchiveExperimentRequest {
            experiment_id: id.clone(),
        };
        server
            .experiments()
            .unarchive_experiment(back)
            .await
            .unwrap();
        let still = server.get(&run.run_id).await.unwrap();
        assert_eq!(still.storage_state(), kfp::run::StorageState::Archived);
        server.runs().unarchive_run(unarchive).await.unwrap();
        let available = server.get(&run.run_id).await.unwrap();
        assert_eq!(available.storage_state(), kfp::run::StorageState::Available);
    }
}

#[tokio::test]
async fn the_default_experiment_stays() {
    let server = server().await;
    let id = list(&server, "", "").await.experiments[0]
        .experiment_id
        .clone();
    let delete = kfp::DeleteExperimentRequest { experiment_id: id };
    let refused = server
        .experiments()
        .delete_experiment(delete)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn names_are_unique() {
    for server in servers().await {
        server.experiment("e").await;
        let request = kfp::CreateExperimentRequest {
            experiment: Some(kfp::Experiment {
                display_name: "e".to_owned(),
                ..Default::default()
            }),
        };
        let taken = server
            .experiments()
            .create_experiment(request)
            .await
            .unwrap_err();
        assert_eq!(taken.code(), Code::AlreadyExists);
        assert!(
            taken.message().contains("\"e\" exists already"),
            "{}",
            taken.message()
        );
    }
}
