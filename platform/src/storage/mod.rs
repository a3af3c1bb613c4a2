//! Where bytes come from, and files that are made.
//!
//! A [`Source`] is random access to one file's bytes, wherever they lie: a file on disk ([`FileSource`], or [`MmapSource`]),
//! a buffer ([`MemorySource`]), the ranges of an HTTP resource (`HttpSource`, feature `http`), or what a web page fetches
//! ([`FedSource`]); [`ThrottledSource`] slows another down. Polling never waits and takes what has arrived. Reading gives [`Bytes`], which keep alive what they borrow from, or fills a buffer of the caller's that is used again.
//! A file that is written, natively, is a [`NewFile`]: whole or not there.
//!
//! Invariant: a read gives exactly the bytes asked for or an error. A range outside the source is an error, whatever
//! its numbers, so a caller may pass on offsets that a file states.

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
/// [`Source::poll_read`] never waits. [`Source::read`] and [`Source::read_into`] wait for their bytes, on a thread that may.
/// Sources are shared between threads, and any number of readers may poll one at a time.
pub trait Source: Send + Sync {
    /// What to call the source in messages: a path or an address.
    fn name(&self) -> &str;

    /// Bytes in the source.
    fn len(&self) -> u64;

    /// Returns true if the source has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies bytes from `offset` on into the front of `buffer`: as many as are available now, at least one and at most
    /// `buffer.len()`. An empty buffer inside the source gets none.
    ///
    /// Pending: none is available yet. The waker of `cx` is woken when it is worth asking again, which may be too early.
    /// Each reader's last waker is kept, so readers do not displace one another.
    ///
    /// After an error the same read may be asked for again; [`StorageError::is_transient`] says if that may help.
    ///
    /// # Errors
    /// [`StorageError::OutOfRange`] where `offset..offset + buffer.len()` is not inside the source; others as the kind of
    /// source has them.
    fn poll_read(
        &self,
        cx: &mut Context<'_>,
        offset: u64,
        buffer: &mut [u8],
    ) -> Poll<Result<usize, StorageError>>;

    /// Returns true if [`Source::poll_read`] may be pending: such a source is polled, others are read by the loader's
    /// threads.
    fn is_polled(&self) -> bool {
        false
    }

    /// The bytes at `range`. Waits until all of them have arrived.
    ///
    /// The view's address is of no particular alignment. Reading an empty range inside the source is no error.
    ///
    /// # Errors
    /// [`StorageError::OutOfRange`] where `range` is not inside the source; others as the kind of source has them.
    /// On wasm [`StorageError::WouldBlock`] where the bytes have not arrived: a thread cannot wait there.
    fn read(&self, range: Range<u64>) -> Result<Bytes, StorageError> {
        let mut buffer = Vec::new();
        self.read_into(range, &mut buffer)?;
        Ok(buffer.into())
    }

    /// The bytes at `range` where they lie, or in `buffer`, which is the caller's to use again. It grows and never shrinks.
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
