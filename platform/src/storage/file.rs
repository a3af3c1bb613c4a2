//! A file, read in pieces.
//!
//! Files are read, not mapped. The bytes read do not count as the process's memory once their buffer is reused. If
//! another program truncates the file, a read returns an error, where access to a mapping would kill the process with a
//! signal.

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::blocking::grow;
use super::{Bytes, Source, StorageError};

/// A file that is open for reading.
///
/// Its length is fixed when it is opened. Bytes appended later are not read.
#[derive(Debug)]
pub struct FileSource {
    name: String,
    file: File,
    len: u64,
}

impl FileSource {
    /// Opens the file at `path`.
    ///
    /// # Errors
    /// [`StorageError::Open`] or [`StorageError::NotAFile`], naming the path.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StorageError> {
        let path = path.as_ref();
        let (file, len) = open(path)?;
        Ok(Self { name: path.display().to_string(), file, len })
    }

    /// Fills `buffer` with the bytes at `range`, which has the same length.
    fn fill(&self, range: Range<u64>, buffer: &mut [u8]) -> Result<(), StorageError> {
        read_exact_at(&self.file, buffer, range.start).map_err(|source| self.error(range, source))
    }

    /// Returns the error for a failed read of the bytes at `range`.
    fn error(&self, range: Range<u64>, source: io::Error) -> StorageError {
        let found = self.file.metadata().map_or(self.len, |file| file.len());
        if source.kind() == io::ErrorKind::UnexpectedEof && found < range.end {
            return StorageError::CutShort { name: self.name.clone(), len: self.len, found };
        }
        StorageError::read(&self.name, range, source)
    }
}

/// Opens a regular file for reading. Returns the file and its length in bytes.
pub(super) fn open(path: &Path) -> Result<(File, u64), StorageError> {
    let open_error = |source| open_error(path, source);
    // Checked before opening, because opening a pipe blocks until it has a writer.
    if !fs::metadata(path).map_err(open_error)?.is_file() {
        return Err(StorageError::NotAFile { path: path.to_owned() });
    }
    let file = File::open(path).map_err(open_error)?;
    let len = file.metadata().map_err(open_error)?.len();
    Ok((file, len))
}

pub(super) fn open_error(path: &Path, source: io::Error) -> StorageError {
    StorageError::Open { path: path.to_owned(), source: Arc::new(source) }
}

#[cfg(unix)]
fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
    use std::os::windows::fs::FileExt;
    while !buffer.is_empty() {
        match file.seek_read(buffer, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                buffer = &mut buffer[read..];
                offset += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl Source for FileSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> u64 {
        self.len
    }

    /// Fills the whole buffer with one read.
    fn poll_read(
        &self,
        _cx: &mut Context<'_>,
        offset: u64,
        buffer: &mut [u8],
    ) -> Poll<Result<usize, StorageError>> {
        StorageError::check_piece(&self.name, offset, buffer.len(), self.len)?;
        self.fill(offset..offset + buffer.len() as u64, buffer)?;
        Poll::Ready(Ok(buffer.len()))
    }

    fn read(&self, range: Range<u64>) -> Result<Bytes, StorageError> {
        let mut buffer = Vec::new();
        self.read_into(range, &mut buffer)?;
        Ok(buffer.into())
    }

    fn read_into<'a>(&'a self, range: Range<u64>, buffer: &'a mut Vec<u8>) -> Result<&'a [u8], StorageError> {
        let len = StorageError::check_range(&self.name, &range, self.len)?;
        grow(&self.name, &range, buffer, len)?;
        let buffer = &mut buffer[..len];
        self.fill(range, buffer)?;
        Ok(buffer)
    }
}
