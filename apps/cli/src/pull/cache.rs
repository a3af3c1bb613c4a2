//! The folder where models are kept, and how a file gets into it whole or not at all.
//!
//! A file `NAME` is written as `NAME.part` and renamed when it is complete, checked and on the disk. `NAME.lock` is locked
//! meanwhile, by the operating system, so that a process that dies gives it up. It may
//! be removed only by a process that holds it ([`Lock::remove`]).

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::error::{DiskError, PullError};
use super::progress::{Phase, Progress};

/// Bytes read and hashed at a time.
pub(super) const CHUNK: usize = 256 * 1024;

/// Which environment variables lead to the user's cache folder.
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

/// The folder of models: `$WEFT_CACHE`, or `weft/models` in the platform's cache folder.
///
/// # Errors
/// [`PullError::NoCacheFolder`] where none of the platform's variables is set.
pub(super) fn folder(
    platform: Platform,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<PathBuf, PullError> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(folder) = set("WEFT_CACHE") {
        return Ok(folder);
    }
    let (found, tried) = match platform {
        // The XDG base directory specification wants relative paths ignored.
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

/// A file of the cache that is being pulled, and what is known of it.
#[derive(Debug)]
pub(super) struct Target<'a> {
    /// Where it belongs.
    pub(super) path: PathBuf,
    /// Its size, where known.
    pub(super) bytes: Option<u64>,
    /// Its SHA-256 in lower-case hexadecimal, where known.
    pub(super) sha256: Option<&'a str>,
}

impl Target<'_> {
    /// `NAME.part`.
    pub(super) fn part(&self) -> PathBuf {
        beside(&self.path, ".part")
    }

    /// Whether the file is there, with the right size where that is known.
    pub(super) fn is_there(&self) -> bool {
        fs::metadata(&self.path)
            .is_ok_and(|found| found.is_file() && self.bytes.is_none_or(|bytes| bytes == found.len()))
    }

    /// Puts the finished part into its place: on the disk first, under its name after.
    pub(super) fn commit(&self, part: File) -> Result<(), DiskError> {
        let path = self.part();
        part.sync_all().map_err(DiskError::at("write", &path))?;
        drop(part);
        fs::rename(&path, &self.path).map_err(DiskError::at("rename", &path))?;
        // The name is durable once its folder is; where folders cannot be opened (Windows) the system sees to it.
        if let Some(Ok(folder)) = self.path.parent().map(File::open) {
            folder.sync_all().ok();
        }
        Ok(())
    }
}

/// `NAME.lock`, locked by this process for as long as the value lives.
#[derive(Debug)]
pub(super) struct Lock {
    path: PathBuf,
    file: File,
}

impl Lock {
    /// Locks the file `path`, making its folder; waits for another process that holds the lock.
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

    /// The same, or `None` if another process holds the lock.
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

    /// The lock, unless its file was removed while this process waited: then another file has its name, and counts.
    fn held(self, locked: io::Result<()>) -> Result<Option<Self>, DiskError> {
        match locked {
            // Some network file systems have no locks: then two processes at once waste work, and the hash still guards.
            Err(error) if error.kind() != ErrorKind::Unsupported => {
                Err(DiskError::at("lock", &self.path)(error))
            }
            _ => {
                let found = self.file.metadata().map_err(DiskError::at("read", &self.path))?;
                Ok((found.len() == 0).then_some(self))
            }
        }
    }

    /// Removes the lock's file. Processes that wait for it find it marked by its length, and open a new one.
    pub(super) fn remove(self) -> Result<(), DiskError> {
        remove(&self.path)?;
        // The mark comes after: a marked file that still had its name would keep everybody waiting.
        self.file.set_len(1).map_err(DiskError::at("write", &self.path))
    }
}

/// `PATH` with something after its name.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Removes a file that need not be there.
pub(super) fn remove(path: &Path) -> Result<(), DiskError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(DiskError::at("remove", path)(error)),
        _ => Ok(()),
    }
}

/// A hash as 64 lower-case hexadecimal digits.
pub(super) fn hex(hash: Sha256) -> String {
    use std::fmt::Write;
    hash.finalize().iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a string cannot fail.
        write!(text, "{byte:02x}").ok();
        text
    })
}

/// Hashes what is left of a file, and says how many bytes that was.
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
