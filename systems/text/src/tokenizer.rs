//! The tokenizer: special tokens are cut out of the text, and the vocabulary's algorithm turns the rest into ids.
//!
//! The algorithms are implemented here (`model/`) and not taken from the Hugging Face library. The library gives up on
//! texts that it cannot split (see `split.rs`), refuses vocabularies that llama.cpp reads, and is slower. Its
//! splitting, added tokens and decoding are not used either.

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

/// Longest text accepted. Positions in a text have 32 bits, and marking its spaces can triple its length.
const LONGEST_TEXT: usize = u32::MAX as usize / 4;

/// Whether texts such as `<|im_end|>` are tokens or plain characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpecialTokens {
    /// Control tokens in the text become tokens. For text that a chat template has rendered.
    Parse,
    /// Control tokens in the text stay characters, so no text becomes a control token. For text from users.
    /// User-defined tokens, which are ordinary text to the model, are still found.
    AsText,
}

/// Turns text into the token ids of one vocabulary, and back.
///
/// The ids are those of llama.cpp for the same vocabulary, or those of the Hugging Face library if the vocabulary was
/// read from a `tokenizer.json`. A tokenizer is immutable, and threads can share it by reference. `encode` takes time
/// about linear in the length of the text.
#[derive(Debug)]
pub struct Tokenizer {
    ids: TokenIds,
    model: Model,
    special: SpecialTokenFinder,
    attributes: Vec<Attributes>,
    pieces: Pieces,
    frame: Frame,
    /// Whether the tokenizer adds a space before texts, which decoding removes.
    adds_space: bool,
    bos: Option<u32>,
    eos: Option<u32>,
    end_of_generation: Vec<u32>,
    rules: Rules,
    special_texts: Vec<(String, Option<String>)>,
}

/// The tokens put around a text.
#[derive(Debug, Clone, Copy, Default)]
struct Frame {
    first: Option<u32>,
    last: Option<u32>,
}

impl Tokenizer {
    /// Checks a vocabulary and prepares it for encoding.
    ///
    /// # Errors
    /// An unknown model or pre-tokenizer; no tokens, merges or scores although the algorithm needs them; sizes that do
    /// not fit; the same token twice; a token too long to search for; a damaged normalisation table; or an id of `bos`,
    /// `eos`, `eot` or `eom` out of range. Tolerated, as in llama.cpp: empty tokens, merges that cannot be used, and
    /// other special tokens out of range.
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

    /// Returns the tokens of `text`. With `add_special`, the beginning- and end-of-text tokens are added if the model's
    /// metadata asks for them or, where it does not say, if that is the default of such vocabularies.
    ///
    /// Bytes for which the vocabulary has no token are left out, as in llama.cpp.
    ///
    /// # Errors
    /// The text is longer than a gigabyte.
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

    /// Returns the tokens of a rendered conversation. Only the template's own control tokens are recognised. With
    /// `add_bos`, the beginning-of-text token is added if `encode` would add it. No end-of-text token is added, since a
    /// conversation ends where the answer begins.
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

    /// Returns the bytes that a token stands for, which may be a part of a character, or `None` if there is no such
    /// token. Control tokens have no bytes unless `render_special`, reserved ones never.
    pub fn token_bytes(&self, id: u32, render_special: bool) -> Option<&[u8]> {
        let attributes = self.attributes.get(id as usize)?;
        let bytes = self.pieces.get(id)?;
        Some(if attributes.is_hidden() && !render_special { &[] } else { bytes })
    }

    pub(super) fn checked_bytes(&self, id: u32, render_special: bool) -> Result<&[u8], TokenizeError> {
        self.token_bytes(id, render_special)
            .ok_or(TokenizeError::UnknownToken { id, vocab_size: self.vocab_size() })
    }

    /// Returns true if the tokenizer adds a space before texts.
    pub(super) fn adds_space(&self) -> bool {
        self.adds_space
    }

    /// Returns true if an answer ends with this token.
    pub fn is_end_of_generation(&self, id: u32) -> bool {
        self.end_of_generation.binary_search(&id).is_ok()
    }

    /// Returns the ranges of a text that read as control tokens, overlapping ones included.
    pub(super) fn control_texts(&self, text: &str) -> Vec<Range<usize>> {
        self.special.hidden_texts(text)
    }

    /// Returns true if a control token's text begins with this character.
    pub(super) fn begins_control(&self, character: char) -> bool {
        self.special.begins_hidden(character)
    }

    /// Returns the longest suffix of a text that could be the beginning of a control token.
    pub(super) fn control_prefix(&self, text: &str) -> Option<Range<usize>> {
        self.special.hidden_prefix(text)
    }

    /// Returns true if the token is a control token: found only on request, and shown only on request.
    pub fn is_control(&self, id: u32) -> bool {
        self.attributes.get(id as usize).is_some_and(|attributes| attributes.is_hidden())
    }

    /// Returns every token that ends an answer, in ascending order. Empty if the file names none.
    pub fn end_of_generation(&self) -> &[u32] {
        &self.end_of_generation
    }

    /// Returns the beginning-of-text token.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// Returns the end-of-text token.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// Returns whose rules the tokenizer follows.
    pub fn rules(&self) -> Rules {
        self.rules
    }

    /// Returns the text of the token with a role such as `bos_token`. `None` if the files do not mention the role,
    /// `Some(None)` if they say that there is no such token.
    pub fn special_text(&self, role: &str) -> Option<Option<&str>> {
        let named = self.special_texts.iter().find(|(name, _)| name == role);
        named.map(|(_, text)| text.as_deref())
    }

    /// Returns true if `encode` adds the beginning-of-text token when asked to add special tokens.
    pub fn adds_bos(&self) -> bool {
        self.frame.first.is_some()
    }

    /// Returns the number of tokens.
    pub fn vocab_size(&self) -> usize {
        self.ids.len()
    }

    /// Returns the id of a token by its text in the file. The text of a token that is not special is in the
    /// vocabulary's alphabet.
    pub fn token_to_id(&self, text: &str) -> Option<u32> {
        self.ids.get(text)
    }

    /// Returns the text of a token in the file.
    pub fn id_to_token(&self, id: u32) -> Option<&str> {
        self.ids.text(id)
    }
}

fn frame(kind: ModelKind, vocabulary: &Vocabulary, (bos_habit, eos_habit): (bool, bool)) -> Frame {
    let embeds = kind == ModelKind::WordPiece && vocabulary.rules == Rules::LlamaCpp;
    let wanted_bos = embeds || vocabulary.add_bos.unwrap_or(bos_habit);
    if wanted_bos && vocabulary.bos.is_none() {
        tracing::warn!("the vocabulary asks for a BOS token but names none; no token is added");
    }
    let last = if embeds || (kind == ModelKind::WordPiece && vocabulary.add_sep.unwrap_or(true)) {
        vocabulary.sep
    } else {
        vocabulary.eos.filter(|_| vocabulary.add_eos.unwrap_or(eos_habit))
    };
    Frame { first: vocabulary.bos.filter(|_| wanted_bos), last }
}
