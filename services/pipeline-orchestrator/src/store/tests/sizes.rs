//! Pages of rows that are large end early, on both databases, and lose none.

use ids::{ArtifactId, TaskId};
use pipeline_spec::plan::ArtifactType;
use serde_json::json;

use super::super::{artifacts, facts, tasks};
use super::*;
use crate::domain::{Artifact, TaskKind, TaskRecord, TaskStatus};

/// Two of these are a page, three are not.
const LARGE: usize = 5 << 18;
const COUNT: i64 = 7;

fn task(run: RunId, id: i64) -> TaskRecord {
    TaskRecord {
        id: TaskId(id),
        run_id: run,
        parent_id: None,
        name: format!("t{id}"),
        path: format!("t{id}"),
        kind: TaskKind::Container,
        status: TaskStatus::Running,
        iteration: -1,
        created_at: micros(5),
        started_at: None,
        ended_at: None,
        version: 10 - id,
        // What text takes is counted in bytes: on SQLite its length is that in characters.
        body: json!({ "x": "ä".repeat(LARGE / 2) }).to_string(),
    }
}

fn artifact(run: RunId, id: i64) -> Artifact {
    Artifact {
        id: ArtifactId(id),
        run_id: run,
        task_id: TaskId(1),
        name: "a".to_owned(),
        artifact_type: ArtifactType {
            schema_title: "system.Dataset".to_owned(),
            schema_version: "0.0.1".to_owned(),
            instance_schema: String::new(),
        },
        uri: "/data/a".to_owned(),
        metadata: json!({ "x": "y".repeat(LARGE) })
            .as_object()
            .unwrap()
            .clone(),
        size_bytes: 0,
        sha256: String::new(),
        present: false,
        directory: false,
        created_at: micros(5),
    }
}

fn large(number: i64) -> RunRecord {
    let mut record = run(&format!("r{number}"), number, ExperimentId::derived("e"));
    let text = json!("x".repeat(LARGE));
    record.run.body.parameters.insert("text".to_owned(), text);
    record
}

#[tokio::test]
async fn tasks_and_artifacts_come_as_they_fit() {
    for opened in both().await {
        let db = &opened.db;
        let record = run("one", 5, ExperimentId::derived("e"));
        let id = record.run.id;
        insert(db, record).await;
        write(db, move |conn| {
            Box::pin(async move {
                tasks::insert(conn, (1..=COUNT).map(|number| task(id, number)).collect()).await?;
                let all: Vec<Artifact> = (1..=COUNT).map(|number| artifact(id, number)).collect();
                artifacts::insert(conn, &all).await
            })
        })
        .await;
        let (mut seen, mut changed, mut used) = (Vec::new(), Vec::new(), Vec::new());
        let read = db.read(|conn| {
            Box::pin(async move {
                let mut after = TaskId(0);
                loop {
                    let (page, more) = tasks::page(conn, id, after, 100).await?;
                    after = page.last().unwrap().id;
                    seen.push(page.iter().map(|task| task.id.0).collect::<Vec<_>>());
                    if !more {
                        break;
                    }
                }
                let mut after = (-1, TaskId(0));
                loop {
                    let (page, more) = tasks::changed(conn, id, after, 3).await?;
                    let last = page.last().unwrap();
                    after = (last.version, last.id);
                    changed.extend(page.iter().map(|task| task.id.0));
                    assert!(page.len() <= 2);
                    if !more {
                        break;
                    }
                }
                let mut before = ArtifactId(i64::MAX);
                loop {
                    let (page, more) = artifacts::page(conn, Some(id), "", before, 100).await?;
                    before = page.last().unwrap().id;
                    used.extend(page.iter().map(|artifact| artifact.id.0));
                    assert!(page.len() <= 2);
                    if !more {
                        break;
                    }
                }
                let newest = artifacts::by_uri(conn, "/data/a").await?;
                Ok::<_, Error>((seen, changed, used, newest.len()))
            })
        });
        let (seen, changed, used, newest) = read.await.unwrap();
        assert_eq!(seen, [vec![1, 2], vec![3, 4], vec![5, 6], vec![7]]);
        assert_eq!(changed, [7, 6, 5, 4, 3, 2, 1]);
        assert_eq!(used, [7, 6, 5, 4, 3, 2, 1]);
        assert_eq!(newest, 2);
    }
}

/// Large parameters make no page shorter: their beginnings are all that a list shows.
#[tokio::test]
async fn runs_that_are_found_are_read_as_they_fit() {
    for opened in both().await {
        let db = &opened.db;
        for number in 1..=COUNT {
            insert(db, large(number)).await;
        }
        let ids: Vec<RunId> = (1..=COUNT).map(|number| large(number).run.id).collect();
        let read = db.read(|conn| {
            Box::pin(async move {
                let (page, more) = facts::list(conn, &[], None, 50).await?;
                let (among, left) = facts::among(conn, &[], &ids).await?;
                Ok::<_, Error>((page, more, among.len(), left))
            })
        });
        let (page, more, among, left) = read.await.unwrap();
        let names: Vec<&str> = page
            .iter()
            .map(|record| record.run.display_name.as_str())
            .collect();
        assert_eq!(names, ["r7", "r6", "r5", "r4", "r3", "r2", "r1"]);
        assert!(!more);
        assert_eq!((among as i64, left), (COUNT, vec![]));
        for record in page {
            let shown = record.run.body.parameters["text"].as_str().unwrap();
            assert_eq!(shown.len(), 512);
        }
    }
}

/// What runs are found by is shown whole, so it counts.
#[tokio::test]
async fn many_facts_make_a_page_shorter() {
    for opened in both().await {
        let db = &opened.db;
        write(db, |conn| {
            Box::pin(async move {
                for number in 0..3 {
                    let record = run(&format!("r{number}"), number, ExperimentId::derived("e"));
                    runs::insert(conn, &record, &spec("{}")).await?;
                    for fact in 0..2_500 {
                        let name = format!("{fact:x>255}");
                        let value = json!("y".repeat(255));
                        facts::put(conn, record.run.id, facts::Kind::Metric, &name, &value).await?;
                    }
                }
                Ok(())
            })
        })
        .await;
        let read = db.read(|conn| {
            Box::pin(async move {
                let (page, more) = facts::list(conn, &[], None, 50).await?;
                let last = &page.last().unwrap().run;
                let before = Some((last.created_at.as_micros(), last.id.to_string()));
                let (rest, end) = facts::list(conn, &[], before.as_ref(), 50).await?;
                let ids: Vec<RunId> = page.iter().chain(&rest).map(|one| one.run.id).collect();
                let (among, left) = facts::among(conn, &[], &ids).await?;
                Ok::<_, Error>(([page.len(), rest.len(), among.len(), left.len()], more, end))
            })
        });
        assert_eq!(read.await.unwrap(), ([2, 1, 2, 1], true, false));
    }
}

#[tokio::test]
async fn pages_with_tokens_end_early_and_lose_nothing() {
    for opened in both().await {
        let db = &opened.db;
        for number in 1..=COUNT {
            insert(db, large(number)).await;
        }
        for (sort_by, sizes) in [("created_at", [2, 2, 2, 1]), ("name desc", [2, 2, 2, 1])] {
            let (mut names, mut pages, mut token) = (Vec::new(), Vec::new(), String::new());
            loop {
                let asked = Asked {
                    size: 200,
                    token: &token,
                    sort_by,
                    ..Asked::default()
                };
                let (records, total, next) = page(db, asked).await;
                assert_eq!(total, COUNT);
                pages.push(records.len());
                names.extend(records.into_iter().map(|record| record.run.display_name));
                token = next;
                if token.is_empty() {
                    break;
                }
            }
            if sort_by != "created_at" {
                names.reverse();
            }
            assert_eq!(names, ["r1", "r2", "r3", "r4", "r5", "r6", "r7"]);
            assert_eq!(pages, sizes, "{sort_by}");
        }
    }
}
