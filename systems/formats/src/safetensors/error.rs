//! Errors of reading a safetensors file.

use weft_platform::storage::StorageError;

/// The header of a safetensors file could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SafetensorsError {
    /// The bytes could not be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The file ends inside its header.
    #[error(
        "{file}: ends inside its header: {needed} bytes are needed and the file has {len}; the download is cut short: fetch it again"
    )]
    Truncated {
        /// Name of the file.
        file: String,
        /// Bytes up to the end of the header, as the file states.
        needed: u64,
        /// Bytes in the file.
        len: u64,
    },
    /// The stated length of the header is too large.
    #[error(
        "{file}: states a header of {bytes} bytes, but the limit is {limit}; it is damaged or not a safetensors file: fetch it again"
    )]
    HeaderTooLarge {
        /// Name of the file.
        file: String,
        /// Stated bytes.
        bytes: u64,
        /// Largest accepted length in bytes.
        limit: u64,
    },
    /// The header is not a valid JSON object of tensors.
    #[error("{file}: the header is damaged {}: {reason}; fetch the file again", place(tensor))]
    Header {
        /// Name of the file.
        file: String,
        /// The tensor whose entry is damaged; empty if the error is outside the entries.
        tensor: String,
        /// The parser's message.
        reason: String,
    },
    /// The header contains a tensor twice.
    #[error("{file}: the header contains tensor {tensor:?} twice; save the model again")]
    DuplicateTensor {
        /// Name of the file.
        file: String,
        /// Name of the tensor.
        tensor: String,
    },
    /// The dtype is unknown.
    #[error(
        "{file}: tensor {tensor:?} has dtype {dtype:?}, which is not known; save the model in another one, such as BF16"
    )]
    UnknownDtype {
        /// Name of the file.
        file: String,
        /// Name of the tensor.
        tensor: String,
        /// Its dtype.
        dtype: String,
    },
    /// The byte range of a tensor does not match its shape and dtype.
    #[error(
        "{file}: tensor {tensor:?} of shape {shape:?} in {dtype} has data_offsets {start} to {end}, which do not match the size of the tensor; the file is damaged: fetch it again"
    )]
    Size {
        /// Name of the file.
        file: String,
        /// Name of the tensor.
        tensor: String,
        /// Its shape, outermost first.
        shape: Vec<u64>,
        /// Its dtype.
        dtype: &'static str,
        /// Start of its data, relative to the start of all data.
        start: u64,
        /// End of its data, exclusive.
        end: u64,
    },
    /// The data of a tensor exceed the file.
    #[error(
        "{file}: tensor {tensor:?} has data_offsets {start} to {end}, but the file has {len} bytes of data; the download is cut short: fetch it again"
    )]
    PastEnd {
        /// Name of the file.
        file: String,
        /// Name of the tensor.
        tensor: String,
        /// Start of its data, relative to the start of all data.
        start: u64,
        /// End of its data, exclusive.
        end: u64,
        /// Bytes of data in the file.
        len: u64,
    },
    /// Two tensors overlap.
    #[error(
        "{file}: tensors {tensor:?} and {other:?} overlap at byte {offset}; the file is damaged: fetch it again"
    )]
    Overlap {
        /// Name of the file.
        file: String,
        /// The tensor that starts first.
        tensor: String,
        /// The tensor that starts inside it.
        other: String,
        /// First byte of the second tensor in the file.
        offset: u64,
    },
}

/// Returns where in the header the error is.
fn place(tensor: &str) -> String {
    if tensor.is_empty() { "at its beginning or end".to_owned() } else { format!("at {tensor:?}") }
}
