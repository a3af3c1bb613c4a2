//! The cache folder of models, and how files are put into it completely or not at all.
//!
//! A file `NAME` is written as `NAME.part` and renamed once it is complete, verified and synced to disk. Meanwhile the
//! process holds an operating-system lock on `NAME.lock`, which is released when the process dies. Only a process that
//! holds the lock may remove that file ([`Lock::remove`]).

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::error::{DiskError, PullError};
use super::progress::{Phase, Progress};

/// Bytes read and hashed at a time.
pub(super) const CHUNK: usize = 256 * 1024;

/// Selects the environment variables that locate the user's cache folder.
#[derive(Clone, Copy, Debug)]
pub(super) enum Platform {
    Unix,
    MacOs,
    Windows,
}

impl Platform {
    pub(super) const fn current() -> Self {
        if cfg!(windows) {
            Self::Windows
        } else if cfg!(target_os = "macos") {
            Self::MacOs
        } else {
            Self::Unix
        }
    }
}

/// Returns the folder of models: `$WEFT_CACHE`, or `weft/models` in the platform's cache folder.
///
/// # Errors
/// [`PullError::NoCacheFolder`] if none of the platform's variables is set.
pub(super) fn folder(
    platform: Platform,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<PathBuf, PullError> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(folder) = set("WEFT_CACHE") {
        return Ok(folder);
    }
    let (found, tried) = match platform {
        // The XDG base directory specification requires relative paths to be ignored.
        Platform::Unix => (
            set("XDG_CACHE_HOME")
                .filter(|folder| folder.is_absolute())
                .or_else(|| set("HOME").map(|home| home.join(".cache"))),
            "WEFT_CACHE, XDG_CACHE_HOME and HOME",
        ),
        Platform::MacOs => (set("HOME").map(|home| home.join("Library/Caches")), "WEFT_CACHE and HOME"),
        Platform::Windows => (set("LOCALAPPDATA"), "WEFT_CACHE and LOCALAPPDATA"),
    };
    Ok(found.ok_or(PullError::NoCacheFolder { tried })?.join("weft").join("models"))
}

/// A file of the cache that is being pulled, with its known properties.
#[derive(Debug)]
pub(super) struct Target<'a> {
    /// Its path in the cache.
    pub(super) path: PathBuf,
    /// Its size in bytes, if known.
    pub(super) bytes: Option<u64>,
    /// Its SHA-256 in lower-case hexadecimal, if known.
    pub(super) sha256: Option<&'a str>,
}

impl Target<'_> {
    /// Path of `NAME.part`.
    pub(super) fn part(&self) -> PathBuf {
        beside(&self.path, ".part")
    }

    /// Returns true if the file exists, with the right size if that is known.
    pub(super) fn is_there(&self) -> bool {
        fs::metadata(&self.path)
            .is_ok_and(|found| found.is_file() && self.bytes.is_none_or(|bytes| bytes == found.len()))
    }

    /// Moves the finished part to its place. It is synced to disk first and renamed afterwards.
    pub(super) fn commit(&self, part: File) -> Result<(), DiskError> {
        let path = self.part();
        part.sync_all().map_err(DiskError::at("write", &path))?;
        drop(part);
        fs::rename(&path, &self.path).map_err(DiskError::at("rename", &path))?;
        // Syncing the folder makes the name durable. Where folders cannot be opened (Windows), the operating system
        // does so itself.
        if let Some(Ok(folder)) = self.path.parent().map(File::open) {
            folder.sync_all().ok();
        }
        Ok(())
    }
}

/// `NAME.lock`, locked by this process as long as the value lives.
#[derive(Debug)]
pub(super) struct Lock {
    path: PathBuf,
    file: File,
}

impl Lock {
    /// Locks the file `path`, creating its folder. Waits if another process holds the lock.
    pub(super) fn wait(path: &Path, progress: &dyn Progress) -> Result<Self, DiskError> {
        loop {
            let lock = Self::open(path)?;
            let locked = match lock.file.try_lock() {
                Err(TryLockError::WouldBlock) => {
                    progress.phase(Phase::Waiting);
                    lock.file.lock()
                }
                Err(TryLockError::Error(error)) => Err(error),
                Ok(()) => Ok(()),
            };
            if let Some(lock) = lock.held(locked)? {
                return Ok(lock);
            }
        }
    }

    /// Like [`wait`](Self::wait), but returns `None` if another process holds the lock.
    pub(super) fn attempt(path: &Path) -> Result<Option<Self>, DiskError> {
        loop {
            let lock = Self::open(path)?;
            let locked = match lock.file.try_lock() {
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => Err(error),
                Ok(()) => Ok(()),
            };
            if let Some(lock) = lock.held(locked)? {
                return Ok(Some(lock));
            }
        }
    }

    fn open(path: &Path) -> Result<Self, DiskError> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(DiskError::at("make the folder", folder))?;
        }
        let path = beside(path, ".lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(DiskError::at("open", &path))?;
        Ok(Self { path, file })
    }

    /// Returns the lock, or `None` if its file was removed while this process waited. Another file may have its name by
    /// then, and must be locked instead.
    fn held(self, locked: io::Result<()>) -> Result<Option<Self>, DiskError> {
        match locked {
            // Some network file systems have no locks. Two processes may then download at once; the hash still detects
            // damage.
            Err(error) if error.kind() != ErrorKind::Unsupported => {
                Err(DiskError::at("lock", &self.path)(error))
            }
            _ => {
                let found = self.file.metadata().map_err(DiskError::at("read", &self.path))?;
                Ok((found.len() == 0).then_some(self))
            }
        }
    }

    /// Removes the lock's file. Processes waiting for it see from its length that it was removed, and open a new one.
    pub(super) fn remove(self) -> Result<(), DiskError> {
        remove(&self.path)?;
        // Marked after the removal: if a marked file still had its name, waiting processes would open it again and
        // again.
        self.file.set_len(1).map_err(DiskError::at("write", &self.path))
    }
}

/// Returns `PATH` with `suffix` appended to its name.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Removes a file if it exists.
pub(super) fn remove(path: &Path) -> Result<(), DiskError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(DiskError::at("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Formats a hash as 64 lower-case hexadecimal digits.
pub(super) fn hex(hash: Sha256) -> String {
    use std::fmt::Write;
    hash.finalize().iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a string cannot fail.
        write!(text, "{byte:02x}").ok();
        text
    })
}

/// Hashes the rest of a file and returns its number of bytes.
pub(super) fn hash_rest(
    file: &mut File,
    path: &Path,
    hash: &mut Sha256,
    progress: &dyn Progress,
) -> Result<u64, DiskError> {
    let total = file.metadata().map_err(DiskError::at("read", path))?.len();
    let mut buffer = vec![0; CHUNK];
    let mut done = 0u64;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(done),
            Ok(count) => {
                hash.update(buffer.get(..count).unwrap_or_default());
                done += count as u64;
                progress.bytes(done, Some(total));
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(DiskError::at("read", path)(error)),
        }
    }
}
