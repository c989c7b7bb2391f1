//! Who waits for changes of a run.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use ids::RunId;
use tokio::sync::{Notify, watch};

/// The changes of all runs that somebody looks at; cloning shares them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watchers {
    senders: Arc<Mutex<HashMap<RunId, watch::Sender<News>>>>,
    /// Whoever waits for any run to end.
    any_end: Arc<Notify>,
}

/// What is said of a run that changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct News {
    /// Nothing more comes.
    pub(crate) ended: bool,
}

impl Watchers {
    /// Those of runs; the end of any is said to `any_end` too.
    pub(crate) fn new(any_end: Arc<Notify>) -> Self {
        Self {
            senders: Arc::default(),
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

    /// Says that a run changed, and whether that was its end.
    pub(crate) fn changed(&self, run: RunId, ended: bool) {
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
