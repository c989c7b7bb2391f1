//! From a request in JSON to a call, and from its answer to JSON.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response};
use rpc::Context;
use runtime::Shutdown;
use tokio::sync::Semaphore;
use tonic::body::Body;
use tonic::metadata::MetadataValue;

use super::body::{self, Patience};
use super::dialect::{Dialect, Failure};
use super::routes::{BodyRule, Rpc};
use super::url;
use crate::Error;
use crate::json::{self, MessageId, Reader, Schema};

/// Messages from this size on are translated off the threads that serve connections, in bytes.
const HEAVY: usize = 256 * 1024;

/// Kubeflow's word for `"tags": {}` in an update, which a message cannot tell from tags that are not given.
const CLEAR_TAGS: &str = "x-clear-tags";

/// A request message, and what it cannot say.
struct Message {
    bytes: Bytes,
    clears_tags: bool,
}

/// Translates requests by the rules of the contracts.
#[derive(Debug, Clone)]
pub(crate) struct Transcoder {
    pub(crate) schema: Arc<Schema>,
    pub(crate) limits: json::Limits,
    pub(crate) body_idle: Duration,
    pub(crate) unary_timeout: Duration,
    pub(crate) draining: Shutdown,
    pub(crate) heavy: Heavy,
}

impl Transcoder {
    /// Serves one request of a method.
    pub(crate) async fn call(
        &self,
        rpc: &Arc<Rpc>,
        channel: &rpc::Channel,
        context: &Context,
        parts: &Parts,
        body: Body,
        variables: &[&str],
    ) -> Result<Response<Body>, Failure> {
        let patience = Patience::new(self.body_idle, self.unary_timeout);
        let bytes = body::read(&parts.headers, body, self.limits.bytes, patience).await?;
        check_body(rpc, parts, &bytes)?;
        let message = if bytes.len() < HEAVY {
            self.message(rpc, parts.uri.query(), &bytes, variables)?
        } else {
            let (this, rpc) = (self.clone(), Arc::clone(rpc));
            let query = parts.uri.query().map(str::to_owned);
            let variables: Vec<String> = variables.iter().map(|&text| text.to_owned()).collect();
            self.heavy
                .run(move || {
                    let variables: Vec<&str> = variables.iter().map(String::as_str).collect();
                    this.message(&rpc, query.as_deref(), &bytes, &variables)
                })
                .await??
        };
        if rpc.streams {
            let mut request = context.stream_request(message.bytes);
            forward(&parts.headers, &mut request);
            let answer = rpc::raw::server_streaming(channel, rpc.path.clone(), request).await?;
            return Ok(self.stream(rpc.output, Dialect::of_path(parts.uri.path()), answer));
        }
        let mut request = context.request(self.unary_timeout, message.bytes);
        forward(&parts.headers, &mut request);
        if message.clears_tags && parts.method == Method::PATCH {
            request
                .metadata_mut()
                .insert(CLEAR_TAGS, MetadataValue::from_static("true"));
        }
        let call = rpc::raw::unary(channel, rpc.path.clone(), request);
        let answer = tokio::time::timeout(self.unary_timeout, call)
            .await
            .map_err(|_| Error::Deadline)??;
        self.answer(rpc.output, answer.into_inner()).await
    }

    /// One message as an answer.
    pub(crate) async fn answer(
        &self,
        output: MessageId,
        message: Bytes,
    ) -> Result<Response<Body>, Failure> {
        let text = if message.len() < HEAVY {
            self.print(output, &message)?
        } else {
            let this = self.clone();
            self.heavy
                .run(move || this.print(output, &message))
                .await??
        };
        let mut response = Response::new(body::full(text));
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(response)
    }

    fn print(&self, output: MessageId, message: &[u8]) -> Result<Vec<u8>, Error> {
        let mut text = Vec::with_capacity(message.len() * 2 + 64);
        json::print(&self.schema, output, message, &mut text)?;
        Ok(text)
    }

    /// The request message. On the wire the parts follow each other, and later ones win: the query string, the body,
    /// the path.
    fn message(
        &self,
        rpc: &Rpc,
        query: Option<&str>,
        bytes: &[u8],
        variables: &[&str],
    ) -> Result<Message, Error> {
        let schema = &*self.schema;
        let mut reader = Reader::new(schema, self.limits);
        // With body `*` every field that the path does not bind is in the body.
        if let Some(query) = query
            && rpc.body != BodyRule::Whole
        {
            self.query(rpc, query, &mut reader)?;
        }
        if !bytes.is_empty() {
            match &rpc.body {
                BodyRule::None => {}
                BodyRule::Whole => reader.document(rpc.input, bytes)?,
                BodyRule::Field(name) => {
                    if let Some(path) = schema.path(rpc.input, name)
                        && let [field] = path[..]
                    {
                        reader.field(field, bytes)?;
                    }
                }
            }
        }
        for (name, text) in rpc.variables.iter().zip(variables) {
            if let Some(path) = schema.path(rpc.input, name) {
                reader.text(&path, &url::segment(text)?)?;
            }
        }
        let clears_tags = match &rpc.body {
            BodyRule::Field(field) => reader
                .emptied()
                .iter()
                .any(|path| path.strip_prefix(field.as_str()) == Some(".tags")),
            _ => false,
        };
        Ok(Message {
            bytes: reader.finish().into(),
            clears_tags,
        })
    }

    /// Query parameters by field path, snake_case or camelCase. An empty value means that the field is not set, since
    /// clients send every parameter they know; parameters that the contract does not have are passed over, as
    /// Kubeflow's gateway does.
    fn query(&self, rpc: &Rpc, query: &str, reader: &mut Reader<'_>) -> Result<(), Error> {
        let mut singles: Vec<u32> = Vec::new();
        for (name, value) in url::query(query)? {
            let bound = |path: &str| {
                *name == *path
                    || name
                        .strip_prefix(path)
                        .is_some_and(|rest| rest.starts_with('.'))
            };
            let in_body = match &rpc.body {
                BodyRule::Field(field) => bound(field),
                _ => false,
            };
            if value.is_empty() || in_body || rpc.variables.iter().any(|path| bound(path)) {
                continue;
            }
            let Some(path) = self.schema.path(rpc.input, &name) else {
                continue;
            };
            if let [field] = path[..]
                && !matches!(field.shape, json::Shape::Repeated(_))
            {
                if singles.contains(&field.number) {
                    return Err(Error::field(&field.name, "is given twice"));
                }
                singles.push(field.number);
            }
            if path
                .last()
                .is_some_and(|leaf| leaf.shape == json::Shape::Map)
            {
                continue;
            }
            reader.text(&path, &value)?;
        }
        Ok(())
    }

    /// A stream as lines of JSON, each `{"result": …}` or, at the end, `{"error": …}`.
    fn stream(
        &self,
        output: MessageId,
        dialect: Dialect,
        answer: tonic::Response<tonic::Streaming<Bytes>>,
    ) -> Response<Body> {
        let this = self.clone();
        let state = Some(answer.into_inner());
        let lines = futures_util::stream::unfold(state, move |state| {
            let this = this.clone();
            async move {
                let mut stream = state?;
                let outcome = match this.draining.guard(stream.next()).await {
                    None => Err(Failure::from(Error::Draining)),
                    Some(None) => return None,
                    Some(Some(Err(status))) => Err(Failure::from(status)),
                    Some(Some(Ok(message))) => this.line(output, &message).map_err(Failure::from),
                };
                Some(match outcome {
                    Ok(line) => (Ok(Bytes::from(line)), Some(stream)),
                    Err(failure) => {
                        let line = failure.line(dialect, &this.schema);
                        (Ok(Bytes::from(line)), None)
                    }
                })
            }
        });
        let mut response = Response::new(body::streamed(lines));
        response.headers_mut().insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-ndjson"),
        );
        response
    }

    fn line(&self, output: MessageId, message: &[u8]) -> Result<Vec<u8>, Error> {
        let mut line = b"{\"result\":".to_vec();
        json::print(&self.schema, output, message, &mut line)?;
        line.extend_from_slice(b"}\n");
        Ok(line)
    }
}

/// Bodies must be JSON; where none is expected, `{}` is as good as none.
fn check_body(rpc: &Rpc, parts: &Parts, bytes: &[u8]) -> Result<(), Error> {
    if bytes.is_empty() {
        return Ok(());
    }
    body::require_json(&parts.headers)?;
    if rpc.body == BodyRule::None {
        let text = bytes.trim_ascii();
        let empty = text.is_empty()
            || text == b"null"
            || (text.starts_with(b"{") && text[1..].trim_ascii() == b"}");
        if !empty {
            return Err(Error::UnexpectedBody);
        }
    }
    Ok(())
}

/// Work that would hold up other connections, and that takes many times the memory of its input: it runs on threads of
/// its own, a few at a time, so that neither the machine's processors nor its memory are at the callers' mercy.
#[derive(Debug, Clone)]
pub(crate) struct Heavy(Arc<Semaphore>);

impl Heavy {
    /// One at a time for each processor, and two at least.
    pub(crate) fn new() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self(Arc::new(Semaphore::new(processors.max(2))))
    }

    /// Runs the work when its turn has come.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        // It is never closed.
        let place = Arc::clone(&self.0).acquire_owned().await.ok();
        // The place belongs to the work, which goes on when its caller has gone away.
        let work = tokio::task::spawn_blocking(move || {
            let outcome = work();
            drop(place);
            outcome
        });
        work.await
            .map_err(|error| Error::Panicked(error.to_string()))
    }
}

/// The headers that mean something to services: the key against repetition, Kubeflow's word to clear tags, and how a
/// new run uses the cache.
pub(crate) fn forward<T>(headers: &HeaderMap, request: &mut tonic::Request<T>) {
    for name in ["idempotency-key", CLEAR_TAGS, "flumina-cache"] {
        let value = headers
            .get(name)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        if let Some(value) = value {
            request.metadata_mut().insert(name, value);
        }
    }
}
