//! Specifications, each stored once.

use sql::{Conn, Error, args};

use super::sql as text;
use crate::domain::Spec;

/// Keeps a specification until nothing refers to it.
pub(crate) async fn keep(conn: &mut Conn, spec: &Spec) -> Result<(), Error> {
    conn.execute(text::KEEP_SPEC, args![&spec.hash, &spec.body])
        .await
        .map(drop)
}

/// The text of a specification.
pub(crate) async fn get(conn: &mut Conn, hash: &str) -> Result<Option<String>, Error> {
    conn.fetch_optional(text::GET_SPEC, args![hash]).await
}

/// Removes a specification that no version and no run refers to.
pub(crate) async fn forget(conn: &mut Conn, hash: &str) -> Result<(), Error> {
    conn.execute(text::FORGET_SPEC, args![hash]).await.map(drop)
}
