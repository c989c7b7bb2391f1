//! What a store answered, in texts of ours: addresses may be signed, a server may send back what it was sent, and a cause
//! quotes what it could not read.

use std::error::Error as StdError;
use std::io::ErrorKind;

use http::StatusCode;
use object_store::client::{HttpError, HttpErrorKind};

use crate::client::NoAuthorities;

/// Longest error code of a store that is shown.
const MAX_CODE: usize = 64;

/// What came of a request.
pub(crate) struct Said {
    pub(crate) problem: String,
    /// Whether the store understood and refused.
    pub(crate) refused: bool,
}

/// The status and the code that a store answered, or why there is no answer.
pub(crate) fn said(error: &object_store::Error) -> Said {
    let mut texts = vec![error.to_string()];
    let mut cause = None;
    let mut next = error.source();
    while let Some(inner) = next {
        texts.push(inner.to_string());
        cause = why(inner).or(cause);
        next = inner.source();
    }
    let after = |mark: &str| {
        texts
            .iter()
            .find_map(|text| text.split_once(mark).map(|(_, rest)| rest))
    };
    let status = after("status code: ")
        .and_then(|rest| rest.get(..3))
        .and_then(|digits| StatusCode::from_bytes(digits.as_bytes()).ok());
    let code = after("<Code>")
        .and_then(|rest| rest.split_once("</Code>"))
        .map(|(code, _)| code)
        .filter(|code| code.len() <= MAX_CODE && code.bytes().all(|b| b.is_ascii_alphanumeric()));
    let problem = match (status, code) {
        (Some(status), Some(code)) => format!("the store answered {status} ({code})"),
        (Some(status), None) => format!("the store answered {status}"),
        (None, Some(code)) => format!("the store answered {code}"),
        (None, None) => match cause {
            Some(cause) => format!("the store gave no answer: {cause}"),
            None => {
                "it cannot be signed in to, or the store did not answer as it should".to_owned()
            }
        },
    };
    Said {
        problem,
        refused: status.is_some_and(refuses),
    }
}

/// Whether a request that got this answer gets it again.
fn refuses(status: StatusCode) -> bool {
    let later = [
        StatusCode::REQUEST_TIMEOUT,
        StatusCode::TOO_EARLY,
        StatusCode::TOO_MANY_REQUESTS,
    ];
    status.is_client_error() && !later.contains(&status)
}

/// A text for a cause that is understood.
fn why(error: &(dyn StdError + 'static)) -> Option<&'static str> {
    if error.is::<NoAuthorities>() {
        return Some("there is no certificate where SSL_CERT_FILE or SSL_CERT_DIR says");
    }
    if let Some(error) = error.downcast_ref::<HttpError>() {
        return match error.kind() {
            HttpErrorKind::Connect => Some("it cannot be connected to"),
            HttpErrorKind::Timeout => Some("it took too long"),
            HttpErrorKind::Request | HttpErrorKind::Interrupted | HttpErrorKind::Decode => {
                Some("the connection broke off")
            }
            _ => Some("the connection failed"),
        };
    }
    let error = error.downcast_ref::<std::io::Error>()?;
    if error
        .get_ref()
        .is_some_and(|inner| inner.downcast_ref::<rustls::Error>().is_some())
    {
        return Some("its certificate is not trusted, or its TLS is none that is spoken here");
    }
    match error.kind() {
        ErrorKind::ConnectionRefused => Some("nothing listens there"),
        ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::BrokenPipe
        | ErrorKind::UnexpectedEof => Some("the connection broke off"),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
            Some("no network leads there")
        }
        ErrorKind::TimedOut => Some("it took too long"),
        _ if error.to_string().starts_with("failed to lookup address") => {
            Some("its host has no address")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(text: &str) -> object_store::Error {
        object_store::Error::Generic {
            store: "S3",
            source: text.to_owned().into(),
        }
    }

    #[test]
    fn only_what_is_understood_is_said() {
        let table = [
            (
                "GET https://h/b?sig=canary - status code: 403 Forbidden: <Code>AccessDenied</Code>canary",
                "the store answered 403 Forbidden (AccessDenied)",
                true,
            ),
            (
                "status code: 408 canary: <Code>canary canary</Code>",
                "the store answered 408 Request Timeout",
                false,
            ),
            (
                "status code: 429 x",
                "the store answered 429 Too Many Requests",
                false,
            ),
            (
                "status code: 503",
                "the store answered 503 Service Unavailable",
                false,
            ),
            (
                "status code: 418",
                "the store answered 418 I'm a teapot",
                true,
            ),
            (
                "error response: <Code>SlowDown</Code>",
                "the store answered SlowDown",
                false,
            ),
            (
                "invalid type: string \"canary\"",
                "it cannot be signed in to, or the store did not answer as it should",
                false,
            ),
        ];
        for (text, problem, refused) in table {
            let said = said(&generic(text));
            assert_eq!((said.problem.as_str(), said.refused), (problem, refused));
        }
    }

    #[test]
    fn causes_are_named_by_their_kind() {
        let refused = std::io::Error::from(ErrorKind::ConnectionRefused);
        let error = object_store::Error::Generic {
            store: "S3",
            source: HttpError::new(HttpErrorKind::Connect, refused).into(),
        };
        let problem = said(&error).problem;
        assert!(problem.ends_with("nothing listens there"), "{problem}");
    }
}
