//! Pages of the adopted contract: size, order, and tokens that carry the whole query.
//!
//! A token is base64url of JSON: the order, the filter, the parent and the first item of the next page. Clients may
//! leave order and filter out when they send it, or must send the same. It holds no secret and needs no signature:
//! everything in it is checked like any other input.

use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use super::fields::{Field, FieldKind, Fields};
use super::filter::{self, Filter};
use super::violation::{Violation, Violations, clip};

/// Items of a page when the caller does not say.
pub(crate) const DEFAULT_SIZE: u32 = 20;
/// The most items of a page.
pub(crate) const MAX_SIZE: u32 = 200;
/// Bytes of a token: a filter of the largest size fits.
const MAX_TOKEN: usize = 256 << 10;

/// What a list call asks for, as it came.
#[derive(Debug, Clone, Default)]
pub struct Asked<'a> {
    /// `page_size`.
    pub size: i32,
    /// `page_token`.
    pub token: &'a str,
    /// `sort_by`.
    pub sort_by: &'a str,
    /// `filter`.
    pub filter: &'a str,
    /// What the list belongs to, such as `experiment_id=…`; empty for nothing.
    pub parent: &'a str,
}

/// A page that can be read from the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// The resource.
    pub fields: &'static Fields,
    /// Items at most.
    pub size: u32,
    /// The order; the key ends it, in the same direction.
    pub sort: Sort,
    /// What the items must fulfil.
    pub filter: Filter,
    /// The filter as it was given.
    filter_text: String,
    parent: String,
    /// The first item of the page; none for the first page.
    pub start: Option<Start>,
}

/// An order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sort {
    /// The field.
    pub field: &'static Field,
    /// Whether the greatest comes first.
    pub descending: bool,
}

/// The place of an item in an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// The value of the field of the order.
    pub value: SortValue,
    /// The key.
    pub id: String,
}

/// A value of a field of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SortValue {
    /// Of a time, in microseconds.
    Number(i64),
    /// Of a text.
    Text(String),
}

/// Why a page cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// Fields are not valid.
    #[error("the list request is not valid")]
    Invalid(Vec<Violation>),
    /// The token is not one of this server, or not of this list.
    #[error("{0}")]
    Token(&'static str),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Token {
    v: u8,
    resource: String,
    parent: String,
    sort: String,
    desc: bool,
    filter: String,
    value: SortValue,
    id: String,
}

const VERSION: u8 = 1;
const FOREIGN: &str = "page_token is not one that this server returned";
const OTHER: &str = "page_token belongs to a request with another sort_by, filter or parent";

impl Query {
    /// Reads what a list call asks for.
    ///
    /// # Errors
    /// All fields that are not valid, or the token.
    pub fn parse(fields: &'static Fields, asked: &Asked<'_>) -> Result<Self, QueryError> {
        let mut violations = Violations::new();
        let size = match u32::try_from(asked.size) {
            Ok(0) => DEFAULT_SIZE,
            Ok(size) => size.min(MAX_SIZE),
            Err(_) => {
                violations.add("page_size", "must not be negative");
                DEFAULT_SIZE
            }
        };
        let sort = match sort(fields, asked.sort_by) {
            Ok(sort) => sort,
            Err(message) => {
                violations.add("sort_by", message);
                None
            }
        };
        let filter = match filter::parse(asked.filter, fields) {
            Ok(filter) => filter,
            Err(error) => {
                violations.add("filter", error.to_string());
                Filter::default()
            }
        };
        if !violations.is_empty() {
            return Err(QueryError::Invalid(violations.into_vec()));
        }
        let first = Self {
            fields,
            size,
            sort: match sort {
                Some(sort) => sort,
                None => default_sort(fields),
            },
            filter,
            filter_text: asked.filter.to_owned(),
            parent: asked.parent.to_owned(),
            start: None,
        };
        if asked.token.is_empty() {
            return Ok(first);
        }
        first.at(asked, sort.is_some())
    }

    /// The same list from the item of a token on.
    fn at(self, asked: &Asked<'_>, sorted: bool) -> Result<Self, QueryError> {
        let token = decode(asked.token).ok_or(QueryError::Token(FOREIGN))?;
        let fields = self.fields;
        if token.resource != fields.resource {
            return Err(QueryError::Token(FOREIGN));
        }
        let field = fields.find(&token.sort).filter(|field| field.sortable);
        let field = field.ok_or(QueryError::Token(FOREIGN))?;
        let fits = match (&token.value, field.kind) {
            (SortValue::Number(_), FieldKind::Time) => true,
            (SortValue::Text(text), FieldKind::Text | FieldKind::Names(_)) => !text.contains('\0'),
            (SortValue::Number(_), _) | (SortValue::Text(_), FieldKind::Time) => false,
        };
        let filter =
            filter::parse(&token.filter, fields).map_err(|_| QueryError::Token(FOREIGN))?;
        if !fits || token.id.contains('\0') {
            return Err(QueryError::Token(FOREIGN));
        }
        let sort = Sort {
            field,
            descending: token.desc,
        };
        let same_sort = !sorted || sort == self.sort;
        let same_filter = asked.filter.trim().is_empty() || filter == self.filter;
        if !same_sort || !same_filter || token.parent != self.parent {
            return Err(QueryError::Token(OTHER));
        }
        Ok(Self {
            sort,
            filter,
            filter_text: token.filter,
            start: Some(Start {
                value: token.value,
                id: token.id,
            }),
            ..self
        })
    }

    /// The token of the page that begins with this item.
    pub fn token(&self, value: SortValue, id: String) -> String {
        let token = Token {
            v: VERSION,
            resource: self.fields.resource.to_owned(),
            parent: self.parent.clone(),
            sort: self.sort.field.name.to_owned(),
            desc: self.sort.descending,
            filter: self.filter_text.clone(),
            value,
            id,
        };
        // A struct of texts and numbers always has a JSON form.
        let json = serde_json::to_vec(&token).unwrap_or_default();
        URL_SAFE_NO_PAD.encode(json)
    }
}

fn decode(text: &str) -> Option<Token> {
    if text.len() > MAX_TOKEN {
        return None;
    }
    let bytes = URL_SAFE_NO_PAD
        .decode(text)
        .or_else(|_| URL_SAFE.decode(text))
        .ok()?;
    let token: Token = serde_json::from_slice(&bytes).ok()?;
    (token.v == VERSION).then_some(token)
}

fn default_sort(fields: &'static Fields) -> Sort {
    let field = fields.find("created_at").unwrap_or(&fields.all[0]);
    Sort {
        field,
        descending: false,
    }
}

/// `FIELD`, `FIELD asc` or `FIELD desc`; none for the empty text.
fn sort(fields: &'static Fields, text: &str) -> Result<Option<Sort>, String> {
    let lower = text.to_ascii_lowercase();
    let mut words = lower.split_ascii_whitespace();
    let Some(name) = words.next() else {
        return Ok(None);
    };
    let descending = match words.next() {
        None | Some("asc") => false,
        Some("desc") => true,
        Some(other) => {
            return Err(format!(
                "\"{}\" is not a direction: use asc or desc",
                clip(other)
            ));
        }
    };
    if words.next().is_some() {
        return Err("must be a field, or a field and a direction".to_owned());
    }
    let field = fields.find(name).filter(|field| field.sortable);
    match field {
        Some(field) => Ok(Some(Sort { field, descending })),
        None => Err(format!(
            "no support for sorting on unrecognized field \"{}\"",
            clip(name)
        )),
    }
}

#[cfg(test)]
#[path = "page_tests.rs"]
mod tests;
