//! The table by which SentencePiece normalises characters: strings and what each becomes.
//!
//! Layout: the length of a double array in bytes (u32), the array (u32 each), then the results, each ended by a zero. An
//! entry of the array holds the byte that leads to it (bits 0 to 7), whether a string ends there (8), and how far its
//! children are (10 to 30, times 256 if bit 9 is set); one with bit 31 set holds the place of a result. All little-endian.
//! Sources: SentencePiece's `normalizer.cc`; Yata et al., "A compact static double-array keeping character codes", 2007.

use unicode_segmentation::UnicodeSegmentation;

use crate::error::TokenizeError;

/// Set in entries that hold a result.
const RESULT: u32 = 1 << 31;
/// Most bytes that a result may have for each byte of its string: NFKC makes 33 of the 3 of U+FDFA. A table that says more is
/// made to fill memory, and its string is left as it is.
const MOST_GROWTH: usize = 16;
/// Graphemes of fewer bytes are looked up as a whole by the Hugging Face library.
const SHORT_GRAPHEME: usize = 6;

/// A table, checked.
#[derive(Debug)]
pub(super) struct Charsmap {
    array: Vec<u32>,
    results: String,
    /// Whether characters are looked up as the Hugging Face library does it.
    by_grapheme: bool,
}

impl Charsmap {
    /// # Errors
    /// A table that ends too early, or results that are not UTF-8.
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

    /// Whether characters are looked up as the Hugging Face library does it.
    pub(super) fn by_grapheme(&self) -> bool {
        self.by_grapheme
    }

    /// What `text`, which is not empty, begins with in the table's form, and the rest of it.
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

    /// Gives the table's form of `text` to `push`, piece by piece, as the Hugging Face library has it: it looks up short
    /// graphemes, then single characters, and takes the shortest string of the table that each begins with.
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

    /// Calls `found` with the length and the result of each string of the table that `text` begins with, the shortest
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

/// How far the children of an entry are.
fn children(entry: u32) -> u32 {
    (entry >> 10) << ((entry & (1 << 9)) >> 6)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table that turns `a` into `result`.
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
