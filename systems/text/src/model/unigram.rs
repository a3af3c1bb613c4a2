//! The unigram model: of all ways to split a text into tokens, the one with the highest sum of scores.
//!
//! Sources: Kudo, "Subword Regularization: Improving Neural Network Translation Models with Multiple Subword
//! Candidates", 2018; Viterbi, "Error bounds for convolutional codes and an asymptotically optimum decoding algorithm",
//! 1967. Sums have 64 bits, as in SentencePiece, because the precision can decide between two splits.

use super::charsmap::Charsmap;
use super::place::Place;
use super::trie::{LONGEST, Trie};
use crate::error::TokenizeError;
use crate::pieces::{SPACE, byte_of};
use crate::special::Attributes;
use crate::vocabulary::{Rules, SpacePrefix, Vocabulary};
use std::ops::Range;

/// The score of an unknown character is this much below the worst token's.
const UNKNOWN_PENALTY: f32 = 10.0;
/// Stands for an unknown character.
const UNKNOWN: u32 = u32::MAX;

/// A vocabulary of log probabilities, prepared for encoding.
#[derive(Debug)]
pub(crate) struct Unigram {
    tokens: Trie,
    scores: Vec<f64>,
    unknown_score: f64,
    unk: Option<u32>,
    /// User-defined tokens, which are not normalised.
    user_defined: Trie,
    charsmap: Option<Charsmap>,
    add_space_prefix: bool,
    space_prefix: SpacePrefix,
    remove_extra_whitespaces: bool,
    /// Whether text is split before each space mark.
    split_at_spaces: bool,
    /// Tokens of single bytes. An unknown span becomes these tokens if each of its bytes has one.
    bytes: Option<Box<[Option<u32>; 256]>>,
    rules: Rules,
}

/// The best way to reach a position in the text.
#[derive(Debug, Clone, Copy)]
struct Best {
    /// The last token of that way, and where it starts.
    token: u32,
    start: u32,
    score: f64,
}

impl Unigram {
    pub(super) fn new(vocabulary: &Vocabulary, attributes: &[Attributes]) -> Result<Self, TokenizeError> {
        let all =
            (0u32..).zip(&vocabulary.tokens).zip(attributes).map(|((id, text), kind)| (id, text, *kind));
        let findable = all.clone().filter(|(_, _, kind)| !kind.is_hidden());
        let findable = findable.filter(|(_, _, kind)| kind.normal || kind.user_defined || kind.unused);
        if let Some((id, text, _)) = findable.clone().find(|(_, text, _)| text.len() > LONGEST) {
            return Err(TokenizeError::LongToken { id, bytes: text.len(), limit: LONGEST });
        }
        let tokens = findable.map(|(id, text, _)| (text.as_str(), id)).collect();
        let user_defined = all.clone().filter(|(_, text, kind)| kind.user_defined && text.len() <= LONGEST);
        let user_defined = user_defined.map(|(id, text, _)| (text.as_str(), id)).collect();
        // NaN counts as -infinity, so such a token is chosen only if there is no other way.
        let clean = |score: f32| if score.is_nan() { f32::NEG_INFINITY } else { score };
        let score = |(id, _, kind): (u32, &String, Attributes)| {
            let score = vocabulary.scores.get(id as usize).copied().map_or(0.0, clean);
            if kind.user_defined { 0.0 } else { f64::from(score) }
        };
        // The Hugging Face library takes the worst score of all tokens, llama.cpp that of the normal ones.
        let library = vocabulary.rules == Rules::HuggingFace;
        let worst = all.clone().filter(|(_, _, kind)| kind.normal || library);
        let worst = worst.filter_map(|(id, ..)| vocabulary.scores.get(id as usize).copied().map(clean));
        let worst = worst.filter(|score| score.is_finite()).fold(f32::MAX, f32::min);
        let mut bytes = None;
        for (id, text, _) in all.clone().filter(|(_, _, kind)| kind.byte && library) {
            if let Some(byte) = byte_of(text) {
                bytes.get_or_insert_with(|| Box::new([None; 256]))[usize::from(byte)] = Some(id);
            }
        }
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
            space_prefix: vocabulary.space_prefix,
            remove_extra_whitespaces: vocabulary.remove_extra_whitespaces.unwrap_or(false),
            split_at_spaces: vocabulary.split_at_spaces,
            bytes,
            rules: vocabulary.rules,
        })
    }

    pub(super) fn encode(&self, text: &str, place: Place, out: &mut Vec<u32>) {
        let text = self.normalize(text, place);
        let mut rest = text.as_str();
        while self.split_at_spaces && !rest.is_empty() {
            let mut marks = rest.match_indices(SPACE).map(|(at, _)| at);
            let Some(cut) = marks.find(|at| *at > 0) else { break };
            let (piece, after) = rest.split_at(cut);
            self.encode_piece(piece, out);
            rest = after;
        }
        self.encode_piece(rest, out);
    }

    /// Appends the best split of a piece of text.
    fn encode_piece(&self, text: &str, out: &mut Vec<u32>) {
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
        // Adjacent unknown characters form one unknown span.
        let mut unknown: Option<Range<usize>> = None;
        while at > 0 {
            let Best { token, start, .. } = ways[at];
            // Scores of -infinity can leave a position unreached. It is stepped over.
            let start = if (start as usize) < at { start as usize } else { at - 1 };
            if token == UNKNOWN {
                unknown = Some(start..unknown.map_or(at, |unknown| unknown.end));
            } else {
                self.push_unknown(unknown.take().map(|unknown| &bytes[unknown]), out);
                out.push(token);
            }
            at = start;
        }
        self.push_unknown(unknown.map(|unknown| &bytes[unknown]), out);
        out[begin..].reverse();
    }

    /// Appends the tokens of an unknown span in reverse order.
    fn push_unknown(&self, stretch: Option<&[u8]>, out: &mut Vec<u32>) {
        let Some(stretch) = stretch else { return };
        let token = |byte: &u8| self.bytes.as_ref().and_then(|bytes| bytes[usize::from(*byte)]);
        let tokens: Option<Vec<u32>> = stretch.iter().rev().map(token).collect();
        match tokens {
            Some(tokens) => out.extend(tokens),
            None => out.extend(self.unk),
        }
    }

    /// Normalises spaces and characters as SentencePiece does.
    fn normalize(&self, text: &str, place: Place) -> String {
        let has_space = self.space_prefix != SpacePrefix::Stretch && text.starts_with([' ', SPACE]);
        let mut normalized = Normalized {
            text: String::with_capacity(text.len() + text.len() / 2),
            in_word: false,
            begun: has_space
                || !self.add_space_prefix
                || self.space_prefix == SpacePrefix::Start && place != Place::Start,
            merge: self.remove_extra_whitespaces,
            any_space: self.remove_extra_whitespaces && self.rules == Rules::HuggingFace,
        };
        if let Some(charsmap) = self.charsmap.as_ref().filter(|charsmap| charsmap.by_grapheme()) {
            charsmap.normalize_graphemes(text, |piece| normalized.push(piece));
            return normalized.text;
        }
        let mut rest = text;
        while !rest.is_empty() {
            // llama.cpp does not normalise text that begins like a user-defined token, even if the rest of the token
            // does not follow.
            let length = rest.floor_char_boundary(self.user_defined.reach(rest.as_bytes()));
            if length > 0 {
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
    /// Whether the space before the text has been written or is not wanted.
    begun: bool,
    /// Whether a run of spaces becomes one space, written before the next word.
    merge: bool,
    /// Whether all white space counts as a space, and not only the characters that the table maps to a space.
    any_space: bool,
}

impl Normalized {
    fn push(&mut self, text: &str) {
        for character in text.chars() {
            if character == ' ' || (self.any_space && character.is_whitespace()) {
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
