//! Reading from sources that must be polled: the tick requests pieces and takes what has arrived. It never waits.

use super::origin::shard_bytes;
use super::pause::{Pauses, RETRIES, pause};
use super::pieces::Pieces;
use super::request::{Arrival, FetchItem, Report};
use crate::place::{Install, LoadError, Preparing};
use core::ops::Range;
use core::task::{Context, Poll};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use web_time::Instant;
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
    /// The end of the pause after a failed try.
    retry_at: Option<Instant>,
}

/// What came of a poll.
enum Step {
    Waits,
    Started,
    Arrived { bytes: u64, install: Install },
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
    pauses: Pauses,
}

impl Polled {
    pub(super) fn new(sources: Arc<[Arc<dyn Source>]>) -> Self {
        Self {
            sources,
            items: VecDeque::new(),
            current: None,
            buffers: Vec::new(),
            pauses: Pauses::default(),
        }
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

    /// Takes what has arrived of the current shard, or begins the next. `None` if nothing more has arrived, or no shard
    /// was requested. Lays out about `most` bytes at most.
    pub(super) fn poll(&mut self, context: &mut Context<'_>, most: u64) -> Option<Report> {
        let current = self.current.as_ref().map(|current| &current.item);
        let item = current.or_else(|| self.items.front())?;
        let (entity, ticket, part) = (item.entity(), item.ticket, item.shard().part);
        // A panic of a source or a backend is an error of this shard, as on the loader's threads.
        let step = catch_unwind(AssertUnwindSafe(|| self.step(context, most))).unwrap_or_else(|_| {
            let source = self.sources.get(part);
            let file = source.map_or(String::new(), |source| source.name().to_owned());
            Err(LoadError::LoaderGone { file })
        });
        match step {
            Ok(Step::Waits) => None,
            Ok(Step::Started) => Some(Report::Started { entity, ticket }),
            Ok(Step::Arrived { bytes, install }) => {
                Some(Report::Arrived(Arrival { entity, bytes, install, ticket }))
            }
            Err(error) => {
                // A later request for the shard stays.
                self.items.retain(|item| item.ticket != ticket);
                Some(Report::Failed { entity, ticket, error })
            }
        }
    }

    fn step(&mut self, context: &mut Context<'_>, most: u64) -> Result<Step, LoadError> {
        let Some(mut current) = self.current.take() else {
            let Some(item) = self.items.pop_front() else { return Ok(Step::Waits) };
            let (_, preparing) = item.begin(&self.sources)?;
            let pieces = Pieces::of(item.shard());
            self.current = Some(Current { item, preparing, pieces, next: 0, reads: Vec::new() });
            return Ok(Step::Started);
        };
        if !self.advance(&mut current, context, most)? {
            self.current = Some(current);
            return Ok(Step::Waits);
        }
        let bytes = shard_bytes(current.item.shard());
        Ok(Step::Arrived { bytes, install: current.preparing.finish()? })
    }

    /// Requests pieces and lays out those that have arrived, until there are `most` bytes. Returns
    /// true if all have.
    fn advance(
        &mut self,
        current: &mut Current,
        context: &mut Context<'_>,
        most: u64,
    ) -> Result<bool, LoadError> {
        let Some(source) = self.sources.get(current.item.shard().part).map(Arc::clone) else {
            return Ok(false);
        };
        let mut bytes = 0;
        loop {
            while current.reads.len() < READS
                && let Some((first, range)) = current.pieces.get(current.next)
            {
                let mut buffer = self.buffers.pop().unwrap_or_default();
                resize(&mut buffer, &*source, &range)?;
                current.next += 1;
                current.reads.push(Read { first, range, filled: 0, buffer, tries: 0, retry_at: None });
            }
            let before = current.reads.len();
            let mut at = 0;
            while let Some(read) = current.reads.get_mut(at) {
                if read.poll(&*source, &self.pauses, context)? {
                    let Read { first, buffer, .. } = current.reads.swap_remove(at);
                    current.preparing.rows(first, &buffer)?;
                    bytes += buffer.len() as u64;
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
            if bytes >= most {
                context.waker().wake_by_ref();
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
    fn poll(
        &mut self,
        source: &dyn Source,
        pauses: &Pauses,
        context: &mut Context<'_>,
    ) -> Result<bool, LoadError> {
        if let Some(at) = self.retry_at {
            if Instant::now() < at {
                pauses.wake_at(at, context.waker());
                return Ok(false);
            }
            self.retry_at = None;
        }
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
                    let at = Instant::now() + pause(self.tries);
                    self.tries += 1;
                    self.retry_at = Some(at);
                    pauses.wake_at(at, context.waker());
                    return Ok(false);
                }
                Poll::Ready(Err(error)) => return Err(error.into()),
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::queue::BYTES_A_TICK;
    use crate::place::Prepare;
    use bevy_ecs::prelude::*;
    use core::sync::atomic::{AtomicUsize, Ordering};
    use core::task::Waker;
    use weft_components::formats::F32;
    use weft_components::{BlockFormat, TensorFormat, TensorRole, WeightShard};
    use weft_platform::Signal;
    use weft_platform::storage::MemorySource;

    /// Counts bytes.
    #[derive(Clone, Default)]
    struct Count(Arc<AtomicUsize>);

    impl Prepare for Count {
        fn begin(&self, _: &WeightShard, _: &str) -> Result<Box<dyn Preparing>, LoadError> {
            Ok(Box::new(self.clone()))
        }
    }

    impl Preparing for Count {
        fn rows(&self, _: usize, bytes: &[u8]) -> Result<(), LoadError> {
            self.0.fetch_add(bytes.len(), Ordering::Relaxed);
            Ok(())
        }

        fn finish(self: Box<Self>) -> Result<Install, LoadError> {
            Ok(Box::new(|_| {}))
        }
    }

    /// Requests a matrix of this many MiB from the start of a source.
    fn item(entity: Entity, count: &Count, mib: usize) -> FetchItem {
        let (rows, cols) = (mib << 8, 1024);
        let shard = WeightShard {
            name: "matrix".to_owned(),
            role: TensorRole::FfnUp,
            expert: 0,
            format: TensorFormat::from_ggml(F32::GGML_TYPE).unwrap(),
            rows,
            cols,
            part: 0,
            range: 0..(rows * cols * 4) as u64,
        };
        FetchItem::new(entity, shard, Arc::new(count.clone()))
    }

    fn polled(mib: usize) -> Polled {
        let source: Arc<dyn Source> = Arc::new(MemorySource::new("matrix", vec![0; mib << 20]));
        Polled::new(Arc::new([source]))
    }

    #[test]
    fn a_poll_takes_what_a_tick_may_take_and_asks_for_another() {
        let (mut polled, mut world, count) = (polled(20), World::new(), Count::default());
        polled.push(item(world.spawn_empty().id(), &count, 20));
        let signal = Signal::new();
        let waker = signal.waker();
        let mut context = Context::from_waker(&waker);
        assert!(matches!(polled.poll(&mut context, BYTES_A_TICK), Some(Report::Started { .. })));
        let (mut before, mut polls) = (0, 0);
        loop {
            let report = polled.poll(&mut context, BYTES_A_TICK);
            let bytes = count.0.load(Ordering::Relaxed);
            assert!((bytes - before) as u64 <= BYTES_A_TICK + (1 << 20), "{}", bytes - before);
            (before, polls) = (bytes, polls + 1);
            if let Some(report) = report {
                assert!(matches!(report, Report::Arrived(_)));
                break;
            }
            assert!(signal.take(), "the next tick goes on at once");
        }
        assert_eq!((before, polls), (20 << 20, 3));
    }

    #[test]
    fn a_request_that_is_cancelled_is_not_read() {
        let (mut polled, mut world) = (polled(12), World::new());
        let counts = [Count::default(), Count::default(), Count::default()];
        let entities = [(); 3].map(|()| world.spawn_empty().id());
        for (entity, count) in entities.iter().zip(&counts) {
            polled.push(item(*entity, count, 12));
        }
        let mut context = Context::from_waker(Waker::noop());
        let started =
            |report| matches!(report, Some(Report::Started { entity, .. }) if entity == entities[0]);
        assert!(
            started(polled.poll(&mut context, BYTES_A_TICK))
                && polled.poll(&mut context, BYTES_A_TICK).is_none()
        );
        let before = counts[0].0.load(Ordering::Relaxed);
        // One is being read, the next has not begun.
        polled.forget(entities[0]);
        polled.forget(entities[1]);
        while !matches!(polled.poll(&mut context, BYTES_A_TICK), Some(Report::Arrived(_))) {}
        let read = counts.map(|count| count.0.load(Ordering::Relaxed));
        assert_eq!(read, [before, 0, 12 << 20]);
    }

    /// Fails its first read for a transient reason.
    struct Fails(AtomicUsize);

    impl Source for Fails {
        fn name(&self) -> &str {
            "fails once"
        }

        fn len(&self) -> u64 {
            1 << 20
        }

        fn poll_read(
            &self,
            _: &mut Context<'_>,
            at: u64,
            buffer: &mut [u8],
        ) -> Poll<Result<usize, StorageError>> {
            if self.0.fetch_add(1, Ordering::Relaxed) > 0 {
                return Poll::Ready(Ok(buffer.len()));
            }
            let (name, end) = (self.name().to_owned(), at + buffer.len() as u64);
            let source = Arc::new(std::io::ErrorKind::ConnectionReset.into());
            Poll::Ready(Err(StorageError::Read { name, start: at, end, source }))
        }
    }

    #[test]
    fn a_read_is_tried_again_after_a_pause() {
        let (source, pauses) = (Fails(AtomicUsize::new(0)), Pauses::default());
        let signal = Signal::new();
        let waker = signal.waker();
        let mut context = Context::from_waker(&waker);
        let mut read =
            Read { first: 0, range: 0..9, filled: 0, buffer: vec![0; 9], tries: 0, retry_at: None };
        let begun = Instant::now();
        assert!(!read.poll(&source, &pauses, &mut context).unwrap());
        while !read.poll(&source, &pauses, &mut context).unwrap() {
            signal.wait_timeout(core::time::Duration::from_secs(60));
        }
        assert!(begun.elapsed() >= pause(0));
        assert_eq!(source.0.load(Ordering::Relaxed), 2, "it is not read during the pause");
    }

    #[test]
    fn an_error_leaves_a_later_request_alone() {
        let (mut world, count) = (World::new(), Count::default());
        let source: Arc<dyn Source> = Arc::new(MemorySource::new("short", vec![0; 1 << 20]));
        let (mut polled, entity) = (Polled::new(Arc::new([source])), world.spawn_empty().id());
        for (ticket, mib) in [(1, 2), (2, 1)] {
            let mut item = item(entity, &count, mib);
            item.ticket = ticket;
            polled.push(item);
        }
        let mut context = Context::from_waker(Waker::noop());
        let mut report = || polled.poll(&mut context, BYTES_A_TICK);
        assert!(matches!(report(), Some(Report::Failed { ticket: 1, .. })), "it ends beyond the source");
        assert!(matches!(report(), Some(Report::Started { ticket: 2, .. })));
        assert!(matches!(report(), Some(Report::Arrived(_))));
    }
}
