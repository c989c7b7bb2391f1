//! The store on a real file and on a real server.

use std::sync::Arc;

use api_runner::v1::WorkloadSpec;
use api_step::v1::{Outcome, StepResult};
use clock::Timestamp;
use flumina_runner::domain::state::State;
use flumina_runner::store::{Inserted, Record, Store, migrations, statements};
use ids::WorkloadId;
use prost::Message as _;
use sql::{Db, Options};
use tempfile::TempDir;

struct Place {
    options: Options,
    _dir: Option<TempDir>,
}

fn places() -> Vec<Place> {
    let dir = TempDir::new().unwrap();
    let file = Options::file(&dir.path().join("runner.sqlite"));
    let url = testkit::postgres().create_database();
    vec![
        Place {
            options: file,
            _dir: Some(dir),
        },
        Place {
            options: Options::url(url),
            _dir: None,
        },
    ]
}

async fn open(place: &Place) -> Store {
    Store::open(&place.options, "n1", "test").await.unwrap()
}

fn record(id: &str, owner: &str, at: i64) -> Record {
    Record {
        id: id.parse().unwrap(),
        node_id: "n1".to_owned(),
        namespace: "default".to_owned(),
        owner: owner.to_owned(),
        state: State::Queued,
        reason: "R".to_owned(),
        message: "m".to_owned(),
        notes: vec!["one".to_owned(), "two".to_owned()],
        accelerators: Vec::new(),
        spec: Arc::new(WorkloadSpec::default()),
        result: None,
        boot_id: "b".to_owned(),
        deleting: false,
        created_at: Timestamp::from_micros(at),
        admitted_at: None,
        started_at: None,
        ended_at: None,
        log_bytes: 0,
        version: 1,
    }
}

fn id(text: &str) -> WorkloadId {
    text.parse().unwrap()
}

fn request() -> Vec<u8> {
    WorkloadSpec {
        owner: "whole".to_owned(),
        ..Default::default()
    }
    .encode_to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_statement_is_accepted() {
    for place in places() {
        let db = Db::open(&place.options, &migrations()).await.unwrap();
        for statement in statements() {
            let prepared: Result<(), sql::Error> = db
                .write(move |conn| Box::pin(async move { conn.prepare(*statement).await }))
                .await;
            prepared.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_databases_have_the_same_columns() {
    let columns = [
        "SELECT m.name || '.' || p.name AS value FROM sqlite_master m JOIN pragma_table_info(m.name) p \
         WHERE m.type = 'table' AND m.name NOT LIKE '\\_%' ESCAPE '\\' AND m.name NOT LIKE 'sqlite%'",
        "SELECT table_name || '.' || column_name AS value FROM information_schema.columns \
         WHERE table_schema = 'public' AND table_name NOT LIKE '\\_%'",
    ];
    let mut found: Vec<Vec<String>> = Vec::new();
    for (place, query) in places().iter().zip(columns) {
        let db = Db::open(&place.options, &migrations()).await.unwrap();
        let mut names: Vec<String> = db.fetch_all(query, vec![]).await.unwrap();
        names.sort();
        found.push(names);
    }
    assert!(found[0].len() > 20);
    assert_eq!(found[0], found[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_is_taken_once_and_a_mark_keeps_it_from_starting() {
    for place in places() {
        let store = open(&place).await;
        let first = store.insert(&record("a", "o", 1), request()).await.unwrap();
        assert!(matches!(first, Inserted::New));
        let again = store.insert(&record("a", "p", 2), request()).await.unwrap();
        assert!(matches!(again, Inserted::Known(known) if known.owner == "o"));
        let now = Timestamp::from_micros(5);
        assert!(!store.bury_unknown(&id("a"), "x", false, now).await.unwrap());
        assert!(
            store
                .bury_unknown(&id("b"), "why", false, now)
                .await
                .unwrap()
        );
        let buried = store.insert(&record("b", "o", 1), request()).await.unwrap();
        assert!(matches!(buried, Inserted::Buried(mark) if mark.reason == "why" && !mark.deleted));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_change_is_never_undone_by_an_earlier_one() {
    for place in places() {
        let store = open(&place).await;
        let mut row = record("a", "o", 1);
        store.insert(&row, request()).await.unwrap();
        let unfinished = store.unfinished().await.unwrap();
        assert_eq!(unfinished[0].request.as_ref().unwrap().owner, "whole");

        row.version = 7;
        row.state = State::Succeeded;
        row.ended_at = Some(Timestamp::from_micros(9));
        row.log_bytes = 3;
        let mut result = StepResult::default();
        result.set_outcome(Outcome::Succeeded);
        row.result = Some(Arc::new(result));
        let late = Record {
            version: 6,
            ended_at: None,
            state: State::Running,
            ..row.clone()
        };
        store.save(&[row.clone()]).await.unwrap();
        store.save(&[late]).await.unwrap();
        let read = store.get(&id("a")).await.unwrap().unwrap();
        assert_eq!(
            (read.state, read.version, read.log_bytes),
            (State::Succeeded, 7, 3)
        );
        assert_eq!(read.notes, ["one", "two"]);
        assert_eq!(read.result.unwrap().outcome(), Outcome::Succeeded);
        assert!(store.unfinished().await.unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_go_by_age_and_owners_by_segments() {
    for place in places() {
        let store = open(&place).await;
        for (name, owner, at) in [
            ("c", "x/1", 1),
            ("b", "x/1", 2),
            ("a", "x/1", 2),
            ("d", "x/10", 0),
        ] {
            store
                .insert(&record(name, owner, at), request())
                .await
                .unwrap();
        }
        let names = |rows: Vec<Record>| {
            rows.into_iter()
                .map(|row| row.id.to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            names(store.page("x/1", None, false, 9).await.unwrap()),
            ["c", "a", "b"]
        );
        assert_eq!(
            names(store.page("x", None, true, 9).await.unwrap()),
            ["d", "c", "a", "b"]
        );
        let after = Some((Timestamp::from_micros(2), "a".to_owned()));
        assert_eq!(names(store.page("", after, false, 9).await.unwrap()), ["b"]);
        assert_eq!(names(store.page("", None, false, 1).await.unwrap()), ["d"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forgetting_an_owner_frees_its_ids_and_no_others() {
    for place in places() {
        let store = open(&place).await;
        let now = Timestamp::from_micros(5);
        let mut row = record("r1.1.0", "runs/r1", 1);
        store.insert(&row, request()).await.unwrap();
        row.version = 2;
        row.deleting = true;
        store.bury(&[row.clone()], now).await.unwrap();
        store.remove(&[row.id]).await.unwrap();
        for unknown in ["r1.2.0", "r10.1.0", "other"] {
            store
                .bury_unknown(&id(unknown), "", false, now)
                .await
                .unwrap();
        }
        store.forget("runs/r1").await.unwrap();
        for (name, marked) in [
            ("r1.1.0", false),
            ("r1.2.0", false),
            ("r10.1.0", true),
            ("other", true),
        ] {
            let mark = store.tombstone(&id(name)).await.unwrap();
            assert_eq!(mark.is_some(), marked, "{name}");
        }
        assert_eq!(
            store.expire_marks(Timestamp::from_micros(6)).await.unwrap(),
            2
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_lost_its_node_cannot_write() {
    let places = places();
    let place = &places[1];
    let old = open(place).await;
    let new = open(place).await;
    assert!(old.insert(&record("a", "o", 1), request()).await.is_err());
    assert!(old.save(&[record("a", "o", 1)]).await.is_err());
    new.insert(&record("a", "o", 1), request()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn builds_are_numbered_and_unused_environments_found() {
    for place in places() {
        let store = open(&place).await;
        let at = Timestamp::from_micros;
        assert_eq!(store.count_build("k", at(1)).await.unwrap(), 1);
        assert_eq!(store.count_build("k", at(2)).await.unwrap(), 2);
        store.use_environment("k", at(10)).await.unwrap();
        store.use_environment("old", at(3)).await.unwrap();
        assert_eq!(store.unused_environments(at(5)).await.unwrap(), ["old"]);
        assert!(!store.drop_environment("k", at(5)).await.unwrap());
        assert!(store.drop_environment("old", at(5)).await.unwrap());
    }
}
