//! Pages: the one place that builds statements from filters and orders.
//!
//! A page ends at its number of items, or earlier, when these reach a number of bytes. So the places of the items are read
//! first, with their sizes, and then those that fit.

use std::collections::HashMap;

use sql::{Builder, Column, Conn, Error, FromRow, Row, Sql, Value, fitting};

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
    /// The bytes of what users decide the size of.
    pub(crate) bytes: &'static str,
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

/// The place of an item in the order, and its size.
struct Place<V> {
    id: String,
    value: V,
    bytes: i64,
}

impl<V: Column> FromRow for Place<V> {
    fn from_row(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            id: row.get("id")?,
            value: row.get("page_value")?,
            bytes: row.get("bytes")?,
        })
    }
}

/// An item with its id.
struct Keyed<T> {
    id: String,
    item: T,
}

impl<T: FromRow> FromRow for Keyed<T> {
    fn from_row(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            id: row.get("id")?,
            item: T::from_row(row)?,
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
    let (ids, next) = match query.sort.field.kind {
        FieldKind::Time => {
            let places: Vec<Place<i64>> = conn.fetch_all(statement, args).await?;
            cut(places, query, SortValue::Number)
        }
        FieldKind::Text | FieldKind::Names(_) => {
            let places: Vec<Place<String>> = conn.fetch_all(statement, args).await?;
            cut(places, query, SortValue::Text)
        }
    };
    let items = items(conn, select, query.fields.key, ids).await?;
    Ok(Page { items, total, next })
}

/// Takes away the places beyond the page; the first of them becomes the token.
fn cut<V>(
    mut places: Vec<Place<V>>,
    query: &Query,
    value: fn(V) -> SortValue,
) -> (Vec<String>, String) {
    let most = query.size as usize;
    let count = fitting(places.iter().take(most).map(|place| place.bytes));
    let beyond = places.split_off(count.min(places.len()));
    let first = beyond.into_iter().next();
    let next = first.map(|place| query.token(value(place.value), place.id));
    let ids = places.into_iter().map(|place| place.id).collect();
    (ids, next.unwrap_or_default())
}

/// The items of ids, in their order.
async fn items<T: FromRow>(
    conn: &mut Conn,
    select: Select,
    key: &'static str,
    ids: Vec<String>,
) -> Result<Vec<T>, Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let (statement, args) = items_statement(select, key, &ids);
    let found: Vec<Keyed<T>> = conn.fetch_all(statement, args).await?;
    let mut by_id: HashMap<String, T> = found.into_iter().map(|one| (one.id, one.item)).collect();
    Ok(ids.iter().filter_map(|id| by_id.remove(id)).collect())
}

pub(crate) fn items_statement(
    select: Select,
    key: &'static str,
    ids: &[String],
) -> (Sql, Vec<Value>) {
    let mut builder = Builder::new("SELECT ");
    builder.push(select.columns).push(" FROM ");
    builder.push(select.from).push(" WHERE ").push(key);
    builder
        .push(" IN (")
        .bind_list(ids.iter().map(String::as_str));
    builder.push(")");
    builder.finish()
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
    builder.push(key).push(" AS id, ").push(column);
    builder.push(" AS page_value, CAST(").push(select.bytes);
    builder.push(" AS BIGINT) AS bytes FROM ");
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
