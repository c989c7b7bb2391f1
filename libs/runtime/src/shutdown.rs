//! The signal to stop.

use std::future::Future;

use tokio_util::sync::CancellationToken;

/// Tells a task that it must stop.
#[derive(Debug, Clone, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// A signal that never comes, for tests and tools.
    pub fn never() -> Self {
        Self::default()
    }

    /// Gives the signal.
    pub(crate) fn request(&self) {
        self.0.cancel();
    }

    /// Tells whether to stop now.
    pub fn requested(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits until it is time to stop.
    pub async fn wait(&self) {
        self.0.cancelled().await;
    }

    /// Runs a future until it ends or it is time to stop; `None` in the latter case.
    pub async fn guard<F: Future>(&self, future: F) -> Option<F::Output> {
        self.0.run_until_cancelled(future).await
    }
}

/// Requests a [`Shutdown`] that no supervisor owns.
#[derive(Debug, Clone, Default)]
pub struct Stop(CancellationToken);

impl Stop {
    /// A signal that is not given yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The side that waits.
    pub fn signal(&self) -> Shutdown {
        Shutdown(self.0.clone())
    }

    /// Gives the signal.
    pub fn request(&self) {
        self.0.cancel();
    }
}
