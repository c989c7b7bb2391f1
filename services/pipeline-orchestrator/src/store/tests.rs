//! The store on both databases.

use std::collections::{BTreeMap, BTreeSet};

use clock::Timestamp;
use ids::{ExperimentId, PipelineId, PipelineVersionId, RunId};
use serde_json::json;
use sql::{BoxFuture, Conn, Db, Error, Options, args};
use testkit::TempDir;

use super::idempotency::{self, CallKey, Known};
use super::{engine_sql, experiments, lists, pipelines, runs, sequences, specs, sql as text};
use crate::domain::{
    Asked, EXPERIMENT_FIELDS, Entered, Experiment, Field, FieldKind, Fields, PIPELINE_FIELDS,
    Pipeline, Query, RUN_FIELDS, Run, RunBody, RunRecord, RunStatus, Source, Spec, StorageState,
    VERSION_FIELDS, Version,
};

/// A database with the file that it may be in.
struct Opened {
    db: Db,
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
async fn both() -> [Opened; 2] {
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

fn micros(value: i64) -> Timestamp {
    Timestamp::from_micros(value)
}

fn spec(body: &str) -> Spec {
    Spec {
        hash: format!("hash of {body}"),
        body: body.to_owned(),
    }
}

fn run(name: &str, created_at: i64, experiment: ExperimentId) -> RunRecord {
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

async fn insert(db: &Db, record: RunRecord) {
    write(db, move |conn| {
        Box::pin(async move { runs::insert(conn, &record, &spec("{}")).await })
    })
    .await;
}

async fn schema(opened: &Opened) -> (BTreeSet<String>, BTreeSet<String>) {
    let (columns, indexes) = if opened.db.postgres() {
        (
            "SELECT table_name || '.' || column_name AS value FROM information_schema.columns \
             WHERE table_schema = 'public' AND table_name NOT LIKE '\\_sqlx%'",
            "SELECT indexname::TEXT AS value FROM pg_indexes WHERE schemaname = 'public' AND indexname NOT LIKE '%\\_pkey'",
        )
    } else {
        (
            "SELECT m.name || '.' || c.name AS value FROM sqlite_master AS m JOIN pragma_table_info(m.name) AS c \
             WHERE m.type = 'table' AND m.name NOT LIKE '\\_sqlx%' ESCAPE '\\' AND m.name NOT LIKE 'sqlite%'",
            "SELECT name AS value FROM sqlite_master WHERE type = 'index' AND name NOT LIKE 'sqlite%'",
        )
    };
    let columns: Vec<String> = opened.db.fetch_all(columns, args![]).await.unwrap();
    let indexes: Vec<String> = opened.db.fetch_all(indexes, args![]).await.unwrap();
    (columns.into_iter().collect(), indexes.into_iter().collect())
}

#[tokio::test]
async fn both_databases_have_the_same_tables_columns_and_indexes() {
    let [sqlite, postgres] = both().await;
    assert_eq!(schema(&sqlite).await, schema(&postgres).await);
    let collations: Vec<String> = postgres
        .db
        .fetch_all(
            "SELECT table_name || '.' || column_name AS value FROM information_schema.columns \
             WHERE table_schema = 'public' AND table_name NOT LIKE '\\_sqlx%' AND data_type = 'text' \
             AND collation_name IS DISTINCT FROM 'C'",
            args![],
        )
        .await
        .unwrap();
    assert_eq!(collations, [""; 0], "texts that do not sort by bytes");
}

#[tokio::test]
async fn the_schema_is_the_committed_one() {
    let [sqlite, postgres] = both().await;
    let statements: Vec<String> = sqlite
        .db
        .fetch_all(
            "SELECT sql AS value FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE '\\_sqlx%' ESCAPE '\\' \
             ORDER BY tbl_name, type DESC, name",
            args![],
        )
        .await
        .unwrap();
    insta::assert_snapshot!("schema_sqlite", statements.join(";\n"));
    let columns: Vec<String> = postgres
        .db
        .fetch_all(
            "SELECT table_name || '.' || column_name || ' ' || data_type || \
             CASE WHEN is_nullable = 'YES' THEN ' null' ELSE '' END AS value FROM information_schema.columns \
             WHERE table_schema = 'public' AND table_name NOT LIKE '\\_sqlx%' ORDER BY table_name, ordinal_position",
            args![],
        )
        .await
        .unwrap();
    insta::assert_snapshot!("schema_postgres", columns.join("\n"));
}

#[tokio::test]
async fn every_statement_is_accepted_by_both_databases() {
    for opened in both().await {
        let prepared = opened.db.read(|conn| {
            Box::pin(async move {
                for (name, statement) in text::ALL.iter().chain(engine_sql::ALL) {
                    conn.prepare(*statement)
                        .await
                        .unwrap_or_else(|error| panic!("{name}: {}", chain(&error)));
                }
                conn.prepare(text::KEEP_SPEC).await
            })
        });
        prepared
            .await
            .unwrap_or_else(|error: Error| panic!("{}", chain(&error)));
    }
}

fn chain(error: &Error) -> String {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    format!("{error}: {cause:?}")
}

fn all_lists() -> [(&'static Fields, lists::Select); 4] {
    [
        (&EXPERIMENT_FIELDS, experiments::LIST),
        (&RUN_FIELDS, runs::LIST),
        (&PIPELINE_FIELDS, pipelines::LIST),
        (&VERSION_FIELDS, pipelines::LIST_VERSIONS),
    ]
}

/// A filter on a field for each operation that it takes.
fn filters(field: &Field) -> Vec<String> {
    let key = field.name;
    let text = if let FieldKind::Names(names) = field.kind {
        names[0]
    } else {
        "x"
    };
    let mut predicates: Vec<serde_json::Value> = [1, 2, 3, 5, 6, 7]
        .map(|operation| match field.kind {
            FieldKind::Time => json!({"operation": operation, "key": key, "long_value": "7"}),
            FieldKind::Text | FieldKind::Names(_) => {
                json!({"operation": operation, "key": key, "string_value": text})
            }
        })
        .to_vec();
    match field.kind {
        FieldKind::Time => {
            predicates.push(json!({"operation": 8, "key": key, "long_values": {"values": [1, 2]}}));
            predicates.push(json!({"operation": 8, "key": key, "long_values": {"values": []}}));
        }
        FieldKind::Text | FieldKind::Names(_) => {
            predicates.push(json!({"operation": 9, "key": key, "string_value": "a%_\\b"}));
            predicates.push(
                json!({"operation": 8, "key": key, "string_values": {"values": [text, text]}}),
            );
            predicates.push(json!({"operation": 8, "key": key, "string_values": {"values": []}}));
        }
    }
    predicates
        .into_iter()
        .map(|one| json!({"predicates": [one]}).to_string())
        .collect()
}

/// Runs each, since PostgreSQL finds some faults only then.
#[tokio::test]
async fn every_key_operation_and_order_is_accepted_by_both_databases() {
    for opened in both().await {
        for (fields, select) in all_lists() {
            for field in fields.all {
                for filter in filters(field) {
                    ask(&opened.db, fields, select, "", &filter).await;
                }
                for direction in ["asc", "desc"] {
                    if field.sortable {
                        let sort = format!("{} {direction}", field.name);
                        ask(&opened.db, fields, select, &sort, "").await;
                    }
                }
            }
        }
        for operation in [1, 2, 9] {
            let filter = json!({"predicates": [{"operation": operation, "key": "tags.a", "string_value": "x"}]});
            ask(
                &opened.db,
                &PIPELINE_FIELDS,
                pipelines::LIST,
                "",
                &filter.to_string(),
            )
            .await;
        }
    }
}

async fn ask(db: &Db, fields: &'static Fields, select: lists::Select, sort: &str, filter: &str) {
    let asked = Asked {
        sort_by: sort,
        filter,
        ..Asked::default()
    };
    let first = Query::parse(fields, &asked).unwrap();
    let value = match first.sort.field.kind {
        FieldKind::Time => crate::domain::SortValue::Number(7),
        FieldKind::Text | FieldKind::Names(_) => crate::domain::SortValue::Text("x".to_owned()),
    };
    let token = first.token(value, "id".to_owned());
    let next = Query::parse(
        fields,
        &Asked {
            token: &token,
            ..asked
        },
    )
    .unwrap();
    let parent = Some((fields.key, "parent".to_owned()));
    for query in [first, next] {
        let statements = [
            lists::count_statement(select, parent.clone(), &query),
            lists::page_statement(select, parent.clone(), &query),
        ];
        for (statement, args) in statements {
            let shown = format!("{statement:?}");
            let rows: Result<Vec<Nothing>, Error> = db.fetch_all(statement, args).await;
            rows.unwrap_or_else(|error| panic!("{shown}: {}", chain(&error)));
        }
    }
}

struct Nothing;

impl sql::FromRow for Nothing {
    fn from_row(_: &sql::Row) -> Result<Self, Error> {
        Ok(Self)
    }
}

async fn page(db: &Db, asked: Asked<'_>) -> (Vec<RunRecord>, i64, String) {
    let query = Query::parse(&RUN_FIELDS, &asked).unwrap();
    let page = db.read(|conn| Box::pin(async move { runs::list(conn, None, &query).await }));
    let page = page.await.unwrap();
    let records = page.items.into_iter().map(|(record, _)| record).collect();
    (records, page.total, page.next)
}

/// A small generator of numbers: the same in every run of the test.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

#[tokio::test]
async fn pages_are_the_sorted_list_also_while_rows_come() {
    for opened in both().await {
        let db = &opened.db;
        let mut numbers = Numbers(7);
        let experiment = ExperimentId::derived("e");
        let names = ["a", "B", "ä", "", "a b", "Z", "~", "a"];
        for number in 0..40 {
            let name = names[numbers.below(names.len() as u64) as usize];
            // Few times and names, so that ids decide often.
            let mut record = run(name, 1_000_000 + numbers.below(6) as i64, experiment);
            record.run.id = RunId::derived(&format!("first{number}"));
            record.run.finished_at =
                (numbers.below(2) == 0).then(|| micros(5 + numbers.below(3) as i64));
            insert(db, record).await;
        }
        for field in [
            "run_id",
            "display_name",
            "created_at",
            "finished_at",
            "state",
            "runtime_details",
        ] {
            for direction in ["asc", "desc"] {
                let sort_by = format!("{field} {direction}");
                let whole = page(
                    db,
                    Asked {
                        size: 200,
                        sort_by: &sort_by,
                        ..Asked::default()
                    },
                )
                .await
                .0;
                assert_sorted(&whole, field, direction == "desc");
                let mut seen: Vec<RunId> = Vec::new();
                let mut token = String::new();
                loop {
                    // The token alone says how the list goes on.
                    let asked = if token.is_empty() {
                        Asked {
                            size: 7,
                            sort_by: &sort_by,
                            ..Asked::default()
                        }
                    } else {
                        Asked {
                            size: 7,
                            token: &token,
                            ..Asked::default()
                        }
                    };
                    let (records, total, next) = page(db, asked).await;
                    assert!(total >= whole.len() as i64);
                    seen.extend(records.iter().map(|record| record.run.id));
                    let mut late = run("late", 1_000_003, experiment);
                    late.run.id = RunId::derived(&format!("{sort_by}{}", seen.len()));
                    insert(db, late).await;
                    token = next;
                    if token.is_empty() {
                        break;
                    }
                }
                let unique: BTreeSet<RunId> = seen.iter().copied().collect();
                assert_eq!(unique.len(), seen.len(), "{sort_by}: an item came twice");
                let expected: Vec<RunId> = whole.iter().map(|record| record.run.id).collect();
                seen.retain(|id| expected.contains(id));
                assert_eq!(seen, expected, "{sort_by}");
            }
        }
    }
}

fn assert_sorted(records: &[RunRecord], field: &str, descending: bool) {
    let key = |record: &RunRecord| {
        let run = &record.run;
        let finished = run.finished_at.map_or(0, Timestamp::as_micros);
        let (number, text) = match field {
            "display_name" => (0, run.display_name.clone()),
            "created_at" => (run.created_at.as_micros(), String::new()),
            "finished_at" => (finished, String::new()),
            _ => (0, String::new()),
        };
        (number, text.into_bytes(), run.id.to_string())
    };
    let mut keys: Vec<_> = records.iter().map(key).collect();
    if descending {
        keys.reverse();
    }
    assert!(keys.is_sorted(), "{field} {descending}");
}

#[tokio::test]
async fn filters_mean_the_same_on_both_databases() {
    let second = 1_000_000;
    for opened in both().await {
        let experiment = ExperimentId::derived("e");
        for (name, at) in [
            ("Alpha", 10 * second),
            ("beta 50%", 10 * second + 999_999),
            ("be_ta", 11 * second),
        ] {
            insert(&opened.db, run(name, at, experiment)).await;
        }
        let mut gone = run("gone", 12 * second, experiment);
        gone.storage_state = StorageState::Archived;
        insert(&opened.db, gone).await;
        let table = [
            (
                json!({"operation": 1, "key": "name", "stringValue": "Alpha"}),
                "Alpha",
            ),
            (
                json!({"operation": 1, "key": "name", "stringValue": "alpha"}),
                "",
            ),
            (
                json!({"operation": 2, "key": "name", "stringValue": "Alpha"}),
                "beta 50%,be_ta,gone",
            ),
            (
                json!({"operation": 9, "key": "name", "stringValue": "ALPH"}),
                "Alpha",
            ),
            (
                json!({"operation": 9, "key": "name", "stringValue": "%"}),
                "beta 50%",
            ),
            (
                json!({"operation": 9, "key": "name", "stringValue": "_"}),
                "be_ta",
            ),
            (
                json!({"operation": 9, "key": "name", "stringValue": ""}),
                "Alpha,beta 50%,be_ta,gone",
            ),
            (
                json!({"operation": 8, "key": "name", "stringValues": {"values": ["gone", "Alpha"]}}),
                "Alpha,gone",
            ),
            (
                json!({"operation": 8, "key": "name", "stringValues": {"values": []}}),
                "",
            ),
            (
                json!({"operation": 1, "key": "created_at", "longValue": 10}),
                "Alpha,beta 50%",
            ),
            (
                json!({"operation": 2, "key": "created_at", "longValue": 10}),
                "be_ta,gone",
            ),
            (
                json!({"operation": 3, "key": "created_at", "longValue": 10}),
                "be_ta,gone",
            ),
            (
                json!({"operation": 5, "key": "created_at", "longValue": 11}),
                "be_ta,gone",
            ),
            (
                json!({"operation": 6, "key": "created_at", "longValue": 11}),
                "Alpha,beta 50%",
            ),
            (
                json!({"operation": 7, "key": "created_at", "longValue": 10}),
                "Alpha,beta 50%",
            ),
            (
                json!({"operation": 8, "key": "created_at", "longValues": {"values": [11, 12]}}),
                "be_ta,gone",
            ),
            (
                json!({"operation": 1, "key": "created_at", "timestampValue": "1970-01-01T00:00:12Z"}),
                "gone",
            ),
            (
                json!({"operation": 1, "key": "storage_state", "stringValue": "ARCHIVED"}),
                "gone",
            ),
            (
                json!({"operation": 2, "key": "storage_state", "stringValue": "STORAGESTATE_ARCHIVED"}),
                "Alpha,beta 50%,be_ta",
            ),
            (
                json!({"operation": 1, "key": "state", "stringValue": "Pending"}),
                "Alpha,beta 50%,be_ta,gone",
            ),
            (
                json!({"operation": 1, "key": "finished_at", "longValue": 0}),
                "Alpha,beta 50%,be_ta,gone",
            ),
            (
                json!({"operation": 9, "key": "state_history", "stringValue": "RUNNING"}),
                "",
            ),
            (
                json!({"operation": 3, "key": "created_at", "longValue": i64::MAX}),
                "",
            ),
            (
                json!({"operation": 6, "key": "created_at", "longValue": i64::MIN}),
                "",
            ),
        ];
        for (predicate, expected) in table {
            let filter = json!({"predicates": [predicate]}).to_string();
            let (records, total, _) = page(
                &opened.db,
                Asked {
                    filter: &filter,
                    ..Asked::default()
                },
            )
            .await;
            let names: Vec<&str> = records
                .iter()
                .map(|record| record.run.display_name.as_str())
                .collect();
            assert_eq!(
                names.join(","),
                expected,
                "{predicate} postgres: {}",
                opened.db.postgres()
            );
            assert_eq!(total, records.len() as i64);
        }
        let both = json!({"predicates": [
            {"operation": 9, "key": "name", "stringValue": "be"},
            {"operation": 1, "key": "created_at", "longValue": 10},
        ]});
        let (records, _, _) = page(
            &opened.db,
            Asked {
                filter: &both.to_string(),
                ..Asked::default()
            },
        )
        .await;
        assert_eq!(records.len(), 1);
    }
}

#[tokio::test]
async fn tags_are_found() {
    for opened in both().await {
        let db = &opened.db;
        for (name, tags) in [
            ("a", vec![("team", "ml")]),
            ("b", vec![("team", "web")]),
            ("c", vec![]),
        ] {
            let tags = tags
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value.to_owned()));
            let pipeline = pipeline(name, tags.collect());
            write(db, move |conn| {
                Box::pin(async move { pipelines::insert(conn, &pipeline).await })
            })
            .await;
        }
        for (operation, value, expected) in
            [(1, "ml", "a"), (2, "ml", "b"), (9, "W", "b"), (1, "x", "")]
        {
            let filter = json!({"predicates": [{"operation": operation, "key": "tags.team", "stringValue": value}]});
            let asked = Asked {
                filter: &filter.to_string(),
                ..Asked::default()
            };
            let query = Query::parse(&PIPELINE_FIELDS, &asked).unwrap();
            let page = db.read(|conn| Box::pin(async move { pipelines::list(conn, &query).await }));
            let names: Vec<String> = page
                .await
                .unwrap()
                .items
                .into_iter()
                .map(|one| one.name)
                .collect();
            assert_eq!(names.concat(), expected);
        }
    }
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
        assert!(ask("first", 9).await);
        assert!(ask("second", 10).await);
        let cancel = get().await.cancel.unwrap();
        assert_eq!((cancel.reason.as_str(), cancel.at), ("first", micros(9)));
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
                    Box::pin(async move {
                        sequences::take(conn, sequences::Sequence::Tasks, count).await
                    })
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
