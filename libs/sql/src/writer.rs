//! The one writer of a SQLite file: group commit.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;
use tokio::sync::{mpsc, oneshot};

use crate::{BoxFuture, Conn, Error};

/// How many queued closures one transaction takes; more would only delay the first of them.
const BATCH: usize = 256;

/// A queued closure with the place for its answer.
pub(crate) trait Job: Send {
    /// Runs the closure; false means that its writes must be rolled back.
    fn run<'a>(&'a mut self, conn: &'a mut Conn) -> BoxFuture<'a, bool>;

    /// Answers the caller: with the closure's own result, or with the failure of the transaction.
    fn finish(self: Box<Self>, failure: Option<Error>);
}

pub(crate) struct Closure<F, T, E> {
    run: Option<F>,
    result: Option<Result<T, E>>,
    reply: oneshot::Sender<Result<T, E>>,
}

impl<F, T, E> Closure<F, T, E> {
    pub(crate) fn new(run: F) -> (Box<Self>, oneshot::Receiver<Result<T, E>>) {
        let (reply, answer) = oneshot::channel();
        (
            Box::new(Self {
                run: Some(run),
                result: None,
                reply,
            }),
            answer,
        )
    }
}

impl<F, T, E> Job for Closure<F, T, E>
where
    F: for<'c> FnOnce(&'c mut Conn) -> BoxFuture<'c, Result<T, E>> + Send,
    T: Send,
    E: From<Error> + Send,
{
    fn run<'a>(&'a mut self, conn: &'a mut Conn) -> BoxFuture<'a, bool> {
        Box::pin(async move {
            let Some(run) = self.run.take() else {
                return false;
            };
            let outcome = AssertUnwindSafe(async { run(conn).await })
                .catch_unwind()
                .await;
            let result = outcome.unwrap_or_else(|_| Err(E::from(Error::Panicked)));
            let keep = result.is_ok();
            self.result = Some(result);
            keep
        })
    }

    fn finish(self: Box<Self>, failure: Option<Error>) {
        let result = match (self.result, failure) {
            (Some(Ok(_)) | None, Some(failure)) => Err(E::from(failure)),
            (Some(result), _) => result,
            (None, None) => Err(E::from(Error::Panicked)),
        };
        // A caller that went away does not need the answer; the write stands.
        let _gone = self.reply.send(result);
    }
}

/// Serves the queue until every sender is gone.
pub(crate) async fn serve(mut conn: Conn, mut queue: mpsc::UnboundedReceiver<Box<dyn Job>>) {
    let mut batch = Vec::new();
    while queue.recv_many(&mut batch, BATCH).await > 0 {
        commit(&mut conn, &mut batch).await;
    }
}

/// Runs a batch in one transaction and answers everybody in it.
async fn commit(conn: &mut Conn, batch: &mut Vec<Box<dyn Job>>) {
    let alone = batch.len() == 1;
    let mut failure = conn.execute("BEGIN IMMEDIATE", Vec::new()).await.err();
    let mut kept = false;
    if failure.is_none() {
        for job in batch.iter_mut() {
            match run_one(conn, job.as_mut(), alone).await {
                Ok(keep) => kept |= keep,
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        let end = if failure.is_none() && kept {
            "COMMIT"
        } else {
            "ROLLBACK"
        };
        if let Err(error) = conn.execute(end, Vec::new()).await {
            failure.get_or_insert(error);
            // A commit that failed, for want of space say, leaves the transaction open.
            let _already_over = conn.execute("ROLLBACK", Vec::new()).await;
        }
    }
    for job in batch.drain(..) {
        job.finish(failure.as_ref().map(Error::shared));
    }
}

/// Runs one closure in a savepoint, unless it has the transaction to itself.
async fn run_one(conn: &mut Conn, job: &mut dyn Job, alone: bool) -> Result<bool, Error> {
    if alone {
        return Ok(job.run(conn).await);
    }
    conn.execute("SAVEPOINT job", Vec::new()).await?;
    let keep = job.run(conn).await;
    if !keep {
        conn.execute("ROLLBACK TO job", Vec::new()).await?;
    }
    conn.execute("RELEASE job", Vec::new()).await?;
    Ok(keep)
}
