//! A source with a limited rate, to see and test what happens while a model is still loading.

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use super::timer::Timer;
use super::{Bytes, Source, StorageError};

/// Maximum number of bytes that one poll waits for; at a low rate, the bytes of a tenth of a second.
const PIECE: u64 = 64 << 10;

/// Maximum number of open grants. The oldest is dropped for a new one, because its reader may never poll again.
const GRANTS: usize = 64;

/// Another source, limited to a number of bytes per second.
///
/// Readers share the rate like a connection: reads are granted in turn, and a read completes when its last byte would
/// have arrived. Until then a blocking read sleeps, and a poll is pending; the source's own thread wakes it. A range
/// outside the source is rejected at once.
#[derive(Debug)]
pub struct ThrottledSource<S> {
    source: S,
    bytes_per_second: NonZeroU64,
    clock: Mutex<Clock>,
    timer: Timer,
}

#[derive(Debug, Default)]
struct Clock {
    /// When the bytes granted so far will have arrived.
    free_at: Option<Instant>,
    /// The open grants of polls, oldest first.
    grants: VecDeque<Grant>,
}

/// `len` bytes at `offset` that arrive for a poll at the time `at`.
#[derive(Clone, Copy, Debug)]
struct Grant {
    offset: u64,
    len: u64,
    at: Instant,
}

impl<S: Source> ThrottledSource<S> {
    /// Limits `source` to `bytes_per_second`.
    pub fn new(source: S, bytes_per_second: NonZeroU64) -> Self {
        Self { source, bytes_per_second, clock: Mutex::default(), timer: Timer::default() }
    }

    /// Returns the time that `len` bytes take.
    pub fn duration(&self, len: u64) -> Duration {
        let rate = self.bytes_per_second.get();
        // The remainder is below the rate, so this is less than one second.
        let nanos = u128::from(len % rate) * 1_000_000_000 / u128::from(rate);
        Duration::new(len / rate, u32::try_from(nanos).unwrap_or_default())
    }

    fn clock(&self) -> MutexGuard<'_, Clock> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Grants `bytes` more bytes. Returns the time when they will have arrived.
    fn arrival(&self, clock: &mut Clock, bytes: u64) -> Instant {
        let now = Instant::now();
        let start = clock.free_at.map_or(now, |at| at.max(now));
        // A time beyond the clock's range, centuries away, is not waited for.
        let end = start.checked_add(self.duration(bytes)).unwrap_or(start);
        clock.free_at = Some(end);
        end
    }

    /// Sleeps until `bytes` more bytes would have arrived.
    fn wait_for(&self, bytes: u64) {
        let arrival = self.arrival(&mut self.clock(), bytes);
        thread::sleep(arrival.saturating_duration_since(Instant::now()));
    }

    /// Returns the grant of a poll of `len` bytes at `offset`: an open one at the same offset, or a new one.
    fn grant(&self, offset: u64, len: u64) -> Grant {
        let mut clock = self.clock();
        if let Some(grant) = clock.grants.iter().find(|grant| grant.offset == offset) {
            return *grant;
        }
        let len = len.min((self.bytes_per_second.get() / 10).clamp(1, PIECE));
        let grant = Grant { offset, len, at: self.arrival(&mut clock, len) };
        clock.push(grant);
        grant
    }

    /// Closes a grant of which `read` bytes were read. Its other bytes, which have arrived too, become a grant of their
    /// own.
    fn settle(&self, grant: Grant, read: u64) {
        let mut clock = self.clock();
        if let Some(index) = clock.grants.iter().position(|other| other.offset == grant.offset) {
            clock.grants.remove(index);
        }
        if read < grant.len {
            clock.push(Grant { offset: grant.offset.saturating_add(read), len: grant.len - read, ..grant });
        }
    }
}

impl Clock {
    fn push(&mut self, grant: Grant) {
        if self.grants.len() >= GRANTS {
            self.grants.pop_front();
        }
        self.grants.push_back(grant);
    }
}

impl<S: Source> Source for ThrottledSource<S> {
    fn name(&self) -> &str {
        self.source.name()
    }

    fn len(&self) -> u64 {
        self.source.len()
    }

    fn poll_read(
        &self,
        cx: &mut Context<'_>,
        offset: u64,
        buffer: &mut [u8],
    ) -> Poll<Result<usize, StorageError>> {
        StorageError::check_piece(self.name(), offset, buffer.len(), self.len())?;
        if buffer.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let grant = self.grant(offset, buffer.len() as u64);
        if Instant::now() < grant.at {
            self.timer.wake_at(grant.at, cx.waker());
            return Poll::Pending;
        }
        let len = buffer.len().min(usize::try_from(grant.len).unwrap_or(usize::MAX));
        let read = self.source.poll_read(cx, offset, buffer.get_mut(..len).unwrap_or_default());
        if let Poll::Ready(Ok(read)) = &read {
            self.settle(grant, *read as u64);
        }
        read
    }

    fn is_polled(&self) -> bool {
        true
    }

    fn read(&self, range: Range<u64>) -> Result<Bytes, StorageError> {
        let bytes = self.source.read(range)?;
        self.wait_for(bytes.len() as u64);
        Ok(bytes)
    }

    fn read_into<'a>(&'a self, range: Range<u64>, buffer: &'a mut Vec<u8>) -> Result<&'a [u8], StorageError> {
        let bytes = self.source.read_into(range, buffer)?;
        self.wait_for(bytes.len() as u64);
        Ok(bytes)
    }
}
