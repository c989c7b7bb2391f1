//! Panics as values.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

/// A future panicked; the text is the panic's message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("panicked: {0}")]
pub struct Panicked(pub String);

impl Panicked {
    /// From what a panic carries.
    pub fn from_payload(payload: &(dyn Any + Send)) -> Self {
        let text = payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned());
        Self(text.unwrap_or_else(|| "no message".to_owned()))
    }
}

/// Polls a future and turns its panic into an error. The future is not polled again after a panic.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct CatchPanic<F>(F);

impl<F: Future + Unpin> CatchPanic<F> {
    /// Wraps the future; pin it in a box first when it is not `Unpin`.
    pub fn new(future: F) -> Self {
        Self(future)
    }
}

impl<F: Future + Unpin> Future for CatchPanic<F> {
    type Output = Result<F::Output, Panicked>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let future = &mut self.0;
        // The future is dropped after a panic, so nobody sees its broken state.
        match catch_unwind(AssertUnwindSafe(|| Pin::new(future).poll(context))) {
            Ok(poll) => poll.map(Ok),
            Err(payload) => Poll::Ready(Err(Panicked::from_payload(&*payload))),
        }
    }
}
