//! Why a model cannot be quantized.

use super::EncodeError;
use crate::gguf::{GgufError, GgufWriteError};
use weft_platform::PoolError;
use weft_platform::storage::StorageError;

/// An error of quantizing a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QuantizeError {
    /// No mix or format of this name.
    #[error("nothing can be quantized to `{name}`; choose one of: {supported}")]
    UnsupportedType {
        /// The name.
        name: String,
        /// Names there are.
        supported: String,
    },
    /// A tensor whose numbers cannot be read.
    #[error(
        "{file}: tensor `{tensor}` is {format}, whose numbers cannot be read; it can only be kept as it is"
    )]
    UnreadableTensor {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Its format.
        format: &'static str,
    },
    /// Text of the vocabulary that would not be copied as it is.
    #[error("{file}: metadata key {key:?} is not UTF-8 and would be changed; convert the model again")]
    NotUtf8 {
        /// The file.
        file: String,
        /// The key.
        key: String,
    },
    /// Numbers that cannot be stored in the format chosen for them.
    #[error("{file}: tensor `{tensor}`: {source}")]
    Encode {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Why.
        source: EncodeError,
    },
    /// The file that is read.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// Bytes of it could not be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The file cannot be planned or written.
    #[error(transparent)]
    Write(#[from] GgufWriteError),
    /// Threads could not be started.
    #[error(transparent)]
    Threads(#[from] PoolError),
    /// Whoever watched the progress asked for an end.
    #[error("{file}: stopped before the file was whole")]
    Stopped {
        /// The file.
        file: String,
    },
}
