//! Errors of quantizing a model.

use super::EncodeError;
use crate::gguf::{GgufError, GgufWriteError};
use weft_platform::PoolError;
use weft_platform::storage::StorageError;

/// A model could not be quantized.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QuantizeError {
    /// There is no mix or format of this name.
    #[error("quantizing to `{name}` is not supported; choose one of: {supported}")]
    UnsupportedType {
        /// The name.
        name: String,
        /// Supported names.
        supported: String,
    },
    /// A tensor has a format that cannot be decoded.
    #[error(
        "{file}: tensor `{tensor}` is {format}, which cannot be decoded; it can only be kept in that format"
    )]
    UnreadableTensor {
        /// Name of the file.
        file: String,
        /// Name of the tensor.
        tensor: String,
        /// Its format.
        format: &'static str,
    },
    /// A string of the vocabulary is not UTF-8, so copying would change it.
    #[error("{file}: metadata key {key:?} is not UTF-8 and would be changed; convert the model again")]
    NotUtf8 {
        /// Name of the file.
        file: String,
        /// The metadata key.
        key: String,
    },
    /// A tensor contains values that its new format cannot represent.
    #[error("{file}: tensor `{tensor}`: {source}")]
    Encode {
        /// Name of the file.
        file: String,
        /// Name of the tensor.
        tensor: String,
        /// Cause.
        source: EncodeError,
    },
    /// The input file is damaged.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// The bytes of the input could not be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The output cannot be planned or written.
    #[error(transparent)]
    Write(#[from] GgufWriteError),
    /// Threads could not be started.
    #[error(transparent)]
    Threads(#[from] PoolError),
    /// The progress callback stopped the work.
    #[error("{file}: stopped before the file was complete")]
    Stopped {
        /// Name of the output file.
        file: String,
    },
}
