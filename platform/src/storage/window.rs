//! The stretches of a source that readers have asked for and that arrive from elsewhere.
//!
//! A reader that asks for bytes that are not here makes a window: a range of at most [`WINDOW`] bytes that begins with
//! them. Whoever feeds the source takes windows in the order in which they were made and fills them from the front. A
//! whole window is freed when as many bytes as it has were read from it.
//!
//! Invariant: windows do not overlap, there are at most [`WINDOWS`], and so at most `WINDOW * WINDOWS` bytes are held. A
//! reader that is told to wait is woken: by bytes of its window, by the window's failure, or by any window that becomes
//! free or whole.

use std::io;
use std::ops::Range;
use std::task::{Context, Poll, Waker};

use super::StorageError;

/// Most bytes of a window. Four windows are 2 MiB, and 512 KiB make good use of a connection: at 50 ms between question and
/// answer, four at a time bring 40 MB a second.
pub(super) const WINDOW: u64 = 512 << 10;

/// Most windows.
pub(super) const WINDOWS: usize = 4;

/// A whole window that nobody reads may go after this many bytes were read from others.
const IDLE: u64 = 2 * WINDOW;

/// Wakers kept for one event. Where more come, all are woken and those that still wait come back.
const WAKERS: usize = 64;

enum State {
    /// Nobody fetches it yet.
    Wanted,
    /// It is being fetched.
    Asked,
    /// What follows the bytes that have arrived could not be fetched.
    Failed(StorageError),
    /// All of its bytes have arrived.
    Whole,
}

struct Window {
    range: Range<u64>,
    /// Bytes that have arrived, from the front of the range on.
    bytes: Vec<u8>,
    state: State,
    /// How many bytes were read from it.
    read: u64,
    /// What [`WindowSet::read`] was when it was last read from or fed.
    used: u64,
    readers: Vec<Waker>,
}

impl Window {
    /// Where the next byte to arrive belongs.
    fn end(&self) -> u64 {
        self.range.start + self.bytes.len() as u64
    }

    fn is_open(&self) -> bool {
        matches!(self.state, State::Wanted | State::Asked)
    }
}

/// The windows of a source, and who waits for them.
#[derive(Default)]
pub(super) struct WindowSet {
    windows: Vec<Window>,
    /// Bytes read from all windows.
    read: u64,
    /// Readers for whom there is no room for a window.
    waiting: Vec<Waker>,
    /// Feeders for whom there is no window.
    feeders: Vec<Waker>,
    /// Nobody feeds the source any more.
    pub(super) unfed: bool,
    /// Nobody reads the source any more.
    pub(super) unread: bool,
    /// To be woken by the caller, once the set is unlocked.
    woken: Vec<Waker>,
}

impl WindowSet {
    /// Copies bytes from `offset` on, which are inside the source `name` of `len` bytes, into `buffer`, which is not empty.
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
                // Told once: who asks again wants another try.
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

    /// Makes a window that begins at `offset`, where there is room for one, and has the reader woken.
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

    /// Drops the window that was used longest ago, if it is whole and idle, or no window that is still to come would wake
    /// anybody. Returns false where none may go.
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

    /// The next window to fetch.
    pub(super) fn next_wanted(&mut self) -> Option<Range<u64>> {
        let window = self.windows.iter_mut().find(|window| matches!(window.state, State::Wanted))?;
        window.state = State::Asked;
        Some(window.range.clone())
    }

    /// The next window to fetch; `None` when nobody reads the source any more.
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

    /// Takes `bytes`, which belong at `offset`, into the window that waits for them. Gives how many it took: those before or
    /// behind what the window waits for are dropped.
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

    /// Has the readers of the bytes at `offset` get `error`. Bytes before it that have arrived stay.
    pub(super) fn fail(&mut self, offset: u64, error: StorageError) {
        let open = self.windows.iter_mut().find(|window| window.is_open() && window.range.contains(&offset));
        if let Some(window) = open {
            window.state = State::Failed(error);
            self.woken.append(&mut window.readers);
            self.woken.append(&mut self.waiting);
        }
    }

    /// Has all readers and feeders woken.
    pub(super) fn wake_all(&mut self) {
        self.woken.append(&mut self.feeders);
        self.woken.append(&mut self.waiting);
        for window in &mut self.windows {
            self.woken.append(&mut window.readers);
        }
    }

    /// Wakers to call, once the set is unlocked.
    pub(super) fn take_woken(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.woken)
    }
}

/// Adds a waker to those that are kept for an event, unless it is among them.
fn keep(kept: &mut Vec<Waker>, waker: &Waker, woken: &mut Vec<Waker>) {
    if kept.iter().any(|other| other.will_wake(waker)) {
        return;
    }
    if kept.len() >= WAKERS {
        woken.append(kept);
    }
    kept.push(waker.clone());
}
