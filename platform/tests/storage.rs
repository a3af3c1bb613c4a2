//! Where weights come from: every kind of source keeps the same promises.

mod bytes;
mod file;
mod memory;
mod new_file;
mod throttled;

use std::ops::Range;
use std::sync::Arc;
use weft_platform::storage::{MemorySource, Source, StorageError};

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
