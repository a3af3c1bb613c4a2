//! Reading from sources that must be polled: the tick requests pieces and takes what has arrived. It never waits.

use super::origin::shard_bytes;
use super::pieces::{Pieces, RETRIES};
use super::request::{Arrival, FetchItem, Report};
use crate::place::{LoadError, Preparing};
use core::ops::Range;
use core::task::{Context, Poll};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use weft_platform::storage::{Source, StorageError};

/// Pieces that are requested at the same time. A source over a network answers several requests in the time of one.
const READS: usize = 4;

/// A piece that is being read.
struct Read {
    first: usize,
    range: Range<u64>,
    filled: usize,
    buffer: Vec<u8>,
    tries: u32,
}

/// The shard that is being read.
struct Current {
    item: FetchItem,
    preparing: Box<dyn Preparing>,
    pieces: Pieces,
    /// The next piece to request.
    next: usize,
    reads: Vec<Read>,
}

/// Shards of polled sources.
pub(super) struct Polled {
    sources: Arc<[Arc<dyn Source>]>,
    items: VecDeque<FetchItem>,
    current: Option<Current>,
    buffers: Vec<Vec<u8>>,
}

impl Polled {
    pub(super) fn new(sources: Arc<[Arc<dyn Source>]>) -> Self {
        Self { sources, items: VecDeque::new(), current: None, buffers: Vec::new() }
    }

    pub(super) fn push(&mut self, item: FetchItem) {
        self.items.push_back(item);
    }

    pub(super) fn clear(&mut self) {
        self.items.clear();
        self.current = None;
    }

    /// Cancels the request for a shard.
    pub(super) fn forget(&mut self, shard: bevy_ecs::entity::Entity) {
        self.items.retain(|item| item.entity() != shard);
        self.current.take_if(|current| current.item.entity() == shard);
    }

    /// Takes what has arrived of the current shard. `None` if it is incomplete, or no shard was requested.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Option<Report> {
        let Some(mut current) = self.current.take() else { return self.start() };
        let (entity, ticket) = (current.item.entity(), current.item.ticket);
        // A panic of a source or a backend is an error of this shard, as on the loader's threads.
        let advance = AssertUnwindSafe(|| self.advance(&mut current, context));
        let polled = catch_unwind(advance).unwrap_or_else(|_| {
            let source = self.sources.get(current.item.shard().part);
            let file = source.map_or(String::new(), |source| source.name().to_owned());
            Err(LoadError::LoaderGone { file })
        });
        let finished = match polled {
            Ok(false) => {
                self.current = Some(current);
                return None;
            }
            Ok(true) => current.preparing.finish(),
            Err(error) => Err(error),
        };
        Some(match finished {
            Ok(install) => {
                let bytes = shard_bytes(current.item.shard());
                Report::Arrived(Arrival { entity, bytes, install, ticket })
            }
            Err(error) => Report::Failed { entity, ticket, error },
        })
    }

    /// Begins the next shard.
    fn start(&mut self) -> Option<Report> {
        let item = self.items.pop_front()?;
        let (entity, ticket) = (item.entity(), item.ticket);
        match item.begin(&self.sources).map(|(_, preparing)| preparing) {
            Ok(preparing) => {
                let pieces = Pieces::of(item.shard());
                self.current = Some(Current { item, preparing, pieces, next: 0, reads: Vec::new() });
                Some(Report::Started { entity, ticket })
            }
            Err(error) => Some(Report::Failed { entity, ticket, error }),
        }
    }

    /// Requests pieces and lays out those that have arrived. Returns true if all have.
    fn advance(&mut self, current: &mut Current, context: &mut Context<'_>) -> Result<bool, LoadError> {
        let Some(source) = self.sources.get(current.item.shard().part).map(Arc::clone) else {
            return Ok(false);
        };
        loop {
            while current.reads.len() < READS
                && let Some((first, range)) = current.pieces.get(current.next)
            {
                let mut buffer = self.buffers.pop().unwrap_or_default();
                resize(&mut buffer, &*source, &range)?;
                current.next += 1;
                current.reads.push(Read { first, range, filled: 0, buffer, tries: 0 });
            }
            let before = current.reads.len();
            let mut at = 0;
            while let Some(read) = current.reads.get_mut(at) {
                if read.poll(&*source, context)? {
                    let Read { first, buffer, .. } = current.reads.swap_remove(at);
                    current.preparing.rows(first, &buffer)?;
                    self.buffers.push(buffer);
                } else {
                    at += 1;
                }
            }
            if current.reads.is_empty() && current.next >= current.pieces.count {
                return Ok(true);
            }
            if current.reads.len() == before {
                return Ok(false);
            }
        }
    }
}

/// Makes a buffer as long as a range, if there is memory for that.
fn resize(buffer: &mut Vec<u8>, source: &dyn Source, range: &Range<u64>) -> Result<(), LoadError> {
    let no_memory = || StorageError::Read {
        name: source.name().to_owned(),
        start: range.start,
        end: range.end,
        source: Arc::new(std::io::ErrorKind::OutOfMemory.into()),
    };
    let len = usize::try_from(range.end - range.start).map_err(|_| no_memory())?;
    buffer.clear();
    buffer.try_reserve_exact(len).map_err(|_| no_memory())?;
    buffer.resize(len, 0);
    Ok(())
}

impl Read {
    /// Takes bytes that have arrived. Returns true if the piece is complete.
    fn poll(&mut self, source: &dyn Source, context: &mut Context<'_>) -> Result<bool, LoadError> {
        while self.filled < self.buffer.len() {
            let offset = self.range.start + self.filled as u64;
            match source.poll_read(context, offset, &mut self.buffer[self.filled..]) {
                Poll::Pending => return Ok(false),
                // A source may not say so, and would not wake anybody.
                Poll::Ready(Ok(0)) => {
                    let (name, end) = (source.name().to_owned(), self.range.end);
                    let source = Arc::new(std::io::ErrorKind::UnexpectedEof.into());
                    return Err(StorageError::Read { name, start: offset, end, source }.into());
                }
                Poll::Ready(Ok(read)) => self.filled = (self.filled + read).min(self.buffer.len()),
                Poll::Ready(Err(error)) if error.is_transient() && self.tries < RETRIES => {
                    tracing::warn!(%error, tries = self.tries, "a read failed and is tried again");
                    self.tries += 1;
                    context.waker().wake_by_ref();
                    return Ok(false);
                }
                Poll::Ready(Err(error)) => return Err(error.into()),
            }
        }
        Ok(true)
    }
}
