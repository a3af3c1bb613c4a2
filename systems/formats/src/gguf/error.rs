//! Errors of reading a GGUF file.
//!
//! Each variant contains the file, the location in it, the value found and what to do. Numbers are as stated in the
//! file. Names from the file are shown escaped where they may contain any characters.

use weft_platform::storage::StorageError;

/// A GGUF file cannot be read, or its metadata are not as requested.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GgufError {
    /// The bytes could not be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The list of files is empty.
    #[error("no file to read a model from; name at least one .gguf file")]
    NoSources,

    /// The file does not start with the magic bytes `GGUF`.
    #[error(
        "{file}: is not a GGUF file: it begins with {found:02x?}, not \"GGUF\"; check that the download is the model itself"
    )]
    NotGguf {
        /// Name of the file.
        file: String,
        /// Its first four bytes.
        found: [u8; 4],
    },
    /// The reader does not support the version.
    #[error("{file}: GGUF version {version} cannot be read, only 2 and 3; {}", version_remedy(*version))]
    Version {
        /// Name of the file.
        file: String,
        /// Stated version.
        version: u32,
    },
    /// The file has big-endian byte order.
    #[error(
        "{file}: is a big-endian GGUF file of version {version}; only little-endian files can be read: \
         convert it with gguf_convert_endian or get the little-endian one"
    )]
    BigEndian {
        /// Name of the file.
        file: String,
        /// Stated version, with its bytes swapped.
        version: u32,
    },
    /// The file ends inside its header.
    #[error(
        "{file}: ends inside {place}: {needed} bytes are needed at offset {offset} and {remain} remain; \
         the download is cut short: fetch it again"
    )]
    Truncated {
        /// Name of the file.
        file: String,
        /// What was being read.
        place: String,
        /// Its offset in the file.
        offset: u64,
        /// Its size in bytes.
        needed: u64,
        /// Bytes in the file from that offset on.
        remain: u64,
    },
    /// A count exceeds what the rest of the file can contain.
    #[error(
        "{file}: {place} states {count} elements of at least {each} bytes at offset {offset}, where {remain} bytes \
         remain; the file is damaged or cut short: fetch it again"
    )]
    Count {
        /// Name of the file.
        file: String,
        /// What is counted.
        place: String,
        /// Stated count.
        count: u64,
        /// Smallest size of an element in bytes.
        each: u64,
        /// Offset of the elements in the file.
        offset: u64,
        /// Bytes in the file from that offset on.
        remain: u64,
    },
    /// The header exceeds the limit that protects memory.
    #[error(
        "{file}: {place} reaches past the first {limit} bytes, more than any header needs; the file is damaged: fetch it again"
    )]
    HeaderTooLarge {
        /// Name of the file.
        file: String,
        /// What was being read.
        place: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// Memory for the header could not be allocated.
    #[error("{file}: no memory for {place} ({bytes} bytes); close other programs or load a smaller model")]
    Memory {
        /// Name of the file.
        file: String,
        /// What was being read.
        place: String,
        /// Requested bytes.
        bytes: u64,
    },

    /// A key or tensor name is not UTF-8.
    #[error("{file}: {place} at offset {offset} is not UTF-8; the file is damaged: fetch it again")]
    Utf8 {
        /// Name of the file.
        file: String,
        /// What was being read.
        place: String,
        /// Its offset in the file.
        offset: u64,
    },
    /// A key or tensor name is empty.
    #[error("{file}: {place} is empty; the file is damaged or was written incorrectly: convert it again")]
    EmptyName {
        /// Name of the file.
        file: String,
        /// Which name it is.
        place: String,
    },
    /// A key or tensor name is too long.
    #[error(
        "{file}: {place} is {len} bytes long, more than the {most} allowed; the file is damaged: fetch it again"
    )]
    NameTooLong {
        /// Name of the file.
        file: String,
        /// Which name it is.
        place: String,
        /// Its length in bytes.
        len: u64,
        /// Largest accepted length in bytes.
        most: u64,
    },
    /// A value type is not defined by GGUF.
    #[error(
        "{file}: metadata key {key:?} has value type {id}, which GGUF does not have (0 to 12); the file is damaged: fetch it again"
    )]
    ValueType {
        /// Name of the file.
        file: String,
        /// The metadata key.
        key: String,
        /// The type id.
        id: u32,
    },
    /// A boolean is neither 0 nor 1.
    #[error(
        "{file}: metadata key {key:?} holds {value} as a boolean, which must be 0 or 1; convert the model again"
    )]
    Bool {
        /// Name of the file.
        file: String,
        /// The metadata key.
        key: String,
        /// The byte found.
        value: u8,
    },
    /// Arrays are nested too deep.
    #[error(
        "{file}: metadata key {key:?} nests arrays more than {limit} deep; the file is damaged: fetch it again"
    )]
    Depth {
        /// Name of the file.
        file: String,
        /// The metadata key.
        key: String,
        /// Largest accepted depth.
        limit: u32,
    },
    /// A key occurs twice.
    #[error("{file}: metadata key {key:?} occurs twice; convert the model again")]
    DuplicateKey {
        /// Name of the file.
        file: String,
        /// The metadata key.
        key: String,
    },
    /// `general.alignment` is not a power of two within the limits.
    #[error(
        "{file}: general.alignment is {value}; it must be a power of two from {least} to {most}: convert the model again"
    )]
    Alignment {
        /// Name of the file.
        file: String,
        /// Stated alignment.
        value: u64,
        /// Smallest accepted alignment.
        least: u64,
        /// Largest accepted alignment.
        most: u64,
    },

    /// A tensor has no dimensions or too many.
    #[error(
        "{file}: tensor {tensor:?} has {dimensions} dimensions, not 1 to {most}; the file is damaged: fetch it again"
    )]
    Dimensions {
        /// Name of the file.
        file: String,
        /// Name of the tensor.
        tensor: String,
        /// Stated number of dimensions.
        dimensions: u32,
        /// Largest accepted number.
        most: u32,
    },
    /// A dimension of a tensor is 0.
    #[error("{file}: tensor {tensor:?} of shape {shape:?} has no elements; convert the model again")]
    ZeroDimension {
        /// Name of the file.
        file: String,
        /// Name of the tensor.
        tensor: String,
        /// Its shape, innermost first.
        shape: Vec<u64>,
    },
    /// The size or offset of a tensor exceeds 64 bits.
    #[error(
        "{file}: tensor {tensor:?} of shape {shape:?} at offset {offset} is larger than any file; the file is damaged: fetch it again"
    )]
    SizeOverflow {
        /// Name of the file.
        file: String,
        /// Name of the tensor.
        tensor: String,
        /// Its shape, innermost first.
        shape: Vec<u64>,
        /// Its offset from the start of the data.
        offset: u64,
    },
    /// The type of a tensor is not defined by ggml.
    #[error(
        "{file}: tensor {tensor:?} has type {id}, which is unknown here or was removed from ggml; \
         get or make the model in another quantization, such as Q8_0 or Q4_0"
    )]
    UnknownFormat {
        /// Name of the file.
        file: String,
        /// Name of the tensor.
        tensor: String,
        /// The type id.
        id: u32,
    },
    /// A row is not a whole number of blocks.
    #[error(
        "{file}: tensor {tensor:?} has rows of {row} elements, no multiple of the {block} in a block of {format}; \
         convert the model again"
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
    /// The data of a tensor do not start at a multiple of the alignment.
    #[error(
        "{file}: tensor {tensor:?} is at offset {offset}, not a multiple of the alignment {alignment}; convert the model again"
    )]
    Unaligned {
        /// Name of the file.
        file: String,
        /// Name of the tensor.
        tensor: String,
        /// Its offset from the start of the data.
        offset: u64,
        /// Alignment of the file.
        alignment: u64,
    },
    /// The data of a tensor exceed the file.
    #[error(
        "{file}: tensor {tensor:?} is at bytes {start} to {end}, but the file has {len}; \
         the download is cut short: fetch it again"
    )]
    PastEnd {
        /// Name of the file.
        file: String,
        /// Name of the tensor.
        tensor: String,
        /// Its first byte in the file.
        start: u64,
        /// Its end in the file, exclusive.
        end: u64,
        /// Bytes in the file.
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
    /// Two tensors have the same name.
    #[error("{file}: tensor {tensor:?} is also in {first}; name the parts of one model, each once")]
    DuplicateTensor {
        /// Name of the second tensor's file.
        file: String,
        /// Name of the tensor.
        tensor: String,
        /// Name of the first tensor's file.
        first: String,
    },

    /// The number of files is not the model's number of parts.
    #[error(
        "{file}: is part of a model in {expected} files, but {given} were given; name all parts, or any one of a complete folder"
    )]
    PartCount {
        /// Name of the file.
        file: String,
        /// Stated number of parts.
        expected: u64,
        /// Number of files given.
        given: u64,
    },
    /// A part is missing from its folder.
    #[error("{file}: part {part} of {parts} of the model is missing; fetch it into the same folder")]
    PartMissing {
        /// Path of the missing file.
        file: String,
        /// Number of the part, from 1.
        part: u64,
        /// Number of parts.
        parts: u64,
    },
    /// A file that was given among several is not part of a split model.
    #[error("{file}: was given as part {part} of a model, but lacks {key}; name the parts of one model only")]
    NotAPart {
        /// Name of the file.
        file: String,
        /// The number of the part it was given as, from 1.
        part: u64,
        /// The missing key.
        key: &'static str,
    },
    /// The parts are not in order.
    #[error(
        "{file}: is part {found} of the model, but was given as part {expected}; give the parts in order, each once"
    )]
    PartOrder {
        /// Name of the file.
        file: String,
        /// Number of the part as stated, from 1.
        found: u64,
        /// Number of the part it was given as, from 1.
        expected: u64,
    },
    /// A part belongs to another model.
    #[error(
        "{file}: states {key} = {found}, but {first} states {expected}: they are parts of different models; fetch them again from one place"
    )]
    PartForeign {
        /// Name of the file.
        file: String,
        /// The key that differs.
        key: &'static str,
        /// Its value in this file.
        found: String,
        /// Its value in the first part.
        expected: String,
        /// Name of the first part's file.
        first: String,
    },
    /// The parts together do not have the stated number of tensors.
    #[error(
        "{file}: states {expected} tensors in all its parts, but they have {found}; fetch all parts again from one place"
    )]
    TensorCount {
        /// Name of the first part's file.
        file: String,
        /// Stated number of tensors.
        expected: u64,
        /// Number of tensors found.
        found: u64,
    },

    /// A required metadata key is missing.
    #[error(
        "{file}: has no metadata key {key:?}, which is needed; convert the model again with a current converter"
    )]
    MissingKey {
        /// Name of the file.
        file: String,
        /// The metadata key.
        key: String,
    },
    /// A metadata value has the wrong type.
    #[error(
        "{file}: metadata key {key:?} is {found}, not {expected}; convert the model again with a current converter"
    )]
    WrongType {
        /// Name of the file.
        file: String,
        /// The metadata key.
        key: String,
        /// The expected type.
        expected: &'static str,
        /// The type found.
        found: String,
    },
    /// A metadata number does not fit the requested type.
    #[error(
        "{file}: metadata key {key:?} is {value}, which does not fit {expected}; the file is damaged or was written incorrectly"
    )]
    OutOfRange {
        /// Name of the file.
        file: String,
        /// The metadata key.
        key: String,
        /// The number found.
        value: String,
        /// The requested type.
        expected: &'static str,
    },
}

/// Returns what to do about a file of an unsupported version.
fn version_remedy(version: u32) -> &'static str {
    match version {
        0 => "the file is damaged: fetch it again",
        1 => "convert the model again with a current converter",
        _ => "it is newer than this program: update it",
    }
}
