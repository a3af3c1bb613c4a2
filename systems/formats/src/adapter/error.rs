//! Errors of reading an adapter and of fitting it to a model.

use crate::gguf::GgufError;
use crate::safetensors::SafetensorsError;
use weft_platform::PackError;
use weft_platform::storage::StorageError;

/// An adapter cannot be read, or does not fit the model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdapterError {
    /// The GGUF container is damaged.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// The bytes of a file could not be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The folder's file of weights is damaged.
    #[error(transparent)]
    Safetensors(#[from] SafetensorsError),
    /// The file is not a LoRA adapter.
    #[error("{file}: `{key}` is {found}, not `{wanted}`: this is not a LoRA adapter")]
    NotAnAdapter {
        /// Name of the file.
        file: String,
        /// Metadata key.
        key: &'static str,
        /// Its value, or a note that it is missing.
        found: String,
        /// Its value in a LoRA adapter.
        wanted: &'static str,
    },
    /// The adapter is for another architecture.
    #[error(
        "{file}: made for architecture `{found}`, the model's is `{wanted}`; use the adapter's own base model"
    )]
    OtherArchitecture {
        /// Name of the file.
        file: String,
        /// Architecture that the adapter states.
        found: String,
        /// Architecture of the model.
        wanted: String,
    },
    /// The model is an encoder. Encoders do not support adapters.
    #[error(
        "{file}: the model is an encoder (`{architecture}`), which does not support adapters; merge it into the model with PEFT"
    )]
    Encoder {
        /// Name of the file.
        file: String,
        /// Architecture of the model.
        architecture: String,
    },
    /// The configuration is not valid.
    #[error("{file}: {reason}; it should be the adapter_config.json that PEFT saves")]
    BadConfig {
        /// Name of the file.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// A field has an invalid value.
    #[error("{file}: `{field}` is {value}, not {wanted}; the file is damaged")]
    BadField {
        /// Name of the file.
        file: String,
        /// Name of the field or metadata key.
        field: String,
        /// Its value.
        value: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// A field changes what the adapter does, and the engine does not support it.
    #[error(
        "{file}: `{field}` is {value}, which is not supported and changes what the adapter does; {remedy}"
    )]
    UnsupportedField {
        /// Name of the file.
        file: String,
        /// Name of the field or metadata key.
        field: String,
        /// Its value.
        value: String,
        /// What the user can do.
        remedy: &'static str,
    },
    /// A tensor is not A or B of a pair.
    #[error(
        "{file}: tensor `{tensor}` is not matrix A or B of a pair; without it the adapter would have another effect"
    )]
    UnknownTensor {
        /// Name of the file.
        file: String,
        /// Name of the tensor.
        tensor: String,
    },
    /// The adapter changes a matrix that the model does not have.
    #[error(
        "{file}: the adapter changes `{tensor}`, which a model of architecture `{architecture}` does not have; use the adapter's own base model"
    )]
    NoSuchTensor {
        /// Name of the file.
        file: String,
        /// Name of the matrix.
        tensor: String,
        /// Architecture of the model.
        architecture: String,
    },
    /// The adapter changes a matrix that the engine cannot apply adapters to.
    #[error(
        "{file}: the adapter changes `{tensor}`, {why}; it can be merged into its base model before conversion"
    )]
    UnsupportedTensor {
        /// Name of the file.
        file: String,
        /// Name of the matrix.
        tensor: String,
        /// The reason, as a clause about the matrix.
        why: &'static str,
    },
    /// Two pairs change the same rows of a matrix.
    #[error("{file}: `{tensor}` and `{other}` change the same rows; the file is damaged")]
    Twice {
        /// Name of the file.
        file: String,
        /// Name of one matrix.
        tensor: String,
        /// Name of the other matrix.
        other: String,
    },
    /// One matrix of a pair is missing.
    #[error("{file}: tensor `{tensor}` is missing; download the adapter again")]
    MissingHalf {
        /// Name of the file.
        file: String,
        /// Name of the missing tensor.
        tensor: String,
    },
    /// A matrix has another shape than the model requires.
    #[error(
        "{file}: tensor `{tensor}` has shape {found:?}, the model asks for {wanted:?} (outputs, inputs); use the adapter's own base model"
    )]
    Shape {
        /// Name of the file.
        file: String,
        /// Name of the tensor.
        tensor: String,
        /// Its rows and columns.
        found: [u64; 2],
        /// Rows and columns that the model requires.
        wanted: [u64; 2],
    },
    /// The rank of a pair is out of range.
    #[error("{file}: tensor `{tensor}` has rank {rank}; ranks from 1 to {most} are supported")]
    Rank {
        /// Name of the file.
        file: String,
        /// Name of the tensor.
        tensor: String,
        /// Its rank.
        rank: u64,
        /// Largest supported rank.
        most: usize,
    },
    /// A tensor has a format that cannot be decoded.
    #[error(
        "{file}: tensor `{tensor}` is {format}, which is not supported; convert the adapter to F16 or F32"
    )]
    Format {
        /// Name of the file.
        file: String,
        /// Name of the tensor.
        tensor: String,
        /// Its format.
        format: String,
    },
    /// The file contains no pair of matrices.
    #[error("{file}: the file contains no pair of matrices; download the adapter again")]
    Empty {
        /// Name of the file.
        file: String,
    },
    /// A matrix could not be packed into tiles.
    #[error("{file}: tensor `{tensor}`: {source}")]
    Pack {
        /// Name of the file.
        file: String,
        /// Name of the tensor.
        tensor: String,
        /// Cause.
        source: PackError,
    },
    /// A folder lacks a file that PEFT saves.
    #[error("{folder}: `{file}` is missing; name a GGUF adapter, or a folder that PEFT saved")]
    NoFile {
        /// Name of the folder.
        folder: String,
        /// Name of the missing file.
        file: &'static str,
    },
}
