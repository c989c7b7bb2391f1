//! Orders, filters and pages on both databases.

use std::collections::BTreeSet;

use clock::Timestamp;
use ids::{ExperimentId, RunId};
use serde_json::json;
use sql::{Db, Error};

use super::super::{experiments, lists, pipelines, runs, schedules};
use super::schema::chain;
use super::{both, insert, micros, page, pipeline, run, write};
use crate::domain::schedule::SCHEDULE_FIELDS;
use crate::domain::{
    Asked, EXPERIMENT_FIELDS, Field, FieldKind, Fields, PIPELINE_FIELDS, Query, RUN_FIELDS,
    RunRecord, StorageState, VERSION_FIELDS,
};

fn all_lists() -> [(&'static Fields, lists::Select); 6] {
    [
        (&EXPERIMENT_FIELDS, experiments::LIST),
        (&RUN_FIELDS, runs::LIST),
        (&PIPELINE_FIELDS, pipelines::LIST),
        (&PIPELINE_FIELDS, pipelines::LIST_WITH_LATEST),
        (&VERSION_FIELDS, pipelines::LIST_VERSIONS),
        (&SCHEDULE_FIELDS, schedules::LIST),
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
            lists::items_statement(select, fields.key, &["id".to_owned()]),
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
