//! Where weights come from: every kind of source keeps the same promises.

mod bytes;
mod fed;
mod file;
#[cfg(feature = "http")]
mod http;
mod memory;
mod mmap;
mod new_file;
mod throttled;

use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};
use std::thread::Thread;
use weft_platform::storage::{MemorySource, Source, StorageError};

/// Wakes a thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Polls until there is a result, asleep in between.
fn wait<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut cx = Context::from_waker(&waker);
    loop {
        match poll(&mut cx) {
            Poll::Ready(result) => return result,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// `bytes` from `offset` on, through `poll_read`.
fn polled(source: &dyn Source, offset: u64, bytes: usize) -> Result<Vec<u8>, StorageError> {
    let mut buffer = vec![0; bytes];
    let mut filled = 0;
    loop {
        let (at, rest) = (offset.saturating_add(filled as u64), &mut buffer[filled..]);
        let read = wait(|cx| source.poll_read(cx, at, rest))?;
        assert_eq!(read == 0, rest.is_empty(), "{read} bytes at {at}");
        assert!(read <= rest.len(), "{read} bytes at {at}");
        filled += read;
        if filled == bytes {
            return Ok(buffer);
        }
    }
}

/// Every kind of source obeys the same contract; `content` is what `source` holds.
#[track_caller]
fn check_contract(source: &dyn Source, content: &[u8]) {
    let len = content.len() as u64;
    assert_eq!(source.len(), len);
    assert_eq!(source.is_empty(), content.is_empty());
    assert_eq!(&*source.read(0..len).unwrap(), content);
    for start in 0..len.min(40) {
        for end in start..len.min(40) {
            assert_eq!(&*source.read(start..end).unwrap(), &content[start as usize..end as usize]);
        }
    }
    assert!(source.read(len..len).unwrap().is_empty());
    assert_eq!(polled(source, 0, content.len()).unwrap(), content);
    for start in (0..content.len()).rev().step_by(7) {
        let bytes = (content.len() - start).min(5);
        assert_eq!(polled(source, start as u64, bytes).unwrap(), &content[start..start + bytes]);
    }
    assert!(polled(source, len, 0).unwrap().is_empty());
    for (offset, bytes) in [(0, content.len() + 1), (len, 1), (len + 1, 0), (u64::MAX, 1), (u64::MAX, 0)] {
        match polled(source, offset, bytes) {
            Err(StorageError::OutOfRange { name, start, len: stated, .. }) => {
                assert_eq!((name.as_str(), start, stated), (source.name(), offset, len));
            }
            other => panic!("{bytes} bytes at {offset} of {len} gave {other:?}"),
        }
    }
    let mut buffer = Vec::new();
    for end in [len, len / 2, len] {
        assert_eq!(source.read_into(0..end, &mut buffer).unwrap(), &content[..end as usize]);
    }
    let backwards = Range { start: 1, end: 0 };
    for bad in [0..len + 1, len..len + 1, len + 1..len + 1, 0..u64::MAX, u64::MAX..u64::MAX, backwards] {
        assert!(matches!(source.read_into(bad.clone(), &mut buffer), Err(StorageError::OutOfRange { .. })));
        match source.read(bad.clone()) {
            Err(StorageError::OutOfRange { name, start, end, len: stated }) => {
                assert_eq!((name.as_str(), start..end, stated), (source.name(), bad, len));
            }
            other => panic!("{bad:?} of {len} gave {other:?}"),
        }
    }
}

#[test]
fn a_shared_source_is_a_source() {
    let source: Arc<dyn Source> = Arc::new(MemorySource::new("shared", vec![1, 2, 3]));
    check_contract(&source, &[1, 2, 3]);
}

/// A source that is ready on every other poll, with at most `most` bytes, and has no `read` of its own.
struct Halting {
    content: Vec<u8>,
    most: usize,
    polls: std::sync::atomic::AtomicUsize,
}

impl Source for Halting {
    fn name(&self) -> &str {
        "halting"
    }

    fn len(&self) -> u64 {
        self.content.len() as u64
    }

    fn poll_read(
        &self,
        cx: &mut Context<'_>,
        offset: u64,
        buffer: &mut [u8],
    ) -> Poll<Result<usize, StorageError>> {
        StorageError::check_piece("halting", offset, buffer.len(), self.len())?;
        if self.polls.fetch_add(1, std::sync::atomic::Ordering::Relaxed).is_multiple_of(2) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let read = buffer.len().min(self.most);
        buffer[..read].copy_from_slice(&self.content[offset as usize..][..read]);
        Poll::Ready(Ok(read))
    }

    fn is_polled(&self) -> bool {
        true
    }
}

#[test]
fn a_source_that_is_only_polled_can_be_read() {
    for content in [vec![], (0..50).collect::<Vec<u8>>()] {
        let source = Halting { content: content.clone(), most: 7, polls: 0.into() };
        check_contract(&source, &content);
    }
}

#[test]
fn errors_can_be_kept_and_say_if_another_try_may_help() {
    let lost = StorageError::read("a", 3..5, std::io::ErrorKind::ConnectionReset.into());
    assert!(lost.clone().is_transient() && lost.to_string() == lost.clone().to_string());
    let damaged = StorageError::read("a", 3..5, std::io::ErrorKind::InvalidData.into());
    assert!(!damaged.is_transient() && !StorageError::out_of_range("a", 3..5, 4).is_transient());
}
