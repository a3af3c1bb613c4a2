//! A source that is fed from outside: by a web page's `fetch`, by HTTP threads, by a test.
//!
//! Readers poll the [`FedSource`]. The owner of its [`Feeder`] takes the requested ranges, fetches them and feeds their
//! bytes. Polling and feeding do not block and need no thread. At most 2 MiB are buffered: see `window.rs`.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use super::window::WindowSet;
use super::{Source, StorageError};

/// The state that a source and its feeder share.
struct Shared {
    name: String,
    len: u64,
    windows: Mutex<WindowSet>,
}

impl Shared {
    /// Changes the windows, then unlocks them and calls the wakers that the change collected.
    fn with<T>(&self, change: impl FnOnce(&mut WindowSet) -> T) -> T {
        let (result, woken) = {
            // A poisoned lock is safe to use: every change is complete before anything in it can panic.
            let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
            let result = change(&mut windows);
            (result, windows.take_woken())
        };
        for waker in woken {
            waker.wake();
        }
        result
    }
}

/// A source whose bytes come from its [`Feeder`]. A read is pending until its bytes have been fed.
///
/// A blocking read waits for the feeder, so it must not be called on the feeder's own thread.
pub struct FedSource(Arc<Shared>);

/// The feeding end of a [`FedSource`]: returns the requested ranges and takes their bytes.
///
/// After it is dropped, reads of bytes that have not arrived return [`StorageError::FeedClosed`].
pub struct Feeder(Arc<Shared>);

impl FedSource {
    /// Creates a source of `len` bytes, which messages call `name`, and its feeder.
    pub fn new(name: impl Into<String>, len: u64) -> (Self, Feeder) {
        let shared = Arc::new(Shared { name: name.into(), len, windows: Mutex::default() });
        (Self(Arc::clone(&shared)), Feeder(shared))
    }
}

impl Source for FedSource {
    fn name(&self) -> &str {
        &self.0.name
    }

    fn len(&self) -> u64 {
        self.0.len
    }

    fn poll_read(
        &self,
        cx: &mut Context<'_>,
        offset: u64,
        buffer: &mut [u8],
    ) -> Poll<Result<usize, StorageError>> {
        let Shared { name, len, .. } = &*self.0;
        StorageError::check_piece(name, offset, buffer.len(), *len)?;
        if buffer.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.0.with(|windows| windows.poll_read(cx, (name, *len), offset, buffer))
    }

    fn is_polled(&self) -> bool {
        true
    }
}

impl Drop for FedSource {
    fn drop(&mut self) {
        self.0.with(|windows| {
            windows.unread = true;
            windows.wake_all();
        });
    }
}

impl Feeder {
    /// Returns the next requested range that has not been returned before, at most 512 KiB. The caller then feeds its
    /// bytes in order, or fails the range. Until it does, the range is not returned again.
    ///
    /// Up to four ranges may be outstanding at a time.
    pub fn wanted(&self) -> Option<Range<u64>> {
        self.0.with(WindowSet::next_wanted)
    }

    /// As [`Feeder::wanted`], but pending until a reader requests a range. `None` when the source has been dropped.
    /// Several tasks may wait.
    pub fn poll_wanted(&self, cx: &mut Context<'_>) -> Poll<Option<Range<u64>>> {
        self.0.with(|windows| windows.poll_wanted(cx))
    }

    /// Feeds `bytes` at `offset` of the source. `offset` is the start of a requested range, or the end of the bytes
    /// already fed to it. Pieces may have any size.
    ///
    /// Returns the number of bytes taken. Bytes after the end of the range, or that no range waits for, are dropped.
    ///
    /// # Errors
    /// [`StorageError::OutOfRange`] if the bytes are not inside the source.
    pub fn feed(&self, offset: u64, bytes: Vec<u8>) -> Result<usize, StorageError> {
        let Shared { name, len, .. } = &*self.0;
        StorageError::check_piece(name, offset, bytes.len(), *len)?;
        Ok(self.0.with(|windows| windows.feed(name, offset, bytes)))
    }

    /// Fails the requested range that contains `offset`: a read of its missing bytes returns [`StorageError::Feed`]. A
    /// later read requests them again; `transient` says that this may succeed.
    pub fn fail(&self, offset: u64, reason: impl Into<String>, transient: bool) {
        let (name, reason) = (self.0.name.clone(), reason.into());
        self.fail_with(offset, StorageError::Feed { name, offset, reason, transient });
    }

    /// As [`Feeder::fail`], with any error.
    pub(super) fn fail_with(&self, offset: u64, error: StorageError) {
        self.0.with(|windows| windows.fail(offset, error));
    }

    /// Returns true if the source has been dropped, so that no more ranges are requested.
    pub fn is_unread(&self) -> bool {
        self.0.with(|windows| windows.unread)
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        self.0.with(|windows| {
            windows.unfed = true;
            windows.wake_all();
        });
    }
}

impl fmt::Debug for FedSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FedSource({}, {} bytes)", self.0.name, self.0.len)
    }
}

impl fmt::Debug for Feeder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Feeder({}, {} bytes)", self.0.name, self.0.len)
    }
}
