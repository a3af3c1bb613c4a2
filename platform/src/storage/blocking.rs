//! Blocking reads: implements `Source::read` with `Source::poll_read`.

use std::io;
use std::ops::Range;
use std::task::{Context, Poll};

use super::{Source, StorageError};

/// Grows `buffer` to at least `len` bytes, the length of `range`. It never shrinks.
///
/// # Errors
/// [`StorageError::Read`] of kind `OutOfMemory`.
pub(super) fn grow(
    name: &str,
    range: &Range<u64>,
    buffer: &mut Vec<u8>,
    len: usize,
) -> Result<(), StorageError> {
    if buffer.len() < len {
        buffer
            .try_reserve_exact(len - buffer.len())
            .map_err(|_| StorageError::read(name, range.clone(), io::ErrorKind::OutOfMemory.into()))?;
        buffer.resize(len, 0);
    }
    Ok(())
}

/// Fills `buffer` with the bytes at `offset`, piece by piece. Blocks until all have arrived.
///
/// # Errors
/// Those of `poll_read`. On wasm, where a thread cannot block, [`StorageError::WouldBlock`] if bytes have not arrived.
pub(super) fn fill(
    source: &(impl Source + ?Sized),
    offset: u64,
    buffer: &mut [u8],
) -> Result<(), StorageError> {
    let mut filled = 0;
    #[cfg(not(target_family = "wasm"))]
    let parker = super::Parker::new();
    #[cfg(not(target_family = "wasm"))]
    let waker = parker.waker();
    #[cfg(target_family = "wasm")]
    let waker = std::task::Waker::noop().clone();
    let mut cx = Context::from_waker(&waker);
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let at = offset.saturating_add(filled as u64);
        let end = at.saturating_add(rest.len() as u64);
        match source.poll_read(&mut cx, at, rest) {
            Poll::Ready(Ok(0)) => {
                let error = io::ErrorKind::UnexpectedEof.into();
                return Err(StorageError::read(source.name(), at..end, error));
            }
            Poll::Ready(Ok(read)) => filled += read,
            Poll::Ready(Err(error)) => return Err(error),
            #[cfg(not(target_family = "wasm"))]
            Poll::Pending => parker.park(),
            #[cfg(target_family = "wasm")]
            Poll::Pending => {
                return Err(StorageError::WouldBlock { name: source.name().to_owned(), range: at..end });
            }
        }
    }
    Ok(())
}
