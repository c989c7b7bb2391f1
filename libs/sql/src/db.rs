//! Opening a database, reading from it, writing to it.

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Connection as _, SqliteConnection};
use tokio::sync::mpsc;

use crate::conn::Inner;
use crate::writer::{self, Closure, Job};
use crate::{BoxFuture, Conn, Error, FromRow, Sql, Value};

/// How long to wait for another process that writes to the same file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How to open a database.
#[derive(Debug, Clone)]
pub struct Options {
    /// `sqlite:PATH` (or a bare path) for a file, `postgres://…` for a server.
    pub url: String,
    /// Connections for reading on SQLite, connections in all on PostgreSQL.
    pub connections: u32,
}

impl Options {
    /// The file at `path`.
    pub fn file(path: &Path) -> Self {
        Self::url(format!("sqlite:{}", path.display()))
    }

    /// The database at `url`.
    pub fn url(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            connections: 4,
        }
    }
}

/// The migrations of a service, with equal numbers on both sides.
#[derive(Debug)]
pub struct Migrations {
    pub sqlite: Migrator,
    pub postgres: Migrator,
}

/// A database; cloning shares it.
#[derive(Debug, Clone)]
pub struct Db(Backend);

#[derive(Debug, Clone)]
enum Backend {
    Sqlite {
        readers: SqlitePool,
        queue: mpsc::UnboundedSender<Box<dyn Job>>,
        path: PathBuf,
    },
    Postgres {
        pool: PgPool,
    },
}

impl Db {
    /// Opens the database, brings its schema up to date, and refuses one that a newer program wrote.
    pub async fn open(options: &Options, migrations: &Migrations) -> Result<Self, Error> {
        let url = options.url.as_str();
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return Self::open_postgres(options, &migrations.postgres).await;
        }
        let path = url.strip_prefix("sqlite:").unwrap_or(url);
        let path = PathBuf::from(path.strip_prefix("//").unwrap_or(path));
        Self::open_sqlite(path, options.connections, &migrations.sqlite).await
    }

    async fn open_sqlite(path: PathBuf, readers: u32, migrator: &Migrator) -> Result<Self, Error> {
        make_private(&path);
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT)
            .statement_cache_capacity(256);
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(options.clone())
            .await
            .map_err(Error::from_sqlx)?;
        migrate_sqlite(&writer, migrator).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(readers.max(1))
            // A file does not go away, and asking it first is one more exchange with the thread that holds it.
            .test_before_acquire(false)
            .connect_lazy_with(options.pragma("query_only", "1"));
        let conn = writer.acquire().await.map_err(Error::from_sqlx)?;
        let (queue, jobs) = mpsc::unbounded_channel();
        spawn(writer::serve(Conn(Inner::Sqlite(conn)), jobs));
        Ok(Self(Backend::Sqlite {
            readers,
            queue,
            path,
        }))
    }

    async fn open_postgres(options: &Options, migrator: &Migrator) -> Result<Self, Error> {
        let connect = PgConnectOptions::from_str(&options.url).map_err(Error::from_sqlx)?;
        let pool = PgPoolOptions::new()
            .max_connections(options.connections.max(2))
            .acquire_timeout(Duration::from_secs(10))
            .connect_with(connect)
            .await
            .map_err(Error::from_sqlx)?;
        migrator
            .run(&pool)
            .await
            .map_err(|error| Error::from_migrate(error, newest(migrator)))?;
        Ok(Self(Backend::Postgres { pool }))
    }

    /// Whether the database is PostgreSQL.
    pub fn postgres(&self) -> bool {
        matches!(self.0, Backend::Postgres { .. })
    }

    /// The file of a SQLite database.
    pub fn path(&self) -> Option<&Path> {
        match &self.0 {
            Backend::Sqlite { path, .. } => Some(path),
            Backend::Postgres { .. } => None,
        }
    }

    /// Runs queries on one consistent state of the database.
    pub async fn read<T, E, F>(&self, run: F) -> Result<T, E>
    where
        F: for<'c> FnOnce(&'c mut Conn) -> BoxFuture<'c, Result<T, E>>,
        E: From<Error>,
    {
        let mut conn = self.reader().await?;
        // Dropping the transaction ends it; nothing was written.
        run(&mut conn).await
    }

    async fn reader(&self) -> Result<Conn, Error> {
        let inner = match &self.0 {
            Backend::Sqlite { readers, .. } => readers.begin().await.map(Inner::SqliteTx),
            Backend::Postgres { pool } => pool
                .begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                .await
                .map(Inner::PostgresTx),
        };
        inner.map(Conn).map_err(Error::from_sqlx)
    }

    /// A connection for one query, which is consistent in itself.
    async fn single(&self) -> Result<Conn, Error> {
        let inner = match &self.0 {
            Backend::Sqlite { readers, .. } => readers.acquire().await.map(Inner::Sqlite),
            Backend::Postgres { pool } => pool.acquire().await.map(Inner::Postgres),
        };
        inner.map(Conn).map_err(Error::from_sqlx)
    }

    /// Runs one query and returns all its rows.
    pub async fn fetch_all<T: FromRow>(
        &self,
        sql: impl Into<Sql>,
        args: Vec<Value>,
    ) -> Result<Vec<T>, Error> {
        self.single().await?.fetch_all(sql, args).await
    }

    /// Runs one query and returns its first row, if there is one.
    pub async fn fetch_optional<T: FromRow>(
        &self,
        sql: impl Into<Sql>,
        args: Vec<Value>,
    ) -> Result<Option<T>, Error> {
        self.single().await?.fetch_optional(sql, args).await
    }

    /// Runs one query that has exactly one row.
    pub async fn fetch_one<T: FromRow>(
        &self,
        sql: impl Into<Sql>,
        args: Vec<Value>,
    ) -> Result<T, Error> {
        self.single().await?.fetch_one(sql, args).await
    }

    /// Runs one statement as a write of its own and returns how many rows it changed.
    pub async fn execute(&self, sql: impl Into<Sql>, args: Vec<Value>) -> Result<u64, Error> {
        let sql = sql.into();
        self.write(move |conn| Box::pin(async move { conn.execute(sql, args).await }))
            .await
    }

    /// Runs a closure that writes: all of it or nothing. It returns when the write would survive power loss.
    pub async fn write<T, E, F>(&self, run: F) -> Result<T, E>
    where
        F: for<'c> FnOnce(&'c mut Conn) -> BoxFuture<'c, Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let (job, answer) = Closure::new(run);
        match &self.0 {
            Backend::Sqlite { queue, .. } => {
                let _answer_tells = queue.send(job);
            }
            Backend::Postgres { pool } => {
                spawn(write_postgres(pool.clone(), job));
            }
        }
        let closed = |_| E::from(Error::Unavailable(sqlx::Error::PoolClosed));
        answer.await.map_err(closed)?
    }

    /// Writes a consistent copy of a SQLite database to `target`, which must not exist.
    pub async fn backup(&self, target: &Path) -> Result<(), Error> {
        match &self.0 {
            // A connection of its own: readers may not write, and the writer is always in a transaction.
            Backend::Sqlite { path, .. } => copy_file(path, target).await,
            Backend::Postgres { .. } => Err(Error::Other(sqlx::Error::Protocol(
                "use pg_dump for PostgreSQL".to_owned(),
            ))),
        }
    }

    /// Closes the connections for reading; queued writes still finish.
    pub async fn close(&self) {
        match &self.0 {
            Backend::Sqlite { readers, .. } => readers.close().await,
            Backend::Postgres { pool } => pool.close().await,
        }
    }
}

/// Writes a consistent copy of the SQLite database in the file `from` to `target`, which must not exist. Another
/// process may have the database open and write to it.
pub async fn copy_file(from: &Path, target: &Path) -> Result<(), Error> {
    let options = SqliteConnectOptions::new()
        .filename(from)
        .busy_timeout(BUSY_TIMEOUT);
    let mut conn = SqliteConnection::connect_with(&options)
        .await
        .map_err(Error::from_sqlx)?;
    let copied = sqlx::query("VACUUM INTO $1")
        .bind(target.display().to_string())
        .execute(&mut conn)
        .await;
    copied.map(drop).map_err(Error::from_sqlx)?;
    conn.close().await.map_err(Error::from_sqlx)
}

/// One transaction on PostgreSQL, to its end even when the caller is gone.
async fn write_postgres(pool: PgPool, mut job: Box<dyn Job>) {
    let mut conn = match pool.begin().await {
        Ok(tx) => Conn(Inner::PostgresTx(tx)),
        Err(error) => return job.finish(Some(Error::from_sqlx(error))),
    };
    let keep = job.run(&mut conn).await;
    let Inner::PostgresTx(tx) = conn.0 else {
        return job.finish(Some(Error::Panicked));
    };
    let ended = if keep {
        tx.commit().await
    } else {
        tx.rollback().await
    };
    job.finish(ended.err().map(Error::from_sqlx));
}

#[expect(
    clippy::disallowed_methods,
    reason = "the writer lives and ends with the handle that feeds it"
)]
fn spawn(future: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(future);
}

/// Makes the file of a new database for its owner alone; SQLite gives the files beside it the same permissions. What stands in
/// the way SQLite meets too, and says better.
fn make_private(path: &Path) {
    let made = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    drop(made);
}

async fn migrate_sqlite(pool: &SqlitePool, migrator: &Migrator) -> Result<(), Error> {
    migrator
        .run(pool)
        .await
        .map_err(|error| Error::from_migrate(error, newest(migrator)))
}

fn newest(migrator: &Migrator) -> i64 {
    migrator
        .iter()
        .map(|migration| migration.version)
        .max()
        .unwrap_or(0)
}
