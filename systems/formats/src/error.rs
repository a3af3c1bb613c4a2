//! What can be wrong with a model file.

use super::gguf::GgufError;
use super::hugging_face::HuggingFaceError;
use weft_platform::PackError;
use weft_platform::storage::StorageError;
use weft_text::TokenizeError;

/// A model file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The container is damaged.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// The folder is none that a model can be read from.
    #[error(transparent)]
    HuggingFace(#[from] HuggingFaceError),
    /// Bytes could not be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The vocabulary cannot be used.
    #[error(transparent)]
    Tokenize(#[from] TokenizeError),
    /// No architecture of this name.
    #[error("{file}: architecture `{name}` is not supported; supported: {known}")]
    UnknownArchitecture {
        /// File.
        file: String,
        /// `general.architecture`.
        name: String,
        /// Supported names.
        known: String,
    },
    /// A value that no model has.
    #[error("{file}: `{key}` is {value}, not {wanted}; the file is damaged or made for another engine")]
    BadMetadata {
        /// File.
        file: String,
        /// Metadata key.
        key: String,
        /// Its value.
        value: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// A key that may change the result and that the engine does not know.
    #[error(
        "{file}: `{key}` is not known to this engine and may change what the model says; a newer version may read it"
    )]
    UnknownKey {
        /// File.
        file: String,
        /// Metadata key.
        key: String,
    },
    /// A tensor that the architecture needs.
    #[error("{file}: tensor `{name}` is missing; download the file again, or all parts of a split one")]
    MissingTensor {
        /// File.
        file: String,
        /// Tensor name.
        name: String,
    },
    /// A tensor that the architecture does not use.
    #[error(
        "{file}: tensor `{name}` is not used by architecture `{architecture}` as this engine knows it, so its text would be wrong; a newer version may read it"
    )]
    UnusedTensor {
        /// File.
        file: String,
        /// Tensor name.
        name: String,
        /// `general.architecture`.
        architecture: String,
    },
    /// A tensor's shape contradicts the metadata.
    #[error(
        "{file}: tensor `{name}` has shape {found:?}, the metadata asks for {wanted:?}; the file is damaged"
    )]
    BadShape {
        /// File.
        file: String,
        /// Tensor name.
        name: String,
        /// Shape in the file, innermost first.
        found: Vec<u64>,
        /// Shape by the metadata, innermost first.
        wanted: Vec<u64>,
    },
    /// A format that the engine does not compute with.
    #[error("{file}: tensor `{name}` is {format}, which is not supported; supported: {known}")]
    UnsupportedFormat {
        /// File.
        file: String,
        /// Tensor name.
        name: String,
        /// Its format.
        format: String,
        /// Supported formats.
        known: String,
    },
    /// The vocabulary and the embedding disagree.
    #[error("{file}: the vocabulary has {tokens} tokens, the embedding {rows} rows; the file is damaged")]
    VocabularySize {
        /// File.
        file: String,
        /// Tokens.
        tokens: usize,
        /// Rows of the embedding.
        rows: usize,
    },
    /// Weights could not be laid out.
    #[error("{file}: tensor `{name}`: {source}")]
    Pack {
        /// File.
        file: String,
        /// Tensor name.
        name: String,
        /// Why.
        source: PackError,
    },
}
