//! One connection, inside or outside a transaction.

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{
    Arguments as _, Executor as _, PgConnection, Postgres, Sqlite, SqliteConnection, Transaction,
};

use crate::{Column, Error, Sql, Value};

/// A row of a result.
#[derive(Debug)]
pub enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl Row {
    /// Reads the column `name`.
    pub fn get<T: Column>(&self, name: &str) -> Result<T, Error> {
        T::read(self, name)
    }
}

/// A type that a row is read as.
pub trait FromRow: Sized {
    /// Reads the row.
    fn from_row(row: &Row) -> Result<Self, Error>;
}

/// A connection to the database.
pub struct Conn(pub(crate) Inner);

pub(crate) enum Inner {
    Sqlite(PoolConnection<Sqlite>),
    SqliteTx(Transaction<'static, Sqlite>),
    Postgres(PoolConnection<Postgres>),
    PostgresTx(Transaction<'static, Postgres>),
}

enum Raw<'c> {
    Sqlite(&'c mut SqliteConnection),
    Postgres(&'c mut PgConnection),
}

impl Conn {
    fn raw(&mut self) -> Raw<'_> {
        match &mut self.0 {
            Inner::Sqlite(conn) => Raw::Sqlite(conn),
            Inner::SqliteTx(tx) => Raw::Sqlite(tx),
            Inner::Postgres(conn) => Raw::Postgres(conn),
            Inner::PostgresTx(tx) => Raw::Postgres(tx),
        }
    }

    /// Whether the database is PostgreSQL, for the rare place where more than text differs.
    pub fn postgres(&self) -> bool {
        matches!(self.0, Inner::Postgres(_) | Inner::PostgresTx(_))
    }

    /// Runs a statement and returns how many rows it changed.
    pub async fn execute(&mut self, sql: impl Into<Sql>, args: Vec<Value>) -> Result<u64, Error> {
        let sql = sql.into();
        match self.raw() {
            Raw::Sqlite(conn) => sqlx::query_with(sql.sqlite, sqlite_args(args)?)
                .execute(conn)
                .await
                .map(|done| done.rows_affected()),
            Raw::Postgres(conn) => sqlx::query_with(sql.postgres, postgres_args(args)?)
                .execute(conn)
                .await
                .map(|done| done.rows_affected()),
        }
        .map_err(Error::from_sqlx)
    }

    /// Runs a query and returns all its rows.
    pub async fn fetch_all<T: FromRow>(
        &mut self,
        sql: impl Into<Sql>,
        args: Vec<Value>,
    ) -> Result<Vec<T>, Error> {
        let sql = sql.into();
        match self.raw() {
            Raw::Sqlite(conn) => {
                let rows = sqlx::query_with(sql.sqlite, sqlite_args(args)?)
                    .fetch_all(conn)
                    .await;
                let rows = rows.map_err(Error::from_sqlx)?;
                rows.into_iter()
                    .map(|row| T::from_row(&Row::Sqlite(row)))
                    .collect()
            }
            Raw::Postgres(conn) => {
                let rows = sqlx::query_with(sql.postgres, postgres_args(args)?)
                    .fetch_all(conn)
                    .await;
                let rows = rows.map_err(Error::from_sqlx)?;
                rows.into_iter()
                    .map(|row| T::from_row(&Row::Postgres(row)))
                    .collect()
            }
        }
    }

    /// Runs a query and returns its first row, if there is one.
    pub async fn fetch_optional<T: FromRow>(
        &mut self,
        sql: impl Into<Sql>,
        args: Vec<Value>,
    ) -> Result<Option<T>, Error> {
        let sql = sql.into();
        let row = match self.raw() {
            Raw::Sqlite(conn) => sqlx::query_with(sql.sqlite, sqlite_args(args)?)
                .fetch_optional(conn)
                .await
                .map(|row| row.map(Row::Sqlite)),
            Raw::Postgres(conn) => sqlx::query_with(sql.postgres, postgres_args(args)?)
                .fetch_optional(conn)
                .await
                .map(|row| row.map(Row::Postgres)),
        };
        row.map_err(Error::from_sqlx)?
            .as_ref()
            .map(T::from_row)
            .transpose()
    }

    /// Runs a query that has exactly one row.
    pub async fn fetch_one<T: FromRow>(
        &mut self,
        sql: impl Into<Sql>,
        args: Vec<Value>,
    ) -> Result<T, Error> {
        self.fetch_optional(sql, args)
            .await?
            .ok_or(Error::RowNotFound)
    }

    /// Checks that the database accepts a statement, without running it.
    pub async fn prepare(&mut self, sql: impl Into<Sql>) -> Result<(), Error> {
        let sql = sql.into();
        match self.raw() {
            Raw::Sqlite(conn) => conn.prepare(sql.sqlite).await.map(drop),
            Raw::Postgres(conn) => conn.prepare(sql.postgres).await.map(drop),
        }
        .map_err(Error::from_sqlx)
    }
}

fn sqlite_args(args: Vec<Value>) -> Result<SqliteArguments, Error> {
    let mut bound = SqliteArguments::default();
    for value in args {
        match value {
            Value::I64(value) => bound.add(value),
            Value::F64(value) => bound.add(value),
            Value::Bool(value) => bound.add(value),
            Value::Text(value) => bound.add(value),
            Value::Bytes(value) => bound.add(value),
        }
        .map_err(|error| Error::Other(sqlx::Error::Encode(error)))?;
    }
    Ok(bound)
}

fn postgres_args(args: Vec<Value>) -> Result<PgArguments, Error> {
    let mut bound = PgArguments::default();
    for value in args {
        match value {
            Value::I64(value) => bound.add(value),
            Value::F64(value) => bound.add(value),
            Value::Bool(value) => bound.add(value),
            Value::Text(value) => bound.add(value),
            Value::Bytes(value) => bound.add(value),
        }
        .map_err(|error| Error::Other(sqlx::Error::Encode(error)))?;
    }
    Ok(bound)
}

/// Rows of a single column `value`, for counts and flags.
macro_rules! single_column {
    ($($type:ty),*) => {$(
        impl FromRow for $type {
            fn from_row(row: &Row) -> Result<Self, Error> {
                row.get("value")
            }
        }
    )*};
}

single_column!(i64, f64, bool, String, Vec<u8>, Option<i64>, Option<String>);
