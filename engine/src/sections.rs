//! The outer form of the engine's binary files: a mark of eight bytes, the version, the lengths of three sections, a
//! SHA-256 of all of these and of the sections, then the sections. Numbers are little-endian.
//!
//! Invariant: nothing is allocated by lengths that a file states. They are compared with its size first.

use sha2::{Digest, Sha256};

/// Mark, version, three lengths.
const LENGTHS: usize = 8 + 4 + 3 * 8;
const DIGEST: usize = 32;
/// Bytes before the sections.
pub(crate) const HEAD: usize = LENGTHS + DIGEST;

/// A kind of file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    /// How its files begin.
    pub(crate) mark: &'static [u8; 8],
    /// The version that is written, and the newest that is read.
    pub(crate) version: u32,
}

/// Why bytes are not a whole file of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SectionsError {
    Mark,
    Newer { version: u32 },
    Length { found: u64, needed: u64 },
    Checksum,
}

impl Kind {
    /// Writes sections as bytes.
    pub(crate) fn encode(&self, sections: [&[u8]; 3]) -> Vec<u8> {
        let mut bytes =
            Vec::with_capacity(HEAD + sections.iter().map(|section| section.len()).sum::<usize>());
        bytes.extend(self.mark);
        bytes.extend(self.version.to_le_bytes());
        sections.iter().for_each(|section| bytes.extend((section.len() as u64).to_le_bytes()));
        bytes.resize(HEAD, 0);
        sections.iter().for_each(|section| bytes.extend_from_slice(section));
        let digest = digest(&bytes);
        bytes[LENGTHS..HEAD].copy_from_slice(&digest);
        bytes
    }

    /// Reads the lengths of the sections from the first bytes of a file of `found` bytes.
    pub(crate) fn lengths(&self, head: &[u8], found: u64) -> Result<[u64; 3], SectionsError> {
        if !head.starts_with(self.mark) {
            return Err(SectionsError::Mark);
        }
        let short = SectionsError::Length { found, needed: HEAD as u64 };
        let version = head.get(8..12).and_then(|n| Some(u32::from_le_bytes(n.try_into().ok()?)));
        let version = version.ok_or(short)?;
        if version > self.version {
            return Err(SectionsError::Newer { version });
        }
        let number =
            |at: usize| head.get(at..at + 8).and_then(|n| Some(u64::from_le_bytes(n.try_into().ok()?)));
        let [Some(first), Some(second), Some(third)] = [12, 20, 28].map(number) else { return Err(short) };
        let sections = first.checked_add(second).and_then(|sum| sum.checked_add(third));
        let needed = sections.and_then(|sum| sum.checked_add(HEAD as u64)).unwrap_or(u64::MAX);
        if needed != found {
            return Err(SectionsError::Length { found, needed });
        }
        Ok([first, second, third])
    }

    /// Reads the sections of a whole file.
    pub(crate) fn decode<'a>(&self, bytes: &'a [u8]) -> Result<[&'a [u8]; 3], SectionsError> {
        let [first, second, _] = self.lengths(bytes, bytes.len() as u64)?;
        if bytes[LENGTHS..HEAD] != digest(bytes) {
            return Err(SectionsError::Checksum);
        }
        // They are within the bytes, so they are in range.
        let (first, rest) = bytes[HEAD..].split_at(first as usize);
        let (second, third) = rest.split_at(second as usize);
        Ok([first, second, third])
    }
}

/// The checksum of a file: of everything but itself.
fn digest(bytes: &[u8]) -> [u8; DIGEST] {
    let mut hash = Sha256::new();
    hash.update(&bytes[..LENGTHS]);
    hash.update(&bytes[HEAD..]);
    hash.finalize().into()
}

/// Tokens as bytes.
pub(crate) fn token_bytes(tokens: &[u32]) -> Vec<u8> {
    tokens.iter().flat_map(|token| token.to_le_bytes()).collect()
}

/// The tokens that bytes are. `None` if their number is no multiple of four.
pub(crate) fn tokens(bytes: &[u8]) -> Option<Vec<u32>> {
    let (words, rest) = bytes.as_chunks();
    rest.is_empty().then(|| words.iter().map(|word| u32::from_le_bytes(*word)).collect())
}
