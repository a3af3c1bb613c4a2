//! A vocabulary as plain data: what a GGUF's `tokenizer.*` metadata, or another file, says.

/// What a file says of its vocabulary. Nothing here has been checked; [`Tokenizer::new`] does that.
///
/// Field names follow the keys `tokenizer.ggml.*` of the GGUF specification.
///
/// [`Tokenizer::new`]: super::Tokenizer::new
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Vocabulary {
    /// The algorithm, `tokenizer.ggml.model`: `gpt2` is byte-level byte-pair encoding.
    pub model: String,
    /// The pre-tokenizer's name, `tokenizer.ggml.pre`; empty if the file has none.
    pub pre: String,
    /// Text of each token, indexed by id. In a byte-level vocabulary each byte is one character of
    /// the printable alphabet that GPT-2 introduced.
    pub tokens: Vec<String>,
    /// Type of each token (see [`TokenType`]), as many as `tokens`, or empty: all normal.
    pub token_types: Vec<i32>,
    /// Merges `left right`, best first.
    pub merges: Vec<String>,
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
    /// Whether a text starts with a space. Byte-level vocabularies have no use for it.
    pub add_space_prefix: Option<bool>,
    /// The chat template, in Jinja.
    pub chat_template: Option<String>,
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
