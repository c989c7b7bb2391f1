//! Who waits for changes of a run, or of any.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use ids::RunId;
use tokio::sync::{Notify, broadcast, watch};

/// Changes of lists that are kept for readers; one that is further behind reads its list anew.
const KEPT: usize = 1024;

/// The changes of all runs that somebody looks at; cloning shares them.
#[derive(Debug, Clone)]
pub(crate) struct Watchers {
    senders: Arc<Mutex<HashMap<RunId, watch::Sender<News>>>>,
    lists: broadcast::Sender<Relisted>,
    /// Whoever waits for any run to end.
    any_end: Arc<Notify>,
}

/// What is said of a run that changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct News {
    /// Nothing more comes.
    pub(crate) ended: bool,
}

/// What changed in lists of runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Relisted {
    /// One run.
    Run(RunId),
    /// Any number of them.
    Many,
}

impl Watchers {
    /// Those of runs; the end of any is said to `any_end` too.
    pub(crate) fn new(any_end: Arc<Notify>) -> Self {
        Self {
            senders: Arc::default(),
            lists: broadcast::Sender::new(KEPT),
            any_end,
        }
    }

    /// Changes of a run from now on.
    pub(crate) fn subscribe(&self, run: RunId) -> watch::Receiver<News> {
        let mut senders = self.senders.lock().unwrap_or_else(PoisonError::into_inner);
        senders
            .entry(run)
            .or_insert_with(|| watch::channel(News::default()).0)
            .subscribe()
    }

    /// Changes of lists from now on.
    pub(crate) fn subscribe_lists(&self) -> broadcast::Receiver<Relisted> {
        self.lists.subscribe()
    }

    /// How many look at lists.
    pub(crate) fn list_readers(&self) -> usize {
        self.lists.receiver_count()
    }

    /// Says what changed in lists.
    pub(crate) fn relisted(&self, what: Relisted) {
        // An error says that nobody looks at one.
        drop(self.lists.send(what));
    }

    /// Says that a run changed, and whether that was its end.
    pub(crate) fn changed(&self, run: RunId, ended: bool) {
        self.relisted(Relisted::Run(run));
        if ended {
            self.any_end.notify_one();
        }
        let mut senders = self.senders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = senders.get(&run)
            && sender.send(News { ended }).is_err()
        {
            senders.remove(&run);
        }
    }
}
