//! Why an adapter cannot be used.

use crate::gguf::GgufError;
use crate::safetensors::SafetensorsError;
use weft_platform::PackError;
use weft_platform::storage::StorageError;

/// An adapter could not be read, or does not fit the model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdapterError {
    /// The container is damaged.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// Bytes could not be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The file that holds the weights of a folder is damaged.
    #[error(transparent)]
    Safetensors(#[from] SafetensorsError),
    /// The file is something else.
    #[error("{file}: `{key}` is {found}, not `{wanted}`: this is no LoRA adapter")]
    NotAnAdapter {
        /// File.
        file: String,
        /// Metadata key.
        key: &'static str,
        /// Its value, or nothing.
        found: String,
        /// What it is in an adapter.
        wanted: &'static str,
    },
    /// It was made for another architecture.
    #[error(
        "{file}: made for architecture `{found}`, the model's is `{wanted}`; use the adapter's own base model"
    )]
    OtherArchitecture {
        /// File.
        file: String,
        /// The adapter's architecture.
        found: String,
        /// The model's.
        wanted: String,
    },
    /// An encoder's products take none.
    #[error(
        "{file}: the model is an encoder (`{architecture}`), which takes no adapters; merge it into the model with PEFT"
    )]
    Encoder {
        /// File.
        file: String,
        /// The model's architecture.
        architecture: String,
    },
    /// Text that is not the JSON that it should be.
    #[error("{file}: {reason}; it should be the adapter_config.json that PEFT saves")]
    BadConfig {
        /// File.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// A value that no adapter has.
    #[error("{file}: `{field}` is {value}, not {wanted}; the file is damaged")]
    BadField {
        /// File.
        file: String,
        /// Field or metadata key.
        field: String,
        /// Its value.
        value: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// Something that changes what the adapter does and that the engine does not do.
    #[error(
        "{file}: `{field}` is {value}, which is not supported and changes what the adapter does; {remedy}"
    )]
    UnsupportedField {
        /// File.
        file: String,
        /// Field or metadata key.
        field: String,
        /// Its value.
        value: String,
        /// What can be done.
        remedy: &'static str,
    },
    /// A tensor that is no half of a pair.
    #[error(
        "{file}: tensor `{tensor}` is no matrix A or B of a pair, so the adapter would do something else without it"
    )]
    UnknownTensor {
        /// File.
        file: String,
        /// The tensor.
        tensor: String,
    },
    /// A matrix that the model does not have.
    #[error(
        "{file}: the adapter changes `{tensor}`, which a model of architecture `{architecture}` does not have; use the adapter's own base model"
    )]
    NoSuchTensor {
        /// File.
        file: String,
        /// The matrix's name.
        tensor: String,
        /// The model's architecture.
        architecture: String,
    },
    /// A matrix that adapters cannot change here.
    #[error(
        "{file}: the adapter changes `{tensor}`, {why}; it can be merged into its base model before conversion"
    )]
    UnsupportedTensor {
        /// File.
        file: String,
        /// The matrix's name.
        tensor: String,
        /// What it is.
        why: &'static str,
    },
    /// Two pairs for one matrix.
    #[error("{file}: `{tensor}` and `{other}` change the same rows; the file is damaged")]
    Twice {
        /// File.
        file: String,
        /// A matrix's name.
        tensor: String,
        /// Another's.
        other: String,
    },
    /// Half of a pair is missing.
    #[error("{file}: tensor `{tensor}` is missing; download the adapter again")]
    MissingHalf {
        /// File.
        file: String,
        /// The tensor.
        tensor: String,
    },
    /// A matrix that does not fit the model.
    #[error(
        "{file}: tensor `{tensor}` has shape {found:?}, the model asks for {wanted:?} (outputs, inputs); use the adapter's own base model"
    )]
    Shape {
        /// File.
        file: String,
        /// The tensor.
        tensor: String,
        /// Its rows and columns.
        found: [u64; 2],
        /// What they should be.
        wanted: [u64; 2],
    },
    /// A rank that no adapter has.
    #[error("{file}: tensor `{tensor}` has rank {rank}; ranks from 1 to {most} are supported")]
    Rank {
        /// File.
        file: String,
        /// The tensor.
        tensor: String,
        /// Its rank.
        rank: u64,
        /// The largest.
        most: usize,
    },
    /// A format that cannot be decoded.
    #[error(
        "{file}: tensor `{tensor}` is {format}, which is not supported; convert the adapter to F16 or F32"
    )]
    Format {
        /// File.
        file: String,
        /// The tensor.
        tensor: String,
        /// Its format.
        format: String,
    },
    /// There is no pair.
    #[error("{file}: there is no pair of matrices in it; download the adapter again")]
    Empty {
        /// File.
        file: String,
    },
    /// Matrices could not be laid out.
    #[error("{file}: tensor `{tensor}`: {source}")]
    Pack {
        /// File.
        file: String,
        /// The tensor.
        tensor: String,
        /// Why.
        source: PackError,
    },
    /// A folder without what PEFT saves.
    #[error("{folder}: `{file}` is not there; name a GGUF adapter, or a folder that PEFT saved")]
    NoFile {
        /// The folder.
        folder: String,
        /// The missing file.
        file: &'static str,
    },
}
