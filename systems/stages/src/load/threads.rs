//! The loader's threads: they read and prepare requested shards, and end when there are none.

use super::pieces::{Buffers, fetch, lock};
use super::request::{FetchItem, Report};
use crate::place::LoadError;
use core::sync::atomic::{AtomicBool, Ordering};
use crossbeam_channel::{Receiver, Sender};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use weft_platform::storage::Source;
use weft_platform::{Cpu, Pool, Signal};

/// Reports that may wait to be taken, two for each shard: enough to keep both sides busy, few enough to bound memory.
const AHEAD: usize = 16;

/// The requests, as the threads see them.
#[derive(Default)]
struct Requests {
    items: VecDeque<FetchItem>,
    /// True while threads are working on them.
    running: bool,
}

struct Shared {
    sources: Arc<[Arc<dyn Source>]>,
    requests: Mutex<Requests>,
    buffers: Buffers,
    /// True once the rest is no longer wanted.
    cancelled: AtomicBool,
    wake: Arc<Signal>,
    cpu: Cpu,
    file: String,
}

/// The threads of one queue. Dropping it ends them.
pub(super) struct Threads {
    shared: Arc<Shared>,
    sender: Sender<Report>,
    reports: Receiver<Report>,
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.cancelled.store(true, Ordering::Relaxed);
    }
}

impl Threads {
    pub(super) fn new(sources: Arc<[Arc<dyn Source>]>, cpu: Cpu, wake: Arc<Signal>, file: String) -> Self {
        let (sender, reports) = crossbeam_channel::bounded(AHEAD);
        let shared = Shared {
            sources,
            requests: Mutex::default(),
            buffers: Buffers::default(),
            cancelled: AtomicBool::new(false),
            wake,
            cpu,
            file,
        };
        Self { shared: Arc::new(shared), sender, reports }
    }

    /// Requests more shards, and starts the threads if they have ended.
    pub(super) fn push(&self, items: Vec<FetchItem>) -> Result<(), LoadError> {
        if items.is_empty() {
            return Ok(());
        }
        let mut requests = lock(&self.shared.requests);
        requests.items.extend(items);
        if !requests.running {
            start(Arc::clone(&self.shared), self.sender.clone())?;
            requests.running = true;
        }
        Ok(())
    }

    /// Cancels requests that have not been started.
    pub(super) fn clear(&self) {
        lock(&self.shared.requests).items.clear();
    }

    /// Cancels the request for a shard if it has not been started.
    pub(super) fn forget(&self, shard: bevy_ecs::entity::Entity) {
        lock(&self.shared.requests).items.retain(|item| item.entity() != shard);
    }

    /// Takes the next report. Never waits.
    pub(super) fn poll(&self) -> Option<Report> {
        self.reports.try_recv().ok()
    }
}

fn start(shared: Arc<Shared>, sender: Sender<Report>) -> Result<(), LoadError> {
    let file = shared.file.clone();
    let no_thread = |reason: String| LoadError::NoThread { file: file.clone(), reason };
    // Separate from the threads of ticks: a tick never waits for a piece of a file.
    let pool = Pool::new(shared.cpu.threads).map_err(|error| no_thread(error.to_string()))?;
    let work = move || {
        pool.install(|| {
            while let Some(item) = next(&shared) {
                let (entity, ticket) = (item.entity(), item.ticket);
                // A closed channel is a cancelled load.
                if sender.send(Report::Started { entity, ticket }).is_err() {
                    break;
                }
                let report = fetch(&shared.cpu, &item, &shared.sources, &shared.buffers, &shared.cancelled);
                if sender.send(report).is_err() {
                    break;
                }
                shared.wake.notify();
            }
        });
    };
    std::thread::Builder::new()
        .name("weft-loader".into())
        .spawn(work)
        .map(drop)
        .map_err(|error| no_thread(error.to_string()))
}

/// The next request. If there is none, returns `None`, and the threads end.
fn next(shared: &Shared) -> Option<FetchItem> {
    let mut requests = lock(&shared.requests);
    let item = if shared.cancelled.load(Ordering::Relaxed) { None } else { requests.items.pop_front() };
    requests.running = item.is_some();
    item
}
