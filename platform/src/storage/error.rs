//! Errors of reading a source.

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

/// An error of a [`Source`](super::Source). Cloning is cheap, because a model keeps the error of its load.
#[derive(Clone, Debug, thiserror::Error)]
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
        /// First requested byte.
        start: u64,
        /// End of the requested range, exclusive.
        end: u64,
        /// Length of the source in bytes.
        len: u64,
    },
    /// The file could not be opened.
    #[error("{}: cannot be opened: {source}; check the path and its permissions", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: Arc<io::Error>,
    },
    /// The path does not name a regular file.
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
        /// Length in bytes when it was opened.
        len: u64,
        /// Length in bytes now.
        found: u64,
    },
    /// A range inside the source could not be read.
    #[error(
        "{name}: bytes {start} to {end} cannot be read: {source}; try again, then check the medium or connection"
    )]
    Read {
        /// The source.
        name: String,
        /// First requested byte.
        start: u64,
        /// End of the requested range, exclusive.
        end: u64,
        /// The operating system's error.
        source: Arc<io::Error>,
    },
    /// A URL could not be read.
    #[cfg(all(feature = "http", not(target_family = "wasm")))]
    #[error(transparent)]
    Http(#[from] super::HttpError),
    /// The feeder could not fetch the bytes.
    #[error(
        "{name}: bytes from {offset} on cannot be fetched: {reason}; check the connection, then load it again"
    )]
    Feed {
        /// The source.
        name: String,
        /// First byte that could not be fetched.
        offset: u64,
        /// The feeder's message.
        reason: String,
        /// True if another try may succeed.
        transient: bool,
    },
    /// The feeder was dropped before the bytes arrived.
    #[error(
        "{name}: bytes {} to {} will not arrive: what fetches them has stopped; load it again",
        range.start, range.end
    )]
    FeedClosed {
        /// The source.
        name: String,
        /// The requested bytes.
        range: Range<u64>,
    },
    /// The bytes have not arrived, and the calling thread cannot wait for them.
    #[error(
        "{name}: bytes {} to {} have not arrived and this thread cannot wait for them; poll the source instead",
        range.start, range.end
    )]
    WouldBlock {
        /// The source.
        name: String,
        /// The requested bytes.
        range: Range<u64>,
    },
}

impl StorageError {
    /// Creates the error for a `range` that is not inside the source `name` of `len` bytes.
    pub fn out_of_range(name: &str, range: Range<u64>, len: u64) -> Self {
        Self::OutOfRange { name: name.to_owned(), start: range.start, end: range.end, len }
    }

    /// Creates the error for a `range` of the source `name` that could not be read.
    pub fn read(name: &str, range: Range<u64>, source: io::Error) -> Self {
        Self::Read { name: name.to_owned(), start: range.start, end: range.end, source: Arc::new(source) }
    }

    /// Returns the length of `range` in bytes, if it is inside the source `name` of `len` bytes and its length fits
    /// `usize`.
    ///
    /// # Errors
    /// [`StorageError::OutOfRange`].
    pub fn check_range(name: &str, range: &Range<u64>, len: u64) -> Result<usize, Self> {
        let inside = range.start <= range.end && range.end <= len;
        let bytes = inside.then(|| usize::try_from(range.end - range.start).ok()).flatten();
        bytes.ok_or_else(|| Self::out_of_range(name, range.clone(), len))
    }

    /// Checks that `bytes` bytes at `offset` are inside the source `name` of `len` bytes, for implementations of
    /// [`Source::poll_read`](super::Source::poll_read).
    ///
    /// # Errors
    /// [`StorageError::OutOfRange`].
    pub fn check_piece(name: &str, offset: u64, bytes: usize, len: u64) -> Result<(), Self> {
        let end = offset.checked_add(bytes as u64).filter(|end| *end <= len);
        let outside = || Self::out_of_range(name, offset..offset.saturating_add(bytes as u64), len);
        end.map(drop).ok_or_else(outside)
    }

    /// Returns true if the same read may succeed later: it was interrupted, timed out, or its connection was lost.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Read { source, .. } => is_transient(source.kind()),
            Self::WouldBlock { .. } => true,
            #[cfg(all(feature = "http", not(target_family = "wasm")))]
            Self::Http(error) => error.is_transient(),
            Self::Feed { transient, .. } => *transient,
            Self::OutOfRange { .. }
            | Self::Open { .. }
            | Self::NotAFile { .. }
            | Self::CutShort { .. }
            | Self::FeedClosed { .. } => false,
        }
    }
}

/// Returns true for errors of a connection and for transient errors, false for errors of a file.
fn is_transient(kind: io::ErrorKind) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        kind,
        Kind::Interrupted
            | Kind::TimedOut
            | Kind::WouldBlock
            | Kind::ConnectionRefused
            | Kind::ConnectionReset
            | Kind::ConnectionAborted
            | Kind::NotConnected
            | Kind::BrokenPipe
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
            | Kind::NetworkDown
    )
}
