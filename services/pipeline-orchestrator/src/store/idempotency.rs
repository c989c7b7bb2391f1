//! What mutations answered, for callers that repeat them.

use clock::Timestamp;
use sql::{Conn, Error, args};

use super::rows::Answer;
use super::sql as text;

/// Names a mutation of a caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallKey {
    /// Who calls.
    pub caller: String,
    /// The method.
    pub method: &'static str,
    /// The key that the caller chose.
    pub request_id: String,
    /// A digest of the request.
    pub body_hash: String,
}

/// What is known about a mutation.
#[derive(Debug, PartialEq, Eq)]
pub enum Known {
    /// Nothing: it is new.
    New,
    /// It was done, and this was the answer.
    Done(Vec<u8>),
    /// The key was used for another request.
    Other,
}

/// Looks for the answer of an earlier call.
pub(crate) async fn find(conn: &mut Conn, key: &CallKey) -> Result<Known, Error> {
    let args = args![&key.caller, key.method, &key.request_id];
    let answer: Option<Answer> = conn.fetch_optional(text::GET_ANSWER, args).await?;
    Ok(match answer {
        None => Known::New,
        Some(answer) if answer.body_hash == key.body_hash => Known::Done(answer.response),
        Some(_) => Known::Other,
    })
}

/// Keeps an answer, in the transaction of its mutation.
pub(crate) async fn keep(
    conn: &mut Conn,
    key: &CallKey,
    response: Vec<u8>,
    now: Timestamp,
) -> Result<(), Error> {
    let args = args![
        &key.caller,
        key.method,
        &key.request_id,
        &key.body_hash,
        response,
        now
    ];
    conn.execute(text::INSERT_ANSWER, args).await.map(drop)
}

/// Removes answers from before an instant and says how many.
pub(crate) async fn purge(conn: &mut Conn, before: Timestamp) -> Result<u64, Error> {
    conn.execute(text::PURGE_ANSWERS, args![before]).await
}
