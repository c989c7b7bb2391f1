//! Pages: the one place that builds statements from filters and orders.

use sql::{Builder, Column, Conn, Error, FromRow, Row, Sql, Value};

use crate::domain::{Compare, FieldKind, Key, Query, SortValue, Test};

const MICROS: i64 = 1_000_000;

/// What a list reads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Select {
    /// The columns of an item.
    pub(crate) columns: &'static str,
    /// The tables.
    pub(crate) from: &'static str,
    /// The tables without those that only add columns, for counting.
    pub(crate) counted: &'static str,
    /// What every item fulfils.
    pub(crate) base: &'static str,
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// How many items the whole list has.
    pub total: i64,
    /// The token of the next page; empty on the last.
    pub next: String,
}

impl<T> Page<T> {
    pub(crate) fn map<U>(self, convert: impl FnMut(T) -> U) -> Page<U> {
        Page {
            items: self.items.into_iter().map(convert).collect(),
            total: self.total,
            next: self.next,
        }
    }
}

/// An item with its place in the order.
struct Placed<T, V> {
    item: T,
    value: V,
    id: String,
}

impl<T: FromRow, V: Column> FromRow for Placed<T, V> {
    fn from_row(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            item: T::from_row(row)?,
            value: row.get("page_value")?,
            id: row.get("id")?,
        })
    }
}

/// Reads a page and the size of the whole list from one state of the database. `parent` is a column and its value.
pub(crate) async fn page<T: FromRow>(
    conn: &mut Conn,
    select: Select,
    parent: Option<(&'static str, String)>,
    query: &Query,
) -> Result<Page<T>, Error> {
    let (count, args) = count_statement(select, parent.clone(), query);
    let total: i64 = conn.fetch_one(count, args).await?;
    let (statement, args) = page_statement(select, parent, query);
    let (items, next) = match query.sort.field.kind {
        FieldKind::Time => {
            let rows: Vec<Placed<T, i64>> = conn.fetch_all(statement, args).await?;
            cut(rows, query, SortValue::Number)
        }
        FieldKind::Text | FieldKind::Names(_) => {
            let rows: Vec<Placed<T, String>> = conn.fetch_all(statement, args).await?;
            cut(rows, query, SortValue::Text)
        }
    };
    Ok(Page { items, total, next })
}

/// Takes away the one row beyond the page, which becomes the token.
fn cut<T, V>(
    mut rows: Vec<Placed<T, V>>,
    query: &Query,
    value: fn(V) -> SortValue,
) -> (Vec<T>, String) {
    let beyond = (rows.len() > query.size as usize)
        .then(|| rows.pop())
        .flatten();
    let next = beyond.map(|row| query.token(value(row.value), row.id));
    let items = rows.into_iter().map(|row| row.item).collect();
    (items, next.unwrap_or_default())
}

pub(crate) fn count_statement(
    select: Select,
    parent: Option<(&'static str, String)>,
    query: &Query,
) -> (Sql, Vec<Value>) {
    let mut builder = Builder::new("SELECT COUNT(*) AS value FROM ");
    builder.push(select.counted);
    conditions(&mut builder, select, parent, query);
    builder.finish()
}

pub(crate) fn page_statement(
    select: Select,
    parent: Option<(&'static str, String)>,
    query: &Query,
) -> (Sql, Vec<Value>) {
    let key = query.fields.key;
    let column = query.sort.field.column;
    let mut builder = Builder::new("SELECT ");
    builder
        .push(select.columns)
        .push(", ")
        .push(column)
        .push(" AS page_value FROM ");
    builder.push(select.from);
    conditions(&mut builder, select, parent, query);
    if let Some(start) = &query.start {
        let sign = if query.sort.descending {
            ") <= ("
        } else {
            ") >= ("
        };
        builder
            .push(" AND (")
            .push(column)
            .push(", ")
            .push(key)
            .push(sign);
        match &start.value {
            SortValue::Number(number) => builder.bind(*number),
            SortValue::Text(text) => builder.bind(text.as_str()),
        };
        builder.push(", ").bind(start.id.as_str()).push(")");
    }
    let direction = if query.sort.descending { " DESC" } else { "" };
    builder.push(" ORDER BY page_value").push(direction);
    builder.push(", ").push(key).push(direction);
    builder.push(" LIMIT ").bind(i64::from(query.size) + 1);
    builder.finish()
}

fn conditions(
    builder: &mut Builder,
    select: Select,
    parent: Option<(&'static str, String)>,
    query: &Query,
) {
    builder.push(" WHERE ").push(select.base);
    if let Some((column, value)) = parent {
        builder.push(" AND ").push(column).push(" = ").bind(value);
    }
    for predicate in &query.filter.predicates {
        builder.push(" AND ");
        match &predicate.key {
            Key::Field(field) => condition(builder, field.column, &predicate.test),
            Key::Tag(tag) => {
                builder.push("EXISTS (SELECT 1 FROM pipeline_tags WHERE pipeline_id = pipelines.id AND tag = ");
                builder.bind(tag.as_str()).push(" AND ");
                condition(builder, "content", &predicate.test);
                builder.push(")");
            }
        }
    }
}

fn condition(builder: &mut Builder, column: &'static str, test: &Test) {
    match test {
        Test::Text(compare, text) => {
            builder
                .push(column)
                .push(sign(*compare))
                .bind(text.as_str());
        }
        Test::TextIn(texts) if texts.is_empty() => {
            builder.push("1 = 0");
        }
        Test::TextIn(texts) => {
            builder.push(column).push(" IN (");
            builder
                .bind_list(texts.iter().map(String::as_str))
                .push(")");
        }
        // With the collation "C", ILIKE folds ASCII letters only, as LIKE does on SQLite.
        Test::Contains(text) => {
            builder.push(column).push_pair(" LIKE ", " ILIKE ");
            builder.bind(pattern(text)).push(" ESCAPE '\\'");
        }
        Test::Time(compare, seconds) => time(builder, column, *compare, *seconds),
        Test::TimeIn(seconds) if seconds.is_empty() => {
            builder.push("1 = 0");
        }
        Test::TimeIn(seconds) => {
            for (index, seconds) in seconds.iter().enumerate() {
                builder.push(if index == 0 { "(" } else { " OR " });
                time(builder, column, Compare::Equal, *seconds);
            }
            builder.push(")");
        }
    }
}

pub(super) fn sign(compare: Compare) -> &'static str {
    match compare {
        Compare::Equal => " = ",
        Compare::NotEqual => " <> ",
        Compare::Greater => " > ",
        Compare::GreaterOrEqual => " >= ",
        Compare::Less => " < ",
        Compare::LessOrEqual => " <= ",
    }
}

/// Compares whole seconds with a column of microseconds, so that an index still serves.
fn time(builder: &mut Builder, column: &'static str, compare: Compare, seconds: i64) {
    let first = seconds.saturating_mul(MICROS);
    let after = seconds.saturating_add(1).saturating_mul(MICROS);
    match compare {
        Compare::Equal => {
            builder.push("(").push(column).push(" >= ").bind(first);
            builder
                .push(" AND ")
                .push(column)
                .push(" < ")
                .bind(after)
                .push(")");
        }
        Compare::NotEqual => {
            builder.push("(").push(column).push(" < ").bind(first);
            builder
                .push(" OR ")
                .push(column)
                .push(" >= ")
                .bind(after)
                .push(")");
        }
        Compare::Greater => {
            builder.push(column).push(" >= ").bind(after);
        }
        Compare::GreaterOrEqual => {
            builder.push(column).push(" >= ").bind(first);
        }
        Compare::Less => {
            builder.push(column).push(" < ").bind(first);
        }
        Compare::LessOrEqual => {
            builder.push(column).push(" < ").bind(after);
        }
    }
}

/// A pattern that finds the text literally.
pub(super) fn pattern(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len() + 2);
    pattern.push('%');
    for character in text.chars() {
        if matches!(character, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('%');
    pattern
}
