//! Mutations by the ids that callers gave them, so that a repeated one changes nothing.

use ::sql::{Conn, args};
use clock::Timestamp;

use super::{Store, sql};

/// A mutation that a caller may repeat.
#[derive(Debug, Clone)]
pub struct Mutation {
    /// The caller's id of it; empty when it gave none.
    pub request_id: String,
    /// The method.
    pub method: &'static str,
    /// What it changes.
    pub target: String,
    /// When.
    pub now: Timestamp,
}

/// Why a mutation was not done.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Something has the name.
    #[error("the name is taken")]
    Exists,
    /// There is no such thing.
    #[error("there is no such thing")]
    Missing,
    /// The id was used for something else.
    #[error("the request id was used for another request")]
    Reused,
    /// The database.
    #[error(transparent)]
    Database(#[from] ::sql::Error),
}

/// Notes a mutation; false when it was done before.
pub(super) async fn begin(conn: &mut Conn, mutation: &Mutation) -> Result<bool, Refused> {
    if mutation.request_id.is_empty() {
        return Ok(true);
    }
    let values = args![
        &mutation.request_id,
        mutation.method,
        &mutation.target,
        mutation.now
    ];
    if conn.execute(sql::NEW_REQUEST, values).await? == 1 {
        return Ok(true);
    }
    let known: String = conn
        .fetch_one(sql::REQUEST, args![&mutation.request_id])
        .await?;
    if known == format!("{} {}", mutation.method, mutation.target) {
        Ok(false)
    } else {
        Err(Refused::Reused)
    }
}

impl Store {
    /// Forgets mutations that nobody repeats any more.
    pub async fn expire_requests(&self, before: Timestamp) -> Result<u64, ::sql::Error> {
        self.db.execute(sql::EXPIRE_REQUESTS, args![before]).await
    }
}
