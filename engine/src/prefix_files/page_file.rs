//! The file of one page: a file of sections (`sections.rs`) with the mark `WEFTPAGE`. They are a header in JSON, the tokens
//! of the page, and the keys and values of each class that has them, as they are in the CPU's KV cache.
//!
//! A page is named by its key, which stands for the model, the KV format, and all tokens up to the page's end: the header has
//! the key of the page before it.

use super::identity::{Hash, Identity, key};
use crate::sections::{self, HEAD, Kind, SectionsError};
use crate::snapshot::hex;
use serde::{Deserialize, Serialize};
use weft_platform::PAGE;

/// The version that is written, and the newest that is read.
const VERSION: u32 = 1;
const KIND: Kind = Kind { mark: b"WEFTPAGE", version: VERSION };
/// Most bytes of a header that is read. The longest part is the model's name.
const MOST_HEADER: u64 = 16 << 10;
/// Bytes of the tokens of a page.
const TOKENS: u64 = 4 * PAGE as u64;

/// Why a file of a page is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PageFileError {
    /// It does not begin as such a file does.
    #[error("it does not begin with `WEFTPAGE`")]
    Mark,
    /// It was written by a newer version.
    #[error("it has version {version}, and this program reads up to {VERSION}")]
    Newer {
        /// Its version.
        version: u32,
    },
    /// Bytes are missing or too many.
    #[error("it is {found} bytes long, but should be {needed}")]
    Length {
        /// Bytes that there are.
        found: u64,
        /// Bytes that there should be.
        needed: u64,
    },
    /// The checksum is wrong.
    #[error("it is damaged: its SHA-256 is not the one that it states")]
    Checksum,
    /// The header cannot be understood.
    #[error("its header is not valid: {reason}")]
    Header {
        /// What is wrong with it.
        reason: String,
    },
    /// The page is of another model, or of another format of the KV cache.
    #[error("it is of another model, or of another format or shape of the KV cache")]
    Foreign,
    /// The file has the name of another page.
    #[error("its name is not that of the page in it")]
    Name,
    /// The page before it is not there.
    #[error("the file of the page before it is missing or not usable")]
    NoBeginning,
    /// The file cannot be read.
    #[error("it cannot be read: {reason}")]
    Read {
        /// The operating system's message.
        reason: String,
    },
}

impl From<SectionsError> for PageFileError {
    fn from(error: SectionsError) -> Self {
        match error {
            SectionsError::Mark => Self::Mark,
            SectionsError::Newer { version } => Self::Newer { version },
            SectionsError::Length { found, needed } => Self::Length { found, needed },
            SectionsError::Checksum => Self::Checksum,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Header {
    /// The model's name, for people who wonder what the file is.
    model: String,
    /// Name of the KV format.
    format: String,
    /// [`Identity::root`], in hexadecimal.
    root: String,
    /// Key of the page before, or the root.
    before: String,
    /// For each class, whether the page has keys and values. Otherwise it had left the class's window.
    present: Vec<bool>,
}

/// What a file says about its page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PageHead {
    pub(super) key: Hash,
    /// Key of the page before, or [`Identity::root`].
    pub(super) before: Hash,
    /// The page's [`PAGE`] tokens.
    pub(super) tokens: Vec<u32>,
    /// For each class, whether there are keys and values.
    pub(super) present: Vec<bool>,
}

/// The bytes of a page's file. `values` are the keys and values of the classes that are present, one after another.
pub(super) fn encode(identity: &Identity, page: &PageHead, values: &[u8]) -> Vec<u8> {
    let header = Header {
        model: identity.name.chars().take(200).collect(),
        format: identity.format.clone(),
        root: hex(&identity.root),
        before: hex(&page.before),
        present: page.present.clone(),
    };
    // Plain data with string keys can always be written.
    let header = serde_json::to_vec(&header).unwrap_or_default();
    KIND.encode([&header, &sections::token_bytes(&page.tokens), values])
}

/// Bytes of the header and the tokens of a file of `found` bytes, which begins with `head`: what [`read_head`] needs.
pub(super) fn head_length(head: &[u8], found: u64) -> Result<u64, PageFileError> {
    let [header, tokens, _] = KIND.lengths(head, found)?;
    if header > MOST_HEADER || tokens != TOKENS {
        let reason = format!("it states {header} bytes of header and {tokens} of tokens");
        return Err(PageFileError::Header { reason });
    }
    Ok(HEAD as u64 + header + tokens)
}

/// Reads what a file of `found` bytes says about its page, from its first [`head_length`] bytes. The checksum is not
/// compared, since most of what it covers is not there.
pub(super) fn read_head(identity: &Identity, head: &[u8], found: u64) -> Result<PageHead, PageFileError> {
    let [header, tokens, values] = KIND.lengths(head, found)?;
    let invalid = |reason: &str| PageFileError::Header { reason: reason.to_owned() };
    let cut = || PageFileError::Length { found: head.len() as u64, needed: HEAD as u64 + header + tokens };
    head_length(head, found)?;
    // They have just been bounded.
    let (header_end, tokens_end) = (HEAD + header as usize, HEAD + (header + tokens) as usize);
    let bytes = head.get(HEAD..header_end).ok_or_else(cut)?;
    let tokens = sections::tokens(head.get(header_end..tokens_end).ok_or_else(cut)?).ok_or_else(cut)?;
    let header: Header = serde_json::from_slice(bytes).map_err(|error| invalid(&error.to_string()))?;
    if header.root != hex(&identity.root) || header.format != identity.format {
        return Err(PageFileError::Foreign);
    }
    let before = from_hex(&header.before).ok_or_else(|| invalid("`before` is not a key"))?;
    let present = header.present;
    if present.len() != identity.windowed.len()
        || identity.windowed.iter().zip(&present).any(|(windowed, present)| !present && !windowed)
    {
        return Err(invalid("`present` has other classes than the model"));
    }
    if identity.bytes_of(&present) != values {
        let needed = tokens_end as u64 + identity.bytes_of(&present);
        return Err(PageFileError::Length { found, needed });
    }
    Ok(PageHead { key: key(&before, &tokens), before, tokens, present })
}

/// Reads a whole file: what it says about its page, and the keys and values.
pub(super) fn decode<'a>(
    identity: &Identity,
    bytes: &'a [u8],
) -> Result<(PageHead, &'a [u8]), PageFileError> {
    let [_, _, values] = KIND.decode(bytes)?;
    Ok((read_head(identity, bytes, bytes.len() as u64)?, values))
}

fn from_hex(text: &str) -> Option<Hash> {
    let mut hash = Hash::default();
    if text.len() != 2 * hash.len() || !text.is_ascii() {
        return None;
    }
    for (at, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(hash)
}
