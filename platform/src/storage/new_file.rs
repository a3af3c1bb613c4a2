//! A file that gets its name when it is complete.
//!
//! `NAME` is written as `NAME.part` in the same folder and renamed at the end. So no program finds half a model under a
//! model's name, and an existing file stays until the rename. If the file is not committed, the part file is removed.
//! The new file takes the permissions of the file that it replaces.
//!
//! This guards against a program that ends early, not against a crash or power loss of the machine: the data is not
//! synced to the disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

/// Suffix of the file's name until it is complete.
const PART: &str = ".part";

/// Why a file cannot be created or renamed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NewFileError {
    /// The file exists, and overwriting it was not allowed.
    #[error("{file} already exists; name another file, or allow it to be overwritten with --force")]
    Exists {
        /// The file.
        file: String,
    },
    /// The path names a folder or a device, or has no file name.
    #[error("{file} is not a regular file and cannot be replaced by one; name a file")]
    NotAFile {
        /// The path.
        file: String,
    },
    /// The part file exists: another process is writing the file, or was killed while writing it.
    #[error("{part} exists: another process is writing {file}, or was killed; if it was, remove {part}")]
    Busy {
        /// The file.
        file: String,
        /// The part file.
        part: String,
    },
    /// The file system has too little free space.
    #[error(
        "{file} takes {bytes} bytes, but its file system has {free} left; make room or choose another place"
    )]
    NoRoom {
        /// The file.
        file: String,
        /// Size of the file in bytes.
        bytes: u64,
        /// Free bytes in the file system.
        free: u64,
    },
    /// The part file cannot be created.
    #[error("{file} cannot be created: {source}; check that its folder exists and is writable")]
    Create {
        /// The file.
        file: String,
        /// The operating system's error.
        source: io::Error,
    },
    /// The complete part file cannot be renamed.
    #[error("{part} cannot be renamed to {file}: {source}")]
    Rename {
        /// The file.
        file: String,
        /// The part file.
        part: String,
        /// The operating system's error.
        source: io::Error,
    },
}

/// A file that is being written. If it is dropped before [`NewFile::commit`], its part file is removed.
#[derive(Debug)]
pub struct NewFile {
    path: PathBuf,
    part: PathBuf,
    /// `None` when it is closed.
    file: Option<File>,
}

impl NewFile {
    /// Starts to write the file at `path`, which will have `bytes` bytes. An existing file is an error unless
    /// `overwrite` is true. A symbolic link is followed.
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

    /// Starts to write a file that replaces the one at `path`, if there is one: settings, a conversation. Any number of
    /// processes and threads may do so at the same time. Each writes its own part file, `NAME.PROCESS.N.part` with the
    /// process id and a number; the last to commit wins. A symbolic link is followed.
    ///
    /// # Errors
    /// [`NewFileError::NotAFile`] or [`NewFileError::Create`].
    pub fn replace(path: &Path) -> Result<Self, NewFileError> {
        /// Number of part files that this process has created.
        static BEGUN: AtomicU64 = AtomicU64::new(0);
        /// Maximum number of names to try: a killed process with the same id may have left part files.
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

    /// Creates the part file and sets the permissions of the file to replace, before anything is written.
    fn begin(path: &Path, part: &Path) -> io::Result<Self> {
        let open = OpenOptions::new().write(true).create_new(true).open(part)?;
        let begun = Self { path: path.to_owned(), part: part.to_owned(), file: Some(open) };
        if let (Ok(old), Some(file)) = (fs::metadata(path), &begun.file) {
            file.set_permissions(old.permissions())?;
        }
        Ok(begun)
    }

    /// Closes the part file and renames it to the file's name.
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
        // Clears the name, so that the drop does not remove a part file that another process creates under it.
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
            // A failure cannot be returned here. The next writer of the file gets `NewFileError::Busy`.
            let _ = fs::remove_file(&self.part);
        }
    }
}

/// Returns `path` with `suffix` appended to its name.
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
