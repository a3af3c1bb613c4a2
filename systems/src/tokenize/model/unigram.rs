//! The unigram model: of all ways to cut a text into tokens, the one whose scores add up to most.
//!
//! Sources: Kudo, "Subword Regularization: Improving Neural Network Translation Models with Multiple Subword
//! Candidates", 2018; Viterbi, "Error bounds for convolutional codes and an asymptotically optimum decoding
//! algorithm", 1967. Sums are in 64 bits, as in SentencePiece: which of two ways wins may hang on it.

use super::charsmap::Charsmap;
use super::trie::{LONGEST, Trie};
use crate::tokenize::pieces::SPACE;
use crate::tokenize::special::Attributes;
use crate::tokenize::{Rules, TokenizeError, Vocabulary};

/// How much worse than the worst token an unknown character is.
const UNKNOWN_PENALTY: f32 = 10.0;
/// The number of an unknown character.
const UNKNOWN: u32 = u32::MAX;

/// A vocabulary of log probabilities, ready.
#[derive(Debug)]
pub(in crate::tokenize) struct Unigram {
    tokens: Trie,
    scores: Vec<f64>,
    unknown_score: f64,
    unk: Option<u32>,
    /// User-defined tokens, which are not normalised.
    user_defined: Trie,
    charsmap: Option<Charsmap>,
    add_space_prefix: bool,
    remove_extra_whitespaces: bool,
}

/// The best way to a place in the text.
#[derive(Debug, Clone, Copy)]
struct Best {
    /// Its last token, and where that begins.
    token: u32,
    start: u32,
    score: f64,
}

impl Unigram {
    pub(super) fn new(vocabulary: &Vocabulary, attributes: &[Attributes]) -> Result<Self, TokenizeError> {
        let all = (0u32..).zip(&vocabulary.tokens).zip(attributes).map(|((id, text), kind)| (id, text, *kind));
        let findable = all.clone().filter(|(_, _, kind)| !kind.is_hidden());
        let findable = findable.filter(|(_, _, kind)| kind.normal || kind.user_defined || kind.unused);
        if let Some((id, text, _)) = findable.clone().find(|(_, text, _)| text.len() > LONGEST) {
            return Err(TokenizeError::LongToken { id, bytes: text.len(), limit: LONGEST });
        }
        let tokens = findable.map(|(id, text, _)| (text.as_str(), id)).collect();
        let user_defined = all.clone().filter(|(_, text, kind)| kind.user_defined && text.len() <= LONGEST);
        let user_defined = user_defined.map(|(id, text, _)| (text.as_str(), id)).collect();
        // What is not a number is never chosen where there is another way.
        let clean = |score: f32| if score.is_nan() { f32::NEG_INFINITY } else { score };
        let score = |(id, _, kind): (u32, &String, Attributes)| {
            let score = vocabulary.scores.get(id as usize).copied().map_or(0.0, clean);
            if kind.user_defined { 0.0 } else { f64::from(score) }
        };
        let worst = all.clone().filter(|(_, _, kind)| kind.normal);
        let worst = worst.filter_map(|(id, ..)| vocabulary.scores.get(id as usize).copied().map(clean));
        let worst = worst.filter(|score| score.is_finite()).fold(f32::MAX, f32::min);
        let charsmap = (!vocabulary.charsmap.is_empty())
            .then(|| Charsmap::new(&vocabulary.charsmap, vocabulary.rules == Rules::HuggingFace));
        Ok(Self {
            tokens: Trie::new(tokens),
            scores: all.map(score).collect(),
            unknown_score: f64::from(worst - UNKNOWN_PENALTY),
            unk: vocabulary.unk,
            user_defined: Trie::new(user_defined),
            charsmap: charsmap.transpose()?,
            add_space_prefix: vocabulary.add_space_prefix.unwrap_or(false),
            remove_extra_whitespaces: vocabulary.remove_extra_whitespaces.unwrap_or(false),
        })
    }

    pub(super) fn encode(&self, text: &str, out: &mut Vec<u32>) {
        let text = self.normalize(text);
        let bytes = text.as_bytes();
        let none = Best { token: UNKNOWN, start: 0, score: -f64::MAX };
        let mut ways = vec![none; text.len() + 1];
        ways[0].score = 0.0;
        for (start, character) in text.char_indices() {
            let width = character.len_utf8();
            let so_far = ways[start].score;
            let mut whole = false;
            self.tokens.prefixes(&bytes[start..], |token, length| {
                whole |= length == width;
                let score = so_far + self.scores.get(token as usize).copied().unwrap_or_default();
                let best = &mut ways[start + length];
                if score > best.score {
                    *best = Best { token, start: start as u32, score };
                }
            });
            let score = so_far + self.unknown_score;
            let best = &mut ways[start + width];
            if !whole && score > best.score {
                *best = Best { token: UNKNOWN, start: start as u32, score };
            }
        }
        let begin = out.len();
        let mut at = text.len();
        let mut after_unknown = false;
        while at > 0 {
            let Best { token, start, .. } = ways[at];
            let unknown = token == UNKNOWN;
            if !unknown {
                out.push(token);
            } else if !after_unknown {
                out.extend(self.unk);
            }
            after_unknown = unknown;
            // A place that no way has reached, which scores of -infinity make, is stepped over.
            at = if (start as usize) < at { start as usize } else { at - 1 };
        }
        out[begin..].reverse();
    }

    /// Spaces and characters as SentencePiece writes them.
    fn normalize(&self, text: &str) -> String {
        let mut normalized = Normalized {
            text: String::with_capacity(text.len() + text.len() / 2),
            in_word: false,
            begun: !self.add_space_prefix,
            merge: self.remove_extra_whitespaces,
        };
        if let Some(charsmap) = self.charsmap.as_ref().filter(|charsmap| charsmap.by_grapheme()) {
            charsmap.normalize_graphemes(text, |piece| normalized.push(piece));
            return normalized.text;
        }
        let mut rest = text;
        while !rest.is_empty() {
            if let Some((_, length)) = self.user_defined.longest(rest.as_bytes()) {
                let (token, after) = rest.split_at(length);
                normalized.push(token);
                rest = after;
                continue;
            }
            rest = match &self.charsmap {
                Some(charsmap) => {
                    let (replacement, after) = charsmap.normalize_prefix(rest);
                    normalized.push(replacement);
                    after
                }
                None => {
                    let (character, after) = rest.split_at(rest.chars().next().map_or(0, char::len_utf8));
                    normalized.push(character);
                    after
                }
            };
        }
        normalized.text
    }
}

struct Normalized {
    text: String,
    in_word: bool,
    /// Whether the space before the text is there, or not wanted.
    begun: bool,
    /// Whether spaces become one, before the word that follows.
    merge: bool,
}

impl Normalized {
    fn push(&mut self, text: &str) {
        for character in text.chars() {
            if character == ' ' {
                self.in_word = false;
                if !self.merge {
                    self.text.push(SPACE);
                }
                continue;
            }
            if !self.in_word {
                self.in_word = true;
                if !self.begun || self.merge {
                    self.text.push(SPACE);
                    self.begun = true;
                }
            }
            self.text.push(character);
        }
    }
}
