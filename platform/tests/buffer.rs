//! Large allocations.

use weft_platform::MemoryError;
use weft_platform::buffer::{Buffer, checked_size};

#[test]
fn is_zeroed_and_aligned() {
    for len in [0, 1, 63, 64, 100_000, 9 << 20] {
        let buffer = Buffer::zeroed(len).unwrap();
        assert_eq!(buffer.bytes().len(), len);
        assert!(buffer.bytes().iter().all(|b| *b == 0));
        assert!(buffer.bytes().as_ptr().addr().is_multiple_of(64));
    }
}

#[test]
fn refuses_what_no_machine_has() {
    assert_eq!(checked_size(&[usize::MAX, 2]), Err(MemoryError { bytes: usize::MAX }));
    assert_eq!(checked_size(&[3, 5, 7]), Ok(105));
    assert!(Buffer::zeroed(isize::MAX.cast_unsigned() & !0xffff).is_err());
}
