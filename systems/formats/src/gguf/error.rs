//! What can be wrong with a GGUF file.
//!
//! Each variant carries the file, the place in it, the value found and what to do. Numbers are as the file states
//! them; names taken from a file are shown escaped where they may hold anything.

use weft_platform::storage::StorageError;

/// An error of reading a GGUF file or of asking its metadata.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GgufError {
    /// The bytes could not be had.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// No file was given.
    #[error("no file to read a model from; name at least one .gguf file")]
    NoSources,

    /// The file does not begin with the magic word `GGUF`.
    #[error(
        "{file}: is no GGUF file: it begins with {found:02x?}, not \"GGUF\"; check that the download is the model itself"
    )]
    NotGguf {
        /// The file.
        file: String,
        /// Its first four bytes.
        found: [u8; 4],
    },
    /// The version is none that this reader knows.
    #[error("{file}: GGUF version {version} cannot be read, only 2 and 3; {}", version_remedy(*version))]
    Version {
        /// The file.
        file: String,
        /// The version it states.
        version: u32,
    },
    /// The file is in big-endian byte order.
    #[error(
        "{file}: is a big-endian GGUF file of version {version}; only little-endian files can be read: \
         convert it with gguf_convert_endian or get the little-endian one"
    )]
    BigEndian {
        /// The file.
        file: String,
        /// The version it states, swapped.
        version: u32,
    },
    /// The file ends inside its header.
    #[error(
        "{file}: ends inside {place}: {needed} bytes are needed at offset {offset} and {remain} remain; \
         the download is cut short: fetch it again"
    )]
    Truncated {
        /// The file.
        file: String,
        /// What was being read.
        place: String,
        /// Where it begins in the file.
        offset: u64,
        /// Bytes it needs.
        needed: u64,
        /// Bytes the file has from there on.
        remain: u64,
    },
    /// A count is larger than what the rest of the file can hold.
    #[error(
        "{file}: {place} states {count} elements of at least {each} bytes at offset {offset}, where {remain} bytes \
         remain; the file is damaged or cut short: fetch it again"
    )]
    Count {
        /// The file.
        file: String,
        /// What the count is of.
        place: String,
        /// The count stated.
        count: u64,
        /// Fewest bytes that one element takes.
        each: u64,
        /// Where the elements begin in the file.
        offset: u64,
        /// Bytes the file has from there on.
        remain: u64,
    },
    /// The header goes on past the limit that guards memory.
    #[error(
        "{file}: {place} reaches past the first {limit} bytes, more than any header needs; the file is damaged: fetch it again"
    )]
    HeaderTooLarge {
        /// The file.
        file: String,
        /// What was being read.
        place: String,
        /// The limit, in bytes.
        limit: u64,
    },
    /// The system has no memory for the header.
    #[error("{file}: no memory for {place} ({bytes} bytes); close other programs or load a smaller model")]
    Memory {
        /// The file.
        file: String,
        /// What was being read.
        place: String,
        /// Bytes asked for.
        bytes: u64,
    },

    /// A key or tensor name is not UTF-8.
    #[error("{file}: {place} at offset {offset} is not UTF-8; the file is damaged: fetch it again")]
    Utf8 {
        /// The file.
        file: String,
        /// What was being read.
        place: String,
        /// Where its bytes begin.
        offset: u64,
    },
    /// A key or tensor name is empty.
    #[error("{file}: {place} is empty; the file is damaged or badly made: convert it again")]
    EmptyName {
        /// The file.
        file: String,
        /// Which name.
        place: String,
    },
    /// A key or tensor name is longer than any.
    #[error(
        "{file}: {place} is {len} bytes long, more than the {most} allowed; the file is damaged: fetch it again"
    )]
    NameTooLong {
        /// The file.
        file: String,
        /// Which name.
        place: String,
        /// Its length in bytes.
        len: u64,
        /// Most bytes allowed.
        most: u64,
    },
    /// A value type is none that GGUF has.
    #[error(
        "{file}: metadata key {key:?} has value type {id}, which GGUF does not have (0 to 12); the file is damaged: fetch it again"
    )]
    ValueType {
        /// The file.
        file: String,
        /// The key.
        key: String,
        /// The type id found.
        id: u32,
    },
    /// A boolean is neither 0 nor 1.
    #[error(
        "{file}: metadata key {key:?} holds {value} as a boolean, which must be 0 or 1; convert the model again"
    )]
    Bool {
        /// The file.
        file: String,
        /// The key.
        key: String,
        /// The byte found.
        value: u8,
    },
    /// Arrays are nested too deep.
    #[error(
        "{file}: metadata key {key:?} nests arrays more than {limit} deep; the file is damaged: fetch it again"
    )]
    Depth {
        /// The file.
        file: String,
        /// The key.
        key: String,
        /// Levels allowed.
        limit: u32,
    },
    /// A key occurs twice.
    #[error("{file}: metadata key {key:?} occurs twice; convert the model again")]
    DuplicateKey {
        /// The file.
        file: String,
        /// The key.
        key: String,
    },
    /// `general.alignment` is no power of two within the limits.
    #[error(
        "{file}: general.alignment is {value}; it must be a power of two from {least} to {most}: convert the model again"
    )]
    Alignment {
        /// The file.
        file: String,
        /// The alignment stated.
        value: u64,
        /// Smallest allowed.
        least: u64,
        /// Largest allowed.
        most: u64,
    },

    /// A tensor has no dimensions or too many.
    #[error(
        "{file}: tensor {tensor:?} has {dimensions} dimensions, not 1 to {most}; the file is damaged: fetch it again"
    )]
    Dimensions {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Dimensions stated.
        dimensions: u32,
        /// Most allowed.
        most: u32,
    },
    /// A dimension is zero.
    #[error("{file}: tensor {tensor:?} of shape {shape:?} has no elements; convert the model again")]
    ZeroDimension {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Its shape, innermost first.
        shape: Vec<u64>,
    },
    /// The size or place of a tensor is past what 64 bits can count.
    #[error(
        "{file}: tensor {tensor:?} of shape {shape:?} at offset {offset} is larger than any file; the file is damaged: fetch it again"
    )]
    SizeOverflow {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Its shape, innermost first.
        shape: Vec<u64>,
        /// Its offset in the data.
        offset: u64,
    },
    /// The tensor type is none that ggml has.
    #[error(
        "{file}: tensor {tensor:?} has type {id}, which is unknown here or was removed from ggml; \
         get or make the model in another quantization, such as Q8_0 or Q4_0"
    )]
    UnknownFormat {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// The type id found.
        id: u32,
    },
    /// A row is no whole number of blocks.
    #[error(
        "{file}: tensor {tensor:?} has rows of {row} elements, no multiple of the {block} in a block of {format}; \
         convert the model again"
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
    /// A tensor's data does not begin at a multiple of the alignment.
    #[error(
        "{file}: tensor {tensor:?} is at offset {offset}, no multiple of the alignment {alignment}; convert the model again"
    )]
    Unaligned {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Its offset in the data.
        offset: u64,
        /// The file's alignment.
        alignment: u64,
    },
    /// A tensor's data reaches past the end of the file.
    #[error(
        "{file}: tensor {tensor:?} is at bytes {start} to {end}, but the file has {len}; \
         the download is cut short: fetch it again"
    )]
    PastEnd {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Its first byte in the file.
        start: u64,
        /// Its end in the file, exclusive.
        end: u64,
        /// Bytes in the file.
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
        /// First byte of the second.
        offset: u64,
    },
    /// Two tensors have one name.
    #[error("{file}: tensor {tensor:?} is there already, in {first}; name the parts of one model, each once")]
    DuplicateTensor {
        /// The file of the second.
        file: String,
        /// The name.
        tensor: String,
        /// The file of the first.
        first: String,
    },

    /// The file's parts are not all there.
    #[error(
        "{file}: is part of a model in {expected} files, but {given} were given; name all parts, or any one of a complete folder"
    )]
    PartCount {
        /// The file.
        file: String,
        /// Parts that it states.
        expected: u64,
        /// Parts given.
        given: u64,
    },
    /// A part is missing from its folder.
    #[error("{file}: is missing: part {part} of {parts} of the model; fetch it into the same folder")]
    PartMissing {
        /// The path looked for.
        file: String,
        /// Its number, from 1.
        part: u64,
        /// Parts of the model.
        parts: u64,
    },
    /// A file among several is no part of a split model.
    #[error("{file}: was given as part {part} of a model, but lacks {key}; name the parts of one model only")]
    NotAPart {
        /// The file.
        file: String,
        /// The number it was given as, from 1.
        part: u64,
        /// The key it lacks.
        key: &'static str,
    },
    /// A part is not the one expected at its place.
    #[error(
        "{file}: is part {found} of the model, but was given as part {expected}; give the parts in order, each once"
    )]
    PartOrder {
        /// The file.
        file: String,
        /// The part it says it is, from 1.
        found: u64,
        /// The part it was given as, from 1.
        expected: u64,
    },
    /// A part belongs to another model.
    #[error(
        "{file}: states {key} = {found}, but {first} states {expected}: they are parts of different models; fetch them again from one place"
    )]
    PartForeign {
        /// The file.
        file: String,
        /// The key that differs.
        key: &'static str,
        /// Its value here.
        found: String,
        /// Its value in the first part.
        expected: String,
        /// The first part.
        first: String,
    },
    /// The parts together have another number of tensors than stated.
    #[error(
        "{file}: states {expected} tensors in all its parts, but they have {found}; fetch all parts again from one place"
    )]
    TensorCount {
        /// The first part.
        file: String,
        /// Tensors stated.
        expected: u64,
        /// Tensors found.
        found: u64,
    },

    /// A metadata key that is needed is not there.
    #[error(
        "{file}: has no metadata key {key:?}, which is needed; convert the model again with a current converter"
    )]
    MissingKey {
        /// The file.
        file: String,
        /// The key.
        key: String,
    },
    /// A metadata value is of another type than needed.
    #[error(
        "{file}: metadata key {key:?} is {found}, not {expected}; convert the model again with a current converter"
    )]
    WrongType {
        /// The file.
        file: String,
        /// The key.
        key: String,
        /// What is needed.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// A metadata number does not fit the type needed.
    #[error(
        "{file}: metadata key {key:?} is {value}, which does not fit {expected}; the file is damaged or badly made"
    )]
    OutOfRange {
        /// The file.
        file: String,
        /// The key.
        key: String,
        /// The number found.
        value: String,
        /// What is needed.
        expected: &'static str,
    },
}

/// What to do about a file of a version that cannot be read.
fn version_remedy(version: u32) -> &'static str {
    match version {
        0 => "the file is damaged: fetch it again",
        1 => "convert the model again with a current converter",
        _ => "it is newer than this program: update it",
    }
}
