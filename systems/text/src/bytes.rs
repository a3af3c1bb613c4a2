//! The byte-level alphabet: GPT-2's one-to-one map from the 256 bytes to 256 printable characters.
//!
//! Bytes that are printable in Latin-1 stand for themselves; the other 68, in ascending order, are
//! U+0100 onward (so a space is `Ġ`, U+0120). Source: Radford et al., "Language Models are
//! Unsupervised Multitask Learners", 2019, and its published encoder.

/// First character given to a byte that does not stand for itself.
const FIRST_SUBSTITUTE: u32 = 0x100;
/// Characters of the alphabet are below this.
const ALPHABET_END: usize = 0x144;
/// Mark of a character outside the alphabet in [`TO_BYTE`].
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

/// The character of a byte.
pub fn character(byte: u8) -> char {
    TO_CHAR[usize::from(byte)]
}

/// Appends `text` to `out` in the byte-level alphabet.
pub(super) fn encode_into(text: &str, out: &mut String) {
    out.reserve(text.len());
    out.extend(text.bytes().map(character));
}

/// Appends the bytes that a token of the byte-level alphabet stands for. A character outside the
/// alphabet, which real vocabularies have in tokens added later, is kept as UTF-8.
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
        // Facts of the published encoder.
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
