//! The algorithms that turn text without special tokens into ids, one file for each.

mod byte_level;
mod charsmap;
mod classes;
mod merge;
pub(super) mod place;
mod sentencepiece;
mod trie;
mod unigram;
mod wordpiece;

use crate::error::TokenizeError;
use crate::ids::TokenIds;
use crate::special::Attributes;
use crate::vocabulary::{ModelKind, Vocabulary};
use byte_level::ByteLevel;
use place::Place;
use sentencepiece::SentencePiece;
use unigram::Unigram;
use wordpiece::WordPiece;

/// The algorithm of one vocabulary, prepared for encoding.
#[derive(Debug)]
pub(super) enum Model {
    ByteLevel(ByteLevel),
    SentencePiece(SentencePiece),
    Unigram(Unigram),
    WordPiece(WordPiece),
}

impl Model {
    /// # Errors
    /// The vocabulary lacks something that the algorithm needs.
    pub(super) fn new(
        kind: ModelKind,
        vocabulary: &Vocabulary,
        attributes: &[Attributes],
        ids: &TokenIds,
    ) -> Result<Self, TokenizeError> {
        Ok(match kind {
            ModelKind::ByteLevel => Self::ByteLevel(ByteLevel::new(vocabulary, attributes, ids)?),
            ModelKind::SentencePiece => Self::SentencePiece(SentencePiece::new(vocabulary, attributes, ids)),
            ModelKind::Unigram => Self::Unigram(Unigram::new(vocabulary, attributes)?),
            ModelKind::WordPiece => Self::WordPiece(WordPiece::new(vocabulary, attributes)?),
        })
    }

    /// Returns whether texts start with BOS and whether they end with EOS if the file does not specify it.
    pub(super) fn habits(&self) -> (bool, bool) {
        match self {
            Self::ByteLevel(model) => (model.adds_bos(), false),
            Self::SentencePiece(_) => (true, false),
            Self::Unigram(_) => (false, true),
            Self::WordPiece(_) => (true, false),
        }
    }

    /// Appends the tokens of a segment of text that is not empty and contains no special tokens.
    pub(super) fn encode(&self, ids: &TokenIds, text: &str, place: Place, out: &mut Vec<u32>) {
        match self {
            Self::ByteLevel(model) => model.encode(ids, text, out),
            Self::SentencePiece(model) => model.encode(ids, text, place, out),
            Self::Unigram(model) => model.encode(text, place, out),
            Self::WordPiece(model) => model.encode(text, out),
        }
    }
}
