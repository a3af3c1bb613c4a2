//! What can be wrong with a vocabulary or with a request to tokenize.

use thiserror::Error;

/// Why a vocabulary was refused, or a text or a token could not be converted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TokenizeError {
    /// `tokenizer.ggml.model` names an algorithm that is not implemented.
    #[error("tokenizer model {model:?} is not supported; supported: {supported}")]
    UnsupportedModel {
        /// The name that the file gives.
        model: String,
        /// The names that would have been accepted.
        supported: &'static str,
    },
    /// `tokenizer.ggml.pre` names a pre-tokenizer that is not in the table. Guessing one would
    /// give wrong tokens without any sign of it.
    #[error("pre-tokenizer {name:?} is not known; supported: {}", supported.join(", "))]
    UnknownPreTokenizer {
        /// The name that the file gives.
        name: String,
        /// Every name of the table.
        supported: Vec<&'static str>,
    },
    /// A table of the pre-tokenizer did not compile. This is a defect of the table, not of the file.
    #[error("the expression {pattern:?} of pre-tokenizer {name:?} does not compile: {reason}")]
    Pattern {
        /// The pre-tokenizer.
        name: String,
        /// The expression.
        pattern: String,
        /// What the regex compiler says.
        reason: String,
    },
    /// The vocabulary has no tokens.
    #[error("the vocabulary holds no tokens; tokenizer.ggml.tokens is missing or empty")]
    EmptyVocabulary,
    /// A byte-level BPE vocabulary without a merge list would cut every text into single bytes.
    #[error("the vocabulary holds no merges; tokenizer.ggml.merges is missing or empty")]
    NoMerges,
    /// More entries than a token id can count.
    #[error("{field} holds {count} entries; at most {limit} are supported")]
    TooLarge {
        /// The metadata array.
        field: &'static str,
        /// Its length.
        count: usize,
        /// The greatest length accepted.
        limit: usize,
    },
    /// `tokenizer.ggml.token_type` covers only some of the tokens.
    #[error("tokenizer.ggml.token_type holds {types} entries for {tokens} tokens")]
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
    #[error("tokenizer.ggml.scores holds {scores} entries for {tokens} tokens")]
    Scores {
        /// Entries of the score array.
        scores: usize,
        /// Entries of the token array.
        tokens: usize,
    },
    /// A vocabulary whose tokens are chosen by their scores has none.
    #[error("the vocabulary holds no scores; tokenizer.ggml.scores is missing or empty")]
    NoScores,
    /// A token that would make looking for the longest one slow.
    #[error("token {id} of the vocabulary has {bytes} bytes; at most {limit} are supported")]
    LongToken {
        /// Its id.
        id: u32,
        /// Its length.
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
    /// One of the files of a Hugging Face folder is not what it should be.
    #[error("{file}: {reason}")]
    HuggingFace {
        /// The file's name.
        file: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// `tokenizer.json` asks for something that is not implemented. Leaving it out would give wrong tokens without any
    /// sign of it.
    #[error(
        "tokenizer.json: {part} {value} is not supported; convert the model to GGUF with a tool that knows it"
    )]
    UnsupportedPart {
        /// The field, such as `pre_tokenizer`.
        part: &'static str,
        /// What it says, in JSON.
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
    /// A text or a vocabulary is too long for positions of 32 bits.
    #[error("a text of {bytes} bytes is too long; at most {limit} can be tokenized at once")]
    TextTooLong {
        /// Its length.
        bytes: usize,
        /// The greatest length accepted.
        limit: usize,
    },
    /// The special tokens are too many or too long to be searched for together.
    #[error("the special tokens cannot be searched for: {reason}")]
    SpecialTokens {
        /// What the string searcher says.
        reason: String,
    },
    /// An id that is not in the vocabulary.
    #[error("token id {id} is not in the vocabulary of {vocab_size} tokens")]
    UnknownToken {
        /// The id.
        id: u32,
        /// Number of tokens.
        vocab_size: usize,
    },
    /// An empty stop string would stop every answer before its first character.
    #[error("stop string {index} is empty; leave it out")]
    EmptyStopString {
        /// Its place in the list.
        index: usize,
    },
}
