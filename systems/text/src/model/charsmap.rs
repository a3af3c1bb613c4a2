//! The table with which SentencePiece normalises characters: strings and their replacements.
//!
//! Layout: the length of a double array in bytes (u32), the array (u32 each), then the replacements, each ended by a
//! zero byte. An entry of the array holds the byte that leads to it (bits 0 to 7), whether a string ends there (bit 8),
//! and the offset of its children (bits 10 to 30, times 256 if bit 9 is set). An entry with bit 31 set holds the
//! position of a replacement. All numbers are little-endian. Sources: SentencePiece's `normalizer.cc`; Yata et al., "A
//! compact static double-array keeping character codes", 2007.

use unicode_segmentation::UnicodeSegmentation;

use crate::error::TokenizeError;

/// Set in entries that hold the position of a replacement.
const RESULT: u32 = 1 << 31;
/// The most bytes that a replacement may have for each byte of its string. NFKC turns the 3 bytes of U+FDFA into 33. A
/// table that exceeds this limit is an attempt to fill memory, so its string is left unchanged.
const MOST_GROWTH: usize = 16;
/// The Hugging Face library looks up graphemes of fewer bytes than this as a whole.
const SHORT_GRAPHEME: usize = 6;

/// A table that has been checked.
#[derive(Debug)]
pub(super) struct Charsmap {
    array: Vec<u32>,
    results: String,
    /// Whether characters are looked up as in the Hugging Face library.
    by_grapheme: bool,
}

impl Charsmap {
    /// # Errors
    /// The table ends too early, or its replacements are not UTF-8.
    pub(super) fn new(table: &[u8], by_grapheme: bool) -> Result<Self, TokenizeError> {
        let damaged = |reason| TokenizeError::Charsmap { reason };
        let (length, rest) = table.split_first_chunk::<4>().ok_or(damaged("it has no length"))?;
        let length = u32::from_le_bytes(*length) as usize;
        let array = rest.get(..length).ok_or(damaged("it ends before its array does"))?;
        let results =
            std::str::from_utf8(&rest[length..]).map_err(|_| damaged("its results are not UTF-8"))?;
        let (entries, _) = array.as_chunks::<4>();
        let array = entries.iter().map(|entry| u32::from_le_bytes(*entry)).collect();
        Ok(Self { array, results: results.to_owned(), by_grapheme })
    }

    /// Returns true if characters are looked up as in the Hugging Face library.
    pub(super) fn by_grapheme(&self) -> bool {
        self.by_grapheme
    }

    /// Normalises the beginning of `text`, which must not be empty. Returns the replacement and the rest of the text.
    pub(super) fn normalize_prefix<'a>(&'a self, text: &'a str) -> (&'a str, &'a str) {
        let mut longest = None;
        self.prefixes(text, |length, result| longest = Some((length, result)));
        if let Some((length, result)) = longest
            && let Some(rest) = text.get(length..)
        {
            return (result, rest);
        }
        text.split_at(text.chars().next().map_or(0, char::len_utf8))
    }

    /// Normalises `text` as the Hugging Face library does and passes the result to `push` piece by piece. Short
    /// graphemes are looked up first, then single characters. Each is replaced by the replacement of the shortest
    /// string in the table that it begins with.
    pub(super) fn normalize_graphemes(&self, text: &str, mut push: impl FnMut(&str)) {
        let shortest = |part: &str| {
            let mut found = None;
            self.prefixes(part, |_, result| found = found.or(Some(result)));
            found
        };
        for grapheme in text.graphemes(true) {
            if grapheme.len() < SHORT_GRAPHEME
                && let Some(result) = shortest(grapheme)
            {
                push(result);
                continue;
            }
            let mut encoded = [0; 4];
            for character in grapheme.chars() {
                let character = &*character.encode_utf8(&mut encoded);
                push(shortest(character).unwrap_or(character));
            }
        }
    }

    /// Calls `found` with the length and the replacement of each string of the table that `text` begins with, shortest
    /// first.
    fn prefixes<'a>(&'a self, text: &str, mut found: impl FnMut(usize, &'a str)) {
        let Some(mut node) = self.array.first().copied().map(children) else { return };
        for (at, byte) in text.bytes().enumerate() {
            if byte == 0 {
                return;
            }
            node ^= u32::from(byte);
            let Some(&entry) = self.array.get(node as usize) else { return };
            if entry & (RESULT | 0xff) != u32::from(byte) {
                return;
            }
            node ^= children(entry);
            if (entry >> 8) & 1 == 1
                && let Some(result) =
                    self.array.get(node as usize).and_then(|entry| self.result(entry & !RESULT))
                && result.len() <= MOST_GROWTH * (at + 1)
            {
                found(at + 1, result);
            }
        }
    }

    fn result(&self, at: u32) -> Option<&str> {
        let result = self.results.get(at as usize..)?;
        result.find('\0').map(|end| &result[..end])
    }
}

/// Returns the offset of the children of an entry.
fn children(entry: u32) -> u32 {
    (entry >> 10) << ((entry & (1 << 9)) >> 6)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table that replaces `a` with `result`.
    fn table(result: &str) -> Charsmap {
        let mut array = [0u32; 98];
        array[97] = u32::from(b'a') | (1 << 8) | (1 << 10);
        array[96] = RESULT;
        let mut bytes = (4 * array.len() as u32).to_le_bytes().to_vec();
        bytes.extend(array.iter().flat_map(|entry| entry.to_le_bytes()));
        bytes.extend(result.bytes().chain([0]));
        Charsmap::new(&bytes, false).unwrap()
    }

    #[test]
    fn a_few_bytes_become_no_megabytes() {
        assert_eq!(table("xyz").normalize_prefix("ab"), ("xyz", "b"));
        assert_eq!(table(&"x".repeat(MOST_GROWTH)).normalize_prefix("a").0.len(), MOST_GROWTH);
        assert_eq!(table(&"x".repeat(1 << 20)).normalize_prefix("ab"), ("a", "b"));
    }
}
