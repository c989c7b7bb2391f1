//! Rows of the cache.

use ids::{ExperimentId, RunId, TaskId};
use serde_json::json;
use sql::Db;

use super::super::cache::{self, Writes};
use super::{both, insert, micros, run, write};
use crate::domain::{CacheEntry, KeyKind, Outputs};
use crate::store::runs;

fn entry(id: i64, run_id: RunId, key: &str) -> CacheEntry {
    CacheEntry {
        id: TaskId(id),
        pipeline_name: "p".to_owned(),
        key: key.to_owned(),
        kind: KeyKind::Content,
        run_id,
        task_path: "train".to_owned(),
        outputs: Outputs {
            parameters: json!({ "n": id }).as_object().unwrap().clone(),
            ..Outputs::default()
        },
        created_at: micros(id),
        expires_at: None,
        hits: 0,
        last_hit_at: None,
    }
}

async fn apply(db: &Db, run: RunId, writes: Writes) -> bool {
    write(db, move |conn| {
        Box::pin(async move { cache::write(conn, run, writes, micros(77)).await })
    })
    .await
}

async fn lead(db: &Db, entry: &CacheEntry) -> bool {
    let leading = vec![entry.clone()];
    let writes = Writes {
        leading,
        ..Writes::default()
    };
    apply(db, entry.run_id, writes).await
}

async fn succeed(db: &Db, entry: &CacheEntry) {
    let succeeded = vec![entry.clone()];
    let writes = Writes {
        succeeded,
        ..Writes::default()
    };
    assert!(apply(db, entry.run_id, writes).await);
}

async fn take(db: &Db, id: i64, task: i64, run: RunId) -> bool {
    let used = vec![(TaskId(id), TaskId(task))];
    let writes = Writes {
        used,
        ..Writes::default()
    };
    apply(db, run, writes).await
}

/// `(id, running, run_ended)` of what there is for a key.
async fn found(db: &Db, key: &str) -> Vec<(i64, bool, bool)> {
    let keys = [key.to_owned()];
    let mut found = cache::look_up(db, "p", &keys).await.unwrap();
    let rows = found.remove(key).unwrap_or_default().into_iter();
    rows.map(|row| (row.entry.id.0, row.running, row.run_ended))
        .collect()
}

async fn get(db: &Db, id: i64) -> Option<CacheEntry> {
    let read = db.read(move |conn| Box::pin(async move { cache::by_id(conn, TaskId(id)).await }));
    read.await.map_err(|error: sql::Error| error).unwrap()
}

/// Removes a run as the engine does, without its content.
async fn remove(db: &Db, id: RunId, keep: bool) {
    write(db, move |conn| {
        Box::pin(async move {
            cache::forget_run(conn, id, keep).await?;
            cache::release_run(conn, id).await?;
            runs::delete(conn, id).await
        })
    })
    .await;
}

async fn run_of(db: &Db, name: &str) -> RunId {
    let record = run(name, 1, ExperimentId::derived("e"));
    let id = record.run.id;
    insert(db, record).await;
    id
}

#[tokio::test]
async fn one_task_leads_and_its_success_is_an_entry() {
    for opened in both().await {
        let db = &opened.db;
        let (one, two) = (run_of(db, "one").await, run_of(db, "two").await);
        let (first, second) = (entry(1, one, "k"), entry(2, two, "k"));
        assert!(lead(db, &first).await);
        assert!(!lead(db, &second).await);
        assert!(lead(db, &entry(3, two, "other")).await);
        assert_eq!(found(db, "k").await, [(1, true, false)]);
        let ids = [TaskId(1), TaskId(2)];
        assert_eq!(cache::running(db, &ids).await.unwrap(), [TaskId(1)]);
        assert_eq!(get(db, 1).await, None, "it has put out nothing yet");
        assert!(!take(db, 1, 9, two).await);

        succeed(db, &first).await;
        assert_eq!(found(db, "k").await, [(1, false, false)]);
        assert_eq!(get(db, 1).await.as_ref(), Some(&first));
        assert!(take(db, 1, 9, two).await);
        let used = get(db, 1).await.unwrap();
        assert_eq!((used.hits, used.last_hit_at), (1, Some(micros(77))));
        // A newer one comes first.
        assert!(lead(db, &second).await);
        assert_eq!(found(db, "k").await, [(2, true, false), (1, false, false)]);

        let released = Writes {
            released: vec![TaskId(2)],
            stale: vec![TaskId(1)],
            ..Writes::default()
        };
        assert!(apply(db, two, released).await);
        assert_eq!(found(db, "k").await, []);
        assert!(!take(db, 1, 9, two).await, "the entry is gone");
    }
}

#[tokio::test]
async fn of_many_at_once_exactly_one_leads() {
    for opened in both().await {
        let db = &opened.db;
        let run = run_of(db, "one").await;
        let attempts = (1..=20).map(|id| {
            let entry = entry(id, run, "k");
            async move { lead(db, &entry).await }
        });
        let led = futures_util::future::join_all(attempts).await;
        assert_eq!(led.iter().filter(|led| **led).count(), 1, "{led:?}");
    }
}

#[tokio::test]
async fn entries_stay_while_a_run_needs_them_or_somebody_keeps_them() {
    for opened in both().await {
        let db = &opened.db;
        let mut runs = Vec::new();
        for (id, name) in (1..).zip(["used", "unused", "kept", "open"]) {
            let run = run_of(db, name).await;
            runs.push(run);
            let entry = entry(id, run, name);
            assert!(lead(db, &entry).await);
            if name != "open" {
                succeed(db, &entry).await;
            }
        }
        let user = run_of(db, "user").await;
        assert!(take(db, 1, 9, user).await);
        for (run, keep) in runs.iter().zip([false, false, true, false]) {
            remove(db, *run, keep).await;
        }
        let left = async || {
            let mut left = Vec::new();
            for key in ["used", "unused", "kept", "open"] {
                left.extend(found(db, key).await.into_iter().map(|(id, ..)| id));
            }
            left
        };
        assert_eq!(left().await, [1, 3]);
        assert_eq!(found(db, "used").await, [(1, false, true)]);
        remove(db, user, false).await;
        assert_eq!(left().await, [3]);
    }
}

#[tokio::test]
async fn entries_are_listed_newest_first_and_purged_when_expired() {
    for opened in both().await {
        let db = &opened.db;
        let run = run_of(db, "one").await;
        for id in 1..=5 {
            let mut entry = entry(id, run, &format!("k{id}"));
            entry.expires_at = (id % 2 == 0).then(|| micros(100 + id));
            assert!(lead(db, &entry).await);
            if id < 5 {
                succeed(db, &entry).await;
            }
        }
        let page = async |pipeline: &'static str, before: i64, limit: u32| -> Vec<i64> {
            let read = db.read(move |conn| {
                Box::pin(async move {
                    cache::page(conn, pipeline, Some(run), TaskId(before), limit).await
                })
            });
            let found: Result<(Vec<CacheEntry>, bool), sql::Error> = read.await;
            found.unwrap().0.iter().map(|entry| entry.id.0).collect()
        };
        assert_eq!(page("", i64::MAX, 3).await, [4, 3, 2]);
        assert_eq!(page("p", 2, 3).await, [1]);
        assert_eq!(page("q", i64::MAX, 3).await, [0; 0]);
        let purged = write(db, |conn| {
            Box::pin(async move { cache::purge(conn, micros(103)).await })
        });
        assert_eq!(purged.await, 1);
        assert_eq!(page("", i64::MAX, 9).await, [4, 3, 1]);
    }
}

#[tokio::test]
async fn only_the_newest_entries_of_a_key_are_looked_at() {
    for opened in both().await {
        let db = &opened.db;
        let run = run_of(db, "one").await;
        for id in 1..=25 {
            let mut entry = entry(id, run, "k");
            entry.created_at = micros(id);
            assert!(lead(db, &entry).await);
            // The newest still runs.
            if id < 25 {
                succeed(db, &entry).await;
            }
        }
        let found = cache::look_up(db, "p", &["k".to_owned(), "other".to_owned()]).await;
        let found = &found.unwrap()["k"];
        let ids: Vec<i64> = found.iter().map(|one| one.entry.id.0).collect();
        let expected: Vec<i64> = (5..=25).rev().collect();
        assert_eq!(ids, expected);
        assert!(found[0].running && found[1..].iter().all(|one| !one.running));
    }
}
