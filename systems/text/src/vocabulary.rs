//! A vocabulary as plain data, as read from a GGUF's `tokenizer.*` metadata or from another file.

/// The vocabulary of a model file, unchecked. [`Tokenizer::new`] takes it by value and checks it.
///
/// Field names follow the keys `tokenizer.ggml.*` of the GGUF specification.
///
/// [`Tokenizer::new`]: super::Tokenizer::new
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Vocabulary {
    /// The algorithm, `tokenizer.ggml.model`: `gpt2` is byte-level BPE, `llama` SentencePiece BPE, `t5` the unigram
    /// model, `bert` WordPiece.
    pub model: String,
    /// The pre-tokenizer's name, `tokenizer.ggml.pre`. Empty if the file has none.
    pub pre: String,
    /// Text of each token, indexed by id. In a byte-level vocabulary each byte is one character of the printable
    /// alphabet that GPT-2 introduced. In the others a space is U+2581. A WordPiece token begins with U+2581 if it
    /// begins a word, and has no mark if it continues one.
    pub tokens: Vec<String>,
    /// Type of each token (see [`TokenType`]), as many as `tokens`. Empty if all tokens are normal.
    pub token_types: Vec<i32>,
    /// Score of each token, `tokenizer.ggml.scores`, as many as `tokens`. In a unigram model it is the logarithm of the
    /// token's probability. In `llama`, tokens with a higher score are merged first.
    pub scores: Vec<f32>,
    /// Merges `left right`, best first. If a `llama` vocabulary has merges, they are used instead of the scores, as in
    /// the Hugging Face library. GGUF files of `llama` have none.
    pub merges: Vec<String>,
    /// The table with which SentencePiece normalises characters, `tokenizer.ggml.precompiled_charsmap`. May be empty.
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
    /// Between and after texts, in embedding models (`tokenizer.ggml.seperator_token_id`, spelt this way).
    pub sep: Option<u32>,
    /// A word for the model to guess, in embedding models.
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
    /// Whether a text starts with `bos`. If `None`, the default of the pre-tokenizer or the algorithm.
    pub add_bos: Option<bool>,
    /// Whether a text ends with `eos`. If `None`, the default of the algorithm.
    pub add_eos: Option<bool>,
    /// Whether a text ends with `sep`, in WordPiece. If `None`, it does. Under llama.cpp's rules it always does.
    pub add_sep: Option<bool>,
    /// Whether a text starts with a space. If `None`, texts of `llama` do. Byte-level vocabularies ignore it.
    pub add_space_prefix: Option<bool>,
    /// Where that space is put.
    pub space_prefix: SpacePrefix,
    /// Whether a unigram model turns runs of spaces into one space and removes those around a text. If `None`, it does
    /// not.
    pub remove_extra_whitespaces: Option<bool>,
    /// Whether WordPiece lowers case (`tokenizer.ggml.normalizer.lowercase`). If `None`, it does.
    pub lowercase: Option<bool>,
    /// Whether WordPiece strips accents (`tokenizer.ggml.normalizer.strip_accents`). If `None`, as `lowercase`.
    pub strip_accents: Option<bool>,
    /// Whether a byte-level word that is a token becomes that token without merging. If `None`, the pre-tokenizer's
    /// default.
    pub ignore_merges: Option<bool>,
    /// Whether text is converted to Unicode normalisation form C. Byte-level vocabularies only.
    pub nfc: bool,
    /// Tokens that end an answer, besides those that the fields above name.
    pub ends: Vec<u32>,
    /// Special tokens that swallow the white space before them.
    pub lstrip: Vec<u32>,
    /// Special tokens that swallow the white space after them.
    pub rstrip: Vec<u32>,
    /// The rules to follow where llama.cpp and the Hugging Face library differ.
    pub rules: Rules,
    /// The chat template, in Jinja.
    pub chat_template: Option<String>,
    /// Further templates by their names, such as `tool_use`.
    pub chat_templates: Vec<(String, String)>,
    /// Texts of tokens by their roles (such as `bos_token`) for templates, if the files name them. `None` if the files
    /// say that there is no such token. Roles that are missing here follow from the ids above.
    pub special_texts: Vec<(String, Option<String>)>,
    /// Whether text is split before each space mark, so that no token spans one. Hugging Face's `Metaspace` with
    /// `split`.
    pub split_at_spaces: bool,
}

/// Where a vocabulary that starts texts with a space puts it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SpacePrefix {
    /// Before every segment of text: at the start of the whole text and after each special token.
    #[default]
    Stretch,
    /// Before every such segment that does not begin with a space.
    Missing,
    /// At the start of the whole text, if it does not begin with a space.
    Start,
}

/// The rules to follow where two implementations of the same algorithm differ.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rules {
    /// llama.cpp's, for GGUF files.
    #[default]
    LlamaCpp,
    /// The Hugging Face library's, for `tokenizer.json`.
    HuggingFace,
}

/// The implemented algorithms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ModelKind {
    ByteLevel,
    SentencePiece,
    Unigram,
    WordPiece,
}

impl Vocabulary {
    /// Removes ids that are not below `size`. The tokens that begin a text and end an answer (`bos`, `eos`, `eot`,
    /// `eom`) are kept.
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
    /// A control token (3): found in a text only on request, and shown only on request.
    Control,
    /// A token added by the model's maker (4): found in every text, and shown.
    UserDefined,
    /// Reserved and never produced (5).
    Unused,
    /// One byte, in vocabularies with byte fallback (6).
    Byte,
}

impl TokenType {
    /// Returns the type for a number of the file.
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
