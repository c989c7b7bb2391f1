//! Who watches, and what each has not yet seen: the newest state of each workload, so a slow watcher costs no more
//! than the number of workloads that changed.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use ids::WorkloadId;
use tokio::sync::Notify;

use super::Runner;
use crate::error::Error;
use crate::store::Record;

const PAGE: u32 = 500;

#[derive(Debug, Default)]
pub(super) struct Hub {
    watchers: Mutex<Vec<Weak<Watcher>>>,
}

#[derive(Debug)]
struct Watcher {
    owner: String,
    pending: Mutex<Pending>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Pending {
    order: VecDeque<WorkloadId>,
    newest: HashMap<WorkloadId, Arc<Record>>,
}

impl Hub {
    pub(super) fn publish(&self, record: &Arc<Record>) {
        let mut watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        watchers.retain(|watcher| {
            let Some(watcher) = watcher.upgrade() else {
                return false;
            };
            if within(&record.owner, &watcher.owner) {
                watcher.offer(record);
            }
            true
        });
    }

    /// Whether anybody watches.
    pub(super) fn watched(&self) -> bool {
        let watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        watchers.iter().any(|watcher| watcher.strong_count() > 0)
    }

    fn add(&self, owner: &str) -> Arc<Watcher> {
        let watcher = Arc::new(Watcher {
            owner: owner.to_owned(),
            pending: Mutex::default(),
            wake: Notify::new(),
        });
        let mut watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        watchers.push(Arc::downgrade(&watcher));
        watcher
    }
}

impl Watcher {
    fn offer(&self, record: &Arc<Record>) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        match pending.newest.get_mut(&record.id) {
            Some(known) if known.version >= record.version => return,
            Some(known) => *known = Arc::clone(record),
            None => {
                pending.order.push_back(record.id.clone());
                pending.newest.insert(record.id.clone(), Arc::clone(record));
            }
        }
        drop(pending);
        self.wake.notify_one();
    }

    fn take(&self) -> Option<Arc<Record>> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let id = pending.order.pop_front()?;
        pending.newest.remove(&id)
    }
}

/// Whether `owner` is `prefix` or below it; an empty prefix holds all.
pub(super) fn within(owner: &str, prefix: &str) -> bool {
    prefix.is_empty()
        || owner
            .strip_prefix(prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A watch in progress: first what is there, then changes.
#[derive(Debug)]
pub struct Watching {
    runner: Runner,
    watcher: Arc<Watcher>,
    live_only: bool,
    /// What was read and not yet told.
    page: VecDeque<Record>,
    after: Option<(clock::Timestamp, String)>,
    listed: bool,
    synced: bool,
    /// Versions of what was listed, so that an older state is never told after a newer one.
    told: HashMap<WorkloadId, i64>,
    /// The same of what had ended, until changes from before the list are through.
    listed_ended: HashMap<WorkloadId, i64>,
}

/// One thing that a watch tells.
#[derive(Debug)]
pub enum Told {
    /// The state of a workload.
    Record(Arc<Record>),
    /// Everything that was there when the watch began has been told.
    Synced,
}

impl Runner {
    /// Begins to watch an owner's workloads.
    pub fn watch(&self, owner: &str, live_only: bool) -> Watching {
        // Changes are collected from here on, before anything is read, so none is missed.
        Watching {
            watcher: self.0.hub.add(owner),
            runner: self.clone(),
            live_only,
            page: VecDeque::new(),
            after: None,
            listed: false,
            synced: false,
            told: HashMap::new(),
            listed_ended: HashMap::new(),
        }
    }
}

impl Watching {
    /// The next thing to tell; none when the runner ends.
    pub async fn next(&mut self) -> Result<Option<Told>, Error> {
        if let Some(record) = self.next_listed().await? {
            let told = if record.state.ended() {
                &mut self.listed_ended
            } else {
                &mut self.told
            };
            told.insert(record.id.clone(), record.version);
            return Ok(Some(Told::Record(Arc::new(record))));
        }
        if !self.synced {
            self.synced = true;
            return Ok(Some(Told::Synced));
        }
        let shutdown = self.runner.shutdown();
        loop {
            while let Some(record) = self.watcher.take() {
                let told = self.told.get(&record.id);
                let told = told.or_else(|| self.listed_ended.get(&record.id));
                let newer = told.is_none_or(|told| *told < record.version);
                if newer {
                    if record.state.ended() {
                        self.told.remove(&record.id);
                    } else {
                        self.told.insert(record.id.clone(), record.version);
                    }
                    return Ok(Some(Told::Record(record)));
                }
            }
            // Older states of what was listed as ended were offered before the list was read, and are gone now.
            self.listed_ended = HashMap::new();
            let woken = shutdown.guard(self.watcher.wake.notified()).await;
            if woken.is_none() {
                return Ok(None);
            }
        }
    }

    async fn next_listed(&mut self) -> Result<Option<Record>, Error> {
        if self.page.is_empty() && !self.listed {
            let store = &self.runner.0.store;
            let owner = self.watcher.owner.as_str();
            let after = self.after.take();
            let page = store.page(owner, after, self.live_only, PAGE).await?;
            self.listed = page.len() < PAGE as usize;
            self.after = page
                .last()
                .map(|record| (record.created_at, record.id.to_string()));
            self.page = page.into();
        }
        let Some(stored) = self.page.pop_front() else {
            return Ok(None);
        };
        Ok(Some(self.runner.current(stored)))
    }
}

#[cfg(test)]
mod tests {
    use super::within;

    #[test]
    fn owners_are_selected_by_segments() {
        assert!(within("pipelines/runs/1", "pipelines/runs"));
        assert!(within("pipelines/runs/1", "pipelines/runs/1"));
        assert!(within("pipelines/runs/1", ""));
        assert!(!within("pipelines/runs/10", "pipelines/runs/1"));
        assert!(!within("pipelines", "pipelines/runs"));
    }
}
