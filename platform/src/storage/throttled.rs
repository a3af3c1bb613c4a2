//! A source slowed down to a rate, to see and test what happens while a model is still arriving.

use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use super::{Bytes, Source, StorageError};

/// Another source at a number of bytes per second.
///
/// Readers share the rate as they would a connection: reads are granted in turn, each sleeping until its last byte
/// would have arrived. A read that the source refuses costs no time.
#[derive(Debug)]
pub struct ThrottledSource<S> {
    source: S,
    bytes_per_second: NonZeroU64,
    /// When the bytes granted so far will have arrived.
    free_at: Mutex<Option<Instant>>,
}

impl<S: Source> ThrottledSource<S> {
    /// `source` at `bytes_per_second`.
    pub fn new(source: S, bytes_per_second: NonZeroU64) -> Self {
        Self { source, bytes_per_second, free_at: Mutex::new(None) }
    }

    /// How long `len` bytes take.
    pub fn duration(&self, len: u64) -> Duration {
        let rate = self.bytes_per_second.get();
        // The remainder is below the rate, so its nanoseconds are below one second's.
        let nanos = u128::from(len % rate) * 1_000_000_000 / u128::from(rate);
        Duration::new(len / rate, u32::try_from(nanos).unwrap_or_default())
    }

    /// Sleeps until so many bytes more would have arrived.
    fn wait_for(&self, bytes: u64) {
        let now = Instant::now();
        let wait = {
            let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
            let start = free_at.map_or(now, |at| at.max(now));
            // A time that the clock cannot tell, centuries away, is not waited for.
            let end = start.checked_add(self.duration(bytes)).unwrap_or(start);
            *free_at = Some(end);
            end.saturating_duration_since(now)
        };
        thread::sleep(wait);
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
        self.source.poll_read(cx, offset, buffer)
    }

    fn is_polled(&self) -> bool {
        self.source.is_polled()
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
