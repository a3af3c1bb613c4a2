//! A pointer to one output of which threads write disjoint parts.

/// A pointer that threads share. Whoever makes one says why what they do with it is disjoint.
pub(crate) struct Shared<T>(pub(crate) *mut T);

#[expect(unsafe_code, reason = "disjoint parts of one output")]
// SAFETY: only an address; every use of it is in an unsafe block of its own.
unsafe impl<T: Send> Send for Shared<T> {}
#[expect(unsafe_code, reason = "disjoint parts of one output")]
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<T> {}
