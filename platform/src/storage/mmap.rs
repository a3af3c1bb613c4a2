//! A file that is mapped into memory.
//!
//! Reads share the mapping and copy nothing, so several processes that load one model share its memory pages. The risk:
//! if another program truncates the file, access to a page after the new end kills the process with SIGBUS. (Windows
//! does not allow a mapped file to be truncated.) [`FileSource`](super::FileSource) does not have this risk and is the
//! default.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::task::{Context, Poll};

use memmap2::Mmap;

use super::{Bytes, MemorySource, Source, StorageError, file};

/// A file that is mapped read-only.
///
/// Every read compares the file's length with its length when it was opened, which detects a file that was truncated
/// before the read. It cannot detect truncation while the bytes are in use: map only files that no other program writes
/// to.
#[derive(Debug)]
pub struct MmapSource {
    /// Kept to check its length.
    file: File,
    mapped: MemorySource,
}

impl MmapSource {
    /// Opens and maps the file at `path`.
    ///
    /// # Errors
    /// [`StorageError::Open`], which includes a file that is larger than the address space, or
    /// [`StorageError::NotAFile`], naming the path.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StorageError> {
        let path = path.as_ref();
        let (file, len) = file::open(path)?;
        let bytes = match usize::try_from(len) {
            // Some systems cannot map an empty file.
            Ok(0) => Bytes::default(),
            Ok(_) => Bytes::from_owner(map(&file).map_err(|source| file::open_error(path, source))?),
            Err(_) => return Err(file::open_error(path, io::ErrorKind::FileTooLarge.into())),
        };
        let source = Self { file, mapped: MemorySource::new(path.display().to_string(), bytes) };
        // The file may have changed between opening and mapping. The mapped length is the one that counts.
        source.check_len()?;
        Ok(source)
    }

    /// Checks that the file is not shorter than the mapping.
    fn check_len(&self) -> Result<(), StorageError> {
        let found = self.file.metadata().map_or(self.len(), |file| file.len());
        if found < self.len() {
            return Err(StorageError::CutShort { name: self.name().to_owned(), len: self.len(), found });
        }
        Ok(())
    }
}

#[expect(unsafe_code, reason = "a mapping's bytes are the file's, which others may change")]
fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: the mapping is only read: nothing here writes to it. That no other program changes the file while it is
    // mapped cannot be enforced; the documentation of `MmapSource` requires it of callers. All readers treat the bytes
    // as plain numbers of any value and check them.
    unsafe { Mmap::map(file) }
}

impl Source for MmapSource {
    fn name(&self) -> &str {
        self.mapped.name()
    }

    fn len(&self) -> u64 {
        self.mapped.len()
    }

    /// Fills the whole buffer with one copy.
    fn poll_read(
        &self,
        cx: &mut Context<'_>,
        offset: u64,
        buffer: &mut [u8],
    ) -> Poll<Result<usize, StorageError>> {
        StorageError::check_piece(self.name(), offset, buffer.len(), self.len())?;
        self.check_len()?;
        self.mapped.poll_read(cx, offset, buffer)
    }

    /// Returns a view of the mapping, which lives as long as any view of it.
    fn read(&self, range: Range<u64>) -> Result<Bytes, StorageError> {
        let bytes = self.mapped.read(range)?;
        self.check_len()?;
        Ok(bytes)
    }

    fn read_into<'a>(&'a self, range: Range<u64>, buffer: &'a mut Vec<u8>) -> Result<&'a [u8], StorageError> {
        let bytes = self.mapped.read_into(range, buffer)?;
        self.check_len()?;
        Ok(bytes)
    }
}
