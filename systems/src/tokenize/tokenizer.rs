//! The tokenizer: special tokens are cut out of the text, the rest is cut into words, and each word
//! is merged from its bytes.
//!
//! The merges are the Hugging Face library's. It is given what it needs to be exact for every file:
//! - It refuses merges whose parts or result are not tokens. llama.cpp makes them, and at the end
//!   falls back to single bytes. Such texts get *phantom* ids, from the vocabulary's size onward,
//!   which are replaced by what llama.cpp gives.
//! - It leaves out bytes that have no token, which makes their neighbours adjacent; a phantom keeps
//!   them apart.
//! - Of two equal merges it takes the last, llama.cpp the first.
//!
//! Its splitting, its added tokens and its decoding are not used (see `split.rs` and `special.rs`).

use std::collections::HashSet;
use std::ops::Range;
use tokenizers::Model;
use tokenizers::models::bpe::{BPE, Vocab};

use super::special::{Attributes, Fragment, SpecialTokenFinder, Wanted, classify};
use super::split::Splitter;
use super::{Rendered, TokenizeError, Vocabulary, bytes, pretokenizers};

/// The models of [`Vocabulary::model`] that are implemented.
const SUPPORTED_MODELS: &str = "gpt2";
/// Ids are `i32` in the files and in llama.cpp; as many again are kept for phantoms.
const MAX_ENTRIES: usize = i32::MAX as usize / 4;
/// Words of fewer than 256 bytes whose merges are kept: most words of a prompt have been seen
/// before. At 8 KiB for the longest, a hostile text fills 16 MiB.
const CACHED_WORDS: usize = 2048;
/// How -1, "there is none", reads as an unsigned id.
const NO_TOKEN: u32 = u32::MAX;

/// Whether texts such as `<|im_end|>` are tokens or just characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpecialTokens {
    /// Control tokens in the text become tokens: for what a chat template has rendered.
    Parse,
    /// Control tokens in the text are characters: for what a user has written.
    /// (User-defined tokens, which are ordinary text to the model, are found all the same.)
    AsText,
}

/// Turns text into the token ids of one vocabulary, and back.
///
/// The ids are those of llama.cpp for the same vocabulary. Cheap to share by reference between
/// threads; `encode` takes time about linear in the text.
#[derive(Debug)]
pub struct Tokenizer {
    bpe: BPE,
    splitter: Splitter,
    special: SpecialTokenFinder,
    attributes: Vec<Attributes>,
    pieces: Pieces,
    /// What to give for each phantom id, counted from the vocabulary's size.
    phantoms: Vec<Vec<u32>>,
    ignore_merges: bool,
    add_bos: bool,
    add_eos: bool,
    bos: Option<u32>,
    eos: Option<u32>,
    end_of_generation: Vec<u32>,
}

impl Tokenizer {
    /// Checks a vocabulary and makes it ready.
    ///
    /// # Errors
    /// An unknown model or pre-tokenizer, no tokens or merges, sizes that do not fit, the same token
    /// twice, or the id of `bos`, `eos`, `eot` or `eom` out of range. Tolerated, as llama.cpp does: empty
    /// tokens, merges that cannot be used, and other special tokens out of range.
    pub fn new(mut vocabulary: Vocabulary) -> Result<Self, TokenizeError> {
        check(&mut vocabulary)?;
        let name = if vocabulary.pre.is_empty() {
            tracing::warn!("the vocabulary names no pre-tokenizer; using {:?}", pretokenizers::UNNAMED);
            pretokenizers::UNNAMED
        } else {
            vocabulary.pre.as_str()
        };
        let pre = pretokenizers::find(name).ok_or_else(|| TokenizeError::UnknownPreTokenizer {
            name: name.to_owned(),
            supported: pretokenizers::names(),
        })?;
        let splitter = Splitter::new(name, pre)?;

        let MergeModel { bpe, phantoms } = MergeModel::new(&vocabulary)?;
        let vocab_size = vocabulary.tokens.len();
        let token_to_id = |text: &str| real_id(&bpe, vocab_size, text);
        let (attributes, end_of_generation) = classify(&vocabulary, token_to_id);
        let special = SpecialTokenFinder::new(&vocabulary.tokens, &attributes)?;
        let pieces = Pieces::new(&vocabulary.tokens, &attributes);

        let wanted_bos = vocabulary.add_bos.unwrap_or(pre.add_bos);
        if wanted_bos && vocabulary.bos.is_none() {
            tracing::warn!("the vocabulary asks for a first token, but names none; none is added");
        }
        Ok(Self {
            bpe,
            splitter,
            special,
            attributes,
            pieces,
            phantoms,
            ignore_merges: pre.ignore_merges,
            add_bos: wanted_bos,
            add_eos: vocabulary.add_eos.unwrap_or(false),
            bos: vocabulary.bos,
            eos: vocabulary.eos,
            end_of_generation,
        })
    }

    /// The tokens of `text`. With `add_special`, the beginning- and end-of-text tokens are added,
    /// if the model's metadata (or, where it is silent, its pre-tokenizer's habit) says so.
    ///
    /// Bytes for which the vocabulary has no token are left out, as in llama.cpp.
    ///
    /// # Errors
    /// What the merge library reports; none is known to happen.
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
        self.encode_wanted(text, wanted, add_special)
    }

    /// The tokens of a rendered conversation: control tokens are the template's alone.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_rendered(&self, rendered: &Rendered, add_special: bool) -> Result<Vec<u32>, TokenizeError> {
        self.encode_wanted(&rendered.text, Wanted::Outside(&rendered.literal), add_special)
    }

    fn encode_wanted(
        &self,
        text: &str,
        wanted: Wanted<'_>,
        add_special: bool,
    ) -> Result<Vec<u32>, TokenizeError> {
        let mut ids = Vec::with_capacity(text.len() / 4 + 2);
        if add_special && self.add_bos {
            ids.extend(self.bos);
        }
        for fragment in self.special.partition(text, wanted) {
            match fragment {
                Fragment::Token(id) => ids.push(id),
                Fragment::Text(range) => self.encode_text(&text[range], &mut ids)?,
            }
        }
        if add_special && self.add_eos {
            ids.extend(self.eos);
        }
        Ok(ids)
    }

    /// Appends the tokens of a text without special tokens.
    fn encode_text(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), TokenizeError> {
        let mut word = String::new();
        for range in self.splitter.split(text) {
            word.clear();
            bytes::encode_into(&text[range], &mut word);
            if self.ignore_merges
                && let Some(id) = self.token_to_id(&word)
            {
                ids.push(id);
                continue;
            }
            let merged = self.bpe.tokenize(&word);
            let merged = merged.map_err(|error| TokenizeError::BytePair { reason: error.to_string() })?;
            for token in merged {
                match (token.id as usize).checked_sub(self.vocab_size()) {
                    None => ids.push(token.id),
                    Some(phantom) => ids.extend(self.phantoms.get(phantom).into_iter().flatten()),
                }
            }
        }
        Ok(())
    }

    /// The bytes that a token stands for, which may be part of a character; `None` if there is no
    /// such token. Control tokens have none unless `render_special`, reserved ones never.
    pub fn token_bytes(&self, id: u32, render_special: bool) -> Option<&[u8]> {
        let attributes = self.attributes.get(id as usize)?;
        let bytes = self.pieces.get(id)?;
        Some(if attributes.is_hidden() && !render_special { &[] } else { bytes })
    }

    /// The text of tokens. Bytes that are not UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// An id that is not in the vocabulary.
    pub fn decode(&self, ids: &[u32], render_special: bool) -> Result<String, TokenizeError> {
        let mut bytes = Vec::with_capacity(ids.len().saturating_mul(4));
        for &id in ids {
            bytes.extend_from_slice(self.checked_bytes(id, render_special)?);
        }
        Ok(match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        })
    }

    pub(super) fn checked_bytes(&self, id: u32, render_special: bool) -> Result<&[u8], TokenizeError> {
        self.token_bytes(id, render_special)
            .ok_or(TokenizeError::UnknownToken { id, vocab_size: self.vocab_size() })
    }

    /// Whether an answer ends with this token.
    pub fn is_end_of_generation(&self, id: u32) -> bool {
        self.end_of_generation.binary_search(&id).is_ok()
    }

    /// Where a text reads as a control token, overlaps among them.
    pub(super) fn control_texts(&self, text: &str) -> Vec<Range<usize>> {
        self.special.hidden_texts(text)
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

    /// Whether `encode` adds the beginning-of-text token when asked to add special tokens.
    pub fn adds_bos(&self) -> bool {
        self.add_bos && self.bos.is_some()
    }

    /// Number of tokens.
    pub fn vocab_size(&self) -> usize {
        self.attributes.len()
    }

    /// The id of a token by its text in the file (in the byte-level alphabet if it is not special).
    pub fn token_to_id(&self, text: &str) -> Option<u32> {
        real_id(&self.bpe, self.vocab_size(), text)
    }
}

fn real_id(bpe: &BPE, vocab_size: usize, text: &str) -> Option<u32> {
    bpe.token_to_id(text).filter(|&id| (id as usize) < vocab_size)
}

/// Refuses what cannot be right, and puts the rest into the form that the rest of this file expects.
fn check(vocabulary: &mut Vocabulary) -> Result<(), TokenizeError> {
    if !SUPPORTED_MODELS.split(' ').any(|model| model == vocabulary.model) {
        let model = vocabulary.model.clone();
        return Err(TokenizeError::UnsupportedModel { model, supported: SUPPORTED_MODELS });
    }
    let vocab_size = vocabulary.tokens.len();
    if vocab_size == 0 {
        return Err(TokenizeError::EmptyVocabulary);
    }
    if vocabulary.merges.is_empty() {
        return Err(TokenizeError::NoMerges);
    }
    for (field, count) in
        [("tokenizer.ggml.tokens", vocab_size), ("tokenizer.ggml.merges", vocabulary.merges.len())]
    {
        if count > MAX_ENTRIES {
            return Err(TokenizeError::TooLarge { field, count, limit: MAX_ENTRIES });
        }
    }
    let types = vocabulary.token_types.len();
    if types != 0 && types < vocab_size {
        return Err(TokenizeError::TokenTypes { types, tokens: vocab_size });
    }
    for (id, text) in vocabulary.tokens.iter_mut().enumerate() {
        if text.is_empty() {
            *text = format!("[EMPTY_{id}]");
        }
    }
    // Without these the model could not be told where a text begins or an answer ends.
    for (field, id) in [
        ("tokenizer.ggml.bos_token_id", &mut vocabulary.bos),
        ("tokenizer.ggml.eos_token_id", &mut vocabulary.eos),
        ("tokenizer.ggml.eot_token_id", &mut vocabulary.eot),
        ("tokenizer.ggml.eom_token_id", &mut vocabulary.eom),
    ] {
        match *id {
            Some(NO_TOKEN) => *id = None,
            Some(id) if id as usize >= vocab_size => {
                return Err(TokenizeError::SpecialTokenOutOfRange { field, id, vocab_size });
            }
            _ => {}
        }
    }
    for id in [
        &mut vocabulary.unk,
        &mut vocabulary.pad,
        &mut vocabulary.fim_pre,
        &mut vocabulary.fim_suf,
        &mut vocabulary.fim_mid,
        &mut vocabulary.fim_pad,
        &mut vocabulary.fim_rep,
        &mut vocabulary.fim_sep,
    ] {
        *id = id.filter(|&id| (id as usize) < vocab_size);
    }
    Ok(())
}

/// The merge model, and what its phantom ids stand for.
struct MergeModel {
    bpe: BPE,
    phantoms: Vec<Vec<u32>>,
}

impl MergeModel {
    fn new(vocabulary: &Vocabulary) -> Result<Self, TokenizeError> {
        let mut ids = Vocab::with_capacity(vocabulary.tokens.len() + 256);
        for (id, text) in (0u32..).zip(&vocabulary.tokens) {
            if let Some(first) = ids.insert(text.clone(), id) {
                return Err(TokenizeError::DuplicateToken { text: text.clone(), first, second: id });
            }
        }
        let vocab_size = ids.len();
        let mut phantoms = Vec::new();
        let mut add_phantom = |ids: &mut Vocab, text: &str| {
            if ids.contains_key(text) {
                return;
            }
            // Single bytes of the text that are tokens: only ASCII characters can be.
            let real = |id: &u32| (*id as usize) < vocab_size;
            let bytes = text.chars().filter(char::is_ascii);
            let stands_for =
                bytes.filter_map(|byte| ids.get(byte.encode_utf8(&mut [0; 4]) as &str).copied().filter(real));
            phantoms.push(stands_for.collect());
            let id = u32::try_from(ids.len()).unwrap_or(NO_TOKEN);
            ids.insert(text.to_owned(), id);
        };
        for byte in 0..=u8::MAX {
            add_phantom(&mut ids, bytes::character(byte).encode_utf8(&mut [0; 4]));
        }

        let mut seen = HashSet::with_capacity(vocabulary.merges.len());
        let mut merges = Vec::with_capacity(vocabulary.merges.len());
        let mut whole = String::new();
        for merge in &vocabulary.merges {
            // The left part may be or begin with a space, so the second character on is searched.
            let start = merge.chars().next().map_or(0, char::len_utf8);
            let Some((left, right)) = merge
                .get(start..)
                .and_then(|rest| rest.find(' '))
                .and_then(|at| Some((merge.get(..start + at)?, merge.get(start + at + 1..)?)))
            else {
                continue;
            };
            if left.is_empty() || right.is_empty() || !seen.insert((left, right)) {
                continue;
            }
            whole.clear();
            whole.push_str(left);
            whole.push_str(right);
            for text in [left, right, &whole] {
                add_phantom(&mut ids, text);
            }
            merges.push((left.to_owned(), right.to_owned()));
        }
        let built = BPE::builder().vocab_and_merges(ids, merges).cache_capacity(CACHED_WORDS).build();
        let bpe = built.map_err(|error| TokenizeError::BytePair { reason: error.to_string() })?;
        Ok(Self { bpe, phantoms })
    }
}

/// The bytes of every token, end to end.
#[derive(Debug)]
struct Pieces {
    bytes: Vec<u8>,
    /// Where each token's bytes end.
    ends: Vec<usize>,
}

impl Pieces {
    fn new(tokens: &[String], attributes: &[Attributes]) -> Self {
        let mut bytes = Vec::with_capacity(tokens.iter().map(String::len).sum());
        let mut ends = Vec::with_capacity(tokens.len());
        for (text, attributes) in tokens.iter().zip(attributes) {
            if attributes.is_special() {
                bytes.extend_from_slice(text.as_bytes());
            } else if attributes.normal {
                bytes::decode_into(text, &mut bytes);
            }
            ends.push(bytes.len());
        }
        bytes.shrink_to_fit();
        Self { bytes, ends }
    }

    fn get(&self, id: u32) -> Option<&[u8]> {
        let id = id as usize;
        let start = match id.checked_sub(1) {
            None => 0,
            Some(before) => *self.ends.get(before)?,
        };
        self.bytes.get(start..*self.ends.get(id)?)
    }
}
