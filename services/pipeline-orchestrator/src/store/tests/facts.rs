//! Lists of runs by what they are found by, on both databases.

use pipeline_spec::plan::ArtifactType;
use serde_json::json;

use super::super::{artifacts, facts, tasks};
use super::*;
use crate::domain::{Artifact, TaskKind, TaskRecord, TaskStatus, parse_run_filter};

const RUNS: i64 = 10_000;
const PAGE: u32 = 50;

async fn found(db: &Db, filter: &str) -> Vec<RunRecord> {
    let conditions = parse_run_filter(filter).unwrap();
    let read = db.read(move |conn| {
        Box::pin(async move { facts::list(conn, &conditions, None, PAGE).await })
    });
    let runs: Result<(Vec<RunRecord>, bool), Error> = read.await;
    runs.unwrap().0
}

/// Ten thousand runs of ten teams; every hundredth has a metric above 0.9.
async fn fill(db: &Db) {
    write(db, |conn| {
        Box::pin(async move {
            for number in 0..RUNS {
                let record = run(
                    &format!("r{number}"),
                    number + 1,
                    ExperimentId::derived("e"),
                );
                let id = record.run.id;
                runs::insert(conn, &record, &spec("{}")).await?;
                let accuracy = if number % 100 == 0 { 0.95 } else { 0.5 };
                for (kind, name, value) in [
                    (
                        facts::Kind::Tag,
                        "team",
                        json!(format!("team-{}", number % 10)),
                    ),
                    (facts::Kind::Parameter, "rows", json!(number)),
                    (facts::Kind::Metric, "accuracy", json!(accuracy)),
                ] {
                    facts::put(conn, id, kind, name, &value).await?;
                }
            }
            Ok(())
        })
    })
    .await;
}

#[tokio::test]
async fn a_page_of_ten_thousand_runs_is_found() {
    for opened in both().await {
        let db = &opened.db;
        fill(db).await;
        for (filter, count) in [
            ("", 50),
            ("tag.team = team-3", 50),
            ("metric.accuracy > 0.9", 50),
            ("metric.accuracy > 0.9 AND tag.team = team-0", 50),
            ("metric.accuracy > 0.9 AND tag.team = team-1", 0),
            ("param.rows = 77", 1),
            ("param.rows < 10 AND state = PENDING", 10),
            ("state = FAILED", 0),
            ("pipeline = p", 50),
        ] {
            assert_eq!(found(db, filter).await.len(), count, "{filter}");
        }
    }
}

#[tokio::test]
async fn what_tasks_received_and_logged_is_found() {
    for opened in both().await {
        let db = &opened.db;
        let record = run("one", 5, ExperimentId::derived("e"));
        let id = record.run.id;
        insert(db, record).await;
        insert(db, run("two", 6, ExperimentId::derived("e"))).await;
        let body = crate::domain::TaskBody {
            inputs: crate::domain::Inputs {
                parameters: json!({"lr": 0.1, "name": "x", "flag": true})
                    .as_object()
                    .unwrap()
                    .clone(),
                ..Default::default()
            },
            ..Default::default()
        };
        let root = TaskRecord {
            id: ids::TaskId(1),
            run_id: id,
            parent_id: None,
            name: "root".to_owned(),
            path: String::new(),
            kind: TaskKind::Root,
            status: TaskStatus::Running,
            iteration: -1,
            created_at: micros(5),
            started_at: None,
            ended_at: None,
            version: 1,
            body: serde_json::to_string(&body).unwrap(),
        };
        let metrics = Artifact {
            id: ids::ArtifactId(1),
            run_id: id,
            task_id: ids::TaskId(1),
            name: "metrics".to_owned(),
            artifact_type: ArtifactType {
                schema_title: "system.Metrics".to_owned(),
                schema_version: "0.0.1".to_owned(),
                instance_schema: String::new(),
            },
            uri: "/data/m".to_owned(),
            metadata: json!({"accuracy": 0.5, "note": "x"})
                .as_object()
                .unwrap()
                .clone(),
            size_bytes: 0,
            sha256: String::new(),
            present: false,
            directory: false,
            created_at: micros(5),
        };
        let other = RunId::derived("two6");
        write(db, move |conn| {
            Box::pin(async move {
                tasks::insert(conn, vec![root]).await?;
                artifacts::insert(conn, &[metrics]).await?;
                // The other run took the artifact over.
                artifacts::insert_uses(conn, vec![(other, ids::ArtifactId(1))]).await
            })
        })
        .await;
        for (filter, count) in [
            ("param.lr = 0.1 AND param.name = x AND param.flag = true", 1),
            ("param.lr > 0.1", 0),
            ("metric.accuracy = 0.5", 2),
            ("metric.note = 1", 0),
        ] {
            assert_eq!(found(db, filter).await.len(), count, "{filter}");
        }
    }
}
