//! A source in memory: a downloaded buffer, a test's bytes.

use std::ops::Range;
use std::task::{Context, Poll};

use super::{Bytes, Source, StorageError};

/// Bytes in memory with a name. Reads share the bytes.
#[derive(Clone, Debug)]
pub struct MemorySource {
    name: String,
    bytes: Bytes,
}

impl MemorySource {
    /// Creates a source of `bytes`: a `Vec<u8>`, an `Arc<[u8]>` or other [`Bytes`]. Messages call it `name`.
    pub fn new(name: impl Into<String>, bytes: impl Into<Bytes>) -> Self {
        Self { name: name.into(), bytes: bytes.into() }
    }
}

impl Source for MemorySource {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Fills the whole buffer with one copy.
    fn poll_read(
        &self,
        _cx: &mut Context<'_>,
        offset: u64,
        buffer: &mut [u8],
    ) -> Poll<Result<usize, StorageError>> {
        StorageError::check_piece(&self.name, offset, buffer.len(), self.len())?;
        let range = offset..offset + buffer.len() as u64;
        let inside = ends(&range).and_then(|range| self.bytes.get(range));
        let bytes = inside.ok_or_else(|| StorageError::out_of_range(&self.name, range, self.len()))?;
        buffer.copy_from_slice(bytes);
        Poll::Ready(Ok(buffer.len()))
    }

    fn read(&self, range: Range<u64>) -> Result<Bytes, StorageError> {
        let inside = ends(&range).and_then(|range| self.bytes.slice(range));
        inside.ok_or_else(|| StorageError::out_of_range(&self.name, range, self.len()))
    }

    fn read_into<'a>(
        &'a self,
        range: Range<u64>,
        _buffer: &'a mut Vec<u8>,
    ) -> Result<&'a [u8], StorageError> {
        let inside = ends(&range).and_then(|range| self.bytes.get(range));
        inside.ok_or_else(|| StorageError::out_of_range(&self.name, range, self.len()))
    }
}

/// Converts a range to `usize`; `None` if it does not fit.
fn ends(range: &Range<u64>) -> Option<Range<usize>> {
    Some(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?)
}
