//! Logs: the file itself, read from an offset, and waiting for it to grow.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ids::WorkloadId;
use tokio::sync::watch;

use super::{Runner, Signal};
use crate::error::Error;
use crate::sys::{Changes, Grown};

const CHUNK: usize = 64 * 1024;

/// A part of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The offset of the first byte.
    pub offset: u64,
    /// The bytes.
    pub data: Vec<u8>,
}

/// Tells followers when files grow: one inotify instance for all, since a user has few.
#[derive(Debug)]
pub(crate) struct Growth {
    changes: Changes,
    /// Of each watched file, how often it grew.
    counters: Mutex<HashMap<i32, watch::Sender<u64>>>,
}

impl Growth {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            changes: Changes::new()?,
            counters: Mutex::default(),
        })
    }

    fn counters(&self) -> MutexGuard<'_, HashMap<i32, watch::Sender<u64>>> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is told from now on is seen by the receiver, however late it looks.
    fn add(&self, path: &Path) -> io::Result<(i32, watch::Receiver<u64>)> {
        let mut counters = self.counters();
        let watch = self.changes.add(path)?;
        let counter = counters.entry(watch).or_default();
        Ok((watch, counter.subscribe()))
    }

    /// Ends a watch when its last follower has gone.
    fn remove(&self, watch: i32, follower: watch::Receiver<u64>) {
        let mut counters = self.counters();
        drop(follower);
        if let Some(counter) = counters.get(&watch)
            && counter.receiver_count() == 0
        {
            counters.remove(&watch);
            self.changes.remove(watch);
        }
    }

    fn tell(&self, grown: &Grown) {
        let count = |counter: &watch::Sender<u64>| counter.send_modify(|count| *count += 1);
        let counters = self.counters();
        match grown {
            Grown::Some(watches) => watches
                .iter()
                .filter_map(|watch| counters.get(watch))
                .for_each(count),
            Grown::Any => counters.values().for_each(count),
        }
    }
}

/// A log being read.
#[derive(Debug)]
pub struct Reading {
    runner: Runner,
    id: WorkloadId,
    file: Option<std::fs::File>,
    offset: u64,
    left: u64,
    follow: Option<Follow>,
    /// Whether the workload had ended before the last look at the file.
    ended: bool,
}

#[derive(Debug)]
struct Follow {
    signal: watch::Receiver<Signal>,
    growth: Option<(i32, watch::Receiver<u64>)>,
}

impl Runner {
    /// Passes on which files grew.
    pub(crate) async fn follow_growth(self, shutdown: runtime::Shutdown) -> io::Result<()> {
        let growth = &self.0.growth;
        while let Some(watches) = shutdown.guard(growth.changes.next()).await {
            growth.tell(&watches?);
        }
        Ok(())
    }

    /// Begins to read a log; `limit` 0 means all.
    pub async fn logs(
        &self,
        id: WorkloadId,
        offset: u64,
        limit: u64,
        follow: bool,
    ) -> Result<Reading, Error> {
        let signal = {
            let live = self.live();
            live.workloads.get(&id).map(|live| live.signal.subscribe())
        };
        let ended = signal.is_none();
        if ended {
            self.get(&id).await?;
        }
        let follow = signal.filter(|_| follow).map(|signal| Follow {
            signal,
            growth: None,
        });
        Ok(Reading {
            runner: self.clone(),
            id,
            file: None,
            offset,
            left: if limit == 0 { u64::MAX } else { limit },
            follow,
            ended,
        })
    }
}

impl Reading {
    /// The next part; none at the end.
    pub async fn next(&mut self) -> Result<Option<Chunk>, Error> {
        loop {
            if self.left == 0 {
                return Ok(None);
            }
            self.open()?;
            if let Some(chunk) = self.read()? {
                return Ok(Some(chunk));
            }
            if self.follow.is_none() || self.ended {
                return Ok(None);
            }
            self.wait().await;
        }
    }

    fn open(&mut self) -> Result<(), Error> {
        if self.file.is_some() {
            return Ok(());
        }
        let path = self.runner.0.files.log(&self.id);
        match std::fs::File::open(&path) {
            Ok(file) => self.file = Some(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Error::io(&path)(error)),
        }
        if let Some(follow) = &mut self.follow {
            // Before the first look at its content, so that nothing is missed.
            let growth = self.runner.0.growth.add(&path).map_err(Error::io(&path))?;
            follow.growth = Some(growth);
        }
        Ok(())
    }

    fn read(&mut self) -> Result<Option<Chunk>, Error> {
        let Some(file) = &self.file else {
            return Ok(None);
        };
        let size = CHUNK.min(usize::try_from(self.left).unwrap_or(CHUNK));
        let mut data = vec![0; size];
        let path = self.runner.0.files.log(&self.id);
        let count = file
            .read_at(&mut data, self.offset)
            .map_err(Error::io(&path))?;
        if count == 0 {
            return Ok(None);
        }
        data.truncate(count);
        let chunk = Chunk {
            offset: self.offset,
            data,
        };
        self.offset += count as u64;
        self.left -= count as u64;
        Ok(Some(chunk))
    }

    /// Waits until the file may have grown, the workload has ended, or the runner ends.
    async fn wait(&mut self) {
        let shutdown = self.runner.shutdown();
        let Some(follow) = &mut self.follow else {
            return;
        };
        let grown = async {
            // The counter stays while there is a follower.
            if let Some((_, counter)) = &mut follow.growth
                && counter.changed().await.is_ok()
            {
                return;
            }
            std::future::pending().await
        };
        tokio::select! {
            () = grown => {}
            changed = follow.signal.changed() => self.ended = changed.is_err(),
            () = shutdown.wait() => self.ended = true,
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        if let Some(follow) = self.follow.take()
            && let Some((watch, counter)) = follow.growth
        {
            self.runner.0.growth.remove(watch, counter);
        }
    }
}
