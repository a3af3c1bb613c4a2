//! The bytes that each token stands for.

use crate::bytes;
use crate::special::Attributes;
use crate::vocabulary::Vocabulary;

/// U+2581, which stands for a space in the tokens of vocabularies that are not byte-level.
pub(super) const SPACE: char = '▁';

/// The bytes of every token, concatenated.
#[derive(Debug)]
pub(super) struct Pieces {
    bytes: Vec<u8>,
    /// The end of each token's bytes.
    ends: Vec<usize>,
}

impl Pieces {
    /// Computes the bytes of every token. A special token stands for its own text, a normal token for its text decoded
    /// from the vocabulary's alphabet, a byte token for its byte, and any other token for nothing.
    pub(super) fn new(vocabulary: &Vocabulary, attributes: &[Attributes]) -> Self {
        let tokens = &vocabulary.tokens;
        let mut bytes = Vec::with_capacity(tokens.iter().map(String::len).sum());
        let mut ends = Vec::with_capacity(tokens.len());
        for (text, attributes) in tokens.iter().zip(attributes) {
            if attributes.is_special() {
                bytes.extend_from_slice(text.as_bytes());
            } else if attributes.normal {
                if vocabulary.is_byte_level() {
                    bytes::decode_into(text, &mut bytes);
                } else {
                    with_spaces(text, &mut bytes);
                }
            } else if attributes.byte {
                bytes.extend(byte_of(text));
            }
            ends.push(bytes.len());
        }
        bytes.shrink_to_fit();
        Self { bytes, ends }
    }

    pub(super) fn get(&self, id: u32) -> Option<&[u8]> {
        let id = id as usize;
        let start = match id.checked_sub(1) {
            None => 0,
            Some(before) => *self.ends.get(before)?,
        };
        self.bytes.get(start..*self.ends.get(id)?)
    }
}

fn with_spaces(text: &str, out: &mut Vec<u8>) {
    let mut parts = text.split(SPACE);
    out.extend_from_slice(parts.next().unwrap_or_default().as_bytes());
    for part in parts {
        out.push(b' ');
        out.extend_from_slice(part.as_bytes());
    }
}

/// Returns the byte of a token of the form `<0x0A>`, or `None` for any other text.
pub(super) fn byte_of(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    let is_pair = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_pair.then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

/// Returns the text of the token that stands for a byte.
pub(super) fn byte_token(byte: u8) -> String {
    format!("<0x{byte:02X}>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pairs_of_digits_are_bytes() {
        for byte in 0..=u8::MAX {
            assert_eq!(byte_of(&byte_token(byte)), Some(byte));
        }
        for text in ["<0x-1>", "<0x+1>", "<0x1>", "<0x001>", "<0xGG>", "0x01", "<0x é>", "", "<0x>"] {
            assert_eq!(byte_of(text), None, "{text}");
        }
    }
}
