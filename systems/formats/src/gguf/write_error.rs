//! Errors of writing a GGUF file.

use std::io;

use super::GgufError;

/// A GGUF file cannot be planned or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GgufWriteError {
    /// The metadata contradict each other.
    #[error(transparent)]
    Metadata(#[from] GgufError),
    /// The length of a key is not accepted by readers.
    #[error("{file}: metadata key {key:?} is {} bytes long; keys have 1 to {most}", key.len())]
    Key {
        /// Name of the file.
        file: String,
        /// The metadata key.
        key: String,
        /// Largest accepted length in bytes.
        most: u64,
    },
    /// Arrays are nested deeper than the reader accepts.
    #[error("{file}: metadata key {key:?} nests arrays too deep to be read back; flatten them")]
    Depth {
        /// Name of the file.
        file: String,
        /// The metadata key.
        key: String,
    },
    /// The length of a tensor name is not accepted by readers.
    #[error("{file}: tensor name {tensor:?} is {} bytes long; names have 1 to {most}", tensor.len())]
    TensorName {
        /// Name of the file.
        file: String,
        /// Name of the tensor.
        tensor: String,
        /// Largest accepted length in bytes.
        most: u64,
    },
    /// Two tensors have the same name.
    #[error("{file}: there are two tensors named {tensor:?}; tensor names must be unique")]
    DuplicateTensor {
        /// Name of the file.
        file: String,
        /// Name of the tensors.
        tensor: String,
    },
    /// The shape is not valid in GGUF.
    #[error(
        "{file}: tensor {tensor:?} has shape {shape:?}; shapes have 1 to {most} dimensions, none of them 0"
    )]
    Shape {
        /// Name of the file.
        file: String,
        /// Name of the tensor.
        tensor: String,
        /// Its shape, innermost first.
        shape: Vec<u64>,
        /// Largest accepted number of dimensions.
        most: u32,
    },
    /// A row is not a whole number of blocks.
    #[error(
        "{file}: tensor {tensor:?} has rows of {row} elements, no multiple of the {block} in a block of {format}; \
         use a format with smaller blocks, such as F16"
    )]
    RowNotBlocks {
        /// Name of the file.
        file: String,
        /// Name of the tensor.
        tensor: String,
        /// Elements of a row.
        row: u64,
        /// Elements of a block.
        block: u64,
        /// Name of the format.
        format: &'static str,
    },
    /// The size of the file exceeds 64 bits.
    #[error(
        "{file}: with tensor {tensor:?} of shape {shape:?} the file would be larger than any; make it smaller"
    )]
    SizeOverflow {
        /// Name of the file.
        file: String,
        /// Name of the tensor.
        tensor: String,
        /// Its shape, innermost first.
        shape: Vec<u64>,
    },
    /// The header is larger than the reader accepts.
    #[error(
        "{file}: the header exceeds {limit} bytes, the most that the reader accepts; use fewer tokens or tensors"
    )]
    HeaderTooLarge {
        /// Name of the file.
        file: String,
        /// Largest accepted size in bytes.
        limit: u64,
    },
    /// More data were given than the current tensor needs.
    #[error(
        "{file}: {given} bytes were given to tensor {tensor:?}, which lacks {missing}; write the data in the header's order"
    )]
    Data {
        /// Name of the file.
        file: String,
        /// Name of the current tensor; empty if all are complete.
        tensor: String,
        /// Bytes given.
        given: u64,
        /// Bytes that were missing.
        missing: u64,
    },
    /// The file was finished before all data were written.
    #[error("{file}: tensor {tensor:?} lacks {missing} bytes; write all data before finishing")]
    Unfinished {
        /// Name of the file.
        file: String,
        /// The first incomplete tensor.
        tensor: String,
        /// Bytes that are missing.
        missing: u64,
    },
    /// The output failed.
    #[error("{file}: cannot be written: {source}; check that the medium has room and is not read-only")]
    Io {
        /// Name of the file.
        file: String,
        /// The operating system's error.
        source: io::Error,
    },
}
