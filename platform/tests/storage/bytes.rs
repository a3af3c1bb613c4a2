//! Views of bytes that several hold.

use std::sync::Arc;
use weft_platform::storage::Bytes;

#[test]
fn slices_share_their_owner() {
    let whole = Bytes::from(vec![0, 1, 2, 3, 4, 5]);
    let part = whole.slice(1..5).unwrap();
    let inner = part.slice(1..3).unwrap();
    assert_eq!((&*part, &*inner), (&[1, 2, 3, 4][..], &[2, 3][..]));
    assert_eq!(inner.as_ptr(), whole[2..].as_ptr());
    drop((whole, part));
    assert_eq!(&*inner, [2, 3]);
}

#[test]
fn a_slice_past_its_view_is_refused_even_inside_the_owner() {
    let part = Bytes::from(vec![0; 8]).slice(2..4).unwrap();
    assert!(part.slice(0..3).is_none());
    assert!(part.slice(3..3).is_none());
    assert!(part.slice(usize::MAX..usize::MAX).is_none());
    assert!(part.slice(2..2).unwrap().is_empty());
}

#[test]
fn views_cross_threads() {
    let view = Bytes::from(Arc::<[u8]>::from([7_u8; 3]));
    let there = view.clone();
    assert_eq!(std::thread::spawn(move || there.to_vec()).join().unwrap(), [7; 3]);
    assert_eq!(format!("{view:?} {:?}", Bytes::default()), "Bytes(3) Bytes(0)");
}
