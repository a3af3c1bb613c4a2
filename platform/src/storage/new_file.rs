//! A file that gets its name when it is whole.
//!
//! `NAME` is written as `NAME.part` beside it and renamed at the end, so that no program ever finds half a model under
//! a model's name, and what was there before stays until then. Without the rename the part is removed. A file that is replaced
//! passes its permissions on.
//!
//! This guards against a program that ends early, not against a machine that does: nothing waits for the medium.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

/// What is added to a file's name until it is whole.
const PART: &str = ".part";

/// Why a file cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NewFileError {
    /// There is one, and nobody said that it may go.
    #[error("{file} is there already; name another file, or allow it to be overwritten with --force")]
    Exists {
        /// The file.
        file: String,
    },
    /// The name is that of a folder, a device or nothing.
    #[error("{file} is not a regular file and cannot be replaced by one; name a file")]
    NotAFile {
        /// The name given.
        file: String,
    },
    /// Somebody else is at it.
    #[error("{part} is there: another process is writing {file}, or was killed; if it was, remove {part}")]
    Busy {
        /// The file.
        file: String,
        /// The file's name until it is whole.
        part: String,
    },
    /// The medium is too small.
    #[error(
        "{file} takes {bytes} bytes, but its file system has {free} left; make room or choose another place"
    )]
    NoRoom {
        /// The file.
        file: String,
        /// Bytes of the file.
        bytes: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// The system refused.
    #[error("{file} cannot be made: {source}; check that its folder exists and may be written to")]
    Create {
        /// The file.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// The whole file cannot take its name.
    #[error("{part} cannot be renamed to {file}: {source}")]
    Rename {
        /// The file.
        file: String,
        /// The file's name until then.
        part: String,
        /// What the system said.
        source: io::Error,
    },
}

/// A file in the making. Dropped before [`NewFile::commit`], it leaves nothing behind.
#[derive(Debug)]
pub struct NewFile {
    path: PathBuf,
    part: PathBuf,
    /// `None` once it is closed.
    file: Option<File>,
}

impl NewFile {
    /// Begins the file at `path`, which is to have `bytes`. What is there is refused unless `overwrite`; a symbolic
    /// link is followed.
    ///
    /// # Errors
    /// [`NewFileError`], all but [`NewFileError::Rename`].
    pub fn create(path: &Path, overwrite: bool, bytes: u64) -> Result<Self, NewFileError> {
        let file = || path.display().to_string();
        let path = match fs::metadata(path) {
            Ok(found) if !found.is_file() => return Err(NewFileError::NotAFile { file: file() }),
            Ok(_) if !overwrite => return Err(NewFileError::Exists { file: file() }),
            Ok(_) => {
                fs::canonicalize(path).map_err(|source| NewFileError::Create { file: file(), source })?
            }
            Err(_) if path.file_name().is_none() => return Err(NewFileError::NotAFile { file: file() }),
            Err(_) => path.to_owned(),
        };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        if let Some(free) = free_bytes(folder.unwrap_or(Path::new(".")))
            && free < bytes
        {
            return Err(NewFileError::NoRoom { file: file(), bytes, free });
        }
        let part = with_suffix(&path, PART);
        match Self::begin(&path, &part) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                Err(NewFileError::Busy { file: file(), part: part.display().to_string() })
            }
            begun => begun.map_err(|source| NewFileError::Create { file: file(), source }),
        }
    }

    /// Begins the file that takes the place of the one at `path`, or is the first one there: settings, a conversation. Any
    /// number of processes and threads may do so at a time, each beside it in a part of its own (`NAME.PROCESS.N.part`);
    /// the last to commit stays. A symbolic link is followed.
    ///
    /// # Errors
    /// [`NewFileError::NotAFile`] or [`NewFileError::Create`].
    pub fn replace(path: &Path) -> Result<Self, NewFileError> {
        /// Files that this process has begun.
        static BEGUN: AtomicU64 = AtomicU64::new(0);
        /// Parts that a killed process of this number may have left.
        const TRIES: usize = 1000;
        let file = || path.display().to_string();
        let create = |source| NewFileError::Create { file: file(), source };
        let path = match fs::metadata(path) {
            Ok(found) if !found.is_file() => return Err(NewFileError::NotAFile { file: file() }),
            Ok(_) => fs::canonicalize(path).map_err(create)?,
            Err(_) if path.file_name().is_none() => return Err(NewFileError::NotAFile { file: file() }),
            Err(_) => path.to_owned(),
        };
        let mut last = io::Error::from(ErrorKind::AlreadyExists);
        for _ in 0..TRIES {
            let number = BEGUN.fetch_add(1, Ordering::Relaxed);
            let part = with_suffix(&path, &format!(".{}.{number}{PART}", process::id()));
            match Self::begin(&path, &part) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => last = error,
                begun => return begun.map_err(create),
            }
        }
        Err(create(last))
    }

    /// Makes the part, with the permissions of the file that is to be replaced before anything is written to it.
    fn begin(path: &Path, part: &Path) -> io::Result<Self> {
        let open = OpenOptions::new().write(true).create_new(true).open(part)?;
        let begun = Self { path: path.to_owned(), part: part.to_owned(), file: Some(open) };
        if let (Ok(old), Some(file)) = (fs::metadata(path), &begun.file) {
            file.set_permissions(old.permissions())?;
        }
        Ok(begun)
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// [`NewFileError::Rename`].
    pub fn commit(mut self) -> Result<(), NewFileError> {
        self.file = None;
        fs::rename(&self.part, &self.path).map_err(|source| NewFileError::Rename {
            file: self.path.display().to_string(),
            part: self.part.display().to_string(),
            source,
        })?;
        // Nothing of that name is left to remove, and if somebody begins one, it is theirs.
        self.part.clear();
        Ok(())
    }

    fn file(&mut self) -> io::Result<&mut File> {
        self.file.as_mut().ok_or_else(|| ErrorKind::NotConnected.into())
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file()?.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file()?.flush()
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.part.as_os_str().is_empty() {
            self.file = None;
            // Where that fails too there is nobody to tell; the next one is told that the part is there.
            let _ = fs::remove_file(&self.part);
        }
    }
}

/// `path` with more behind its name.
fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Bytes that a file in `folder` may take; `None` where the system does not tell.
#[cfg(unix)]
fn free_bytes(folder: &Path) -> Option<u64> {
    let found = nix::sys::statvfs::statvfs(folder).ok()?;
    // The types are the system's; none is wider.
    Some((found.blocks_available() as u64).saturating_mul(found.fragment_size() as u64))
}

/// Bytes that a file in `folder` may take; `None` where the system does not tell.
#[cfg(not(unix))]
fn free_bytes(_folder: &Path) -> Option<u64> {
    None
}
