//! A folder of page files: their names, which of them are there, and which are removed when they take too much.
//!
//! A file's name has 16 hexadecimal digits of what stands for the model and the KV format, and the page's key:
//! `0123456789abcdef-….weftkv`. Files of other names are left alone. A file's time of modification says when its page was
//! last saved; the page before another is always the younger file, so that what is removed first is the end of a context.

use super::identity::{Hash, Identity};
use super::page_file::{self, PageFileError, PageHead};
use crate::sections::HEAD;
use crate::snapshot::hex;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How the names of page files end.
const SUFFIX: &str = ".weftkv";
/// Digits of the model's part of a name.
const MODEL_DIGITS: usize = 16;
/// Age after which a file that was never completed is removed: its process was killed.
const ABANDONED: Duration = Duration::from_secs(3600);

/// A page file that was found.
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    pub(super) saved: SystemTime,
}

/// The name of a page's file.
pub(super) fn name(identity: &Identity, key: &Hash) -> String {
    format!("{}-{}{SUFFIX}", model_part(identity), hex(key))
}

fn model_part(identity: &Identity) -> String {
    hex(&identity.root)[..MODEL_DIGITS].to_owned()
}

/// Returns true if a file has the name of a page file, or of one that is being written if `parts`.
fn is_ours(name: &str, parts: bool) -> bool {
    let Some((stem, rest)) = name.split_once(SUFFIX) else { return false };
    let hexadecimal = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let named = stem.split_once('-').is_some_and(|(model, key)| {
        model.len() == MODEL_DIGITS
            && key.len() == 2 * size_of::<Hash>()
            && hexadecimal(model)
            && hexadecimal(key)
    });
    named && if parts { rest.starts_with('.') && rest.ends_with(".part") } else { rest.is_empty() }
}

/// The page files in a folder, of one model or of all, the last saved first. None if there is no such folder.
pub(super) fn list(folder: &Path, of: Option<&Identity>) -> io::Result<Vec<Found>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let begins = of.map(|identity| format!("{}-", model_part(identity))).unwrap_or_default();
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let named = name.to_str().is_some_and(|name| is_ours(name, false) && name.starts_with(&begins));
        // A file may be removed meanwhile.
        let Some(data) = entry.metadata().ok().filter(|data| named && data.is_file()) else { continue };
        let saved = data.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        found.push(Found { path: entry.path(), bytes: data.len(), saved });
    }
    found.sort_by(|a, b| b.saved.cmp(&a.saved).then_with(|| a.path.cmp(&b.path)));
    Ok(found)
}

/// Removes the page files that were saved the longest ago, of whatever model, until the rest take at most `most` bytes; and
/// files that were never completed. Returns how many were removed.
pub(super) fn trim(folder: &Path, most: u64) -> io::Result<usize> {
    let (mut bytes, mut removed) = (0u64, 0);
    for file in list(folder, None)? {
        bytes = bytes.saturating_add(file.bytes);
        if bytes > most {
            // Another process may have removed it.
            removed += usize::from(fs::remove_file(&file.path).is_ok());
        }
    }
    for entry in fs::read_dir(folder)?.flatten() {
        let part = entry.file_name().to_str().is_some_and(|name| is_ours(name, true));
        let age = entry.metadata().and_then(|data| data.modified()).ok().and_then(|time| time.elapsed().ok());
        if part && age.is_some_and(|age| age > ABANDONED) {
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(removed)
}

/// Says that a page was saved at `time`. A file system that cannot keep it removes files in another order.
pub(super) fn stamp(path: &Path, time: SystemTime) {
    let _ = File::options().write(true).open(path).and_then(|file| file.set_modified(time));
}

/// Reads what a file says about its page.
pub(super) fn head(identity: &Identity, file: &Found) -> Result<PageHead, PageFileError> {
    let mut open = File::open(&file.path).map_err(unread)?;
    let mut head = Vec::new();
    open.by_ref().take(HEAD as u64).read_to_end(&mut head).map_err(unread)?;
    let length = page_file::head_length(&head, file.bytes)?;
    open.take(length.saturating_sub(HEAD as u64)).read_to_end(&mut head).map_err(unread)?;
    let page = page_file::read_head(identity, &head, file.bytes)?;
    named(identity, file, page)
}

/// Reads a whole file into `buffer`. Returns what it says about its page, and the keys and values. Only after [`head`] has
/// said that its size is that of a page.
pub(super) fn page<'a>(
    identity: &Identity,
    file: &Found,
    buffer: &'a mut Vec<u8>,
) -> Result<(PageHead, &'a [u8]), PageFileError> {
    buffer.clear();
    let open = File::open(&file.path).map_err(unread)?;
    // It may have grown meanwhile.
    open.take(file.bytes).read_to_end(buffer).map_err(unread)?;
    let (page, values) = page_file::decode(identity, buffer)?;
    Ok((named(identity, file, page)?, values))
}

fn named(identity: &Identity, file: &Found, page: PageHead) -> Result<PageHead, PageFileError> {
    let wanted = name(identity, &page.key);
    let is_named = file.path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name == wanted);
    if is_named { Ok(page) } else { Err(PageFileError::Name) }
}

fn unread(error: io::Error) -> PageFileError {
    PageFileError::Read { reason: error.to_string() }
}
