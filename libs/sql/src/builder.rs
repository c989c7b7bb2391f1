//! Statement text: static, a pair of dialects, or joined from static fragments.

use std::fmt::Write as _;

use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

use crate::Value;

/// A statement for either database.
#[derive(Debug, Clone)]
pub struct Sql {
    pub(crate) sqlite: SqlStr,
    pub(crate) postgres: SqlStr,
}

impl Sql {
    /// A statement whose text differs between SQLite and PostgreSQL.
    pub fn pair(sqlite: &'static str, postgres: &'static str) -> Self {
        Self {
            sqlite: sqlite.into_sql_str(),
            postgres: postgres.into_sql_str(),
        }
    }

    /// The statement that tells how the database would run this one, for tests that look for indexes.
    #[must_use]
    pub fn explained(&self) -> Self {
        // Safe: a fixed prefix before a statement that was safe already.
        let prefixed = |prefix: &str, text: &SqlStr| {
            AssertSqlSafe(format!("{prefix}{}", text.as_str())).into_sql_str()
        };
        Self {
            sqlite: prefixed("EXPLAIN QUERY PLAN ", &self.sqlite),
            postgres: prefixed("EXPLAIN ", &self.postgres),
        }
    }
}

impl From<&'static str> for Sql {
    fn from(text: &'static str) -> Self {
        Self::pair(text, text)
    }
}

impl From<(&'static str, &'static str)> for Sql {
    fn from((sqlite, postgres): (&'static str, &'static str)) -> Self {
        Self::pair(sqlite, postgres)
    }
}

/// Joins static fragments and binds into a statement. No other code makes SQL text at run time.
#[derive(Debug, Clone, Default)]
pub struct Builder {
    sqlite: String,
    postgres: String,
    args: Vec<Value>,
}

impl Builder {
    /// A statement that starts with `text`.
    pub fn new(text: &'static str) -> Self {
        let mut builder = Self::default();
        builder.push(text);
        builder
    }

    /// Adds text.
    pub fn push(&mut self, text: &'static str) -> &mut Self {
        self.push_pair(text, text)
    }

    /// Adds text that differs between the databases.
    pub fn push_pair(&mut self, sqlite: &'static str, postgres: &'static str) -> &mut Self {
        self.sqlite.push_str(sqlite);
        self.postgres.push_str(postgres);
        self
    }

    /// Adds a placeholder and its value.
    pub fn bind(&mut self, value: impl Into<Value>) -> &mut Self {
        self.args.push(value.into());
        let number = self.args.len();
        // Writing to a String cannot fail.
        let _infallible = write!(self.sqlite, "${number}");
        let _infallible = write!(self.postgres, "${number}");
        self
    }

    /// Adds `$a, $b, …`.
    pub fn bind_list<V: Into<Value>>(&mut self, values: impl IntoIterator<Item = V>) -> &mut Self {
        for (index, value) in values.into_iter().enumerate() {
            if index > 0 {
                self.push(", ");
            }
            self.bind(value);
        }
        self
    }

    /// Adds `($a, $b), ($c, $d), …`, for inserts of several rows.
    pub fn bind_rows(&mut self, rows: impl IntoIterator<Item = Vec<Value>>) -> &mut Self {
        for (index, row) in rows.into_iter().enumerate() {
            self.push(if index == 0 { "(" } else { ", (" });
            self.bind_list(row);
            self.push(")");
        }
        self
    }

    /// How many values are bound so far; SQLite takes 32,766, PostgreSQL 65,535.
    pub fn bound(&self) -> usize {
        self.args.len()
    }

    /// The statement and its values.
    pub fn finish(self) -> (Sql, Vec<Value>) {
        // Safe: the text is made of static fragments and placeholder numbers only.
        let sql = Sql {
            sqlite: AssertSqlSafe(self.sqlite).into_sql_str(),
            postgres: AssertSqlSafe(self.postgres).into_sql_str(),
        };
        (sql, self.args)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_numbered_in_order() {
        let mut builder = Builder::new("SELECT * FROM t WHERE a = ");
        builder
            .bind(1_i64)
            .push(" AND b IN (")
            .bind_list(["x", "y"])
            .push(")");
        builder.push_pair(" LIMIT -1", " LIMIT ALL");
        let (sql, args) = builder.finish();
        assert_eq!(
            sql.sqlite.as_str(),
            "SELECT * FROM t WHERE a = $1 AND b IN ($2, $3) LIMIT -1"
        );
        assert_eq!(
            sql.postgres.as_str(),
            "SELECT * FROM t WHERE a = $1 AND b IN ($2, $3) LIMIT ALL"
        );
        assert_eq!(args.len(), 3);
    }
}
