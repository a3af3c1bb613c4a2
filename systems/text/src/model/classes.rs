//! Character classes that WordPiece distinguishes.

use regex_syntax::hir::{Class, HirKind};
use std::sync::LazyLock;

/// The classes of a character. A character may have several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CharClass(u8);

const WHITE_SPACE: u8 = 1;
const CONTROL: u8 = 2;
const ACCENT: u8 = 4;
const PUNCTUATION: u8 = 8;
const SYMBOL: u8 = 16;

/// The expression of each class. As in `split.rs`, characters added after Unicode 15.1 are in no class.
const CLASSES: [(u8, &str); 5] = [
    (WHITE_SPACE, r"\s"),
    (CONTROL, r"[[\p{Cc}\p{Cf}\p{Co}]&&\p{age=15.1}]"),
    (ACCENT, r"[\p{M}&&\p{age=15.1}]"),
    (PUNCTUATION, r"[\p{P}&&\p{age=15.1}]"),
    (SYMBOL, r"[\p{S}&&\p{age=15.1}]"),
];

/// The classes of every character, indexed by code point.
static TABLE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut table = vec![0; char::MAX as usize + 1];
    for (class, expression) in CLASSES {
        let parsed = regex_syntax::parse(expression).map(regex_syntax::hir::Hir::into_kind);
        let Ok(HirKind::Class(Class::Unicode(set))) = parsed else { continue };
        for range in set.ranges() {
            for bits in &mut table[range.start() as usize..=range.end() as usize] {
                *bits |= class;
            }
        }
    }
    table
});

impl CharClass {
    pub(super) fn of(character: char) -> Self {
        Self(TABLE.get(character as usize).copied().unwrap_or_default())
    }

    pub(super) fn is_white_space(self) -> bool {
        self.0 & WHITE_SPACE != 0
    }

    /// Control, format and private-use characters.
    pub(super) fn is_control(self) -> bool {
        self.0 & CONTROL != 0
    }

    pub(super) fn is_accent(self) -> bool {
        self.0 & ACCENT != 0
    }

    pub(super) fn is_punctuation(self) -> bool {
        self.0 & PUNCTUATION != 0
    }

    pub(super) fn is_symbol(self) -> bool {
        self.0 & SYMBOL != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_its_characters() {
        assert!(CharClass::of('\u{3000}').is_white_space() && CharClass::of('\n').is_white_space());
        assert!(CharClass::of('\0').is_control() && CharClass::of('\u{ad}').is_control());
        assert!(CharClass::of('\u{301}').is_accent() && !CharClass::of('e').is_accent());
        assert!(CharClass::of('、').is_punctuation() && !CharClass::of('$').is_punctuation());
        assert!(CharClass::of('$').is_symbol() && !CharClass::of('、').is_symbol());
    }
}
