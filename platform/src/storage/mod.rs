//! Storage: sources of bytes, and files that are written.
//!
//! A [`Source`] gives random access to the bytes of one file: a file on disk ([`FileSource`] or [`MmapSource`]), a
//! buffer ([`MemorySource`]), an HTTP resource read in ranges (`HttpSource`, feature `http`), or bytes that a web page
//! fetches ([`FedSource`]). [`ThrottledSource`] limits the rate of another source. Polling takes what has arrived and
//! does not wait for more. A read returns [`Bytes`], which keep their buffer alive, or fills a buffer that the caller
//! reuses. A [`NewFile`] (native only) is a file that is written and gets its name when it is complete.
//!
//! Invariant: a read returns exactly the requested bytes or an error. Any range outside the source is an error, so a
//! caller may use unchecked offsets from a file.

mod blocking;
mod bytes;
mod error;
mod fed;
#[cfg(not(target_family = "wasm"))]
mod file;
#[cfg(all(feature = "http", not(target_family = "wasm")))]
mod http;
mod memory;
#[cfg(not(target_family = "wasm"))]
mod mmap;
#[cfg(not(target_family = "wasm"))]
mod new_file;
#[cfg(not(target_family = "wasm"))]
mod park;
#[cfg(not(target_family = "wasm"))]
mod throttled;
#[cfg(not(target_family = "wasm"))]
mod timer;
mod window;

use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Poll};

pub use bytes::Bytes;
pub use error::StorageError;
pub use fed::{FedSource, Feeder};
#[cfg(not(target_family = "wasm"))]
pub use file::FileSource;
#[cfg(all(feature = "http", not(target_family = "wasm")))]
pub use http::{HttpError, HttpOptions, HttpSource};
pub use memory::MemorySource;
#[cfg(not(target_family = "wasm"))]
pub use mmap::MmapSource;
#[cfg(not(target_family = "wasm"))]
pub use new_file::{NewFile, NewFileError};
#[cfg(not(target_family = "wasm"))]
use park::Parker;
#[cfg(not(target_family = "wasm"))]
pub use throttled::ThrottledSource;
#[cfg(not(target_family = "wasm"))]
pub use timer::Timer;

/// A random-access source of bytes: a file, memory, HTTP ranges, bytes that a web page fetches.
///
/// [`Source::poll_read`] does not wait for bytes to arrive. [`Source::read`] and [`Source::read_into`] block until
/// theirs have arrived. Sources are shared between threads, and any number of readers may poll a source at the same
/// time.
pub trait Source: Send + Sync {
    /// Returns the name of the source for messages: a path or a URL.
    fn name(&self) -> &str;

    /// Returns the length of the source in bytes.
    fn len(&self) -> u64;

    /// Returns true if the source has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies the available bytes at `offset` to the start of `buffer`, and returns their number: at least one and at
    /// most `buffer.len()`, or 0 if `buffer` is empty.
    ///
    /// Pending if no byte is available yet. The waker of `cx` is called when polling again may succeed; it may be
    /// called too early. The source keeps a waker for each reader, so readers do not replace each other's.
    ///
    /// After an error the same read may be repeated; [`StorageError::is_transient`] says whether that may succeed.
    ///
    /// # Errors
    /// [`StorageError::OutOfRange`] if `offset..offset + buffer.len()` is not inside the source; other errors depend on
    /// the kind of source.
    fn poll_read(
        &self,
        cx: &mut Context<'_>,
        offset: u64,
        buffer: &mut [u8],
    ) -> Poll<Result<usize, StorageError>>;

    /// Returns true if [`Source::poll_read`] may be pending. Such a source is polled by ticks; others are read by the
    /// loader's threads.
    fn is_polled(&self) -> bool {
        false
    }

    /// Returns the bytes at `range`. Blocks until all of them have arrived.
    ///
    /// The bytes may have any alignment. Reading an empty range inside the source is no error.
    ///
    /// # Errors
    /// [`StorageError::OutOfRange`] if `range` is not inside the source; other errors depend on the kind of source. On
    /// wasm, where a thread cannot block, [`StorageError::WouldBlock`] if the bytes have not arrived.
    fn read(&self, range: Range<u64>) -> Result<Bytes, StorageError> {
        let mut buffer = Vec::new();
        self.read_into(range, &mut buffer)?;
        Ok(buffer.into())
    }

    /// Returns the bytes at `range`: borrowed from the source, or copied to `buffer`, which the caller can reuse.
    /// `buffer` grows as needed and never shrinks. Blocks as [`Source::read`].
    ///
    /// # Errors
    /// As [`Source::read`].
    fn read_into<'a>(&'a self, range: Range<u64>, buffer: &'a mut Vec<u8>) -> Result<&'a [u8], StorageError> {
        let len = StorageError::check_range(self.name(), &range, self.len())?;
        blocking::grow(self.name(), &range, buffer, len)?;
        let buffer = &mut buffer[..len];
        blocking::fill(self, range.start, buffer)?;
        Ok(buffer)
    }
}

impl<S: Source + ?Sized> Source for Arc<S> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn len(&self) -> u64 {
        (**self).len()
    }

    fn poll_read(
        &self,
        cx: &mut Context<'_>,
        offset: u64,
        buffer: &mut [u8],
    ) -> Poll<Result<usize, StorageError>> {
        (**self).poll_read(cx, offset, buffer)
    }

    fn is_polled(&self) -> bool {
        (**self).is_polled()
    }

    fn read(&self, range: Range<u64>) -> Result<Bytes, StorageError> {
        (**self).read(range)
    }

    fn read_into<'a>(&'a self, range: Range<u64>, buffer: &'a mut Vec<u8>) -> Result<&'a [u8], StorageError> {
        (**self).read_into(range, buffer)
    }
}
