//! A pointer to an output, whose disjoint parts several threads write.

/// A pointer that threads share. The code that creates one explains why its accesses are disjoint.
pub(crate) struct Shared<T>(pub(crate) *mut T);

#[expect(unsafe_code, reason = "disjoint parts of one output")]
// SAFETY: it is only an address. Every use of it is in an unsafe block of its own.
unsafe impl<T: Send> Send for Shared<T> {}
#[expect(unsafe_code, reason = "disjoint parts of one output")]
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<T> {}
