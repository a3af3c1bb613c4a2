//! Where bytes come from, and files that are made.
//!
//! A [`Source`] is random access to one file's bytes, wherever they lie: a file on disk ([`FileSource`]), a buffer
//! ([`MemorySource`]), and in a browser a file of its private file system or the ranges of an HTTP resource.
//! Reading gives [`Bytes`], which keep alive what they borrow from, or fills a buffer of the caller's that is used again.
//! A file that is written, natively, is a [`NewFile`]: whole or not there.
//!
//! Invariant: a read gives exactly the bytes asked for or an error. A range outside the source is an error, whatever
//! its numbers, so a caller may pass on offsets that a file states.

mod bytes;
mod error;
#[cfg(not(target_family = "wasm"))]
mod file;
mod memory;
#[cfg(not(target_family = "wasm"))]
mod new_file;
#[cfg(not(target_family = "wasm"))]
mod throttled;

use std::ops::Range;
use std::sync::Arc;

pub use bytes::Bytes;
pub use error::StorageError;
#[cfg(not(target_family = "wasm"))]
pub use file::FileSource;
pub use memory::MemorySource;
#[cfg(not(target_family = "wasm"))]
pub use new_file::{NewFile, NewFileError};
#[cfg(not(target_family = "wasm"))]
pub use throttled::ThrottledSource;

/// A random-access source of bytes: a file, memory, later a browser's storage or HTTP ranges.
///
/// A call blocks no longer than its one read takes. Sources are shared between threads.
pub trait Source: Send + Sync {
    /// What to call the source in messages: a path or an address.
    fn name(&self) -> &str;

    /// Bytes in the source.
    fn len(&self) -> u64;

    /// Whether the source has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes at `range`.
    ///
    /// The view's address is of no particular alignment. Reading an empty range inside the source is no error.
    ///
    /// # Errors
    /// [`StorageError::OutOfRange`] where `range` is not inside the source; others as the kind of source has them.
    fn read(&self, range: Range<u64>) -> Result<Bytes, StorageError>;

    /// The bytes at `range` where they lie, or in `buffer`, which is the caller's to use again. It grows and never shrinks.
    ///
    /// # Errors
    /// As [`Source::read`].
    fn read_into<'a>(&'a self, range: Range<u64>, buffer: &'a mut Vec<u8>) -> Result<&'a [u8], StorageError> {
        let bytes = self.read(range)?;
        if buffer.len() < bytes.len() {
            buffer.resize(bytes.len(), 0);
        }
        let buffer = &mut buffer[..bytes.len()];
        buffer.copy_from_slice(&bytes);
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

    fn read(&self, range: Range<u64>) -> Result<Bytes, StorageError> {
        (**self).read(range)
    }

    fn read_into<'a>(&'a self, range: Range<u64>, buffer: &'a mut Vec<u8>) -> Result<&'a [u8], StorageError> {
        (**self).read_into(range, buffer)
    }
}
