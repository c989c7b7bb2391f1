//! Bodies of requests with a limit, and of streams that end for reasons of the server.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use aip::Code;
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use runtime::Panicked;
use tokio::time::{Sleep, sleep};
use tonic::Status;
use tonic::body::Body;

use crate::Error;
use crate::call::add_request_id;
use crate::methods::Observation;

/// The bytes before a message: a flag and its length.
const PREFIX: usize = 5;

/// A request body that fails when it grows beyond one message of the limit, or is not whole in time. The deadline of a
/// call is not enough: it is the caller's choice, and a call that is answered by a stream may have none.
pub(crate) struct Limited {
    inner: Body,
    service: &'static str,
    limit: usize,
    seen: usize,
    patience: Duration,
    /// Most bodies are there at once and need no timer.
    late: Option<Pin<Box<Sleep>>>,
}

impl Limited {
    pub(crate) fn new(
        inner: Body,
        service: &'static str,
        limit: usize,
        patience: Duration,
    ) -> Self {
        Self {
            inner,
            service,
            limit,
            seen: 0,
            patience,
            late: None,
        }
    }
}

impl http_body::Body for Limited {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(context) else {
            let patience = self.patience;
            let late = self.late.get_or_insert_with(|| Box::pin(sleep(patience)));
            ready!(late.as_mut().poll(context));
            return Poll::Ready(Some(Err(aip::status(self.service, &Error::Deadline))));
        };
        if let Some(data) = frame
            .as_ref()
            .and_then(|frame| frame.as_ref().ok()?.data_ref())
        {
            self.seen = self.seen.saturating_add(data.len());
            if self.seen > self.limit.saturating_add(PREFIX) {
                let error = Error::TooLarge(self.limit);
                return Poll::Ready(Some(Err(aip::status(self.service, &error))));
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// The answer of a streaming method: it ends when `end` does, a panic becomes a status, and its code is counted.
pub(crate) struct Watched {
    /// Gone when the stream has ended.
    pub(crate) inner: Option<Body>,
    pub(crate) end: Pin<Box<dyn Future<Output = Error> + Send>>,
    pub(crate) service: &'static str,
    pub(crate) observation: Observation,
    pub(crate) request_id: Arc<str>,
    pub(crate) span: tracing::Span,
}

impl Watched {
    fn fail(&mut self, error: &Error) -> HeaderMap {
        let status = aip::status(self.service, error);
        let mut trailers = HeaderMap::new();
        // A status of our own holds nothing that a header cannot.
        status.add_header(&mut trailers).ok();
        trailers
    }

    fn finish(&mut self, mut trailers: HeaderMap) -> Frame<Bytes> {
        self.inner = None;
        let code = trailers
            .get(Status::GRPC_STATUS)
            .map_or(Code::Unknown, |value| Code::from_bytes(value.as_bytes()));
        self.observation.ended(code);
        add_request_id(&mut trailers, &self.request_id);
        Frame::trailers(trailers)
    }
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let _entered = this.span.clone().entered();
        let Some(inner) = &mut this.inner else {
            return Poll::Ready(None);
        };
        if let Poll::Ready(error) = this.end.as_mut().poll(context) {
            let trailers = this.fail(&error);
            return Poll::Ready(Some(Ok(this.finish(trailers))));
        }
        // After a panic the body is dropped, so nobody sees its broken state.
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(inner).poll_frame(context)));
        let frame = match polled {
            Ok(poll) => ready!(poll),
            Err(payload) => {
                let error = Error::Panicked(Panicked::from_payload(&*payload));
                let trailers = this.fail(&error);
                return Poll::Ready(Some(Ok(this.finish(trailers))));
            }
        };
        Poll::Ready(match frame {
            Some(Ok(frame)) => Some(Ok(match frame.into_trailers() {
                Ok(trailers) => this.finish(trailers),
                Err(frame) => frame,
            })),
            Some(Err(status)) => {
                this.observation.ended(status.code());
                Some(Err(status))
            }
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }
}
