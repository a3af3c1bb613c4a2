//! Errors of vocabularies and of requests to tokenize.

use thiserror::Error;

/// Why a vocabulary was refused, or why a text or a token could not be converted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TokenizeError {
    /// `tokenizer.ggml.model` names an algorithm that is not implemented.
    #[error("tokenizer model {model:?} is not supported; supported: {supported}")]
    UnsupportedModel {
        /// The name in the file.
        model: String,
        /// The names that are accepted.
        supported: &'static str,
    },
    /// `tokenizer.ggml.pre` names a pre-tokenizer that is not in the table. Guessing one would silently produce wrong
    /// tokens.
    #[error("pre-tokenizer {name:?} is not known; supported: {}", supported.join(", "))]
    UnknownPreTokenizer {
        /// The name in the file.
        name: String,
        /// Every name of the table.
        supported: Vec<&'static str>,
    },
    /// An expression of the pre-tokenizer table did not compile. This is a defect of the table, not of the file.
    #[error("the expression {pattern:?} of pre-tokenizer {name:?} does not compile: {reason}")]
    Pattern {
        /// The pre-tokenizer.
        name: String,
        /// The expression.
        pattern: String,
        /// The regex compiler's message.
        reason: String,
    },
    /// The vocabulary has no tokens.
    #[error("the vocabulary has no tokens; tokenizer.ggml.tokens is missing or empty")]
    EmptyVocabulary,
    /// A byte-level BPE vocabulary has no merges. It would split every text into single bytes.
    #[error("the vocabulary has no merges; tokenizer.ggml.merges is missing or empty")]
    NoMerges,
    /// An array has more entries than token ids can number.
    #[error("{field} has {count} entries; at most {limit} are supported")]
    TooLarge {
        /// The metadata array.
        field: &'static str,
        /// Its length.
        count: usize,
        /// The greatest length accepted.
        limit: usize,
    },
    /// `tokenizer.ggml.token_type` covers only some of the tokens.
    #[error("tokenizer.ggml.token_type has {types} entries for {tokens} tokens")]
    TokenTypes {
        /// Entries of the type array.
        types: usize,
        /// Entries of the token array.
        tokens: usize,
    },
    /// Two ids have the same text, so a text would have two encodings.
    #[error("tokens {first} and {second} of the vocabulary are both {text:?}")]
    DuplicateToken {
        /// The text.
        text: String,
        /// The lower id.
        first: u32,
        /// The higher id.
        second: u32,
    },
    /// `tokenizer.ggml.scores` covers only some of the tokens.
    #[error("tokenizer.ggml.scores has {scores} entries for {tokens} tokens")]
    Scores {
        /// Entries of the score array.
        scores: usize,
        /// Entries of the token array.
        tokens: usize,
    },
    /// A vocabulary whose algorithm needs scores has none.
    #[error("the vocabulary has no scores; tokenizer.ggml.scores is missing or empty")]
    NoScores,
    /// A token is so long that searching for the longest token of a text would be slow.
    #[error("token {id} of the vocabulary has {bytes} bytes; at most {limit} are supported")]
    LongToken {
        /// Its id.
        id: u32,
        /// Its length in bytes.
        bytes: usize,
        /// The greatest length accepted.
        limit: usize,
    },
    /// The normalisation table of a SentencePiece vocabulary is damaged.
    #[error("tokenizer.ggml.precompiled_charsmap is damaged: {reason}")]
    Charsmap {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A file of a Hugging Face folder is invalid.
    #[error("{file}: {reason}")]
    HuggingFace {
        /// The file's name.
        file: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// `tokenizer.json` requires a part that is not implemented. Ignoring it would silently produce wrong tokens.
    #[error(
        "tokenizer.json: {part} {value} is not supported; convert the model to GGUF with a tool that knows it"
    )]
    UnsupportedPart {
        /// The field, such as `pre_tokenizer`.
        part: &'static str,
        /// Its value, as JSON.
        value: String,
    },
    /// A special token's id is not in the vocabulary.
    #[error("{field} is {id}, but the vocabulary has only {vocab_size} tokens")]
    SpecialTokenOutOfRange {
        /// The metadata key.
        field: &'static str,
        /// Its value.
        id: u32,
        /// Number of tokens.
        vocab_size: usize,
    },
    /// A text is too long for 32-bit positions.
    #[error("a text of {bytes} bytes is too long; at most {limit} can be tokenized at once")]
    TextTooLong {
        /// Its length in bytes.
        bytes: usize,
        /// The greatest length accepted.
        limit: usize,
    },
    /// The special tokens are too many or too long to be searched for together.
    #[error("the special tokens cannot be searched for: {reason}")]
    SpecialTokens {
        /// The string searcher's message.
        reason: String,
    },
    /// The id is not in the vocabulary.
    #[error("token id {id} is not in the vocabulary of {vocab_size} tokens")]
    UnknownToken {
        /// The id.
        id: u32,
        /// Number of tokens.
        vocab_size: usize,
    },
    /// A stop string is empty. It would stop every answer before its first character.
    #[error("stop string {index} is empty; leave it out")]
    EmptyStopString {
        /// Its index in the list.
        index: usize,
    },
}
