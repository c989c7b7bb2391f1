//! The schema and the statements on both databases.

use std::collections::BTreeSet;

use sql::{Db, Error, FromRow, Row, Sql, Value, args};

use super::super::{cache_sql, engine_sql, facts, lists, runs, schedule_sql, sql as text};
use super::{Opened, both};
use crate::domain::{Asked, Query, RUN_FIELDS, parse_run_filter};

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
                let all = text::ALL.iter().chain(engine_sql::ALL);
                for (name, statement) in all.chain(cache_sql::ALL).chain(schedule_sql::ALL) {
                    conn.prepare(*statement)
                        .await
                        .unwrap_or_else(|error| panic!("{name}: {}", chain(&error)));
                }
                conn.prepare(schedule_sql::LOCK_SCHEDULE).await?;
                conn.prepare(schedule_sql::LOCK_BACKFILL).await?;
                conn.prepare(text::KEEP_SPEC).await
            })
        });
        prepared
            .await
            .unwrap_or_else(|error: Error| panic!("{}", chain(&error)));
    }
}

pub(super) fn chain(error: &Error) -> String {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    format!("{error}: {cause:?}")
}

/// A list of a hundred thousand runs must not be sorted or read whole for a page of twenty.
#[tokio::test]
async fn pages_and_counts_of_runs_come_from_indexes() {
    let [sqlite, _] = both().await;
    for (sort_by, filter) in [
        ("created_at desc", ""),
        ("created_at", ""),
        ("display_name", ""),
        ("finished_at desc", ""),
        ("scheduled_at desc", ""),
        (
            "created_at desc",
            r#"{"predicates":[{"operation":1,"key":"state","string_value":"RUNNING"}]}"#,
        ),
        (
            "created_at desc",
            r#"{"predicates":[{"operation":1,"key":"storage_state","string_value":"ARCHIVED"}]}"#,
        ),
    ] {
        for experiment in [None, Some(("runs.experiment_id", "e".to_owned()))] {
            if experiment.is_some() && (!filter.is_empty() || !sort_by.starts_with("created_at")) {
                continue;
            }
            let asked = Asked {
                sort_by,
                filter,
                ..Asked::default()
            };
            let query = Query::parse(&RUN_FIELDS, &asked).unwrap();
            let page = lists::page_statement(runs::LIST, experiment.clone(), &query);
            let plan = explain(&sqlite.db, page).await;
            assert!(
                plan.contains("USING INDEX runs_"),
                "{sort_by} {filter}: {plan}"
            );
            assert!(!plan.contains("TEMP B-TREE"), "{sort_by} {filter}: {plan}");
            let count = lists::count_statement(runs::LIST, experiment, &query);
            let plan = explain(&sqlite.db, count).await;
            assert!(
                plan.contains("COVERING INDEX runs_"),
                "{sort_by} {filter}: {plan}"
            );
        }
    }
}

/// A page of runs that were found by what people know of them is read from one index, in its order.
#[tokio::test]
async fn runs_are_found_through_indexes() {
    let [sqlite, _] = both().await;
    for (filter, index) in [
        ("", "runs_created_at"),
        ("tag.team = vision", "run_facts_content"),
        ("tag.team = vision AND state = FAILED", "run_facts_content"),
        ("metric.accuracy > 0.9", "run_facts_number"),
        ("param.rows >= 3 AND tag.team = vision", "run_facts_content"),
        ("state = FAILED", "runs_status"),
        ("pipeline = p", "runs_pipeline_name"),
    ] {
        let conditions = parse_run_filter(filter).unwrap();
        for before in [None, Some((5, "id".to_owned()))] {
            let page = facts::list_statement(&conditions, before.as_ref(), 50);
            let plan = explain(&sqlite.db, page).await;
            assert!(plan.contains(&format!("INDEX {index}")), "{filter}: {plan}");
            assert!(!plan.contains("TEMP B-TREE"), "{filter}: {plan}");
        }
    }
}

/// What else is asked of a run that was found by a fact is read from an index too, and before the run's own row.
#[tokio::test]
async fn several_facts_are_read_side_by_side() {
    let [sqlite, _] = both().await;
    for (filter, beside) in [
        ("metric.accuracy > 0.9 AND tag.team = a", "run_facts_number"),
        (
            "metric.accuracy > 0.9 AND metric.loss != 1",
            "run_facts_number",
        ),
        ("tag.team = a AND tag.trial != 7", "run_facts_number"),
        ("tag.team = a AND param.name = x", "run_facts_content"),
    ] {
        let conditions = parse_run_filter(filter).unwrap();
        let plan = explain(&sqlite.db, facts::list_statement(&conditions, None, 50)).await;
        let index = format!("SEARCH f USING COVERING INDEX {beside} (kind=? AND name=? AND c");
        let (before, _) = plan.split_once("SEARCH runs").unwrap();
        assert!(before.contains(&index), "{filter}: {plan}");
    }
    let ids = [ids::RunId::derived("a"), ids::RunId::derived("b")];
    let conditions = parse_run_filter("archived = false AND tag.team = a").unwrap();
    let plan = explain(&sqlite.db, facts::among_statement(&conditions, &ids)).await;
    assert!(
        plan.contains("SEARCH runs USING INDEX sqlite_autoindex_runs_1 (id=?)"),
        "{plan}"
    );
}

async fn explain(db: &Db, (statement, args): (Sql, Vec<Value>)) -> String {
    let plan: Vec<Detail> = db.fetch_all(statement.explained(), args).await.unwrap();
    plan.into_iter()
        .map(|detail| detail.0)
        .collect::<Vec<_>>()
        .join("; ")
}

struct Detail(String);

impl FromRow for Detail {
    fn from_row(row: &Row) -> Result<Self, Error> {
        row.get("detail").map(Self)
    }
}
