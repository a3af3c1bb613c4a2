//! Errors of reading a model file.

use super::gguf::error::GgufError;
use super::hugging_face::error::HuggingFaceError;
use weft_platform::PackError;
use weft_platform::storage::StorageError;
use weft_text::TokenizeError;

/// A model file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The GGUF container is damaged.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// The Hugging Face folder cannot be read.
    #[error(transparent)]
    HuggingFace(#[from] HuggingFaceError),
    /// The bytes could not be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The vocabulary cannot be used.
    #[error(transparent)]
    Tokenize(#[from] TokenizeError),
    /// The architecture is not supported.
    #[error("{file}: architecture `{name}` is not supported; supported: {known}")]
    UnknownArchitecture {
        /// Name of the file.
        file: String,
        /// `general.architecture` of the file.
        name: String,
        /// Supported names.
        known: String,
    },
    /// A metadata value is invalid.
    #[error("{file}: `{key}` is {value}, not {wanted}; the file is damaged or made for another engine")]
    BadMetadata {
        /// Name of the file.
        file: String,
        /// Metadata key.
        key: String,
        /// Its value.
        value: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// A metadata key that may change the result is unknown to the engine.
    #[error(
        "{file}: `{key}` is not known to this engine and may change the model's output; a newer version may read it"
    )]
    UnknownKey {
        /// Name of the file.
        file: String,
        /// Metadata key.
        key: String,
    },
    /// A required tensor is missing.
    #[error("{file}: tensor `{name}` is missing; download the file again, or all parts of a split one")]
    MissingTensor {
        /// Name of the file.
        file: String,
        /// Name of the tensor.
        name: String,
    },
    /// The architecture does not use a tensor of the file.
    #[error(
        "{file}: tensor `{name}` is not used by architecture `{architecture}` as this engine knows it, so its text would be wrong; a newer version may read it"
    )]
    UnusedTensor {
        /// Name of the file.
        file: String,
        /// Name of the tensor.
        name: String,
        /// `general.architecture` of the file.
        architecture: String,
    },
    /// The shape of a tensor contradicts the metadata.
    #[error(
        "{file}: tensor `{name}` has shape {found:?}, the metadata asks for {wanted:?}; the file is damaged"
    )]
    BadShape {
        /// Name of the file.
        file: String,
        /// Name of the tensor.
        name: String,
        /// Shape in the file, innermost first.
        found: Vec<u64>,
        /// Shape that follows from the metadata, innermost first.
        wanted: Vec<u64>,
    },
    /// The format of a tensor is not supported.
    #[error("{file}: tensor `{name}` is {format}, which is not supported; supported: {known}")]
    UnsupportedFormat {
        /// Name of the file.
        file: String,
        /// Name of the tensor.
        name: String,
        /// Its format.
        format: String,
        /// Supported formats.
        known: String,
    },
    /// The vocabulary has more tokens than the embedding has rows.
    #[error("{file}: the vocabulary has {tokens} tokens, the embedding {rows} rows; the file is damaged")]
    VocabularySize {
        /// Name of the file.
        file: String,
        /// Tokens in the vocabulary.
        tokens: usize,
        /// Rows of the embedding.
        rows: usize,
    },
    /// A weight could not be packed into tiles.
    #[error("{file}: tensor `{name}`: {source}")]
    Pack {
        /// Name of the file.
        file: String,
        /// Name of the tensor.
        name: String,
        /// Cause.
        source: PackError,
    },
}
