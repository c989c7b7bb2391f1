//! The store on both databases.

mod cache;
mod facts;
mod lists;
mod schedules;
mod schema;
mod sizes;

use std::collections::BTreeMap;

use clock::Timestamp;
use ids::{ExperimentId, PipelineId, PipelineVersionId, RunId};
use sql::{BoxFuture, Conn, Db, Error, Options, args};
use testkit::TempDir;

use super::idempotency::{self, CallKey, Known};
use super::{experiments, pipelines, runs, sequences, specs};
use crate::domain::{
    Asked, Entered, Experiment, Pipeline, Query, RUN_FIELDS, Run, RunBody, RunRecord, RunStatus,
    RunsOf, Source, Spec, StorageState, Version,
};

/// A database with the file that it may be in.
pub(crate) struct Opened {
    pub(crate) db: Db,
    _dir: TempDir,
}

async fn open(url: Option<String>) -> Opened {
    let dir = testkit::temp_dir();
    let options = match url {
        Some(url) => Options::url(url),
        None => Options::file(&dir.path().join("pipelines.sqlite")),
    };
    let db = Db::open(&options, &super::migrations()).await.unwrap();
    Opened { db, _dir: dir }
}

/// An empty SQLite file and an empty PostgreSQL database.
pub(crate) async fn both() -> [Opened; 2] {
    let url = testkit::postgres().create_database();
    [open(None).await, open(Some(url)).await]
}

async fn write<T, F>(db: &Db, run: F) -> T
where
    T: Send + 'static,
    F: for<'c> FnOnce(&'c mut Conn) -> BoxFuture<'c, Result<T, Error>> + Send + 'static,
{
    db.write(run).await.unwrap()
}

pub(crate) fn micros(value: i64) -> Timestamp {
    Timestamp::from_micros(value)
}

fn spec(body: &str) -> Spec {
    Spec {
        hash: format!("hash of {body}"),
        body: body.to_owned(),
    }
}

pub(crate) fn run(name: &str, created_at: i64, experiment: ExperimentId) -> RunRecord {
    let status = RunStatus::Pending;
    let at = micros(created_at);
    RunRecord {
        run: Run {
            id: RunId::derived(&format!("{name}{created_at}")),
            display_name: name.to_owned(),
            experiment_id: experiment,
            pipeline_name: "p".to_owned(),
            pipeline_root: "/data".to_owned(),
            status,
            created_at: at,
            scheduled_at: Some(at),
            finished_at: None,
            version: 1,
            body: RunBody {
                history: vec![Entered { status, at }],
                ..RunBody::default()
            },
        },
        description: format!("about {name}"),
        storage_state: StorageState::Available,
        source: Source::Inline,
        spec_hash: spec("{}").hash,
        requested_root: String::new(),
        service_account: String::new(),
        recurring_run_id: String::new(),
        cancel: None,
        deleting: false,
        keep_artifacts: false,
    }
}

pub(crate) async fn insert(db: &Db, record: RunRecord) {
    write(db, move |conn| {
        Box::pin(async move { runs::insert(conn, &record, &spec("{}")).await })
    })
    .await;
}

async fn page(db: &Db, asked: Asked<'_>) -> (Vec<RunRecord>, i64, String) {
    let query = Query::parse(&RUN_FIELDS, &asked).unwrap();
    let page = db.read(|conn| Box::pin(async move { runs::list(conn, RunsOf::All, &query).await }));
    let page = page.await.unwrap();
    let records = page.items.into_iter().map(|(record, _)| record).collect();
    (records, page.total, page.next)
}

fn pipeline(name: &str, tags: BTreeMap<String, String>) -> Pipeline {
    Pipeline {
        id: PipelineId::generate(),
        name: name.to_owned(),
        display_name: name.to_owned(),
        description: String::new(),
        created_at: micros(1),
        tags,
    }
}

fn version(pipeline: PipelineId, name: &str, created_at: i64, body: &str) -> Version {
    Version {
        id: PipelineVersionId::generate(),
        pipeline_id: pipeline,
        name: name.to_owned(),
        display_name: name.to_owned(),
        description: String::new(),
        created_at: micros(created_at),
        spec: spec(body),
        code_source_url: String::new(),
        tags: BTreeMap::new(),
    }
}

#[tokio::test]
async fn specifications_stay_while_something_needs_them() {
    for opened in both().await {
        let db = &opened.db;
        let pipeline = pipeline("p", BTreeMap::new());
        let (one, two) = (
            version(pipeline.id, "1", 1, "{}"),
            version(pipeline.id, "2", 2, "{\"b\":1}"),
        );
        let record = run("r", 5, ExperimentId::derived("e"));
        let run_id = record.run.id;
        let (id, newest) = (pipeline.id, two.id);
        write(db, move |conn| {
            Box::pin(async move {
                pipelines::insert(conn, &pipeline).await?;
                pipelines::insert_version(conn, &one).await?;
                pipelines::insert_version(conn, &two).await?;
                runs::insert(conn, &record, &spec("{}")).await
            })
        })
        .await;
        let latest = write(db, move |conn| {
            Box::pin(async move { pipelines::latest_version(conn, id).await })
        })
        .await;
        assert_eq!(latest.unwrap().id, newest);
        let kept = |db: Db| async move {
            let kept: Vec<String> = db
                .fetch_all("SELECT body AS value FROM specs ORDER BY body", args![])
                .await
                .unwrap();
            kept.concat()
        };
        assert_eq!(kept(db.clone()).await, "{\"b\":1}{}");
        write(db, move |conn| {
            Box::pin(async move { pipelines::delete_versions(conn, id).await })
        })
        .await;
        assert_eq!(kept(db.clone()).await, "{}");
        let body = write(db, |conn| {
            Box::pin(async move { specs::get(conn, "hash of {}").await })
        })
        .await;
        assert_eq!(body.as_deref(), Some("{}"));
        write(db, move |conn| {
            Box::pin(async move { runs::delete(conn, run_id).await })
        })
        .await;
        assert_eq!(kept(db.clone()).await, "");
    }
}

#[tokio::test]
async fn a_request_to_stop_is_never_hidden_by_the_engine() {
    for opened in both().await {
        let db = &opened.db;
        let mut record = run("r", 5, ExperimentId::derived("e"));
        let id = record.run.id;
        insert(db, record.clone()).await;
        let get = || {
            let db = db.clone();
            async move {
                write(&db, move |conn| {
                    Box::pin(async move { runs::get(conn, id).await })
                })
                .await
                .unwrap()
            }
        };
        assert_eq!(get().await, record);
        let ask = |reason: &'static str, at: i64| {
            let db = db.clone();
            async move {
                write(&db, move |conn| {
                    Box::pin(
                        async move { runs::request_cancel(conn, id, micros(at), reason).await },
                    )
                })
                .await
            }
        };
        for (reason, at, exit_tasks) in [("first", 9, false), ("second", 10, true)] {
            assert!(ask(reason, at).await);
            let cancel = get().await.cancel.unwrap();
            assert_eq!((cancel.reason.as_str(), cancel.at), ("first", micros(9)));
            assert_eq!(cancel.exit_tasks, exit_tasks);
        }
        let state = |db: Db| async move {
            db.fetch_one::<String>("SELECT state AS value FROM runs", args![])
                .await
                .unwrap()
        };
        for (status, shown) in [
            (RunStatus::Running, "CANCELING"),
            (RunStatus::Canceling, "CANCELING"),
            (RunStatus::Canceled, "FAILED"),
        ] {
            record.run.status = status;
            let run = record.run.clone();
            assert!(
                write(db, move |conn| Box::pin(async move {
                    runs::update(conn, &run).await
                }))
                .await
            );
            assert_eq!(state(db.clone()).await, shown);
            assert_eq!(get().await.shown_state(), shown);
        }
        assert!(!ask("too late", 11).await);
        let open = |db: Db| async move {
            write(&db, move |conn| {
                Box::pin(async move { runs::open(conn).await })
            })
            .await
        };
        assert_eq!(open(db.clone()).await, []);
        let deleted = |db: Db| async move {
            write(&db, move |conn| {
                Box::pin(async move { runs::request_delete(conn, id, true).await })
            })
            .await
        };
        assert!(deleted(db.clone()).await);
        assert!(!deleted(db.clone()).await);
        assert_eq!(open(db.clone()).await, [id]);
        let visible = write(db, move |conn| {
            Box::pin(async move { runs::visible(conn, id).await })
        })
        .await;
        assert_eq!(visible, None);
        assert_eq!(page(db, Asked::default()).await.1, 0);
    }
}

#[tokio::test]
async fn answers_are_kept_for_repetitions_and_purged() {
    for opened in both().await {
        let db = &opened.db;
        let key = |body: &str| CallKey {
            caller: "user:a".to_owned(),
            method: "CreateRun",
            request_id: "k".to_owned(),
            body_hash: body.to_owned(),
        };
        let find = |key: CallKey| {
            let db = db.clone();
            async move {
                write(&db, move |conn| {
                    Box::pin(async move { idempotency::find(conn, &key).await })
                })
                .await
            }
        };
        assert_eq!(find(key("h")).await, Known::New);
        let kept = key("h");
        write(db, move |conn| {
            Box::pin(async move { idempotency::keep(conn, &kept, vec![0, 1], micros(100)).await })
        })
        .await;
        assert_eq!(find(key("h")).await, Known::Done(vec![0, 1]));
        assert_eq!(find(key("other")).await, Known::Other);
        let purge = |before: i64| {
            let db = db.clone();
            async move {
                write(&db, move |conn| {
                    Box::pin(async move { idempotency::purge(conn, micros(before)).await })
                })
                .await
            }
        };
        assert_eq!(purge(100).await, 0);
        assert_eq!(purge(101).await, 1);
    }
}

#[tokio::test]
async fn blocks_of_numbers_do_not_overlap() {
    for opened in both().await {
        let take = |count: i64| {
            let db = opened.db.clone();
            async move {
                write(&db, move |conn| {
                    Box::pin(async move { sequences::take(conn, count).await })
                })
                .await
            }
        };
        assert_eq!(
            (take(1000).await, take(5).await, take(1).await),
            (1, 1001, 1006)
        );
    }
}

#[tokio::test]
async fn archiving_an_experiment_archives_its_runs() {
    for opened in both().await {
        let db = &opened.db;
        let experiment = Experiment {
            id: ExperimentId::generate(),
            name: "e".to_owned(),
            description: String::new(),
            created_at: micros(1),
            last_run_created_at: Timestamp::EPOCH,
            storage_state: StorageState::Available,
        };
        let id = experiment.id;
        write(db, move |conn| {
            Box::pin(async move { experiments::insert(conn, &experiment).await })
        })
        .await;
        insert(db, run("in", 1, id)).await;
        insert(db, run("out", 1, ExperimentId::derived("other"))).await;
        write(db, move |conn| {
            Box::pin(async move {
                assert!(experiments::touch(conn, id, micros(7)).await?);
                assert!(experiments::set_storage(conn, id, StorageState::Archived).await?);
                assert!(!experiments::touch(conn, id, micros(8)).await?);
                runs::archive_of(conn, id).await
            })
        })
        .await;
        let states: Vec<String> = db
            .fetch_all(
                "SELECT display_name || storage_state AS value FROM runs ORDER BY 1",
                args![],
            )
            .await
            .unwrap();
        assert_eq!(states, ["inARCHIVED", "outAVAILABLE"]);
    }
}
