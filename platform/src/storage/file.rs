//! A file that is read at positions.
//!
//! Each read copies what it asks for, with one call to the system where that gives it whole. A map of the file would spare the
//! copy and could not be kept safe: a program that cuts the file short while it is mapped ends every process that touches the
//! lost pages, with a signal. Here the read comes back short, which is an error that names the file. Weights are copied anyway,
//! into tiles or to a device.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::Path;

use super::{Bytes, Source, StorageError};
use crate::buffer::Buffer;

/// A file on disk, read only. Its length is that of the moment when it was opened.
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
        let open_error = |source| StorageError::Open { path: path.to_owned(), source };
        // Asked before opening: opening a pipe waits for its writer.
        if !fs::metadata(path).map_err(open_error)?.is_file() {
            return Err(StorageError::NotAFile { path: path.to_owned() });
        }
        let file = File::open(path).map_err(open_error)?;
        let len = file.metadata().map_err(open_error)?.len();
        Ok(Self { name: path.display().to_string(), file, len })
    }

    /// Fills `out` from the file's `start` on.
    fn fill(&self, start: u64, out: &mut [u8]) -> Result<(), StorageError> {
        let end = start + out.len() as u64;
        let failed = |source| StorageError::Read { name: self.name.clone(), start, end, source };
        let mut done = 0;
        while done < out.len() {
            match read_at(&self.file, &mut out[done..], start + done as u64) {
                Ok(0) => {
                    let found = self.file.metadata().map_err(failed)?.len();
                    return Err(StorageError::Shrunk { name: self.name.clone(), len: self.len, found });
                }
                Ok(read) => done += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(())
    }
}

#[cfg(unix)]
fn read_at(file: &File, out: &mut [u8], start: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, out, start)
}

#[cfg(windows)]
fn read_at(file: &File, out: &mut [u8], start: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, out, start)
}

impl Source for FileSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn read(&self, range: Range<u64>) -> Result<Bytes, StorageError> {
        /// From here on memory comes from the system, zeroed, and goes back to it at once.
        const LARGE: usize = 1 << 20;
        let Range { start, end } = range;
        let outside = || StorageError::out_of_range(&self.name, range.clone(), self.len);
        if start > end || end > self.len {
            return Err(outside());
        }
        let len = usize::try_from(end - start).map_err(|_| outside())?;
        let no_memory = || {
            let source = io::Error::from(ErrorKind::OutOfMemory);
            StorageError::Read { name: self.name.clone(), start, end, source }
        };
        if len >= LARGE {
            let mut buffer = Buffer::zeroed(len).map_err(|_| no_memory())?;
            self.fill(start, buffer.bytes_mut())?;
            return Ok(Bytes::from_owner(buffer));
        }
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len).map_err(|_| no_memory())?;
        bytes.resize(len, 0);
        self.fill(start, &mut bytes)?;
        Ok(bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::check_contract;
    use super::*;

    #[test]
    fn keeps_the_contract() {
        let dir = tempfile::tempdir().unwrap();
        for content in [vec![], b"x".to_vec(), (0..3_000_000).map(|i| (i / 7) as u8).collect()] {
            let path = dir.path().join("model.gguf");
            fs::write(&path, &content).unwrap();
            let source = FileSource::open(&path).unwrap();
            assert_eq!(source.name(), path.display().to_string());
            check_contract(&source, &content);
        }
    }

    #[test]
    fn a_file_that_is_cut_short_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shrinking.gguf");
        fs::write(&path, vec![7; 2 << 20]).unwrap();
        let source = FileSource::open(&path).unwrap();
        let held = source.read(0..2 << 20).unwrap();
        fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(5000).unwrap();
        for range in [0..2 << 20, 4999..5001, 5000..5001, (1 << 20)..(1 << 20) + 1] {
            match source.read(range.clone()) {
                Err(StorageError::Shrunk { name, len, found }) => {
                    assert_eq!((name.as_str(), len, found), (source.name(), 2 << 20, 5000), "{range:?}");
                }
                other => panic!("{range:?} gave {other:?}"),
            }
        }
        assert_eq!(&*source.read(4000..5000).unwrap(), [7; 1000]);
        assert!(held.iter().all(|byte| *byte == 7), "what has been read stays");
    }

    #[test]
    fn what_is_no_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(FileSource::open(dir.path()), Err(StorageError::NotAFile { .. })));
        let missing = dir.path().join("missing.gguf");
        let error = FileSource::open(&missing).unwrap_err();
        assert!(matches!(error, StorageError::Open { .. }));
        assert!(error.to_string().contains("missing.gguf"), "{error}");
    }
}
