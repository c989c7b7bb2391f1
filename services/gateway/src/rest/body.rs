//! Bodies of requests within limits of size and patience, and bodies of answers.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;

use crate::Error;

/// How long a body may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    idle: Duration,
    end: Instant,
}

impl Patience {
    /// From now on: `idle` between two pieces, and `whole` to the end of the body, so that one which trickles in does
    /// not hold its place for ever.
    pub(crate) fn new(idle: Duration, whole: Duration) -> Self {
        Self {
            idle,
            end: Instant::now() + whole,
        }
    }

    /// Waits for the next piece.
    pub(crate) async fn wait<T>(&self, piece: impl Future<Output = T>) -> Result<T, Error> {
        let until = self.end.min(Instant::now() + self.idle);
        tokio::time::timeout_at(until, piece)
            .await
            .map_err(|_| Error::Slow)
    }
}

/// Reads a whole body.
pub(crate) async fn read(
    headers: &HeaderMap,
    mut body: Body,
    limit: usize,
    patience: Patience,
) -> Result<Bytes, Error> {
    if let Some(encoding) = headers.get(CONTENT_ENCODING)
        && encoding != "identity"
    {
        let text = String::from_utf8_lossy(encoding.as_bytes()).into_owned();
        return Err(Error::ContentEncoding(text));
    }
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(Error::TooLarge(limit));
    }
    let Some(first) = frame(&mut body, patience).await? else {
        return Ok(Bytes::new());
    };
    let Some(second) = frame(&mut body, patience).await? else {
        // Most bodies come in one piece, which is used as it is.
        return if first.len() > limit {
            Err(Error::TooLarge(limit))
        } else {
            Ok(first)
        };
    };
    let mut whole = BytesMut::with_capacity(first.len() + second.len());
    let mut next = Some(second);
    whole.extend_from_slice(&first);
    while let Some(bytes) = next {
        if whole.len() + bytes.len() > limit {
            return Err(Error::TooLarge(limit));
        }
        whole.extend_from_slice(&bytes);
        next = frame(&mut body, patience).await?;
    }
    Ok(whole.freeze())
}

/// The next bytes; trailers are passed over.
async fn frame(body: &mut Body, patience: Patience) -> Result<Option<Bytes>, Error> {
    loop {
        if http_body::Body::is_end_stream(body) {
            return Ok(None);
        }
        match patience.wait(body.frame()).await? {
            None => return Ok(None),
            Some(Err(_)) => return Err(Error::Incomplete),
            Some(Ok(frame)) => {
                if let Ok(bytes) = frame.into_data()
                    && !bytes.is_empty()
                {
                    return Ok(Some(bytes));
                }
            }
        }
    }
}

/// Refuses a body that is not JSON: `text/plain` is what a foreign page can send without asking.
pub(crate) fn require_json(headers: &HeaderMap) -> Result<(), Error> {
    let found = headers
        .get(CONTENT_TYPE)
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        .unwrap_or_default();
    let mut parts = found.split(';').map(str::trim);
    let kind = parts.next().unwrap_or_default();
    let charset_fits = parts.all(|parameter| match parameter.split_once('=') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
            let value = value.trim().trim_matches('"');
            value.eq_ignore_ascii_case("utf-8") || value.eq_ignore_ascii_case("utf8")
        }
        _ => true,
    });
    if kind.eq_ignore_ascii_case("application/json") && charset_fits {
        return Ok(());
    }
    Err(Error::ContentType {
        expected: "application/json",
        found,
    })
}

/// A body of one piece.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Body::new(http_body_util::Full::new(bytes.into()))
}

/// A body that comes piece by piece. An error ends the connection, so that it cannot pass for an end.
pub(crate) fn streamed(pieces: impl Stream<Item = Result<Bytes, Status>> + Send + 'static) -> Body {
    use futures_util::StreamExt as _;
    Body::new(StreamBody::new(pieces.map(|piece| piece.map(Frame::data))))
}
