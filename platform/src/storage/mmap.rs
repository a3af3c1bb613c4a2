//! A file mapped into memory: pages come in when first touched, and reads copy nothing.
#![expect(unsafe_code, reason = "mapping a file is unsafe: see the block")]

use std::fs::{self, File};
use std::ops::Range;
use std::path::Path;

use memmap2::Mmap;

use super::{Bytes, Source, StorageError, view};

/// A file mapped into memory, read only.
///
/// The file must not be changed or cut short while any of its bytes are in use: see [`MmapSource::open`].
#[derive(Clone, Debug)]
pub struct MmapSource {
    name: String,
    bytes: Bytes,
}

impl MmapSource {
    /// Maps the file at `path`.
    ///
    /// A program that cuts the file short while it is mapped makes later reads of the lost pages fault, as for every
    /// program that maps files. Replace model files by writing anew and renaming.
    ///
    /// # Errors
    /// [`StorageError::Open`], [`StorageError::NotAFile`] or [`StorageError::Map`], naming the path.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StorageError> {
        let path = path.as_ref();
        let open_error = |source| StorageError::Open { path: path.to_owned(), source };
        // Asked before opening: opening a pipe waits for its writer.
        if !fs::metadata(path).map_err(open_error)?.is_file() {
            return Err(StorageError::NotAFile { path: path.to_owned() });
        }
        let file = File::open(path).map_err(open_error)?;
        let len = file.metadata().map_err(open_error)?.len();
        let bytes = if len == 0 {
            // Linux refuses to map nothing.
            Bytes::default()
        } else {
            // SAFETY: the mapping is read-only and lives inside the `Bytes` that borrow from it. What Rust cannot
            // rule out is another program writing to the file: then bytes change under a shared reference. Every
            // reader of them treats them as untrusted plain numbers, takes no decision of memory safety from them
            // (headers are copied out before they are checked), and the documentation above asks that model files
            // be replaced, not rewritten.
            let map = unsafe { Mmap::map(&file) };
            Bytes::from_owner(map.map_err(|source| StorageError::Map {
                path: path.to_owned(),
                len,
                source,
            })?)
        };
        Ok(Self { name: path.display().to_string(), bytes })
    }
}

impl Source for MmapSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read(&self, range: Range<u64>) -> Result<Bytes, StorageError> {
        view(&self.name, &self.bytes, range)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::check_contract;
    use super::*;

    #[test]
    fn keeps_the_contract() {
        let dir = tempfile::tempdir().unwrap();
        for content in [vec![], b"x".to_vec(), (0..10_000).map(|i| i as u8).collect()] {
            let path = dir.path().join("model.gguf");
            fs::write(&path, &content).unwrap();
            let source = MmapSource::open(&path).unwrap();
            assert_eq!(source.name(), path.display().to_string());
            check_contract(&source, &content);
        }
    }

    #[test]
    fn reads_copy_nothing_and_outlive_the_source() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.gguf");
        fs::write(&path, [5; 100]).unwrap();
        let source = MmapSource::open(&path).unwrap();
        let (whole, part) = (source.read(0..100).unwrap(), source.read(10..20).unwrap());
        drop(source);
        assert_eq!(part.as_ptr(), whole[10..].as_ptr());
        assert_eq!(&*part, [5; 10]);
    }

    #[test]
    fn what_is_no_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(MmapSource::open(dir.path()), Err(StorageError::NotAFile { .. })));
        let missing = dir.path().join("missing.gguf");
        let error = MmapSource::open(&missing).unwrap_err();
        assert!(matches!(error, StorageError::Open { .. }));
        assert!(error.to_string().contains("missing.gguf"), "{error}");
    }
}
