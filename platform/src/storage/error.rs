//! What can go wrong between a source and its bytes.

use std::io;
use std::ops::Range;
use std::path::PathBuf;

/// An error of a [`Source`](super::Source).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The range is not inside the source.
    #[error(
        "{name}: bytes {start} to {end} were asked for, but the file has {len}; \
         it is damaged or not fully downloaded: fetch it again"
    )]
    OutOfRange {
        /// The source.
        name: String,
        /// First byte asked for.
        start: u64,
        /// End of the range asked for, exclusive.
        end: u64,
        /// Bytes in the source.
        len: u64,
    },
    /// The file could not be opened.
    #[error("{}: cannot be opened: {source}; check the path and its permissions", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The path names something other than a file.
    #[error("{}: is not a regular file; name the model file itself", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The file has become shorter since it was opened.
    #[error(
        "{name}: was cut short while it was read: it had {len} bytes and has {found} now; \
         let it be written whole, then load it again"
    )]
    CutShort {
        /// The source.
        name: String,
        /// Bytes when it was opened.
        len: u64,
        /// Bytes now.
        found: u64,
    },
    /// A range inside the source could not be read.
    #[error(
        "{name}: bytes {start} to {end} cannot be read: {source}; try again, then check the medium or connection"
    )]
    Read {
        /// The source.
        name: String,
        /// First byte asked for.
        start: u64,
        /// End of the range asked for, exclusive.
        end: u64,
        /// What the system said.
        source: io::Error,
    },
}

impl StorageError {
    /// The error for a `range` that is not inside the source `name` of `len` bytes.
    pub fn out_of_range(name: &str, range: Range<u64>, len: u64) -> Self {
        Self::OutOfRange { name: name.to_owned(), start: range.start, end: range.end, len }
    }
}
