//! The tokenizer: special tokens are cut out of the text, and the algorithm of the vocabulary turns the rest into ids.
//!
//! The algorithms are our own (`model/`): the Hugging Face library's give up on texts that it cannot split (see
//! `split.rs`), refuse vocabularies that llama.cpp reads, and are slower. Its splitting, added tokens and decoding are
//! not used either.

use super::model::Model;
use super::model::place::Place;
use crate::check::check;
use crate::error::TokenizeError;
use crate::ids::TokenIds;
use crate::pieces::Pieces;
use crate::rendered::Rendered;
use crate::special::{Attributes, Fragment, SpecialTokenFinder, Wanted, classify};
use crate::vocabulary::{ModelKind, Rules, Vocabulary};
use std::ops::Range;

/// Positions in a text, which may grow threefold when its spaces are marked, have 32 bits.
const LONGEST_TEXT: usize = u32::MAX as usize / 4;

/// Whether texts such as `<|im_end|>` are tokens or just characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpecialTokens {
    /// Control tokens in the text become tokens: for what a chat template has rendered.
    Parse,
    /// Control tokens in the text are characters: for what a user has written. No text becomes a control token then.
    /// (User-defined tokens, which are ordinary text to the model, are found all the same.)
    AsText,
}

/// Turns text into the token ids of one vocabulary, and back.
///
/// The ids are those of llama.cpp for the same vocabulary, or those of the Hugging Face library where it was read from
/// a `tokenizer.json`. Cheap to share by reference between threads; `encode` takes time about linear in the text.
#[derive(Debug)]
pub struct Tokenizer {
    ids: TokenIds,
    model: Model,
    special: SpecialTokenFinder,
    attributes: Vec<Attributes>,
    pieces: Pieces,
    frame: Frame,
    /// Whether the space that a text begins with is the tokenizer's and not the text's.
    adds_space: bool,
    bos: Option<u32>,
    eos: Option<u32>,
    end_of_generation: Vec<u32>,
    rules: Rules,
    special_texts: Vec<(String, Option<String>)>,
}

/// What is put around a text.
#[derive(Debug, Clone, Copy, Default)]
struct Frame {
    first: Option<u32>,
    last: Option<u32>,
}

impl Tokenizer {
    /// Checks a vocabulary and makes it ready.
    ///
    /// # Errors
    /// An unknown model or pre-tokenizer, no tokens, merges or scores where they are needed, sizes that do not fit, the
    /// same token twice, a token too long to be looked for, a damaged normalisation table, or the id of `bos`, `eos`, `eot`
    /// or `eom` out of range. Tolerated, as llama.cpp does: empty tokens, merges that cannot be used, and other special
    /// tokens out of range.
    pub fn new(mut vocabulary: Vocabulary) -> Result<Self, TokenizeError> {
        let kind = check(&mut vocabulary)?;
        let ids = TokenIds::new(&vocabulary.tokens)?;
        let (attributes, end_of_generation) = classify(&vocabulary, |text| ids.get(text));
        let special = SpecialTokenFinder::new(&vocabulary, &attributes)?;
        let pieces = Pieces::new(&vocabulary, &attributes);
        let model = Model::new(kind, &vocabulary, &attributes, &ids)?;
        let adds_space = match kind {
            ModelKind::SentencePiece => {
                vocabulary.add_space_prefix.unwrap_or(vocabulary.rules == Rules::LlamaCpp)
            }
            ModelKind::Unigram => vocabulary.add_space_prefix.unwrap_or(false),
            ModelKind::ByteLevel | ModelKind::WordPiece => false,
        };
        Ok(Self {
            frame: frame(kind, &vocabulary, model.habits()),
            ids,
            model,
            special,
            attributes,
            pieces,
            adds_space,
            bos: vocabulary.bos,
            eos: vocabulary.eos,
            end_of_generation,
            rules: vocabulary.rules,
            special_texts: vocabulary.special_texts,
        })
    }

    /// The tokens of `text`. With `add_special`, the beginning- and end-of-text tokens are added,
    /// if the model's metadata (or, where it is silent, the habit of vocabularies of its kind) says so.
    ///
    /// Bytes for which the vocabulary has no token are left out, as in llama.cpp.
    ///
    /// # Errors
    /// A text of more than a gigabyte.
    pub fn encode(
        &self,
        text: &str,
        special: SpecialTokens,
        add_special: bool,
    ) -> Result<Vec<u32>, TokenizeError> {
        let wanted = match special {
            SpecialTokens::Parse => Wanted::Outside(&[]),
            SpecialTokens::AsText => Wanted::Shown,
        };
        let frame = if add_special { self.frame } else { Frame::default() };
        self.encode_wanted(text, wanted, frame)
    }

    /// The tokens of a rendered conversation: control tokens are the template's alone. With `add_bos`, the beginning-of-text token
    /// is added if `encode` would add it; no other is, since a conversation ends where the answer begins.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_rendered(&self, rendered: &Rendered, add_bos: bool) -> Result<Vec<u32>, TokenizeError> {
        let frame = Frame { first: self.frame.first.filter(|_| add_bos), last: None };
        self.encode_wanted(&rendered.text, Wanted::Outside(&rendered.literal), frame)
    }

    fn encode_wanted(&self, text: &str, wanted: Wanted<'_>, frame: Frame) -> Result<Vec<u32>, TokenizeError> {
        if text.len() > LONGEST_TEXT {
            return Err(TokenizeError::TextTooLong { bytes: text.len(), limit: LONGEST_TEXT });
        }
        let mut ids = Vec::with_capacity(text.len() / 4 + 2);
        ids.extend(frame.first);
        let mut place = Place::Start;
        for fragment in self.special.partition(text, wanted) {
            match fragment {
                Fragment::Token(id) => ids.push(id),
                Fragment::Text(range) => {
                    let stretch = text.get(range).unwrap_or_default();
                    self.model.encode(&self.ids, stretch, place, &mut ids);
                }
            }
            place = Place::AfterToken;
        }
        ids.extend(frame.last);
        Ok(ids)
    }

    /// The bytes that a token stands for, which may be part of a character; `None` if there is no
    /// such token. Control tokens have none unless `render_special`, reserved ones never.
    pub fn token_bytes(&self, id: u32, render_special: bool) -> Option<&[u8]> {
        let attributes = self.attributes.get(id as usize)?;
        let bytes = self.pieces.get(id)?;
        Some(if attributes.is_hidden() && !render_special { &[] } else { bytes })
    }

    pub(super) fn checked_bytes(&self, id: u32, render_special: bool) -> Result<&[u8], TokenizeError> {
        self.token_bytes(id, render_special)
            .ok_or(TokenizeError::UnknownToken { id, vocab_size: self.vocab_size() })
    }

    /// Whether the space that a text begins with is the tokenizer's and not the text's.
    pub(super) fn adds_space(&self) -> bool {
        self.adds_space
    }

    /// Whether an answer ends with this token.
    pub fn is_end_of_generation(&self, id: u32) -> bool {
        self.end_of_generation.binary_search(&id).is_ok()
    }

    /// Where a text reads as a control token, overlaps among them.
    pub(super) fn control_texts(&self, text: &str) -> Vec<Range<usize>> {
        self.special.hidden_texts(text)
    }

    /// Whether a control token's text begins with this character.
    pub(super) fn begins_control(&self, character: char) -> bool {
        self.special.begins_hidden(character)
    }

    /// The longest end of a text that could be the beginning of a control token.
    pub(super) fn control_prefix(&self, text: &str) -> Option<Range<usize>> {
        self.special.hidden_prefix(text)
    }

    /// Whether a token is a control token: found only when asked for, not shown unless asked for.
    pub fn is_control(&self, id: u32) -> bool {
        self.attributes.get(id as usize).is_some_and(|attributes| attributes.is_hidden())
    }

    /// Every token that ends an answer, in ascending order. Empty if the file names none.
    pub fn end_of_generation(&self) -> &[u32] {
        &self.end_of_generation
    }

    /// The beginning-of-text token.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The end-of-text token.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// Whose rules it follows.
    pub fn rules(&self) -> Rules {
        self.rules
    }

    /// The text of the token with a role such as `bos_token`, where the files speak of it: `Some(None)` if they say that there is
    /// none.
    pub fn special_text(&self, role: &str) -> Option<Option<&str>> {
        let named = self.special_texts.iter().find(|(name, _)| name == role);
        named.map(|(_, text)| text.as_deref())
    }

    /// Whether `encode` adds the beginning-of-text token when asked to add special tokens.
    pub fn adds_bos(&self) -> bool {
        self.frame.first.is_some()
    }

    /// Number of tokens.
    pub fn vocab_size(&self) -> usize {
        self.ids.len()
    }

    /// The id of a token by its text in the file (in the alphabet of the vocabulary if it is not special).
    pub fn token_to_id(&self, text: &str) -> Option<u32> {
        self.ids.get(text)
    }

    /// The text that the file gives for a token.
    pub fn id_to_token(&self, id: u32) -> Option<&str> {
        self.ids.text(id)
    }
}

fn frame(kind: ModelKind, vocabulary: &Vocabulary, (bos_habit, eos_habit): (bool, bool)) -> Frame {
    let embeds = kind == ModelKind::WordPiece && vocabulary.rules == Rules::LlamaCpp;
    let wanted_bos = embeds || vocabulary.add_bos.unwrap_or(bos_habit);
    if wanted_bos && vocabulary.bos.is_none() {
        tracing::warn!("the vocabulary asks for a first token, but names none; none is added");
    }
    let last = if embeds || (kind == ModelKind::WordPiece && vocabulary.add_sep.unwrap_or(true)) {
        vocabulary.sep
    } else {
        vocabulary.eos.filter(|_| vocabulary.add_eos.unwrap_or(eos_habit))
    };
    Frame { first: vocabulary.bos.filter(|_| wanted_bos), last }
}
