//! Reading headers without waiting.
//!
//! A header's length is known when it has been parsed. So the front of a part is polled into memory and parsed; where the
//! parser wants more, twice as much is polled and parsed anew. At most twice the header is polled, and three times its bytes
//! are parsed.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use weft_platform::storage::{Bytes, Source, StorageError};

use super::cursor::MAX_HEADER;
use super::{Gguf, GgufError, Parts, read_part};

/// Bytes of the front that is tried first: the header of a model without a vocabulary.
const FIRST: u64 = 64 << 10;

/// Most bytes of a read.
const PIECE: usize = 256 << 10;

/// Tries to repeat a read that fails for a reason that may pass.
const RETRIES: u32 = 3;

/// Reads the headers of a model's parts, in order. Parts that are not polled are read at once.
pub(crate) struct GgufReader {
    sources: Vec<Arc<dyn Source>>,
    parts: Parts,
    front: Front,
}

impl GgufReader {
    pub(crate) fn new(sources: Vec<Arc<dyn Source>>) -> Self {
        Self { sources, parts: Parts::default(), front: Front::default() }
    }

    /// Goes on reading. After a result the reader is empty: [`GgufError::NoSources`].
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Gguf, GgufError>> {
        let result = ready!(self.poll_parts(cx));
        let parts = std::mem::take(&mut self.parts);
        let sources = std::mem::take(&mut self.sources);
        self.front = Front::default();
        Poll::Ready(result.and_then(|()| parts.merge(&sources)))
    }

    fn poll_parts(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), GgufError>> {
        while let Some(source) = self.sources.get(self.parts.count) {
            let index = self.parts.count;
            let part = if source.is_polled() {
                ready!(self.front.poll(cx, &**source, |front, bytes| read_part(front, index, bytes)))?
            } else {
                read_part(&**source, index, u64::MAX)?
            };
            self.front = Front::default();
            self.parts.push(part, self.sources.len())?;
        }
        Poll::Ready(Ok(()))
    }
}

/// The front of a source, as far as it has been polled.
#[derive(Default)]
struct Front {
    /// The first `filled` are the source's.
    bytes: Arc<Vec<u8>>,
    filled: usize,
    /// How many are to be polled before the next attempt.
    target: u64,
    /// Times in a row that a read has failed.
    failed: u32,
}

impl Front {
    /// Polls and parses until `parse`, which is given the source's front and its length, does not ask for more.
    fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        source: &dyn Source,
        parse: impl Fn(&dyn Source, u64) -> Result<T, GgufError>,
    ) -> Poll<Result<T, GgufError>> {
        let most = source.len().min(MAX_HEADER);
        self.target = self.target.max(FIRST.min(most));
        loop {
            ready!(self.fill(cx, source))?;
            let front = FrontSource {
                name: source.name(),
                len: source.len(),
                bytes: Bytes::from_owner(Shared(Arc::clone(&self.bytes))),
            };
            match parse(&front, self.filled as u64) {
                // Never past the file's end or the limit: those are errors of their own.
                Err(GgufError::Storage(StorageError::WouldBlock { range, .. }))
                    if range.end > self.filled as u64 =>
                {
                    self.target = range.end.max((self.filled as u64).saturating_mul(2).min(most));
                }
                result => return Poll::Ready(result),
            }
        }
    }

    /// Polls as far as the target.
    fn fill(&mut self, cx: &mut Context<'_>, source: &dyn Source) -> Poll<Result<(), StorageError>> {
        let target = usize::try_from(self.target).unwrap_or(usize::MAX);
        // The parser keeps no view, so nothing is copied here.
        let bytes = Arc::make_mut(&mut self.bytes);
        let error = |kind: io::ErrorKind, range: Range<usize>| {
            let range = range.start as u64..range.end as u64;
            Poll::Ready(Err(StorageError::read(source.name(), range, kind.into())))
        };
        if bytes.try_reserve_exact(target.saturating_sub(bytes.len())).is_err() {
            return error(io::ErrorKind::OutOfMemory, 0..target);
        }
        while self.filled < target {
            let end = target.min(self.filled.saturating_add(PIECE));
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            let piece = bytes.get_mut(self.filled..end).unwrap_or_default();
            match ready!(source.poll_read(cx, self.filled as u64, piece)) {
                Ok(0) => return error(io::ErrorKind::UnexpectedEof, self.filled..end),
                Ok(read) => {
                    self.filled = end.min(self.filled.saturating_add(read));
                    self.failed = 0;
                }
                Err(error) if error.is_transient() && self.failed < RETRIES => self.failed += 1,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Bytes that a parser looks at and a [`Front`] grows in turn.
struct Shared(Arc<Vec<u8>>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// A source of which the front is in memory.
struct FrontSource<'a> {
    name: &'a str,
    len: u64,
    bytes: Bytes,
}

impl Source for FrontSource<'_> {
    fn name(&self) -> &str {
        self.name
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn poll_read(
        &self,
        _cx: &mut Context<'_>,
        offset: u64,
        buffer: &mut [u8],
    ) -> Poll<Result<usize, StorageError>> {
        StorageError::check_piece(self.name, offset, buffer.len(), self.len)?;
        buffer.copy_from_slice(&self.read(offset..offset + buffer.len() as u64)?);
        Poll::Ready(Ok(buffer.len()))
    }

    fn read(&self, range: Range<u64>) -> Result<Bytes, StorageError> {
        let len = StorageError::check_range(self.name, &range, self.len)?;
        let start = usize::try_from(range.start).unwrap_or(usize::MAX);
        let bytes = self.bytes.slice(start..start.saturating_add(len));
        bytes.ok_or_else(|| StorageError::WouldBlock { name: self.name.to_owned(), range })
    }
}
