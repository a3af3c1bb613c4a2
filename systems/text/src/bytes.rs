//! The byte-level alphabet: GPT-2's one-to-one map from the 256 bytes to 256 printable characters.
//!
//! Bytes that are printable in Latin-1 map to themselves. The other 68 map, in ascending order, to U+0100 onward, so a
//! space is `Ġ`, U+0120. Source: Radford et al., "Language Models are Unsupervised Multitask Learners", 2019, and its
//! published encoder.

/// First character assigned to a byte that does not map to itself.
const FIRST_SUBSTITUTE: u32 = 0x100;
/// Every character of the alphabet is below this code point.
const ALPHABET_END: usize = 0x144;
/// Marks a character outside the alphabet in [`TO_BYTE`].
const NO_BYTE: u16 = u16::MAX;

const fn stands_for_itself(byte: u8) -> bool {
    matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff)
}

/// The character of each byte.
const TO_CHAR: [char; 256] = {
    let mut table = ['\0'; 256];
    let mut next = FIRST_SUBSTITUTE;
    let mut byte = 0;
    while byte < 256 {
        let code = if stands_for_itself(byte as u8) {
            byte as u32
        } else {
            next += 1;
            next - 1
        };
        table[byte] = match char::from_u32(code) {
            Some(character) => character,
            None => '\0',
        };
        byte += 1;
    }
    table
};

/// The byte of each character below [`ALPHABET_END`], or [`NO_BYTE`].
const TO_BYTE: [u16; ALPHABET_END] = {
    let mut table = [NO_BYTE; ALPHABET_END];
    let mut byte = 0;
    while byte < 256 {
        table[TO_CHAR[byte] as usize] = byte as u16;
        byte += 1;
    }
    table
};

/// Returns the character of a byte.
pub fn character(byte: u8) -> char {
    TO_CHAR[usize::from(byte)]
}

/// Appends the bytes of `text` to `out`, written in the byte-level alphabet.
pub(super) fn encode_into(text: &str, out: &mut String) {
    out.reserve(text.len());
    out.extend(text.bytes().map(character));
}

/// Appends the bytes that a token of a byte-level vocabulary stands for. A character outside the alphabet is kept as
/// UTF-8; real vocabularies have such characters in tokens added later.
pub(super) fn decode_into(token: &str, out: &mut Vec<u8>) {
    for character in token.chars() {
        match TO_BYTE.get(character as usize).copied().map(u8::try_from) {
            Some(Ok(byte)) => out.push(byte),
            _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alphabet_is_one_to_one() {
        let mut seen = std::collections::BTreeSet::new();
        for byte in 0..=255u8 {
            let character = TO_CHAR[usize::from(byte)];
            assert!(seen.insert(character));
            let mut back = Vec::new();
            decode_into(&character.to_string(), &mut back);
            assert_eq!(back, [byte]);
        }
        // Values of the published encoder.
        assert_eq!(TO_CHAR[usize::from(b' ')], 'Ġ');
        assert_eq!(TO_CHAR[usize::from(b'\n')], 'Ċ');
        assert_eq!(TO_CHAR[0xad], 'Ń');
    }

    #[test]
    fn characters_outside_the_alphabet_are_kept() {
        let mut bytes = Vec::new();
        decode_into("Ġ｜▁😀", &mut bytes);
        assert_eq!(bytes, " ｜▁😀".as_bytes());
    }
}
