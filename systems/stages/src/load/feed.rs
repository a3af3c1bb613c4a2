//! The loader: reads shards in the order in which they are needed and hands them to the world.
//!
//! A [`Loader`] knows files and a backend's [`Prepare`]. It reads a shard in pieces of rows, of which each is laid out before
//! the next is read into the same buffer, so a file is never in memory beside what is made of it. Natively it runs on
//! threads of its own behind a bounded channel, all of which work on the shard that is needed next; where there are no
//! threads the load system pulls it, a byte budget a tick.

use super::error::LoadError;
use bevy_ecs::prelude::*;
use bevy_ecs::world::EntityWorldMut;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use weft_components::WeightShard;
use weft_formats::ModelError;
use weft_platform::storage::{Source, StorageError};
use weft_platform::{Cpu, TILE_ROWS};

/// Bytes of a piece, if a tile of rows has no more: read and laid out without leaving a core's second-level cache. On two Zen 3
/// cores pieces of 70 to 100 KB loaded 1.3 GB in 0.38 s, those of 240 KB in 0.54 s and those of 35 KB in 0.6 s (medians).
const PIECE: usize = 96 << 10;

/// Puts a prepared shard into the world: inserts the backend's weights into the shard entity.
pub type Install = Box<dyn FnOnce(&mut EntityWorldMut<'_>) + Send>;

/// How a backend turns shards' bytes into weights. Runs on the loader's threads.
pub trait Prepare: Send + Sync {
    /// Checks a shard, whose bytes are there, and takes memory for it. `file` is named in errors.
    fn begin(&self, shard: &WeightShard, file: &str) -> Result<Box<dyn Preparing>, LoadError>;
}

/// A shard whose rows arrive.
pub trait Preparing: Send + Sync {
    /// Lays out the rows from `first` on: a multiple of [`TILE_ROWS`], or as far as the last one. Called from several threads
    /// at once, in any order, once for each row; once with all bytes where the shard is a vector.
    fn rows(&self, first: usize, bytes: &[u8]) -> Result<(), LoadError>;

    /// The shard, whose rows have all arrived.
    fn finish(self: Box<Self>) -> Result<Install, LoadError>;
}

/// One shard to fetch.
pub struct FetchItem {
    /// The shard entity.
    pub entity: Entity,
    /// What it is.
    pub shard: WeightShard,
    /// The backend it is prepared for.
    pub backend: Arc<dyn Prepare>,
}

/// A shard that has arrived.
pub struct Arrival {
    /// The shard entity.
    pub entity: Entity,
    /// Bytes it took in the file.
    pub bytes: u64,
    /// Puts it into the world.
    pub install: Install,
}

/// Reads and prepares shards one by one.
pub struct Loader {
    sources: Vec<Arc<dyn Source>>,
    items: VecDeque<FetchItem>,
    /// Buffers that no thread reads into now.
    buffers: Mutex<Vec<Vec<u8>>>,
    /// Whether nobody wants the rest.
    cancelled: Arc<AtomicBool>,
}

impl Loader {
    /// A loader of `items`, in their order, from the parts of a file.
    pub fn new(sources: Vec<Arc<dyn Source>>, items: impl IntoIterator<Item = FetchItem>) -> Self {
        let items = items.into_iter().collect();
        Self { sources, items, buffers: Mutex::default(), cancelled: Arc::default() }
    }

    /// Fetches the next shard, on the threads of `cpu`; `None` when all are done.
    pub fn fetch(&mut self, cpu: &Cpu) -> Option<Result<Arrival, LoadError>> {
        let item = self.items.pop_front()?;
        Some(self.prepare(cpu, &item))
    }

    fn prepare(&self, cpu: &Cpu, item: &FetchItem) -> Result<Arrival, LoadError> {
        let shard = &item.shard;
        let Some(source) = self.sources.get(shard.part) else {
            return Err(ModelError::MissingTensor {
                file: format!("part {}", shard.part),
                name: shard.name.clone(),
            }
            .into());
        };
        let range = shard.range.clone();
        // Before memory is taken for them.
        if range.start > range.end || range.end > source.len() {
            return Err(StorageError::out_of_range(source.name(), range, source.len()).into());
        }
        let preparing = item.backend.begin(shard, source.name())?;
        self.fill(cpu, shard, source, &*preparing)?;
        Ok(Arrival { entity: item.entity, bytes: range.end - range.start, install: preparing.finish()? })
    }

    /// Reads all rows of a shard. Threads take piece after piece; the first error stops them all.
    fn fill(
        &self,
        cpu: &Cpu,
        shard: &WeightShard,
        source: &Arc<dyn Source>,
        preparing: &dyn Preparing,
    ) -> Result<(), LoadError> {
        let pieces = Pieces::of(shard);
        let next = AtomicUsize::new(0);
        let failed = Mutex::new(None);
        cpu.for_each_chunk(cpu.threads.min(pieces.count), 1, |_| {
            let mut buffer = self.buffer();
            while let Some((first, range)) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
                if self.cancelled.load(Ordering::Relaxed) {
                    break;
                }
                let read = source.read_into(range, &mut buffer).map_err(LoadError::from);
                if let Err(error) = read.and_then(|bytes| preparing.rows(first, bytes)) {
                    next.store(pieces.count, Ordering::Relaxed);
                    lock(&failed).get_or_insert(error);
                }
            }
            lock(&self.buffers).push(buffer);
        });
        match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None if self.cancelled.load(Ordering::Relaxed) => {
                Err(LoadError::LoaderGone { file: source.name().to_owned() })
            }
            None => Ok(()),
        }
    }

    fn buffer(&self) -> Vec<u8> {
        lock(&self.buffers).pop().unwrap_or_default()
    }
}

/// What a thread that panicked left is as good as before: single values.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The pieces that a shard is read in.
struct Pieces {
    range: Range<u64>,
    /// Rows of a piece, and their bytes.
    rows: usize,
    bytes: u64,
    count: usize,
}

impl Pieces {
    fn of(shard: &WeightShard) -> Self {
        let (range, all) = (shard.range.clone(), shard.range.end - shard.range.start);
        let row_bytes = shard.format.row_bytes(shard.cols).filter(|_| !shard.role.is_vector()).unwrap_or(0);
        let tile = row_bytes.saturating_mul(TILE_ROWS);
        if tile == 0 {
            return Self { range, rows: shard.rows, bytes: all, count: 1 };
        }
        let tiles = (PIECE / tile).max(1);
        let bytes = (tiles as u64).saturating_mul(tile as u64);
        let count = usize::try_from(all.div_ceil(bytes)).unwrap_or(usize::MAX);
        Self { range, rows: tiles * TILE_ROWS, bytes, count }
    }

    /// First row of a piece and where its bytes are.
    fn get(&self, piece: usize) -> Option<(usize, Range<u64>)> {
        if piece >= self.count {
            return None;
        }
        // Inside the shard's range, so nothing overflows.
        let start = self.range.start + piece as u64 * self.bytes;
        Some((piece * self.rows, start..self.range.end.min(start + self.bytes)))
    }
}

/// What the load system found in a feed.
pub enum Fetched {
    /// A shard.
    Arrival(Arrival),
    /// Nothing yet.
    Nothing,
    /// No further shard will come.
    End,
}

/// Where a model's shards come from. A component of the model while it loads; removing it cancels the load.
#[derive(Component)]
pub struct LoadFeed(Feed);

enum Feed {
    Inline(Loader),
    #[cfg(not(target_family = "wasm"))]
    Thread(threaded::Receiver),
}

impl LoadFeed {
    /// A feed without a thread: each tick pulls some.
    pub fn inline(loader: Loader) -> Self {
        Self(Feed::Inline(loader))
    }

    /// A feed filled by threads of its own, as many as those of `cpu`, which end when the feed is dropped.
    #[cfg(not(target_family = "wasm"))]
    pub fn threaded(loader: Loader, cpu: Cpu, file: &str) -> Result<Self, LoadError> {
        threaded::spawn(loader, cpu, file).map(|receiver| Self(Feed::Thread(receiver)))
    }

    /// Takes the next shard without waiting.
    pub fn poll(&mut self) -> Result<Fetched, LoadError> {
        match &mut self.0 {
            Feed::Inline(loader) => {
                loader.fetch(&Cpu::serial()).map_or(Ok(Fetched::End), |shard| shard.map(Fetched::Arrival))
            }
            #[cfg(not(target_family = "wasm"))]
            Feed::Thread(receiver) => receiver.poll(),
        }
    }
}

#[cfg(not(target_family = "wasm"))]
mod threaded {
    //! The loader on threads.

    use super::{Arrival, Fetched, LoadError, Loader};
    use core::sync::atomic::{AtomicBool, Ordering};
    use crossbeam_channel::TryRecvError;
    use std::sync::Arc;
    use weft_platform::{Cpu, Pool};

    /// Prepared shards that may wait to be taken: enough to keep both sides busy, few enough to bound memory.
    const AHEAD: usize = 8;

    pub(super) struct Receiver {
        channel: crossbeam_channel::Receiver<Result<Arrival, LoadError>>,
        cancelled: Arc<AtomicBool>,
    }

    impl Drop for Receiver {
        fn drop(&mut self) {
            self.cancelled.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn spawn(mut loader: Loader, cpu: Cpu, file: &str) -> Result<Receiver, LoadError> {
        let no_thread = |reason: String| LoadError::NoThread { file: file.to_owned(), reason };
        // Threads apart from those of ticks: a tick never waits for a piece of a file.
        let pool = Pool::new(cpu.threads).map_err(|error| no_thread(error.to_string()))?;
        let (sender, channel) = crossbeam_channel::bounded(AHEAD);
        let cancelled = Arc::clone(&loader.cancelled);
        std::thread::Builder::new()
            .name("weft-loader".into())
            .spawn(move || {
                pool.install(|| {
                    // A closed channel is the cancel: nobody wants the rest.
                    while let Some(shard) = loader.fetch(&cpu) {
                        if sender.send(shard).is_err() {
                            break;
                        }
                    }
                });
            })
            .map_err(|error| no_thread(error.to_string()))?;
        Ok(Receiver { channel, cancelled })
    }

    impl Receiver {
        pub(super) fn poll(&mut self) -> Result<Fetched, LoadError> {
            match self.channel.try_recv() {
                Ok(shard) => shard.map(Fetched::Arrival),
                Err(TryRecvError::Empty) => Ok(Fetched::Nothing),
                Err(TryRecvError::Disconnected) => Ok(Fetched::End),
            }
        }
    }
}
