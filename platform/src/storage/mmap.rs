//! A file, mapped into memory.
//!
//! Reads share the mapping and copy nothing, so several processes that load one model share its pages. The price: where
//! another program cuts the file short, touching a page behind the new end ends the process with a signal (SIGBUS; an
//! access violation on Windows cannot happen, since a mapped file cannot be cut there). [`FileSource`](super::FileSource)
//! has no such risk and is the default.

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll};

use memmap2::Mmap;

use super::{Bytes, Source, StorageError};

/// A file that is mapped, read-only.
///
/// Every read compares the file's length with that of when it was opened, which finds a file that was cut short before the
/// read. It cannot find one that is cut while its bytes are in use: map only files that no other program writes to.
#[derive(Debug)]
pub struct MmapSource {
    name: String,
    /// Asked for its length.
    file: File,
    bytes: Bytes,
}

impl MmapSource {
    /// Opens and maps the file at `path`.
    ///
    /// # Errors
    /// [`StorageError::Open`], which includes a file that is larger than the address space, or
    /// [`StorageError::NotAFile`], naming the path.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StorageError> {
        let path = path.as_ref();
        let open_error = |source| StorageError::Open { path: path.to_owned(), source: Arc::new(source) };
        // Asked before opening: opening a pipe waits for its writer.
        if !fs::metadata(path).map_err(open_error)?.is_file() {
            return Err(StorageError::NotAFile { path: path.to_owned() });
        }
        let file = File::open(path).map_err(open_error)?;
        let len = file.metadata().map_err(open_error)?.len();
        let bytes = match usize::try_from(len) {
            // Not every system maps nothing.
            Ok(0) => Bytes::default(),
            Ok(_) => Bytes::from_owner(map(&file).map_err(open_error)?),
            Err(_) => return Err(open_error(io::ErrorKind::FileTooLarge.into())),
        };
        let source = Self { name: path.display().to_string(), file, bytes };
        // It was cut between the two, or has grown: what is mapped is what counts.
        source.check_len()?;
        Ok(source)
    }

    /// Checks that the file is as long as what is mapped.
    fn check_len(&self) -> Result<(), StorageError> {
        let found = self.file.metadata().map_or(self.len(), |file| file.len());
        if found < self.len() {
            return Err(StorageError::CutShort { name: self.name.clone(), len: self.len(), found });
        }
        Ok(())
    }

    /// The range of the mapping that is `range` of the file.
    fn place(&self, range: &Range<u64>) -> Result<Range<usize>, StorageError> {
        let len = StorageError::check_range(&self.name, range, self.len())?;
        self.check_len()?;
        // Inside the mapping, whose length is a `usize`.
        let start = range.start as usize;
        Ok(start..start + len)
    }
}

#[expect(unsafe_code, reason = "a mapping's bytes are the file's, which others may change")]
fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: the mapping is private to reading: nothing here writes to it. That no other program changes the file while
    // it is mapped cannot be enforced; it is what callers of `MmapSource::open` are told to see to. All readers take the
    // bytes as plain numbers of unknown value, and check what they say.
    unsafe { Mmap::map(file) }
}

impl Source for MmapSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Copies all of the buffer at once.
    fn poll_read(
        &self,
        _cx: &mut Context<'_>,
        offset: u64,
        buffer: &mut [u8],
    ) -> Poll<Result<usize, StorageError>> {
        StorageError::check_piece(&self.name, offset, buffer.len(), self.len())?;
        let range = offset..offset + buffer.len() as u64;
        let place = self.place(&range)?;
        let bytes = self.bytes.get(place);
        buffer
            .copy_from_slice(bytes.ok_or_else(|| StorageError::out_of_range(&self.name, range, self.len()))?);
        Poll::Ready(Ok(buffer.len()))
    }

    /// A view of the mapping, which lives as long as any view of it.
    fn read(&self, range: Range<u64>) -> Result<Bytes, StorageError> {
        let bytes = self.bytes.slice(self.place(&range)?);
        bytes.ok_or_else(|| StorageError::out_of_range(&self.name, range, self.len()))
    }

    fn read_into<'a>(
        &'a self,
        range: Range<u64>,
        _buffer: &'a mut Vec<u8>,
    ) -> Result<&'a [u8], StorageError> {
        let bytes = self.bytes.get(self.place(&range)?);
        bytes.ok_or_else(|| StorageError::out_of_range(&self.name, range, self.len()))
    }
}
