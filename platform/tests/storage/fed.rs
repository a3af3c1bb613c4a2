//! Sources whose bytes come from outside.

use super::{check_contract, polled, wait};
use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread;
use weft_platform::storage::{FedSource, Feeder, Source, StorageError};

const KIB: u64 = 1024;
/// What a window has and how many there are.
const WINDOW: u64 = 512 * KIB;
const WINDOWS: usize = 4;

fn content(len: u64) -> Vec<u8> {
    (0..len).map(|i| (i / 251) as u8 ^ i as u8).collect()
}

/// Feeds what is wanted on a thread of its own, in pieces of `piece` bytes, until the source is dropped.
fn feed_all(feeder: Feeder, content: Arc<Vec<u8>>, piece: usize) -> thread::JoinHandle<Vec<Range<u64>>> {
    thread::spawn(move || {
        let mut asked = Vec::new();
        while let Some(range) = wait(|cx| feeder.poll_wanted(cx)) {
            asked.push(range.clone());
            let mut at = range.start;
            for bytes in content[range.start as usize..range.end as usize].chunks(piece) {
                assert_eq!(feeder.feed(at, bytes.to_vec()).unwrap(), bytes.len());
                at += bytes.len() as u64;
            }
        }
        asked
    })
}

fn poll(source: &FedSource, offset: u64, buffer: &mut [u8]) -> Poll<Result<usize, StorageError>> {
    source.poll_read(&mut Context::from_waker(Waker::noop()), offset, buffer)
}

#[test]
fn keeps_the_contract() {
    for len in [0, 1, 50, 5000] {
        let content = Arc::new(content(len));
        let (source, feeder) = FedSource::new("fed", len);
        let fed = feed_all(feeder, Arc::clone(&content), 3);
        check_contract(&source, &content);
        drop(source);
        fed.join().unwrap();
    }
}

#[test]
fn a_long_read_asks_for_each_byte_once_in_bounded_ranges() {
    let content = Arc::new(content(5 * WINDOW + 77));
    let (source, feeder) = FedSource::new("fed", content.len() as u64);
    let fed = feed_all(feeder, Arc::clone(&content), 100_000);
    assert_eq!(polled(&source, 0, content.len()).unwrap(), **content);
    drop(source);
    let asked = fed.join().unwrap();
    assert!(asked.iter().all(|range| range.end - range.start <= WINDOW), "{asked:?}");
    assert_eq!(asked.iter().map(|range| range.end - range.start).sum::<u64>(), content.len() as u64);
}

#[test]
fn many_readers_at_many_places_all_get_their_bytes() {
    let content = Arc::new(content(12 * WINDOW));
    let (source, feeder) = FedSource::new("fed", content.len() as u64);
    let fed = feed_all(feeder, Arc::clone(&content), 70_000);
    thread::scope(|scope| {
        for reader in 0..9 {
            let (source, content) = (&source, &content);
            scope.spawn(move || {
                // Leaves windows half read behind it.
                for step in 0..12 {
                    let offset = (reader * 5 + step * 7) % 12 * WINDOW as usize + reader * 1000;
                    let bytes = polled(source, offset as u64, 90_000).unwrap();
                    assert_eq!(bytes, content[offset..offset + 90_000]);
                }
            });
        }
    });
    drop(source);
    fed.join().unwrap();
}

#[test]
fn nothing_is_ready_before_it_is_fed_and_ranges_are_given_out_once() {
    let (source, feeder) = FedSource::new("fed", 2 * WINDOW);
    let mut buffer = [0; 8];
    assert_eq!(feeder.wanted(), None);
    assert!(poll(&source, 10, &mut buffer).is_pending());
    assert_eq!(feeder.wanted(), Some(10..WINDOW + 10));
    assert_eq!(feeder.wanted(), None);
    assert!(poll(&source, 10, &mut buffer).is_pending());
    assert!(poll(&source, 500, &mut buffer).is_pending(), "the same range brings them");
    assert_eq!(feeder.wanted(), None);
    assert_eq!(feeder.feed(10, vec![1, 2, 3]).unwrap(), 3);
    assert!(matches!(poll(&source, 10, &mut buffer), Poll::Ready(Ok(3))));
    assert_eq!(buffer[..3], [1, 2, 3]);
    assert!(poll(&source, 13, &mut buffer).is_pending());
    // A range before one that is there ends where that begins.
    assert!(poll(&source, 4, &mut buffer).is_pending());
    assert_eq!(feeder.wanted(), Some(4..10));
    // Bytes that nothing waits for are dropped, and bytes behind a range cut off.
    assert_eq!(feeder.feed(5, vec![0; 3]).unwrap(), 0);
    assert_eq!(feeder.feed(4, vec![9; 100]).unwrap(), 6);
    assert!(matches!(poll(&source, 4, &mut buffer), Poll::Ready(Ok(6))));
    assert!(matches!(feeder.feed(2 * WINDOW - 1, vec![0; 2]), Err(StorageError::OutOfRange { .. })));
    assert!(matches!(feeder.feed(u64::MAX, vec![0; 2]), Err(StorageError::OutOfRange { .. })));
}

#[test]
fn windows_that_nobody_reads_any_more_make_room() {
    let (source, feeder) = FedSource::new("fed", 100 * WINDOW);
    let mut buffer = [0; 1];
    for place in 0..20 {
        let offset = place * 2 * WINDOW;
        assert!(poll(&source, offset, &mut buffer).is_pending());
        let range = feeder.wanted().unwrap_or_else(|| panic!("no room for range {place}"));
        feeder.feed(offset, vec![7; (range.end - range.start) as usize]).unwrap();
        assert!(matches!(poll(&source, offset, &mut buffer), Poll::Ready(Ok(1))));
    }
}

#[test]
fn readers_wait_while_all_windows_are_on_their_way() {
    let (source, feeder) = FedSource::new("fed", 100 * WINDOW);
    let mut buffer = vec![0; WINDOW as usize];
    for place in 0..WINDOWS as u64 {
        assert!(poll(&source, place * WINDOW, &mut buffer).is_pending());
        assert!(feeder.wanted().is_some());
    }
    assert!(poll(&source, 60 * WINDOW, &mut buffer).is_pending());
    assert_eq!(feeder.wanted(), None);
    // A window that was read makes room.
    assert_eq!(feeder.feed(WINDOW, vec![1; WINDOW as usize]).unwrap() as u64, WINDOW);
    assert!(matches!(poll(&source, WINDOW, &mut buffer), Poll::Ready(Ok(_))));
    assert!(poll(&source, 60 * WINDOW, &mut buffer).is_pending());
    assert_eq!(feeder.wanted(), Some(60 * WINDOW..61 * WINDOW));
}

#[test]
fn a_failure_is_told_once_and_another_try_is_another_request() {
    let (source, feeder) = FedSource::new("fed", 100);
    let mut buffer = [0; 100];
    assert!(poll(&source, 0, &mut buffer).is_pending());
    assert_eq!(feeder.wanted(), Some(0..100));
    feeder.feed(0, vec![4; 30]).unwrap();
    feeder.fail(30, "the server is busy", true);
    assert!(matches!(poll(&source, 0, &mut buffer), Poll::Ready(Ok(30))), "what has arrived stays");
    let Poll::Ready(Err(error)) = poll(&source, 30, &mut buffer[..70]) else { panic!("no error") };
    assert!(error.is_transient() && error.to_string().contains("the server is busy"), "{error}");
    assert!(poll(&source, 30, &mut buffer[..70]).is_pending());
    assert_eq!(feeder.wanted(), Some(30..100));
    feeder.fail(30, "it is gone", false);
    let Poll::Ready(Err(error)) = poll(&source, 40, &mut buffer[..60]) else { panic!("no error") };
    assert!(!error.is_transient(), "{error}");
}

#[test]
fn readers_of_a_source_without_a_feeder_get_an_error() {
    let (source, feeder) = FedSource::new("fed", 10_000);
    let source = Arc::new(source);
    let reader = {
        let source = Arc::clone(&source);
        thread::spawn(move || source.read(0..10_000))
    };
    wait(|cx| feeder.poll_wanted(cx));
    feeder.feed(0, vec![1; 50]).unwrap();
    drop(feeder);
    let error = reader.join().unwrap().unwrap_err();
    assert!(matches!(&error, StorageError::FeedClosed { name, .. } if name == "fed"), "{error}");
    assert!(matches!(source.read(9000..9001), Err(StorageError::FeedClosed { .. })));
}
