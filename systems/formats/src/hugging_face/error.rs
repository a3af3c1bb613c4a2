//! Errors of reading a Hugging Face folder.

use crate::gguf::{GgufError, GgufWriteError};
use crate::safetensors::SafetensorsError;
use weft_platform::storage::StorageError;
use weft_text::TokenizeError;

/// A Hugging Face folder cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HuggingFaceError {
    /// The bytes of a file could not be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A file of weights is damaged.
    #[error(transparent)]
    Safetensors(#[from] SafetensorsError),
    /// The configuration cannot be expressed as GGUF metadata.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// The tensors cannot be expressed as a GGUF tensor table.
    #[error(transparent)]
    Write(#[from] GgufWriteError),
    /// The tokenizer's files cannot be used.
    #[error("{folder}: {source}")]
    Tokenize {
        /// Name of the folder.
        folder: String,
        /// The tokenizer's error.
        source: TokenizeError,
    },
    /// The folder contains no model.
    #[error("{folder}: has no {wanted}; name a folder that a model was saved to, or a .gguf file")]
    NotAModel {
        /// Name of the folder.
        folder: String,
        /// What is missing.
        wanted: &'static str,
    },
    /// A description file is too large.
    #[error("{file}: is {bytes} bytes long, more than the {limit} of any such file; fetch it again")]
    FileTooLarge {
        /// Name of the file.
        file: String,
        /// Its length in bytes.
        bytes: u64,
        /// Largest accepted length in bytes.
        limit: u64,
    },
    /// A description file is not valid JSON.
    #[error("{file}: is not valid JSON of the expected form: {reason}; fetch it again")]
    Json {
        /// Name of the file.
        file: String,
        /// The parser's message.
        reason: String,
    },
    /// The index names a file outside the folder.
    #[error(
        "{file}: names {name:?} as the file of tensor {tensor:?}, which is not the name of a file in the same folder; fetch the index again"
    )]
    ForeignFile {
        /// Path of the index.
        file: String,
        /// Name of the tensor.
        tensor: String,
        /// The file name that the index states.
        name: String,
    },
    /// A file of weights is missing.
    #[error("{file}: is missing, and {index} names it; fetch it into the same folder")]
    MissingFile {
        /// Name of the file.
        file: String,
        /// Path of the file that names it.
        index: String,
    },
    /// A required field is missing.
    #[error("{file}: has no `{field}`, which is needed; fetch the file again")]
    MissingField {
        /// Name of the file.
        file: String,
        /// Name of the field.
        field: String,
    },
    /// A field has a value that is invalid or that the engine does not support.
    #[error(
        "{file}: `{field}` is {value}, not {wanted}; the model is damaged or not supported by this engine"
    )]
    BadField {
        /// Name of the file.
        file: String,
        /// Name of the field.
        field: String,
        /// Its value.
        value: String,
        /// What it should be.
        wanted: String,
    },
    /// A field that may change the result is unknown to the engine.
    #[error(
        "{file}: `{field}` ({value}) is not known to this engine and may change the model's output; a newer version may read it"
    )]
    UnknownField {
        /// Name of the file.
        file: String,
        /// Name of the field.
        field: String,
        /// Its value, shortened.
        value: String,
    },
    /// The model family is not supported.
    #[error("{file}: `model_type` {model_type:?} is not supported; supported: {known}")]
    UnknownModel {
        /// Name of the file.
        file: String,
        /// `model_type` in the file.
        model_type: String,
        /// Supported values.
        known: String,
    },
    /// The model family is not supported yet.
    #[error(
        "{file}: `model_type` {model_type:?} is not supported yet; a later version of this engine reads it"
    )]
    LaterModel {
        /// Name of the file.
        file: String,
        /// `model_type` in the file.
        model_type: String,
    },
    /// The weights have an unsupported dtype.
    #[error(
        "{file}: tensor {tensor:?} is {dtype}, which is not supported; supported: {known}: save the model in one of these, or convert it to GGUF with its maker's tools"
    )]
    Dtype {
        /// Name of the file.
        file: String,
        /// Name of the tensor.
        tensor: String,
        /// Its dtype.
        dtype: &'static str,
        /// Supported dtypes.
        known: String,
    },
    /// The architecture does not use the tensor.
    #[error(
        "{file}: tensor {tensor:?} is not used by architecture `{architecture}` as this engine knows it, so its text would be wrong; a newer version may read it"
    )]
    UnknownTensor {
        /// Name of the file.
        file: String,
        /// Name of the tensor.
        tensor: String,
        /// `general.architecture` of the GGUF.
        architecture: String,
    },
    /// A tensor has an invalid shape.
    #[error(
        "{file}: tensor {tensor:?} has shape {shape:?}, not {wanted}; the model is damaged: fetch it again"
    )]
    Shape {
        /// Name of the file.
        file: String,
        /// Name of the tensor.
        tensor: String,
        /// Its shape, outermost first.
        shape: Vec<u64>,
        /// What it should be.
        wanted: String,
    },
    /// A required tensor is missing.
    #[error("{folder}: tensor {tensor:?} is missing; fetch all files of the model again")]
    MissingTensor {
        /// The folder, or the file that should contain the tensor.
        folder: String,
        /// Name of the tensor.
        tensor: String,
    },
    /// Two files contain the same tensor.
    #[error(
        "{file}: tensor {tensor:?} is also in {first}; remove the file that does not belong to this model"
    )]
    DuplicateTensor {
        /// Path of the second file.
        file: String,
        /// Name of the tensor.
        tensor: String,
        /// Path of the first file.
        first: String,
    },
}
