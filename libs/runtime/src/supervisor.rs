//! Supervised tasks: each has a name, a reaction to errors and panics, and an orderly end.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::panics::{CatchPanic, Panicked};
use crate::shutdown::Shutdown;

const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LAST_BACKOFF: Duration = Duration::from_secs(30);
/// How long an aborted task may take to let go.
const ABORT_LINGER: Duration = Duration::from_secs(1);

/// What a task failed with.
pub type TaskError = Box<dyn Error + Send + Sync>;

/// What a task may return: nothing, or a result.
pub trait TaskOutput: Send + 'static {
    /// The task's result.
    fn into_result(self) -> Result<(), TaskError>;
}

impl TaskOutput for () {
    fn into_result(self) -> Result<(), TaskError> {
        Ok(())
    }
}

impl<E: Into<TaskError> + Send + 'static> TaskOutput for Result<(), E> {
    fn into_result(self) -> Result<(), TaskError> {
        self.map_err(Into::into)
    }
}

/// What happens to a task that is told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnCancel {
    /// It sees its [`Shutdown`] and is waited for, until the grace ends.
    Wait,
    /// It is dropped where it stands.
    Abort,
}

/// What happens after a task returned an error or panicked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// It starts again, after a growing delay.
    Restart,
    /// The process drains and ends with a failure.
    Fail,
}

/// How a task is supervised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// What happens at shutdown.
    pub on_cancel: OnCancel,
    /// What happens after an error.
    pub on_error: OnError,
}

impl Kind {
    /// A loop that continues after errors and stops between steps, such as a reconciler.
    pub const WORKER: Self = Self {
        on_cancel: OnCancel::Wait,
        on_error: OnError::Restart,
    };
    /// A task without which the process is of no use, such as a server.
    pub const ESSENTIAL: Self = Self {
        on_cancel: OnCancel::Wait,
        on_error: OnError::Fail,
    };
    /// A task that may be dropped anywhere, such as a watcher.
    pub const HELPER: Self = Self {
        on_cancel: OnCancel::Abort,
        on_error: OnError::Restart,
    };
}

/// Why the process should end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// Somebody asked for it ([`Supervisor::request_stop`]).
    Stop,
    /// An essential task failed.
    Failed(String),
}

/// Owns tasks and child supervisors, and ends them in reverse order of their start. Clones are the same supervisor.
#[derive(Clone)]
pub struct Supervisor(Arc<Inner>);

struct Inner {
    name: String,
    shutdown: Shutdown,
    nodes: Mutex<Nodes>,
    mutations: TaskTracker,
    ending: Arc<watch::Sender<Option<Ending>>>,
}

#[derive(Default)]
struct Nodes {
    closed: bool,
    next: u64,
    running: BTreeMap<u64, Node>,
}

enum Node {
    Task {
        name: String,
        shutdown: Shutdown,
        on_cancel: OnCancel,
        handle: JoinHandle<()>,
    },
    Child(Supervisor),
}

impl Supervisor {
    /// The root of a tree.
    pub fn new(name: impl Into<String>) -> Self {
        Self::with_ending(name.into(), Arc::new(watch::Sender::new(None)))
    }

    fn with_ending(name: String, ending: Arc<watch::Sender<Option<Ending>>>) -> Self {
        Self(Arc::new(Inner {
            name,
            shutdown: Shutdown::default(),
            nodes: Mutex::default(),
            mutations: TaskTracker::new(),
            ending,
        }))
    }

    /// A supervisor that ends with this one, after everything that starts later.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        let child = Self::with_ending(
            format!("{}/{name}", self.0.name),
            Arc::clone(&self.0.ending),
        );
        let mut nodes = self.nodes();
        if nodes.closed {
            child.nodes().closed = true;
        } else {
            nodes.add(Node::Child(child.clone()));
        }
        drop(nodes);
        child
    }

    /// The path of names from the root.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Starts a task. `make` is called again for each restart and gets the task's own signal to stop.
    ///
    /// A task that returns without an error is done. A supervisor that is already ending starts nothing. Must be called
    /// within a tokio runtime, as all that starts tasks.
    pub fn spawn<M, F>(&self, kind: Kind, name: &str, make: M)
    where
        M: FnMut(Shutdown) -> F + Send + 'static,
        F: Future + Send + 'static,
        F::Output: TaskOutput,
    {
        let mut nodes = self.nodes();
        if nodes.closed {
            tracing::debug!(supervisor = self.0.name, task = name, "too late to start");
            return;
        }
        let id = nodes.next;
        let shutdown = Shutdown::default();
        let supervisor = self.clone();
        let body = {
            let name = format!("{}/{name}", self.0.name);
            let shutdown = shutdown.clone();
            async move {
                supervisor
                    .supervise(kind.on_error, &name, make, shutdown)
                    .await;
                supervisor.nodes().running.remove(&id);
            }
        };
        let handle = spawn(body.instrument(tracing::info_span!("task", task = name)));
        nodes.add(Node::Task {
            name: format!("{}/{name}", self.0.name),
            shutdown,
            on_cancel: kind.on_cancel,
            handle,
        });
    }

    /// Starts a task that cannot be restarted; an error fails the process.
    pub fn spawn_once<F>(&self, on_cancel: OnCancel, name: &str, future: F)
    where
        F: Future + Send + 'static,
        F::Output: TaskOutput,
    {
        let kind = Kind {
            on_cancel,
            on_error: OnError::Fail,
        };
        let mut future = Some(future.map(TaskOutput::into_result));
        self.spawn(kind, name, move |_| {
            let future = future.take();
            async move {
                match future {
                    Some(future) => future.await,
                    None => Ok(()),
                }
            }
        });
    }

    /// Runs a mutation in a task of its own, so that a caller that goes away does not leave it halfway. Shutdown waits
    /// for it until the grace ends. A panic inside continues in the caller that waits; without one it is logged.
    pub fn run_to_end<F>(&self, future: F) -> RunToEnd<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let supervisor = self.0.name.clone();
        let body = async move {
            let outcome = CatchPanic::new(Box::pin(future)).await;
            if let Err(Err(panic)) = sender.send(outcome) {
                tracing::error!(supervisor, %panic, "a mutation failed after its caller left");
            }
        };
        spawn(self.0.mutations.track_future(body.in_current_span()));
        RunToEnd(receiver)
    }

    /// Runs a future in a task that is aborted when the returned value is dropped, for work that belongs to a caller.
    pub fn scoped<F>(&self, future: F) -> Scoped<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        Scoped(spawn(CatchPanic::new(Box::pin(future)).in_current_span()))
    }

    /// The signal that this supervisor begins to end; its tasks have signals of their own that come in order.
    pub fn shutdown_signal(&self) -> Shutdown {
        self.0.shutdown.clone()
    }

    /// Asks for the end of the process, as a signal would.
    pub fn request_stop(&self) {
        self.end(Ending::Stop);
    }

    /// Reports that the process cannot go on.
    pub fn fail(&self, reason: impl Into<String>) {
        self.end(Ending::Failed(reason.into()));
    }

    /// Waits until somebody asked for the end of the process.
    pub async fn ending(&self) -> Ending {
        let mut ending = self.0.ending.subscribe();
        loop {
            if let Some(ending) = ending.borrow_and_update().clone() {
                return ending;
            }
            // The sender is ours, so it cannot be gone.
            ending.changed().await.ok();
        }
    }

    /// Stops everything in reverse order of its start; tasks that outlive `grace` in total are aborted.
    /// Returns their names.
    pub async fn shutdown(&self, grace: Duration) -> Vec<String> {
        self.shutdown_until(Instant::now() + grace).await
    }

    fn shutdown_until(&self, deadline: Instant) -> BoxFuture<'_, Vec<String>> {
        async move {
            let mut late = Vec::new();
            self.nodes().closed = true;
            self.0.shutdown.request();
            loop {
                let last = self.nodes().running.pop_last();
                match last {
                    Some((_, Node::Child(child))) => {
                        late.extend(child.shutdown_until(deadline).await);
                    }
                    Some((
                        _,
                        Node::Task {
                            name,
                            shutdown,
                            on_cancel,
                            handle,
                        },
                    )) => {
                        shutdown.request();
                        if !stop_task(handle, on_cancel, deadline).await {
                            late.push(name);
                        }
                    }
                    None => break,
                }
            }
            self.0.mutations.close();
            let ended = tokio::time::timeout_at(deadline, self.0.mutations.wait()).await;
            if ended.is_err() {
                late.push(format!("{}/mutations", self.0.name));
            }
            late
        }
        .boxed()
    }

    fn end(&self, ending: Ending) {
        self.0.ending.send_if_modified(|current| {
            let first = current.is_none();
            if first {
                *current = Some(ending);
            }
            first
        });
    }

    fn nodes(&self) -> MutexGuard<'_, Nodes> {
        self.0.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn supervise<M, F>(&self, on_error: OnError, name: &str, mut make: M, shutdown: Shutdown)
    where
        M: FnMut(Shutdown) -> F + Send + 'static,
        F: Future + Send + 'static,
        F::Output: TaskOutput,
    {
        let mut backoff = FIRST_BACKOFF;
        loop {
            let started = Instant::now();
            let attempt = async { make(shutdown.clone()).await.into_result() };
            let reason = match CatchPanic::new(Box::pin(attempt)).await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => chain(error.as_ref()),
                Err(panic) => panic.to_string(),
            };
            if shutdown.requested() {
                tracing::warn!(name, reason, "a task failed while it was ending");
                return;
            }
            match on_error {
                OnError::Fail => {
                    tracing::error!(name, reason, "an essential task failed");
                    self.fail(format!("{name}: {reason}"));
                    return;
                }
                OnError::Restart => {
                    if started.elapsed() > LAST_BACKOFF {
                        backoff = FIRST_BACKOFF;
                    }
                    tracing::warn!(name, reason, ?backoff, "a task failed and starts again");
                    if shutdown.guard(tokio::time::sleep(backoff)).await.is_none() {
                        return;
                    }
                    backoff = (backoff * 2).min(LAST_BACKOFF);
                }
            }
        }
    }
}

impl Nodes {
    fn add(&mut self, node: Node) {
        self.running.insert(self.next, node);
        self.next += 1;
    }
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Supervisor({})", self.0.name)
    }
}

/// Waits for a task that was told to stop; false when it had to be aborted for being late.
async fn stop_task(mut handle: JoinHandle<()>, on_cancel: OnCancel, deadline: Instant) -> bool {
    let in_time = match on_cancel {
        OnCancel::Wait => tokio::time::timeout_at(deadline, &mut handle).await.is_ok(),
        OnCancel::Abort => false,
    };
    if !in_time {
        handle.abort();
        tokio::time::timeout(ABORT_LINGER, handle).await.ok();
    }
    in_time || on_cancel == OnCancel::Abort
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that starts tasks"
)]
fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(future)
}

/// The outcome of [`Supervisor::run_to_end`]; dropping it does not stop the work.
#[derive(Debug)]
#[must_use = "await it, or drop it on purpose"]
pub struct RunToEnd<T>(tokio::sync::oneshot::Receiver<Result<T, Panicked>>);

impl<T> Future for RunToEnd<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        match self.0.poll_unpin(context) {
            Poll::Ready(Ok(Ok(value))) => Poll::Ready(value),
            Poll::Ready(Ok(Err(Panicked(text)))) => {
                std::panic::resume_unwind(Box::new(text));
            }
            // The task vanished without an answer: the whole process is ending, and so is this caller.
            Poll::Ready(Err(_)) | Poll::Pending => Poll::Pending,
        }
    }
}

/// The outcome of [`Supervisor::scoped`]; dropping it aborts the work.
#[derive(Debug)]
#[must_use = "dropping it aborts the work"]
pub struct Scoped<T>(JoinHandle<Result<T, Panicked>>);

impl<T> Future for Scoped<T> {
    type Output = Result<T, Panicked>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.0.poll_unpin(context) {
            Poll::Ready(Ok(outcome)) => Poll::Ready(outcome),
            Poll::Ready(Err(error)) => Poll::Ready(Err(Panicked(error.to_string()))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<T> Drop for Scoped<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests;
