//! Splits a text into words with a pre-tokenizer of the table.
//!
//! The Hugging Face library uses a backtracking regex engine here. If the engine gives up on a text, the library treats
//! the text as one without a match and silently leaves the rest of it unsplit. This module therefore uses automata
//! without backtracking. The words of a split, concatenated in order, are the text.

use regex_automata::meta::Regex;
use regex_automata::{Anchored, Input};
use std::ops::Range;

use crate::error::TokenizeError;
use crate::pretokenizers::Split;

/// Index of the second pattern in [`Cut::regex`].
const SPACES_PATTERN: usize = 1;

/// Character categories are those of this version of Unicode, which llama.cpp uses, whatever version the regex library
/// has. Characters added later have no category, as if unassigned.
const UNICODE_VERSION: &str = "15.1";
/// The general categories that the table uses.
const CATEGORIES: [&str; 5] = [r"\p{L}", r"\p{M}", r"\p{N}", r"\p{P}", r"\p{S}"];

/// One compiled split.
#[derive(Debug)]
struct Cut {
    /// The expression and, if [`Split::spaces`] is set, `\s+` as a second pattern.
    regex: Regex,
}

impl Cut {
    fn new(name: &str, split: &Split) -> Result<Self, TokenizeError> {
        let mut pattern = split.pattern.to_owned();
        for category in CATEGORIES {
            pattern = pattern.replace(category, &format!(r"[{category}&&\p{{age={UNICODE_VERSION}}}]"));
        }
        let compiled =
            if split.spaces { Regex::new_many(&[pattern.as_str(), r"\s+"]) } else { Regex::new(&pattern) };
        let regex = compiled.map_err(|error| TokenizeError::Pattern {
            name: name.to_owned(),
            pattern,
            reason: error.to_string(),
        })?;
        Ok(Self { regex })
    }

    /// Appends the words of `text[within]` to `out`.
    fn apply(&self, text: &str, within: Range<usize>, out: &mut Vec<Range<usize>>) {
        let base = within.start;
        // A word of an earlier split is split as if it were the whole text.
        let word = &text[within];
        let mut done = 0;
        while done < word.len() {
            let input = Input::new(word).range(done..).anchored(Anchored::No);
            let Some(found) = self.regex.search(&input) else {
                break;
            };
            let mut end = found.end();
            if found.pattern().as_usize() == SPACES_PATTERN && end < word.len() {
                let last = word[found.range()].char_indices().next_back().map_or(0, |(at, _)| at);
                if last > 0 {
                    end = found.start() + last;
                }
            }
            if end == done {
                break; // No expression of the table matches the empty string.
            }
            if found.start() > done {
                out.push(base + done..base + found.start());
            }
            out.push(base + found.start()..base + end);
            done = end;
        }
        if done < word.len() {
            out.push(base + done..base + word.len());
        }
    }
}

/// A compiled pre-tokenizer.
#[derive(Debug)]
pub(super) struct Splitter {
    cuts: Vec<Cut>,
}

impl Splitter {
    pub(super) fn new(name: &str, splits: &[Split]) -> Result<Self, TokenizeError> {
        let cuts = splits.iter().map(|split| Cut::new(name, split)).collect::<Result<_, _>>()?;
        Ok(Self { cuts })
    }

    /// Returns the words of `text`, as byte ranges.
    pub(super) fn split(&self, text: &str) -> Vec<Range<usize>> {
        let mut words: Vec<Range<usize>> = std::iter::once(0..text.len()).collect();
        for cut in &self.cuts {
            let mut finer = Vec::with_capacity(words.len());
            for word in words {
                cut.apply(text, word, &mut finer);
            }
            words = finer;
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pretokenizers::{TABLE, find};

    fn words<'t>(name: &str, text: &'t str) -> Vec<&'t str> {
        let splitter = Splitter::new(name, find(name).unwrap().splits).unwrap();
        splitter.split(text).into_iter().map(|range| &text[range]).collect()
    }

    #[test]
    fn white_space_leaves_its_last_character_to_the_next_word() {
        assert_eq!(words("gpt-2", "a   b \t c  "), ["a", "  ", " b", " \t", " c", "  "]);
        assert_eq!(words("gpt-2", "a\tb\n\nc"), ["a", "\t", "b", "\n", "\n", "c"]);
        assert_eq!(words("llama-bpe", "a\n\n  b"), ["a", "\n\n", " ", " b"]);
        assert_eq!(words("gpt-2", "\u{3000}\u{3000}x"), ["\u{3000}", "\u{3000}", "x"]);
    }

    #[test]
    fn numbers_and_contractions() {
        assert_eq!(words("llama-bpe", "12345 I'LL"), ["123", "45", " I", "'LL"]);
        assert_eq!(words("smollm", "x12 '34"), ["x", "1", "2", " '", "3", "4"]);
        // `ſ` is not an s here, although Unicode case folding maps it to one.
        assert_eq!(words("llama-bpe", "a'ſx"), ["a", "'ſx"]);
        assert_eq!(words("gpt-4o", "fooBarBAZ's"), ["foo", "Bar", "BAZ's"]);
    }

    #[test]
    fn characters_of_later_unicode_versions_are_unassigned() {
        // U+1C89 is a letter since Unicode 16.0, U+2C2F since 14.0.
        assert_eq!(words("gpt-2", "x\u{1c89}y"), ["x", "\u{1c89}", "y"]);
        assert_eq!(words("gpt-2", "x\u{2c2f}y"), ["x\u{2c2f}y"]);
    }

    #[test]
    fn every_family_compiles_and_keeps_the_text() {
        let text = " Ünïcode\r\n\t 12 345 你好 'tis…  \u{85}\u{0}e\u{301}🚀 x";
        for family in TABLE {
            for name in family.names {
                assert_eq!(words(name, text).concat(), text, "{name}");
            }
        }
    }
}
