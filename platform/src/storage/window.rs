//! Windows: the ranges of a fed source that readers have requested, and their bytes.
//!
//! A read of bytes that are not buffered creates a window: a range of at most [`WINDOW`] bytes that starts with them.
//! Feeders take windows in the order of their creation and fill each in order. A complete window is freed when as many
//! bytes as it has were read from it.
//!
//! Invariant: windows do not overlap, and there are at most [`WINDOWS`], so at most `WINDOW * WINDOWS` bytes are
//! buffered. A pending reader is woken when its window gets bytes or fails, or, if it has no window, when any window is
//! completed, fails or is freed.

use std::io;
use std::ops::Range;
use std::task::{Context, Poll, Waker};

use super::StorageError;

/// Maximum size of a window in bytes. Four windows are 2 MiB. Windows of 512 KiB use a connection well: with a
/// round-trip time of 50 ms, four requests at a time transfer 40 MB/s.
pub(super) const WINDOW: u64 = 512 << 10;

/// Maximum number of windows.
pub(super) const WINDOWS: usize = 4;

/// A complete window that is not read may be evicted after this many bytes were read from other windows.
const IDLE: u64 = 2 * WINDOW;

/// Maximum number of wakers kept for one event. If one more comes, the kept ones are woken and their tasks poll again.
const WAKERS: usize = 64;

enum State {
    /// No feeder has taken it yet.
    Wanted,
    /// A feeder has taken it and is fetching it.
    Asked,
    /// The bytes after those that have arrived could not be fetched.
    Failed(StorageError),
    /// All bytes of its range have arrived.
    Whole,
}

struct Window {
    range: Range<u64>,
    /// The bytes that have arrived, from the start of the range.
    bytes: Vec<u8>,
    state: State,
    /// Number of bytes read from it.
    read: u64,
    /// The value of [`WindowSet::read`] when this window was last read or fed.
    used: u64,
    readers: Vec<Waker>,
}

impl Window {
    /// Returns the offset in the source of the next byte to arrive.
    fn end(&self) -> u64 {
        self.range.start + self.bytes.len() as u64
    }

    fn is_open(&self) -> bool {
        matches!(self.state, State::Wanted | State::Asked)
    }
}

/// The windows of a source, and the wakers of tasks that wait for them.
#[derive(Default)]
pub(super) struct WindowSet {
    windows: Vec<Window>,
    /// Number of bytes read from all windows.
    read: u64,
    /// Readers that wait for a free window.
    waiting: Vec<Waker>,
    /// Feeders that wait for a window to fetch.
    feeders: Vec<Waker>,
    /// True if the feeder has been dropped.
    pub(super) unfed: bool,
    /// True if the source has been dropped.
    pub(super) unread: bool,
    /// Wakers for the caller to call after it has unlocked the set.
    woken: Vec<Waker>,
}

impl WindowSet {
    /// Copies the available bytes at `offset` to `buffer` and returns their number. `buffer` is not empty, and its
    /// range is inside the source, which is called `name` and has `len` bytes.
    pub(super) fn poll_read(
        &mut self,
        cx: &Context<'_>,
        (name, len): (&str, u64),
        offset: u64,
        buffer: &mut [u8],
    ) -> Poll<Result<usize, StorageError>> {
        let index = self.windows.iter().position(|window| window.range.contains(&offset));
        let Some((index, window)) = index.and_then(|index| Some((index, self.windows.get_mut(index)?)))
        else {
            if self.unfed {
                let range = offset..offset.saturating_add(buffer.len() as u64);
                return Poll::Ready(Err(StorageError::FeedClosed { name: name.to_owned(), range }));
            }
            self.want(cx, offset, len);
            return Poll::Pending;
        };
        let at = usize::try_from(offset - window.range.start).unwrap_or(usize::MAX);
        let arrived = window.bytes.get(at..).unwrap_or_default();
        let count = arrived.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), arrived.get(..count))
            && count > 0
        {
            to.copy_from_slice(from);
            self.read += count as u64;
            window.read += count as u64;
            window.used = self.read;
            if !window.is_open() && window.read >= window.range.end - window.range.start {
                self.windows.remove(index);
                self.woken.append(&mut self.waiting);
            }
            return Poll::Ready(Ok(count));
        }
        match &window.state {
            State::Failed(error) => {
                // Returned once: a repeated read requests the bytes again.
                let error = error.clone();
                self.woken.append(&mut window.readers);
                self.woken.append(&mut self.waiting);
                window.range.end = window.end();
                window.state = State::Whole;
                self.windows.retain(|window| !window.range.is_empty());
                Poll::Ready(Err(error))
            }
            _ if self.unfed => {
                let range = offset..window.range.end;
                Poll::Ready(Err(StorageError::FeedClosed { name: name.to_owned(), range }))
            }
            _ => {
                keep(&mut window.readers, cx.waker(), &mut self.woken);
                Poll::Pending
            }
        }
    }

    /// Creates a window that starts at `offset`, if there is room for one. Keeps the reader's waker in any case.
    fn want(&mut self, cx: &Context<'_>, offset: u64, len: u64) {
        if self.windows.len() >= WINDOWS && !self.evict() {
            keep(&mut self.waiting, cx.waker(), &mut self.woken);
            return;
        }
        let next = self.windows.iter().map(|window| window.range.start).filter(|start| *start > offset).min();
        let end = offset.saturating_add(WINDOW).min(len).min(next.unwrap_or(len));
        self.windows.push(Window {
            range: offset..end,
            bytes: Vec::new(),
            state: State::Wanted,
            read: 0,
            used: self.read,
            readers: vec![cx.waker().clone()],
        });
        self.woken.append(&mut self.feeders);
    }

    /// Drops the least recently used window that expects no more bytes, if it is idle or if no other window would wake
    /// waiting readers by its arrival. Returns false if no window can be dropped.
    fn evict(&mut self) -> bool {
        let coming = self.windows.iter().any(Window::is_open);
        let done = self.windows.iter().enumerate().filter(|(_, window)| !window.is_open());
        let oldest = done.min_by_key(|(_, window)| window.used);
        match oldest.map(|(index, window)| (index, self.read - window.used > IDLE)) {
            Some((index, idle)) if idle || !coming => {
                let mut window = self.windows.remove(index);
                self.woken.append(&mut window.readers);
                true
            }
            _ => false,
        }
    }

    /// Returns the range of the next window to fetch.
    pub(super) fn next_wanted(&mut self) -> Option<Range<u64>> {
        let window = self.windows.iter_mut().find(|window| matches!(window.state, State::Wanted))?;
        window.state = State::Asked;
        Some(window.range.clone())
    }

    /// Returns the range of the next window to fetch; `None` if the source has been dropped.
    pub(super) fn poll_wanted(&mut self, cx: &Context<'_>) -> Poll<Option<Range<u64>>> {
        if self.unread {
            return Poll::Ready(None);
        }
        match self.next_wanted() {
            Some(range) => Poll::Ready(Some(range)),
            None => {
                keep(&mut self.feeders, cx.waker(), &mut self.woken);
                Poll::Pending
            }
        }
    }

    /// Appends `bytes` to the window whose next byte is at `offset`, and returns the number of bytes taken. Drops bytes
    /// after the window's end, and all of them if there is no such window.
    pub(super) fn feed(&mut self, name: &str, offset: u64, mut bytes: Vec<u8>) -> usize {
        let Some(window) = self.windows.iter_mut().find(|window| window.is_open() && window.end() == offset)
        else {
            return 0;
        };
        let room = usize::try_from(window.range.end - offset).unwrap_or(usize::MAX);
        bytes.truncate(room);
        let count = bytes.len();
        let size = usize::try_from(window.range.end - window.range.start).unwrap_or(usize::MAX);
        if window.bytes.is_empty() && bytes.capacity() <= size {
            window.bytes = bytes;
        } else if window.bytes.try_reserve_exact(size - window.bytes.len()).is_ok() {
            window.bytes.extend_from_slice(&bytes);
        } else {
            let range = offset..window.range.end;
            let error = StorageError::read(name, range, io::ErrorKind::OutOfMemory.into());
            self.fail(offset, error);
            return 0;
        }
        window.used = self.read;
        self.woken.append(&mut window.readers);
        if count == room {
            window.state = State::Whole;
            self.woken.append(&mut self.waiting);
        }
        count
    }

    /// Fails the open window that contains `offset` with `error`. Its bytes that have arrived can still be read.
    pub(super) fn fail(&mut self, offset: u64, error: StorageError) {
        let open = self.windows.iter_mut().find(|window| window.is_open() && window.range.contains(&offset));
        if let Some(window) = open {
            window.state = State::Failed(error);
            self.woken.append(&mut window.readers);
            self.woken.append(&mut self.waiting);
        }
    }

    /// Collects the wakers of all readers and feeders.
    pub(super) fn wake_all(&mut self) {
        self.woken.append(&mut self.feeders);
        self.woken.append(&mut self.waiting);
        for window in &mut self.windows {
            self.woken.append(&mut window.readers);
        }
    }

    /// Takes the wakers to call after the set has been unlocked.
    pub(super) fn take_woken(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.woken)
    }
}

/// Adds `waker` to the wakers `kept` for an event, unless it is among them. If there are too many, moves the others to
/// `woken`.
fn keep(kept: &mut Vec<Waker>, waker: &Waker, woken: &mut Vec<Waker>) {
    if kept.iter().any(|other| other.will_wake(waker)) {
        return;
    }
    if kept.len() >= WAKERS {
        woken.append(kept);
    }
    kept.push(waker.clone());
}
