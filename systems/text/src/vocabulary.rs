//! A vocabulary as plain data: what a GGUF's `tokenizer.*` metadata, or another file, says.

/// What a file says of its vocabulary. Nothing here has been checked; [`Tokenizer::new`] does that.
///
/// Field names follow the keys `tokenizer.ggml.*` of the GGUF specification.
///
/// [`Tokenizer::new`]: super::Tokenizer::new
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Vocabulary {
    /// The algorithm, `tokenizer.ggml.model`: `gpt2` is byte-level byte-pair encoding, `llama` that of SentencePiece,
    /// `t5` the unigram model, `bert` WordPiece.
    pub model: String,
    /// The pre-tokenizer's name, `tokenizer.ggml.pre`; empty if the file has none.
    pub pre: String,
    /// Text of each token, indexed by id. In a byte-level vocabulary each byte is one character of
    /// the printable alphabet that GPT-2 introduced, in the others a space is U+2581. WordPiece's tokens begin with that
    /// where they begin a word, and have no mark where they continue one.
    pub tokens: Vec<String>,
    /// Type of each token (see [`TokenType`]), as many as `tokens`, or empty: all normal.
    pub token_types: Vec<i32>,
    /// Score of each token, `tokenizer.ggml.scores`, as many as `tokens`: the log of its probability in a unigram model;
    /// in `llama`, tokens of a higher one are merged first.
    pub scores: Vec<f32>,
    /// Merges `left right`, best first. Where `llama` has them, they decide and not the scores, as in the Hugging Face
    /// library; GGUF files have none.
    pub merges: Vec<String>,
    /// The table by which SentencePiece normalises characters, `tokenizer.ggml.precompiled_charsmap`; may be empty.
    pub charsmap: Vec<u8>,
    /// Beginning of a text.
    pub bos: Option<u32>,
    /// End of a text.
    pub eos: Option<u32>,
    /// End of a turn.
    pub eot: Option<u32>,
    /// End of a message.
    pub eom: Option<u32>,
    /// Unknown token.
    pub unk: Option<u32>,
    /// Padding.
    pub pad: Option<u32>,
    /// Beginning of a text, in embedding models.
    pub cls: Option<u32>,
    /// Between and after texts, in embedding models (`tokenizer.ggml.seperator_token_id`, so spelt).
    pub sep: Option<u32>,
    /// A word to be guessed, in embedding models.
    pub mask: Option<u32>,
    /// Fill in the middle: before the prefix.
    pub fim_pre: Option<u32>,
    /// Fill in the middle: before the suffix.
    pub fim_suf: Option<u32>,
    /// Fill in the middle: before the middle.
    pub fim_mid: Option<u32>,
    /// Fill in the middle: padding, which ends generation.
    pub fim_pad: Option<u32>,
    /// Fill in the middle: before a repository's name, which ends generation.
    pub fim_rep: Option<u32>,
    /// Fill in the middle: between files, which ends generation.
    pub fim_sep: Option<u32>,
    /// Whether a text starts with `bos`; the pre-tokenizer's habit if the file does not say.
    pub add_bos: Option<bool>,
    /// Whether a text ends with `eos`; no if the file does not say.
    pub add_eos: Option<bool>,
    /// Whether a text ends with `sep`. WordPiece's always do.
    pub add_sep: Option<bool>,
    /// Whether a text starts with a space: `llama`'s do if the file does not say. Byte-level vocabularies have no use for
    /// it.
    pub add_space_prefix: Option<bool>,
    /// Where that space is put.
    pub space_prefix: SpacePrefix,
    /// Whether runs of spaces are one, and those around a text none, in a unigram model; no if the file does not say.
    pub remove_extra_whitespaces: Option<bool>,
    /// Whether WordPiece lowers case (`tokenizer.ggml.normalizer.lowercase`); yes if the file does not say.
    pub lowercase: Option<bool>,
    /// Whether WordPiece strips accents (`tokenizer.ggml.normalizer.strip_accents`); as `lowercase` if the file does not
    /// say.
    pub strip_accents: Option<bool>,
    /// Whether a byte-level word that is a token is that token, whatever the merges say; the pre-tokenizer's habit if the
    /// file does not say.
    pub ignore_merges: Option<bool>,
    /// Whether text is put into Unicode's normalisation form C. Byte-level vocabularies only.
    pub nfc: bool,
    /// Tokens that end an answer, beside those that the fields above name.
    pub ends: Vec<u32>,
    /// Special tokens that swallow the white space before them.
    pub lstrip: Vec<u32>,
    /// Special tokens that swallow the white space after them.
    pub rstrip: Vec<u32>,
    /// Whose rules hold where llama.cpp and the Hugging Face library differ.
    pub rules: Rules,
    /// The chat template, in Jinja.
    pub chat_template: Option<String>,
    /// Further templates by their names, such as `tool_use`.
    pub chat_templates: Vec<(String, String)>,
    /// Texts of tokens by their roles (`bos_token` and the like), for templates, where files name them; `None` where they say that
    /// there is no such token. Ids say it for all others.
    pub special_texts: Vec<(String, Option<String>)>,
    /// Whether text is cut before each mark of a space, so that no token reaches over one. Hugging Face's `Metaspace` with `split`.
    pub split_at_spaces: bool,
}

/// Where a vocabulary that starts texts with a space puts it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SpacePrefix {
    /// Before every stretch of text that begins the whole or follows a special token.
    #[default]
    Stretch,
    /// Before such stretches as do not begin with a space already.
    Missing,
    /// At the beginning of the whole, if it does not begin with a space already.
    Start,
}

/// Whose rules hold where two implementations of the same algorithm differ.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rules {
    /// llama.cpp's, for GGUF files.
    #[default]
    LlamaCpp,
    /// The Hugging Face library's, for `tokenizer.json`.
    HuggingFace,
}

/// The algorithms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ModelKind {
    ByteLevel,
    SentencePiece,
    Unigram,
    WordPiece,
}

impl Vocabulary {
    /// Forgets tokens of a role, or a habit, whose ids are not below `size`, but for those that say where a text begins and an answer
    /// ends.
    pub fn keep_ids_below(&mut self, size: usize) {
        let is_there = |id: &u32| (*id as usize) < size;
        for id in [
            &mut self.unk,
            &mut self.pad,
            &mut self.cls,
            &mut self.sep,
            &mut self.mask,
            &mut self.fim_pre,
            &mut self.fim_suf,
            &mut self.fim_mid,
            &mut self.fim_pad,
            &mut self.fim_rep,
            &mut self.fim_sep,
        ] {
            *id = id.filter(is_there);
        }
        for ids in [&mut self.ends, &mut self.lstrip, &mut self.rstrip] {
            ids.retain(is_there);
        }
    }

    pub(super) fn kind(&self) -> Option<ModelKind> {
        Some(match self.model.as_str() {
            "gpt2" => ModelKind::ByteLevel,
            "llama" => ModelKind::SentencePiece,
            "t5" => ModelKind::Unigram,
            "bert" => ModelKind::WordPiece,
            _ => return None,
        })
    }

    pub(super) fn is_byte_level(&self) -> bool {
        self.kind() == Some(ModelKind::ByteLevel)
    }
}

/// The values of `tokenizer.ggml.token_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenType {
    /// A value that the specification does not name.
    Undefined,
    /// Ordinary text (1).
    Normal,
    /// The unknown token (2).
    Unknown,
    /// A control token (3): found in a text only when asked for, not shown unless asked for.
    Control,
    /// A token added by the model's maker (4): found in every text, and shown.
    UserDefined,
    /// Reserved and never produced (5).
    Unused,
    /// One byte, in vocabularies with byte fallback (6).
    Byte,
}

impl TokenType {
    /// The type for a number of the file.
    pub fn from_gguf(value: i32) -> Self {
        match value {
            1 => Self::Normal,
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => Self::Undefined,
        }
    }
}
