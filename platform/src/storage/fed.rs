//! A source that is fed from outside: by a web page's `fetch`, by threads that speak HTTP, by a test.
//!
//! Readers poll the [`FedSource`]; the owner of its [`Feeder`] learns which ranges they ask for, fetches those and feeds the
//! bytes. Neither side waits for the other, no thread is needed, and at most 2 MiB are held: see `window.rs`.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use super::window::WindowSet;
use super::{Source, StorageError};

/// What source and feeder share.
struct Shared {
    name: String,
    len: u64,
    windows: Mutex<WindowSet>,
}

impl Shared {
    /// Changes the windows, and wakes those concerned when they are unlocked again.
    fn with<T>(&self, change: impl FnOnce(&mut WindowSet) -> T) -> T {
        let (result, woken) = {
            // Every change is whole before anything in it can panic.
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

/// A source whose bytes come from its [`Feeder`]. Reads are pending until they have been fed.
///
/// A blocking read waits for the feeder, so it must not be called on the feeder's own thread.
pub struct FedSource(Arc<Shared>);

/// The other end of a [`FedSource`]: says which ranges are wanted and takes their bytes.
///
/// Dropping it makes reads of bytes that have not arrived [`StorageError::FeedClosed`].
pub struct Feeder(Arc<Shared>);

impl FedSource {
    /// A source of `len` bytes, which messages call `name`, and its feeder.
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
    /// The next range that a reader asked for and that has not been given out, at most 512 KiB. Its bytes are then to be fed
    /// from the front, or the range to be failed: it is not given out again before.
    ///
    /// Up to four ranges may be given out at a time.
    pub fn wanted(&self) -> Option<Range<u64>> {
        self.0.with(WindowSet::next_wanted)
    }

    /// The same, pending until a reader asks; `None` when the source has been dropped. Several tasks may wait.
    pub fn poll_wanted(&self, cx: &mut Context<'_>) -> Poll<Option<Range<u64>>> {
        self.0.with(|windows| windows.poll_wanted(cx))
    }

    /// Feeds `bytes`, which lie at `offset` of the source: the front of a wanted range, or what follows the bytes that were
    /// fed of it, in pieces of any size.
    ///
    /// Gives how many bytes were taken. Bytes behind the end of the range, or that no range waits for, are dropped.
    ///
    /// # Errors
    /// [`StorageError::OutOfRange`] where the bytes are not inside the source.
    pub fn feed(&self, offset: u64, bytes: Vec<u8>) -> Result<usize, StorageError> {
        let Shared { name, len, .. } = &*self.0;
        StorageError::check_piece(name, offset, bytes.len(), *len)?;
        Ok(self.0.with(|windows| windows.feed(name, offset, bytes)))
    }

    /// Has readers of the wanted range that contains `offset` get [`StorageError::Feed`] in place of its bytes that were not
    /// fed. A reader that asks again makes the range wanted again; `transient` says that this may help.
    pub fn fail(&self, offset: u64, reason: impl Into<String>, transient: bool) {
        let (name, reason) = (self.0.name.clone(), reason.into());
        self.fail_with(offset, StorageError::Feed { name, offset, reason, transient });
    }

    /// The same with an error of the feeder's.
    pub(super) fn fail_with(&self, offset: u64, error: StorageError) {
        self.0.with(|windows| windows.fail(offset, error));
    }

    /// Returns true if the source has been dropped, so that no range is wanted any more.
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
