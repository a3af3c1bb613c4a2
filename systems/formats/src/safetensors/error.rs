//! What can be wrong with a safetensors file.

use weft_platform::storage::StorageError;

/// An error of reading the header of a safetensors file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SafetensorsError {
    /// The bytes could not be had.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The file ends inside its header.
    #[error(
        "{file}: ends inside its header: {needed} bytes are needed and the file has {len}; the download is cut short: fetch it again"
    )]
    Truncated {
        /// The file.
        file: String,
        /// Bytes up to the header's end, as the file states it.
        needed: u64,
        /// Bytes in the file.
        len: u64,
    },
    /// The header's length is none that a header has.
    #[error(
        "{file}: states a header of {bytes} bytes, more than the {limit} that one may have; it is no safetensors file or damaged: fetch it again"
    )]
    HeaderTooLarge {
        /// The file.
        file: String,
        /// Bytes stated.
        bytes: u64,
        /// Most bytes.
        limit: u64,
    },
    /// The header is not the JSON object that it should be.
    #[error("{file}: the header is damaged {}: {reason}; fetch the file again", place(tensor))]
    Header {
        /// The file.
        file: String,
        /// The tensor whose entry it is; empty where it is none's.
        tensor: String,
        /// What the parser said.
        reason: String,
    },
    /// A name occurs twice.
    #[error("{file}: tensor {tensor:?} is there twice; save the model again")]
    DuplicateTensor {
        /// The file.
        file: String,
        /// The name.
        tensor: String,
    },
    /// A dtype that the format does not have.
    #[error(
        "{file}: tensor {tensor:?} has dtype {dtype:?}, which is not known; save the model in another one, such as BF16"
    )]
    UnknownDtype {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Its dtype.
        dtype: String,
    },
    /// The range of a tensor is not as long as its shape asks for.
    #[error(
        "{file}: tensor {tensor:?} of shape {shape:?} in {dtype} has data_offsets {start} to {end}, which are not the bytes that it takes; the file is damaged: fetch it again"
    )]
    Size {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Its shape, outermost first.
        shape: Vec<u64>,
        /// Its dtype.
        dtype: &'static str,
        /// Where its data begin, from the beginning of all data.
        start: u64,
        /// Where they end.
        end: u64,
    },
    /// A tensor's data reach past the end of the file.
    #[error(
        "{file}: tensor {tensor:?} has data_offsets {start} to {end}, but the file has {len} bytes of data; the download is cut short: fetch it again"
    )]
    PastEnd {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Where its data begin, from the beginning of all data.
        start: u64,
        /// Where they end.
        end: u64,
        /// Bytes of data in the file.
        len: u64,
    },
    /// Two tensors share bytes.
    #[error(
        "{file}: tensors {tensor:?} and {other:?} overlap at byte {offset}; the file is damaged: fetch it again"
    )]
    Overlap {
        /// The file.
        file: String,
        /// The tensor that begins first.
        tensor: String,
        /// The tensor that begins inside it.
        other: String,
        /// First byte of the second, in the file.
        offset: u64,
    },
}

/// Where in the header something is wrong.
fn place(tensor: &str) -> String {
    if tensor.is_empty() { "at its beginning or end".to_owned() } else { format!("at {tensor:?}") }
}
