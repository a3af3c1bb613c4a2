//! Cuts a text into words as a pre-tokenizer of the table says.
//!
//! The Hugging Face library does this with a backtracking engine, and takes a text on which the
//! engine gives up as one that does not match: such a text is silently left uncut from there on. So
//! this part is our own, on automata without backtracking. The words of a cut, in order, are the text.

use regex_automata::meta::Regex;
use regex_automata::{Anchored, Input};
use std::ops::Range;

use crate::error::TokenizeError;
use crate::pretokenizers::Split;

/// Which pattern of the pair in [`Cut::regex`] matched.
const SPACES_PATTERN: usize = 1;

/// The categories of characters are those of this version of Unicode, which is llama.cpp's, whatever
/// the regex library's is: later characters belong to none, as if unassigned.
const UNICODE_VERSION: &str = "15.1";
/// The general categories that the table uses.
const CATEGORIES: [&str; 5] = [r"\p{L}", r"\p{M}", r"\p{N}", r"\p{P}", r"\p{S}"];

/// One compiled cut.
#[derive(Debug)]
struct Cut {
    /// The expression and, if it has that tail, `\s+` after it.
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
        // A word of an earlier cut is cut as if nothing stood around it.
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
                break; // No expression of the table matches nothing.
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

    /// The words of `text`, as byte ranges.
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
        // Not an s: Unicode case folding would make it one.
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
