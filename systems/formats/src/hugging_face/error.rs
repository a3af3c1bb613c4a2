//! What can be wrong with a folder.

use crate::gguf::{GgufError, GgufWriteError};
use crate::safetensors::SafetensorsError;
use weft_platform::storage::StorageError;
use weft_text::TokenizeError;

/// An error of reading a Hugging Face folder.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HuggingFaceError {
    /// The bytes could not be had.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A file of weights is damaged.
    #[error(transparent)]
    Safetensors(#[from] SafetensorsError),
    /// What the folder says makes no metadata.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// What the folder holds makes no table of tensors.
    #[error(transparent)]
    Write(#[from] GgufWriteError),
    /// The tokenizer's files cannot be used.
    #[error("{folder}: {source}")]
    Tokenize {
        /// The folder.
        folder: String,
        /// Why.
        source: TokenizeError,
    },
    /// A folder that holds no model.
    #[error("{folder}: has no {wanted}; name a folder that a model was saved to, or a .gguf file")]
    NotAModel {
        /// The folder.
        folder: String,
        /// What it should hold.
        wanted: &'static str,
    },
    /// A description longer than any.
    #[error("{file}: is {bytes} bytes long, more than the {limit} of any such file; fetch it again")]
    FileTooLarge {
        /// The file.
        file: String,
        /// Its length.
        bytes: u64,
        /// Most bytes.
        limit: u64,
    },
    /// A description that is not the JSON that it should be.
    #[error("{file}: is not the JSON that it should be: {reason}; fetch it again")]
    Json {
        /// The file.
        file: String,
        /// What the parser said.
        reason: String,
    },
    /// An index that names a file elsewhere.
    #[error(
        "{file}: names {name:?} as the file of tensor {tensor:?}, which is not the name of a file beside it; fetch the index again"
    )]
    ForeignFile {
        /// The index.
        file: String,
        /// The tensor.
        tensor: String,
        /// The name.
        name: String,
    },
    /// A file of weights that is not there.
    #[error("{file}: is missing, and {index} names it; fetch it into the same folder")]
    MissingFile {
        /// The file.
        file: String,
        /// The index.
        index: String,
    },
    /// A field that is needed.
    #[error("{file}: has no `{field}`, which is needed; fetch the file again")]
    MissingField {
        /// The file.
        file: String,
        /// The field.
        field: String,
    },
    /// A value that no model has, or that the engine cannot compute.
    #[error(
        "{file}: `{field}` is {value}, not {wanted}; the model is damaged, or none that this engine runs"
    )]
    BadField {
        /// The file.
        file: String,
        /// The field.
        field: String,
        /// Its value.
        value: String,
        /// What it should be.
        wanted: String,
    },
    /// A field that may change the result and that the engine does not know.
    #[error(
        "{file}: `{field}` ({value}) is not known to this engine and may change what the model says; a newer version may read it"
    )]
    UnknownField {
        /// The file.
        file: String,
        /// The field.
        field: String,
        /// Its value, shortened.
        value: String,
    },
    /// A kind of model that the engine does not run.
    #[error("{file}: `model_type` {model_type:?} is not supported; supported: {known}")]
    UnknownModel {
        /// The file.
        file: String,
        /// What the file says it is.
        model_type: String,
        /// Names of those that are.
        known: String,
    },
    /// A kind of model that a later version runs.
    #[error(
        "{file}: `model_type` {model_type:?} is not supported yet; a later version of this engine reads it"
    )]
    LaterModel {
        /// The file.
        file: String,
        /// What the file says it is.
        model_type: String,
    },
    /// Weights in a dtype that is not read.
    #[error(
        "{file}: tensor {tensor:?} is {dtype}, which is not read; read are {known}: save the model in one of these, or convert it to GGUF with its maker's tools"
    )]
    Dtype {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Its dtype.
        dtype: &'static str,
        /// Dtypes that are read.
        known: String,
    },
    /// A tensor that the architecture does not use.
    #[error(
        "{file}: tensor {tensor:?} is not used by architecture `{architecture}` as this engine knows it, so its text would be wrong; a newer version may read it"
    )]
    UnknownTensor {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// `general.architecture` of the GGUF that it would be.
        architecture: String,
    },
    /// A tensor whose shape cannot be.
    #[error(
        "{file}: tensor {tensor:?} has shape {shape:?}, not {wanted}; the model is damaged: fetch it again"
    )]
    Shape {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Its shape, outermost first.
        shape: Vec<u64>,
        /// What it should be.
        wanted: String,
    },
    /// A tensor that is needed.
    #[error("{folder}: tensor {tensor:?} is missing; fetch all files of the model again")]
    MissingTensor {
        /// The folder, or the file that should hold it.
        folder: String,
        /// The tensor.
        tensor: String,
    },
    /// A tensor that two files have.
    #[error(
        "{file}: tensor {tensor:?} is there already, in {first}; remove the file that is not of this model"
    )]
    DuplicateTensor {
        /// The file of the second.
        file: String,
        /// The tensor.
        tensor: String,
        /// The file of the first.
        first: String,
    },
}
