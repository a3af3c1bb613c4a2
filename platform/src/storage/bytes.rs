//! Bytes that keep alive what they lie in.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

/// A view of bytes: borrowed from a shared mapping or buffer. Cloning and slicing copy no bytes.
///
/// The invariant `range` inside `owner` is checked when the view is made; an owner that shrank would show as an empty
/// view, never as a panic.
#[derive(Clone)]
pub struct Bytes {
    owner: Arc<dyn AsRef<[u8]> + Send + Sync>,
    range: Range<usize>,
}

impl Bytes {
    /// A view of all that `owner` gives; `owner` lives as long as any view of it.
    pub fn from_owner(owner: impl AsRef<[u8]> + Send + Sync + 'static) -> Self {
        let range = 0..owner.as_ref().len();
        Self { owner: Arc::new(owner), range }
    }

    /// The part of this view at `range`, or `None` where `range` is not inside it.
    pub fn slice(&self, range: Range<usize>) -> Option<Self> {
        self.get(range.clone())?;
        let start = self.range.start.checked_add(range.start)?;
        let end = self.range.start.checked_add(range.end)?;
        Some(Self { owner: Arc::clone(&self.owner), range: start..end })
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        (*self.owner).as_ref().get(self.range.clone()).unwrap_or_default()
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Default for Bytes {
    fn default() -> Self {
        Self::from_owner([0; 0])
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self::from_owner(bytes)
    }
}

impl From<Arc<[u8]>> for Bytes {
    fn from(bytes: Arc<[u8]>) -> Self {
        Self::from_owner(bytes)
    }
}

impl From<&'static [u8]> for Bytes {
    fn from(bytes: &'static [u8]) -> Self {
        Self::from_owner(bytes)
    }
}

impl fmt::Debug for Bytes {
    /// Weights run to gigabytes: the length says enough.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bytes({})", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
