//! Reading a shard in pieces of rows. Each piece is laid out before the next is read into the same buffer.

use super::origin::shard_bytes;
use super::pause::RETRIES;
#[cfg(not(target_family = "wasm"))]
use super::pause::pause;
use super::request::{Arrival, FetchItem, Report};
use crate::place::{LoadError, Preparing};
use bevy_ecs::prelude::*;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use weft_components::WeightShard;
use weft_platform::storage::Source;
use weft_platform::{Cpu, TILE_ROWS};

/// Bytes of a piece, unless one tile of rows has more. A piece is read and laid out without leaving a core's
/// second-level cache. On two Zen 3 cores pieces of 70 to 100 KB loaded 1.3 GB in 0.38 s, those of 240 KB in 0.54 s and
/// those of 35 KB in 0.6 s (medians).
const PIECE: usize = 96 << 10;

/// The pieces of a shard.
pub(super) struct Pieces {
    range: Range<u64>,
    /// Rows of a piece, and their bytes.
    rows: usize,
    bytes: u64,
    pub(super) count: usize,
}

impl Pieces {
    pub(super) fn of(shard: &WeightShard) -> Self {
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

    /// First row of a piece, and its byte range.
    pub(super) fn get(&self, piece: usize) -> Option<(usize, Range<u64>)> {
        if piece >= self.count {
            return None;
        }
        // Within the shard's range, so nothing overflows.
        let start = self.range.start + piece as u64 * self.bytes;
        Some((piece * self.rows, start..self.range.end.min(start + self.bytes)))
    }
}

/// Buffers that no thread is reading into.
#[derive(Default)]
pub(super) struct Buffers(Mutex<Vec<Vec<u8>>>);

impl Buffers {
    fn take(&self) -> Vec<u8> {
        lock(&self.0).pop().unwrap_or_default()
    }

    fn put(&self, buffer: Vec<u8>) {
        lock(&self.0).push(buffer);
    }
}

/// If a thread panicked, the value is still valid: no value is changed in several steps.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads all rows of a shard from a source that need not be polled, on the threads of `cpu`, which take one piece after
/// another. The first error stops all threads, and so does `cancelled`.
pub(super) fn read(
    cpu: &Cpu,
    item: &FetchItem,
    source: &Arc<dyn Source>,
    preparing: &dyn Preparing,
    buffers: &Buffers,
    cancelled: &AtomicBool,
) -> Result<(), LoadError> {
    let pieces = Pieces::of(&item.shard);
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(None);
    cpu.for_each_chunk(cpu.threads.min(pieces.count), 1, |_| {
        let mut buffer = buffers.take();
        while let Some(next_piece) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
            if cancelled.load(Ordering::Relaxed) {
                break;
            }
            if let Err(error) = piece(source, next_piece, preparing, &mut buffer, cancelled) {
                next.store(pieces.count, Ordering::Relaxed);
                lock(&failed).get_or_insert(error);
            }
        }
        buffers.put(buffer);
    });
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None if cancelled.load(Ordering::Relaxed) => {
            Err(LoadError::LoaderGone { file: source.name().to_owned() })
        }
        None => Ok(()),
    }
}

/// Reads a piece and lays it out. Retries after a pause if the read failed for a transient reason.
fn piece(
    source: &Arc<dyn Source>,
    (first, range): (usize, Range<u64>),
    preparing: &dyn Preparing,
    buffer: &mut Vec<u8>,
    cancelled: &AtomicBool,
) -> Result<(), LoadError> {
    let mut tries = 0;
    loop {
        match source.read_into(range.clone(), buffer) {
            Ok(bytes) => return preparing.rows(first, bytes),
            Err(error) if error.is_transient() && tries < RETRIES && !cancelled.load(Ordering::Relaxed) => {
                tracing::warn!(%error, tries, "a read failed and is tried again");
                #[cfg(not(target_family = "wasm"))]
                std::thread::sleep(pause(tries));
                tries += 1;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Reads and prepares a shard on the threads of `cpu`. A panic of a source or a backend is an error of this shard.
pub(super) fn fetch(
    cpu: &Cpu,
    item: &FetchItem,
    sources: &[Arc<dyn Source>],
    buffers: &Buffers,
    cancelled: &AtomicBool,
) -> Report {
    let (entity, ticket) = (item.entity, item.ticket);
    let fetch = || {
        let (source, preparing) = item.begin(sources)?;
        read(cpu, item, source, &*preparing, buffers, cancelled)?;
        preparing.finish()
    };
    let file = || sources.get(item.shard.part).map_or(String::new(), |source| source.name().to_owned());
    let gone = |_| Err(LoadError::LoaderGone { file: file() });
    match catch_unwind(AssertUnwindSafe(fetch)).unwrap_or_else(gone) {
        Ok(install) => Report::Arrived(Arrival { entity, bytes: shard_bytes(&item.shard), install, ticket }),
        Err(error) => Report::Failed { entity, ticket, error },
    }
}

/// [`fetch`] on the calling thread, for platforms without threads.
#[cfg(target_family = "wasm")]
pub(super) fn fetch_here(item: &FetchItem, sources: &[Arc<dyn Source>]) -> Report {
    fetch(&Cpu::serial(), item, sources, &Buffers::default(), &AtomicBool::new(false))
}
