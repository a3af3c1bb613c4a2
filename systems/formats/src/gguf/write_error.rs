//! Why a GGUF file cannot be written.

use std::io;

use super::GgufError;

/// An error of planning or writing a GGUF file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GgufWriteError {
    /// Metadata that contradict themselves.
    #[error(transparent)]
    Metadata(#[from] GgufError),
    /// A key that no reader takes.
    #[error("{file}: metadata key {key:?} is {} bytes long; keys have 1 to {most}", key.len())]
    Key {
        /// The file.
        file: String,
        /// The key.
        key: String,
        /// Most bytes allowed.
        most: u64,
    },
    /// Arrays nested deeper than the reader follows.
    #[error("{file}: metadata key {key:?} nests arrays too deep to be read back; flatten them")]
    Depth {
        /// The file.
        file: String,
        /// The key.
        key: String,
    },
    /// A tensor name that no reader takes.
    #[error("{file}: tensor name {tensor:?} is {} bytes long; names have 1 to {most}", tensor.len())]
    TensorName {
        /// The file.
        file: String,
        /// The name.
        tensor: String,
        /// Most bytes allowed.
        most: u64,
    },
    /// Two tensors of one name.
    #[error("{file}: tensor {tensor:?} is there already; give each a name of its own")]
    DuplicateTensor {
        /// The file.
        file: String,
        /// The name.
        tensor: String,
    },
    /// A shape that GGUF does not have.
    #[error(
        "{file}: tensor {tensor:?} has shape {shape:?}; shapes have 1 to {most} dimensions, none of them 0"
    )]
    Shape {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Its shape, innermost first.
        shape: Vec<u64>,
        /// Most dimensions allowed.
        most: u32,
    },
    /// A row is no whole number of blocks.
    #[error(
        "{file}: tensor {tensor:?} has rows of {row} elements, no multiple of the {block} in a block of {format}; \
         use a format with smaller blocks, such as F16"
    )]
    RowNotBlocks {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Elements of a row.
        row: u64,
        /// Elements of a block.
        block: u64,
        /// The format's name.
        format: &'static str,
    },
    /// More bytes than 64 bits count.
    #[error(
        "{file}: with tensor {tensor:?} of shape {shape:?} the file would be larger than any; make it smaller"
    )]
    SizeOverflow {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Its shape, innermost first.
        shape: Vec<u64>,
    },
    /// A header longer than the reader takes.
    #[error("{file}: the header passes {limit} bytes, more than is read back; use fewer tokens or tensors")]
    HeaderTooLarge {
        /// The file.
        file: String,
        /// Most bytes.
        limit: u64,
    },
    /// More data than a tensor takes.
    #[error(
        "{file}: {given} bytes were given to tensor {tensor:?}, which lacks {missing}; write the data in the header's order"
    )]
    Data {
        /// The file.
        file: String,
        /// The tensor; empty where all are whole.
        tensor: String,
        /// Bytes given.
        given: u64,
        /// Bytes that were missing.
        missing: u64,
    },
    /// A file ended early.
    #[error("{file}: tensor {tensor:?} lacks {missing} bytes; write all data before finishing")]
    Unfinished {
        /// The file.
        file: String,
        /// The first tensor that lacks any.
        tensor: String,
        /// Bytes that it lacks.
        missing: u64,
    },
    /// The output refused.
    #[error("{file}: cannot be written: {source}; check that the medium has room and is not read-only")]
    Io {
        /// The file.
        file: String,
        /// What the system said.
        source: io::Error,
    },
}
