//! From a service's error to a status, and from a peer's status to an error.

use std::collections::HashMap;
use std::error::Error;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// A field of a request and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldViolation {
    /// The path of the field, as the proto names it: `run.runtime_config.parameters.rate`.
    pub field: String,
    /// What was wrong and what would be right.
    pub description: String,
}

impl FieldViolation {
    /// A violation of `field`.
    pub fn new(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            description: description.into(),
        }
    }
}

/// The thing that is missing, taken or in the wrong state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// The kind, such as `run`.
    pub kind: &'static str,
    /// The id or the name.
    pub name: String,
}

/// An error that callers of an API see.
///
/// `Display` is the message. For [`Code::Internal`] it stays in the log and the caller gets a general sentence.
pub trait ApiError: Error {
    /// What the caller can do about it.
    fn code(&self) -> Code;

    /// A stable reason in UPPER_SNAKE_CASE.
    fn reason(&self) -> &'static str;

    /// All fields that are wrong, of an invalid request.
    fn violations(&self) -> Vec<FieldViolation> {
        Vec::new()
    }

    /// The thing that the error is about.
    fn resource(&self) -> Option<Resource> {
        None
    }

    /// When a retry may succeed.
    fn retry_after(&self) -> Option<Duration> {
        None
    }

    /// Facts for programs.
    fn metadata(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }
}

/// The status of an error of a service; `service` becomes the domain `<service>.flumina`.
///
/// An internal error is logged here with its whole chain; the caller learns only the request's id, which the
/// server stack adds.
pub fn status(service: &str, error: &dyn ApiError) -> Status {
    let code = error.code();
    let mut details = ErrorDetails::new();
    let metadata: HashMap<String, String> = error
        .metadata()
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
    details.set_error_info(error.reason(), format!("{service}.flumina"), metadata);
    for violation in error.violations() {
        details.add_bad_request_violation(violation.field, violation.description);
    }
    if let Some(resource) = error.resource() {
        if code == Code::FailedPrecondition {
            details.add_precondition_failure_violation(
                error.reason(),
                format!("{}/{}", resource.kind, resource.name),
                error.to_string(),
            );
        } else {
            details.set_resource_info(resource.kind, resource.name, "", "");
        }
    }
    let retry_after = error
        .retry_after()
        .or((code == Code::Unavailable).then_some(Duration::from_secs(1)));
    if let Some(delay) = retry_after {
        details.set_retry_info(Some(delay));
    }
    if matches!(code, Code::Internal | Code::Unknown | Code::DataLoss) {
        tracing::error!(
            service,
            reason = error.reason(),
            error = chain(error),
            "internal error"
        );
        let message =
            "an internal error occurred; the server's log has the cause under this request's id";
        return Status::with_error_details(code, message, details);
    }
    Status::with_error_details(code, message(error), details)
}

/// The error's message, with its violations when there are any: clients that ignore details still see them.
fn message(error: &dyn ApiError) -> String {
    let violations = error.violations();
    if violations.is_empty() {
        return error.to_string();
    }
    const SHOWN: usize = 20;
    let mut text = error.to_string();
    for (index, violation) in violations.iter().take(SHOWN).enumerate() {
        text.push_str(if index == 0 { ": " } else { "; " });
        text.push_str(&violation.field);
        text.push_str(": ");
        text.push_str(&violation.description);
    }
    if violations.len() > SHOWN {
        text.push_str(&format!("; and {} more", violations.len() - SHOWN));
    }
    text
}

/// An error with all its causes, for the log.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// What a failed call to a peer means to our own caller: an unreachable peer stays `UNAVAILABLE`, a passed
/// deadline stays `DEADLINE_EXCEEDED`, everything else is our own failure.
pub fn peer_status(service: &str, peer: &'static str, status: &Status) -> Status {
    self::status(
        service,
        &PeerError {
            peer,
            code: status.code(),
            message: status.message().to_owned(),
        },
    )
}

/// The stable reason in the details of a status.
pub fn reason_of(status: &Status) -> Option<String> {
    status
        .get_details_error_info()
        .map(|info| info.reason)
        .filter(|reason| !reason.is_empty())
}

/// How long the server of a status asks to wait before a retry; none when it promises nothing.
pub fn retry_delay(status: &Status) -> Option<Duration> {
    status
        .get_details_retry_info()
        .and_then(|info| info.retry_delay)
}

#[derive(Debug, thiserror::Error)]
#[error("the service {peer} answered {code:?}: {message}")]
struct PeerError {
    peer: &'static str,
    code: Code,
    message: String,
}

impl ApiError for PeerError {
    fn code(&self) -> Code {
        match self.code {
            Code::Unavailable | Code::DeadlineExceeded => self.code,
            _ => Code::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self.code {
            Code::Unavailable => "PEER_UNAVAILABLE",
            Code::DeadlineExceeded => "PEER_DEADLINE_EXCEEDED",
            _ => "PEER_FAILED",
        }
    }
}

/// Adds the request's id to a status, under which the log has the cause.
pub fn with_request_id(status: &Status, request_id: &str) -> Status {
    let mut details = status.get_error_details();
    details.set_request_info(request_id, "");
    Status::with_error_details_and_metadata(
        status.code(),
        status.message(),
        details,
        status.metadata().clone(),
    )
}

/// Ends a method of a service: the answer, or the status of its error.
pub fn unary<T: prost::Message, E: ApiError>(
    service: &str,
    result: Result<T, E>,
) -> Result<tonic::Response<T>, Status> {
    let answer = result.map_err(|error| status(service, &error))?;
    sized(service, answer).map(tonic::Response::new)
}

/// The message, unless it is larger than a message may be. Its reader would refuse it, with a code that says nothing.
pub fn sized<T: prost::Message>(service: &str, message: T) -> Result<T, Status> {
    match message.encoded_len() {
        bytes if bytes > crate::MAX_MESSAGE_BYTES => Err(status(service, &TooLarge(bytes))),
        _ => Ok(message),
    }
}

#[derive(Debug, thiserror::Error)]
#[error(
    "the answer has {0} bytes, and a message may have {max}; ask for less at a time",
    max = crate::MAX_MESSAGE_BYTES
)]
struct TooLarge(usize);

impl ApiError for TooLarge {
    fn code(&self) -> Code {
        Code::ResourceExhausted
    }

    fn reason(&self) -> &'static str {
        "ANSWER_TOO_LARGE"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_no_reader_takes_is_refused() {
        let fits = "x".repeat(crate::MAX_MESSAGE_BYTES - 5);
        assert!(unary::<_, Sample>("test", Ok(fits.clone())).is_ok());
        let refused = unary::<_, Sample>("test", Ok(fits + "y")).unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert_eq!(reason_of(&refused).as_deref(), Some("ANSWER_TOO_LARGE"));
    }

    #[derive(Debug, thiserror::Error)]
    enum Sample {
        #[error("the request is not valid")]
        Invalid,
        #[error("run r1 does not exist")]
        Missing,
        #[error("cannot read the table")]
        Broken(#[source] std::io::Error),
    }

    impl ApiError for Sample {
        fn code(&self) -> Code {
            match self {
                Self::Invalid => Code::InvalidArgument,
                Self::Missing => Code::NotFound,
                Self::Broken(_) => Code::Internal,
            }
        }

        fn reason(&self) -> &'static str {
            match self {
                Self::Invalid => "INVALID",
                Self::Missing => "RUN_NOT_FOUND",
                Self::Broken(_) => "INTERNAL",
            }
        }

        fn violations(&self) -> Vec<FieldViolation> {
            match self {
                Self::Invalid => vec![FieldViolation::new("run.display_name", "must not be empty")],
                Self::Missing | Self::Broken(_) => Vec::new(),
            }
        }

        fn resource(&self) -> Option<Resource> {
            matches!(self, Self::Missing).then(|| Resource {
                kind: "run",
                name: "r1".to_owned(),
            })
        }
    }

    #[test]
    fn violations_are_in_the_message_and_in_the_details() {
        let status = status("pipelines", &Sample::Invalid);
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(
            status.message(),
            "the request is not valid: run.display_name: must not be empty"
        );
        let details = status.get_error_details();
        assert_eq!(
            details.bad_request().unwrap().field_violations[0].field,
            "run.display_name"
        );
        let info = details.error_info().unwrap();
        assert_eq!(
            (info.reason.as_str(), info.domain.as_str()),
            ("INVALID", "pipelines.flumina")
        );
    }

    #[test]
    fn missing_things_are_named() {
        let status = status("pipelines", &Sample::Missing);
        assert_eq!(
            status
                .get_error_details()
                .resource_info()
                .unwrap()
                .resource_name,
            "r1"
        );
    }

    #[test]
    fn causes_of_internal_errors_stay_in_the_log() {
        let error = Sample::Broken(std::io::Error::other("secret path"));
        assert_eq!(chain(&error), "cannot read the table: secret path");
        let status = status("pipelines", &error);
        assert!(!status.message().contains("table"), "{}", status.message());
    }

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "a status as a peer would send it"
    )]
    fn a_peer_failure_is_ours_unless_the_peer_is_away() {
        let codes = [
            Code::Unavailable,
            Code::DeadlineExceeded,
            Code::InvalidArgument,
            Code::NotFound,
        ];
        let mapped =
            codes.map(|code| peer_status("pipelines", "runner", &Status::new(code, "x")).code());
        assert_eq!(
            mapped,
            [
                Code::Unavailable,
                Code::DeadlineExceeded,
                Code::Internal,
                Code::Internal
            ]
        );
    }
}
