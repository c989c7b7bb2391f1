//! The store rules that every service relies on, on a real file and a real server.

#![expect(clippy::unwrap_used, reason = "a failure here is a failed test")]

use flumina_sql::{Db, Error, FromRow, Migrations, Options, Row, args};
use tempfile::TempDir;

fn migrations() -> Migrations {
    Migrations {
        sqlite: sqlx::migrate!("tests/migrations/sqlite"),
        postgres: sqlx::migrate!("tests/migrations/postgres"),
    }
}

async fn open(options: &Options) -> Db {
    Db::open(options, &migrations()).await.unwrap()
}

fn file(dir: &TempDir) -> Options {
    Options::file(&dir.path().join("t.sqlite"))
}

fn server() -> Options {
    Options::url(testkit::postgres().create_database())
}

/// One rule, tested on both databases.
macro_rules! on_both {
    ($($rule:ident)*) => {$(
        mod $rule {
            #[tokio::test]
            async fn on_sqlite() {
                let dir = tempfile::TempDir::new().unwrap();
                super::$rule(super::file(&dir)).await;
            }

            #[tokio::test]
            async fn on_postgres() {
                super::$rule(super::server()).await;
            }
        }
    )*};
}

on_both! {
    a_failing_write_rolls_back_alone
    a_panicking_write_is_rolled_back_and_the_next_goes_on
    a_write_goes_on_when_its_caller_is_gone
    errors_are_told_apart
    a_newer_schema_is_refused
    rows_are_read_from_one_state
}

const INSERT: &str = "INSERT INTO items (id, amount, parent) VALUES ($1, $2, $3)";
const LIMIT: std::time::Duration = std::time::Duration::from_secs(20);
const COUNT: &str = "SELECT COUNT(*) AS value FROM items";

async fn insert(db: &Db, id: &'static str, amount: i64) -> Result<u64, Error> {
    db.execute(INSERT, args![id, amount, None::<&str>]).await
}

#[tokio::test]
async fn connections_keep_the_promised_pragmas() {
    let dir = TempDir::new().unwrap();
    let db = open(&file(&dir)).await;
    let pragma = |name: &'static str| {
        let db = db.clone();
        async move {
            let on_writer: Result<i64, Error> = db
                .write(move |conn| Box::pin(async move { conn.fetch_one(name, args![]).await }))
                .await;
            let on_reader: i64 = db.fetch_one(name, args![]).await.unwrap();
            (on_writer.unwrap(), on_reader)
        }
    };
    assert_eq!(
        pragma("SELECT synchronous AS value FROM pragma_synchronous").await,
        (2, 2)
    );
    assert_eq!(
        pragma("SELECT foreign_keys AS value FROM pragma_foreign_keys").await,
        (1, 1)
    );
    let mode: String = db
        .fetch_one(
            "SELECT journal_mode AS value FROM pragma_journal_mode",
            args![],
        )
        .await
        .unwrap();
    assert_eq!(mode, "wal");
}

async fn a_failing_write_rolls_back_alone(options: Options) {
    let db = open(&options).await;
    let writes = (0..50_i64).map(|number| {
        let db = db.clone();
        async move {
            db.write(move |conn| {
                Box::pin(async move {
                    conn.execute(INSERT, args![format!("a{number}"), 1_i64, None::<&str>])
                        .await?;
                    // Every fifth breaks its own check after it has already written.
                    let amount = if number % 5 == 0 { -1 } else { 1 };
                    conn.execute(INSERT, args![format!("b{number}"), amount, None::<&str>])
                        .await
                })
            })
            .await
        }
    });
    let results: Vec<Result<u64, Error>> = futures_util::future::join_all(writes).await;
    assert_eq!(
        results
            .iter()
            .filter(|result| matches!(result, Err(Error::Check)))
            .count(),
        10
    );
    let count: i64 = db.fetch_one(COUNT, args![]).await.unwrap();
    assert_eq!(count, 80);
}

async fn a_panicking_write_is_rolled_back_and_the_next_goes_on(options: Options) {
    let db = open(&options).await;
    let result: Result<(), Error> = db
        .write(|conn| {
            Box::pin(async move {
                conn.execute(INSERT, args!["x", 1_i64, None::<&str>])
                    .await?;
                panic!("on purpose")
            })
        })
        .await;
    assert!(matches!(result, Err(Error::Panicked)), "{result:?}");
    insert(&db, "y", 1).await.unwrap();
    let count: i64 = db.fetch_one(COUNT, args![]).await.unwrap();
    assert_eq!(count, 1);
}

async fn a_write_goes_on_when_its_caller_is_gone(options: Options) {
    let db = open(&options).await;
    let mut write = Box::pin(insert(&db, "kept", 1));
    // One poll queues the write; then the caller goes away.
    let polled = futures_util::poll!(&mut write);
    assert!(polled.is_pending());
    drop(write);
    testkit::eventually("the write is there", LIMIT, || async {
        let count: i64 = db.fetch_one(COUNT, args![]).await.unwrap();
        if count == 1 { Ok(()) } else { Err(count) }
    })
    .await;
}

async fn errors_are_told_apart(options: Options) {
    let db = open(&options).await;
    insert(&db, "a", 1).await.unwrap();
    let key = if db.postgres() {
        "items_pkey"
    } else {
        "items.id"
    };
    assert!(
        matches!(insert(&db, "a", 1).await, Err(Error::Unique { constraint }) if constraint == key)
    );
    assert!(matches!(insert(&db, "b", -1).await, Err(Error::Check)));
    let orphan = db.execute(INSERT, args!["c", 1_i64, Some("missing")]).await;
    assert!(matches!(orphan, Err(Error::ForeignKey)), "{orphan:?}");
    let missing: Result<i64, Error> = db
        .fetch_one(
            "SELECT amount AS value FROM items WHERE id = $1",
            args!["zz"],
        )
        .await;
    assert!(matches!(missing, Err(Error::RowNotFound)));
}

async fn a_newer_schema_is_refused(options: Options) {
    let db = open(&options).await;
    db.execute(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (9, 'later', TRUE, $1, 0)",
        args![vec![0_u8]],
    )
    .await
    .unwrap();
    drop(db);
    let again = Db::open(&options, &migrations()).await;
    assert!(
        matches!(again, Err(Error::NewerSchema { found: 9, known: 1 })),
        "{again:?}"
    );
}

#[derive(Debug, PartialEq)]
struct Item {
    id: String,
    amount: i64,
    parent: Option<String>,
}

impl FromRow for Item {
    fn from_row(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            id: row.get("id")?,
            amount: row.get("amount")?,
            parent: row.get("parent")?,
        })
    }
}

const ITEMS: &str = "SELECT id, amount, parent FROM items ORDER BY id";

fn item(id: &str, amount: i64) -> Item {
    Item {
        id: id.to_owned(),
        amount,
        parent: None,
    }
}

async fn rows_are_read_from_one_state(options: Options) {
    let db = open(&options).await;
    insert(&db, "a", 1).await.unwrap();
    let other = db.clone();
    let seen: Result<(i64, i64), Error> = db
        .read(move |conn| {
            Box::pin(async move {
                let before: i64 = conn.fetch_one(COUNT, args![]).await?;
                insert(&other, "b", 2).await?;
                Ok((before, conn.fetch_one(COUNT, args![]).await?))
            })
        })
        .await;
    assert_eq!(seen.unwrap(), (1, 1));
    let items: Vec<Item> = db.fetch_all(ITEMS, args![]).await.unwrap();
    assert_eq!(items, [item("a", 1), item("b", 2)]);
}

#[tokio::test]
async fn a_new_file_belongs_to_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = TempDir::new().unwrap();
    let db = open(&file(&dir)).await;
    insert(&db, "a", 1).await.unwrap();
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{entry:?}");
    }
}

#[tokio::test]
async fn a_file_is_backed_up() {
    let dir = TempDir::new().unwrap();
    let db = open(&file(&dir)).await;
    insert(&db, "a", 1).await.unwrap();
    let copy = dir.path().join("copy.sqlite");
    db.backup(&copy).await.unwrap();
    let copy = Db::open(&Options::file(&copy), &migrations())
        .await
        .unwrap();
    let items: Vec<Item> = copy.fetch_all(ITEMS, args![]).await.unwrap();
    assert_eq!(items, [item("a", 1)]);
}

#[tokio::test]
async fn a_server_that_takes_nobody_is_unavailable() {
    let db = open(&server()).await;
    let table = [
        "DO $$ BEGIN RAISE EXCEPTION SQLSTATE '57P03'; END $$",
        "DO $$ BEGIN RAISE EXCEPTION SQLSTATE '53300'; END $$",
        "DO $$ BEGIN RAISE EXCEPTION SQLSTATE '08006'; END $$",
        // 57P01, and the connection is gone.
        "SELECT pg_terminate_backend(pg_backend_pid())",
    ];
    for statement in table {
        let refused = db.execute(statement, args![]).await;
        assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    }
    insert(&db, "after", 1).await.unwrap();
}
