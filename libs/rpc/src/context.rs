//! What travels with a call: who, which request, which trace, until when.

use std::sync::Arc;
use std::time::Duration;

use auth::Principal;
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;
use tonic::metadata::MetadataMap;

use crate::trace::{TRACEPARENT_HEADER, Trace};

/// The metadata with the id under which all logs mention a request.
pub const REQUEST_ID_HEADER: &str = "x-request-id";
/// The metadata with the principal that a service acts for. Servers believe it of everybody who may call them at all, so
/// whatever faces the outside must remove it from what comes in ([`Context::inject`] replaces it).
pub const PRINCIPAL_HEADER: &str = "x-flumina-principal";

pub(crate) const TIMEOUT_HEADER: &str = "grpc-timeout";
const MAX_REQUEST_ID: usize = 128;

/// The context of a call; cheap to clone.
#[derive(Debug, Clone)]
pub struct Context {
    /// Who makes the call.
    pub principal: Principal,
    /// The id of the request that the outside made, the same in every service that it reaches.
    pub request_id: Arc<str>,
    /// The place in the trace.
    pub trace: Trace,
    /// When the caller stops waiting.
    pub deadline: Option<Instant>,
}

impl Context {
    /// A new request of `principal`.
    pub fn new(principal: Principal) -> Self {
        Self {
            principal,
            request_id: new_request_id(),
            trace: Trace::start(),
            deadline: None,
        }
    }

    /// Work that a service does on its own, such as a reconciler's pass.
    pub fn background(service: &str) -> Self {
        Self::new(Principal::service(service))
    }

    /// The request that came in with `headers`: its request id if that is sane, its trace if that is valid.
    pub fn from_headers(principal: Principal, headers: &HeaderMap) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let request_id = text(REQUEST_ID_HEADER)
            .filter(|id| sane_request_id(id))
            .map_or_else(new_request_id, Arc::from);
        let trace = text(TRACEPARENT_HEADER)
            .and_then(|text| text.parse::<Trace>().ok())
            .map_or_else(Trace::start, Trace::child);
        Self {
            principal,
            request_id,
            trace,
            deadline: None,
        }
    }

    /// The time that is left, if there is a deadline.
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline
            .map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// A unary call to a peer on behalf of this one: it may take `timeout`, but not longer than our own caller waits.
    pub fn request<T>(&self, timeout: Duration, message: T) -> tonic::Request<T> {
        let mut request = self.stream_request(message);
        let left = self.remaining().unwrap_or(timeout);
        request.set_timeout(timeout.min(left));
        request
    }

    /// A streaming call to a peer on behalf of this one; it has no deadline.
    pub fn stream_request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        let mut headers = std::mem::take(request.metadata_mut()).into_headers();
        self.inject(&mut headers);
        *request.metadata_mut() = MetadataMap::from_headers(headers);
        request
    }

    /// Writes principal, request id and trace, but no deadline, into the headers of a call.
    pub fn inject(&self, headers: &mut HeaderMap) {
        let mut set = |name: &'static str, text: &str| {
            // All three are visible ASCII by construction.
            if let Ok(value) = HeaderValue::try_from(text) {
                headers.insert(HeaderName::from_static(name), value);
            }
        };
        set(PRINCIPAL_HEADER, &self.principal.to_string());
        set(REQUEST_ID_HEADER, &self.request_id);
        set(TRACEPARENT_HEADER, &self.trace.to_string());
    }
}

/// The context that the server stack gave to a call. Without the stack, as in a unit test, a new one of
/// [`Principal::local`].
pub fn context<T>(request: &tonic::Request<T>) -> Context {
    request
        .extensions()
        .get()
        .cloned()
        .unwrap_or_else(|| Context::new(Principal::local()))
}

/// [`Context::request`] as a function.
pub fn request_with_context<T>(
    context: &Context,
    timeout: Duration,
    message: T,
) -> tonic::Request<T> {
    context.request(timeout, message)
}

fn new_request_id() -> Arc<str> {
    let mut buffer = uuid::Uuid::encode_buffer();
    let text = uuid::Uuid::now_v7().hyphenated().encode_lower(&mut buffer);
    Arc::from(&*text)
}

fn sane_request_id(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(&byte);
    !text.is_empty() && text.len() <= MAX_REQUEST_ID && text.bytes().all(allowed)
}

/// Reads `grpc-timeout` as the gRPC protocol over HTTP/2 defines it.
pub(crate) fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, crate::Error> {
    let Some(value) = headers.get(TIMEOUT_HEADER) else {
        return Ok(None);
    };
    let parse = || {
        let text = value.to_str().ok()?;
        let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let number: u64 = digits.parse().ok()?;
        match unit {
            "H" => Some(Duration::from_secs(number * 3600)),
            "M" => Some(Duration::from_secs(number * 60)),
            "S" => Some(Duration::from_secs(number)),
            "m" => Some(Duration::from_millis(number)),
            "u" => Some(Duration::from_micros(number)),
            "n" => Some(Duration::from_nanos(number)),
            _ => None,
        }
    };
    parse().map(Some).ok_or(crate::Error::Timeout)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::try_from(*value).unwrap(),
                )
            })
            .collect()
    }

    #[test]
    fn timeouts_are_read_as_the_protocol_says() {
        let table = [
            ("2H", Duration::from_secs(7200)),
            ("3M", Duration::from_secs(180)),
            ("99999999S", Duration::from_secs(99_999_999)),
            ("5m", Duration::from_millis(5)),
            ("0u", Duration::ZERO),
            ("7n", Duration::from_nanos(7)),
        ];
        for (text, expected) in table {
            let found = timeout(&headers(&[(TIMEOUT_HEADER, text)])).unwrap();
            assert_eq!(found, Some(expected), "{text}");
        }
        for text in ["", "5", "m", "+5m", "123456789S", "5x", "5.0S"] {
            assert!(
                timeout(&headers(&[(TIMEOUT_HEADER, text)])).is_err(),
                "{text}"
            );
        }
    }

    #[test]
    fn only_sane_request_ids_are_taken_over() {
        let with = |id: &str| {
            Context::from_headers(Principal::local(), &headers(&[(REQUEST_ID_HEADER, id)]))
        };
        assert_eq!(&*with("abc-1").request_id, "abc-1");
        for id in ["", "a b", "a\"b", &"x".repeat(129)] {
            assert_ne!(&*with(id).request_id, id);
        }
    }

    #[tokio::test]
    async fn a_call_to_a_peer_never_outlives_its_caller() {
        let mut context = Context::new(Principal::user("Zoë"));
        let plain = context.request(Duration::from_secs(5), ());
        assert_eq!(plain.metadata().get(TIMEOUT_HEADER).unwrap(), "5000000u");
        context.deadline = Some(Instant::now() + Duration::from_secs(1));
        let request = context.request(Duration::from_secs(5), ());
        let left = timeout(request.metadata().as_ref()).unwrap().unwrap();
        assert!(left <= Duration::from_secs(1), "{left:?}");
        let metadata = request.metadata();
        assert_eq!(metadata.get(PRINCIPAL_HEADER).unwrap(), "user:Zo%C3%AB");
        assert_eq!(
            metadata.get(REQUEST_ID_HEADER).unwrap(),
            &*context.request_id
        );
        assert!(
            context
                .stream_request(())
                .metadata()
                .get(TIMEOUT_HEADER)
                .is_none()
        );
    }
}
