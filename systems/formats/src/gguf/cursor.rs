//! Reads a header sequentially through a window.
//!
//! The window is a view of the source that grows from [`FIRST_WINDOW`] to [`LAST_WINDOW`] bytes. A source in memory is
//! not copied, and a slow source sends little more than the header. All numbers are little endian.
//!
//! Of a polled source only a prefix may have been read. Beyond it the cursor stops with [`StorageError::WouldBlock`], which
//! says how many bytes it needs.
//!
//! Invariant: no bytes are read and no memory is allocated for a length or count that exceeds the rest of the file.

use std::fmt;

use weft_platform::storage::{Bytes, Source, StorageError};

use super::GgufError;

/// Largest accepted header. The largest headers of known models, with a vocabulary of 256,000 tokens and its merges,
/// have about 16 MB. The limit matters for files whose size says nothing, such as sparse files.
pub(super) const MAX_HEADER: u64 = 256 << 20;

/// Size of the first window in bytes: enough for the header of a model without a vocabulary.
const FIRST_WINDOW: u64 = 64 << 10;

/// Largest size of a window in bytes.
const LAST_WINDOW: u64 = 4 << 20;

/// Longest accepted key or tensor name, in bytes. The GGUF document sets this limit for keys, and 64 bytes for tensor
/// names, which its own tools exceed.
pub(super) const MAX_NAME: u64 = 65_535;

/// What is being read, for messages.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place<'a> {
    /// A field of the fixed header.
    Header(&'static str),
    /// The key of the metadata entry with this index.
    Key(u64),
    /// The value of this key.
    Value(&'a str),
    /// The name of the tensor with this index.
    TensorName(u64),
    /// The entry of this tensor.
    Tensor(&'a str),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(field) => f.write_str(field),
            Self::Key(index) => write!(f, "the key of metadata entry {index}"),
            Self::Value(key) => write!(f, "the value of metadata key {key:?}"),
            Self::TensorName(index) => write!(f, "the name of tensor {index}"),
            Self::Tensor(name) => write!(f, "the entry of tensor {name:?}"),
        }
    }
}

/// A read position in a source. It only moves forward.
pub(super) struct Cursor<'a> {
    source: &'a dyn Source,
    /// Bytes in the source.
    len: u64,
    /// How many of them can be read.
    available: u64,
    /// The bytes of the source that start at `base`.
    window: Bytes,
    base: u64,
    /// Bytes of the window that have been read.
    taken: usize,
    /// Size of the next window in bytes.
    next_window: u64,
}

impl<'a> Cursor<'a> {
    /// A cursor at the beginning of `source`, of which the first `available` bytes can be read.
    pub(super) fn new(source: &'a dyn Source, available: u64) -> Self {
        let (window, len) = (Bytes::default(), source.len());
        Self { source, len, available, window, base: 0, taken: 0, next_window: FIRST_WINDOW }
    }

    /// Returns the source's name.
    pub(super) fn file(&self) -> String {
        self.source.name().to_owned()
    }

    /// Returns the offset of the next byte in the source.
    pub(super) fn position(&self) -> u64 {
        self.base.saturating_add(self.taken as u64)
    }

    /// Reads the next `len` bytes.
    pub(super) fn take(&mut self, len: u64, place: Place<'_>) -> Result<&[u8], GgufError> {
        let start = self.taken;
        let end = usize::try_from(len).ok().and_then(|len| start.checked_add(len));
        let range = match end {
            Some(end) if end <= self.window.len() => start..end,
            _ => 0..self.refill(len, place)?,
        };
        self.taken = range.end;
        // The range is inside the window: it was just compared, or the window was just read.
        Ok(self.window.get(range).unwrap_or_default())
    }

    /// Moves the window so that it starts with the next `len` bytes. Returns `len`.
    fn refill(&mut self, len: u64, place: Place<'_>) -> Result<usize, GgufError> {
        let offset = self.position();
        self.check_room(len, place)?;
        let end = offset.saturating_add(len);
        if end > self.available {
            let name = self.source.name().to_owned();
            return Err(StorageError::WouldBlock { name, range: offset..end }.into());
        }
        let most = MAX_HEADER.min(self.len).min(self.available).saturating_sub(offset);
        let size = len.max(self.next_window).min(most);
        let range = offset..offset.saturating_add(size);
        let window = self.source.read(range.clone())?;
        if window.len() as u64 != size {
            return Err(
                StorageError::out_of_range(self.source.name(), range, offset + window.len() as u64).into()
            );
        }
        self.window = window;
        self.base = offset;
        self.taken = 0;
        self.next_window = self.next_window.saturating_mul(2).min(LAST_WINDOW);
        // `len` is at most the window's length, which is a `usize`.
        Ok(len as usize)
    }

    /// Checks that `len` more bytes are in the file and within the limit.
    fn check_room(&self, len: u64, place: Place<'_>) -> Result<(), GgufError> {
        let offset = self.position();
        let remain = self.len.saturating_sub(offset);
        if len > remain {
            let place = place.to_string();
            return Err(GgufError::Truncated { file: self.file(), place, offset, needed: len, remain });
        }
        if len > MAX_HEADER.saturating_sub(offset) {
            return Err(self.too_large(place));
        }
        Ok(())
    }

    fn too_large(&self, place: Place<'_>) -> GgufError {
        GgufError::HeaderTooLarge { file: self.file(), place: place.to_string(), limit: MAX_HEADER }
    }

    /// Checks that the file has room for `count` elements of at least `each` bytes. Returns their smallest total size.
    pub(super) fn check_count(&self, count: u64, each: u64, place: Place<'_>) -> Result<u64, GgufError> {
        let offset = self.position();
        let remain = self.len.saturating_sub(offset);
        match count.checked_mul(each) {
            Some(bytes) if bytes <= remain => {
                if bytes > MAX_HEADER.saturating_sub(offset) {
                    Err(self.too_large(place))
                } else {
                    Ok(bytes)
                }
            }
            _ => {
                let place = place.to_string();
                Err(GgufError::Count { file: self.file(), place, count, each, offset, remain })
            }
        }
    }

    /// Allocates an empty vector for `count` elements, each of which has at least `each` bytes in the file.
    pub(super) fn vec<T>(&self, count: u64, each: u64, place: Place<'_>) -> Result<Vec<T>, GgufError> {
        self.check_count(count, each, place)?;
        let mut elements = Vec::new();
        let reserved = usize::try_from(count).map(|count| elements.try_reserve_exact(count));
        match reserved {
            Ok(Ok(())) => Ok(elements),
            _ => {
                let bytes = count.saturating_mul(size_of::<T>() as u64);
                Err(GgufError::Memory { file: self.file(), place: place.to_string(), bytes })
            }
        }
    }

    /// Reads the next `N` bytes.
    pub(super) fn array<const N: usize>(&mut self, place: Place<'_>) -> Result<[u8; N], GgufError> {
        let mut array = [0; N];
        for (to, from) in array.iter_mut().zip(self.take(N as u64, place)?) {
            *to = *from;
        }
        Ok(array)
    }

    pub(super) fn u32(&mut self, place: Place<'_>) -> Result<u32, GgufError> {
        Ok(u32::from_le_bytes(self.array(place)?))
    }

    pub(super) fn u64(&mut self, place: Place<'_>) -> Result<u64, GgufError> {
        Ok(u64::from_le_bytes(self.array(place)?))
    }

    /// Reads the bytes of a string: a 64-bit length, then the bytes. They are copied before they are checked.
    pub(super) fn string(&mut self, place: Place<'_>) -> Result<Vec<u8>, GgufError> {
        let len = self.u64(place)?;
        Ok(self.take(len, place)?.to_vec())
    }

    /// Reads a name: a string that is not empty, is UTF-8, and is not longer than [`MAX_NAME`].
    pub(super) fn name(&mut self, place: Place<'_>) -> Result<String, GgufError> {
        let len = self.u64(place)?;
        let offset = self.position();
        self.check_room(len, place)?;
        if len == 0 {
            return Err(GgufError::EmptyName { file: self.file(), place: place.to_string() });
        }
        if len > MAX_NAME {
            let place = place.to_string();
            return Err(GgufError::NameTooLong { file: self.file(), place, len, most: MAX_NAME });
        }
        let bytes = self.take(len, place)?.to_vec();
        String::from_utf8(bytes).map_err(|_| GgufError::Utf8 {
            file: self.file(),
            place: place.to_string(),
            offset,
        })
    }
}
