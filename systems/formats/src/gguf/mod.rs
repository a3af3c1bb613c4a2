//! GGUF: the header of a model file, or of all parts of a split one, and the writer of such files.
//!
//! A file consists of magic bytes, a version, two counts, metadata entries, a tensor table, padding to the alignment,
//! and the tensors' data. Everything before the data is read and checked. The data are not read; tensors are byte
//! ranges of their sources. Versions 2 and 3 in little-endian order are supported. Source: the GGUF document of the
//! ggml project, `docs/gguf.md`.
//!
//! Invariant: after [`Gguf::read`] every tensor's range is inside its part, has the size of its format and shape, is
//! aligned, and does not overlap another tensor. [`GgufWriter`] writes such files. No file makes the reader panic or
//! use more memory than a small multiple of the actual header size.

mod cursor;
mod encode;
pub(crate) mod error;
mod header;
mod metadata;
mod parse;
mod reader;
mod split;
mod tensors;
mod value;
mod write;
mod write_error;

use std::sync::Arc;

use weft_platform::storage::Source;

pub use error::GgufError;
pub use header::{GgufHeader, PlannedTensor};
pub use metadata::Metadata;
pub(crate) use reader::GgufReader;
#[cfg(not(target_family = "wasm"))]
pub use split::open_files;
pub use tensors::TensorInfo;
pub use value::{Array, Value, ValueType};
pub use write::GgufWriter;
pub use write_error::GgufWriteError;

use cursor::{Cursor, Place};
use tensors::Layout;

/// The first four bytes of a file.
const MAGIC: [u8; 4] = *b"GGUF";

/// Supported versions. Little-endian files of both have the same layout.
const VERSIONS: [u32; 2] = [2, 3];

/// The key of a file's alignment.
const ALIGNMENT: &str = "general.alignment";

/// Alignment if the metadata state none.
const DEFAULT_ALIGNMENT: u64 = 32;

/// Smallest accepted alignment. The document requires a multiple of 8, the reader of the ggml project a power of two.
const LEAST_ALIGNMENT: u64 = 8;

/// Largest accepted alignment. No memory map or storage medium needs more than pages of 64 KiB or erase blocks of a few
/// MiB.
const MOST_ALIGNMENT: u64 = 16 << 20;

/// The header of a model: metadata and tensors of all parts.
#[derive(Clone, Debug)]
pub struct Gguf {
    /// Version of the first part, 2 or 3.
    pub version: u32,
    /// Alignment of the tensors in the first part, in bytes.
    pub alignment: u64,
    /// Metadata of the first part.
    pub metadata: Metadata,
    /// Tensors of all parts in file order, starting with the first part. A file with only a vocabulary has none.
    pub tensors: Vec<TensorInfo>,
    /// Indices of `tensors`, sorted by name.
    by_name: Vec<usize>,
}

/// The header of one part.
struct Part {
    version: u32,
    alignment: u64,
    metadata: Metadata,
    tensors: Vec<TensorInfo>,
}

impl Gguf {
    /// Reads the header of the model in `sources`: one file, or all parts of a split model in order.
    ///
    /// It reads little more than the headers, in windows, and no tensor data.
    ///
    /// # Errors
    /// A [`GgufError`] that names the file, the location in it and what to do.
    pub fn read(sources: &[Arc<dyn Source>]) -> Result<Self, GgufError> {
        let mut parts = Parts::default();
        for (index, source) in sources.iter().enumerate() {
            parts.push(read_part(&**source, index, u64::MAX)?, sources.len())?;
        }
        parts.merge(sources)
    }

    /// Makes a model that has only metadata.
    ///
    /// # Errors
    /// [`GgufError::Alignment`], or [`GgufError::WrongType`] if the alignment is not an integer.
    pub(crate) fn planned(metadata: Metadata) -> Result<Self, GgufError> {
        let alignment = read_alignment(&metadata)?;
        Ok(Self { version: header::VERSION, alignment, metadata, tensors: Vec::new(), by_name: Vec::new() })
    }

    /// Returns the tensor called `name`.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        let tensor = |index: usize| self.tensors.get(index);
        let found = self
            .by_name
            .binary_search_by(|&index| tensor(index).map(|tensor| tensor.name.as_str()).cmp(&Some(name)));
        found.ok().and_then(|at| self.by_name.get(at)).and_then(|&index| tensor(index))
    }
}

/// The parts of a model that have been read, in order.
#[derive(Default)]
struct Parts {
    /// The first one, with the tensors of the others behind its own.
    first: Option<Part>,
    count: usize,
}

impl Parts {
    /// Adds the next of `given` parts.
    fn push(&mut self, part: Part, given: usize) -> Result<(), GgufError> {
        match &mut self.first {
            None => {
                split::check_count(&part.metadata, given)?;
                if given > 1 {
                    split::check_part(&part.metadata, &part.metadata, 0)?;
                }
                self.first = Some(part);
            }
            Some(first) => {
                split::check_part(&first.metadata, &part.metadata, self.count)?;
                first.tensors.extend(part.tensors);
            }
        }
        self.count += 1;
        Ok(())
    }

    /// The model, all of whose parts have been read from `sources`.
    fn merge(self, sources: &[Arc<dyn Source>]) -> Result<Gguf, GgufError> {
        let Part { version, alignment, metadata, tensors } = self.first.ok_or(GgufError::NoSources)?;
        let by_name = index_names(&tensors, sources)?;
        if sources.len() > 1 {
            split::check_tensor_count(&metadata, tensors.len())?;
        }
        Ok(Gguf { version, alignment, metadata, tensors, by_name })
    }
}

/// Returns the indices of `tensors`, sorted by name, and checks that names are unique.
fn index_names(tensors: &[TensorInfo], sources: &[Arc<dyn Source>]) -> Result<Vec<usize>, GgufError> {
    let tensor = |index: usize| tensors.get(index);
    let mut by_name: Vec<usize> = (0..tensors.len()).collect();
    by_name.sort_unstable_by_key(|&index| (tensor(index).map(|tensor| tensor.name.as_str()), index));
    for pair in by_name.windows(2) {
        if let &[first, second] = pair
            && let (Some(first), Some(second)) = (tensor(first), tensor(second))
            && first.name == second.name
        {
            let file =
                |tensor: &TensorInfo| sources.get(tensor.source).map(|source| source.name().to_owned());
            return Err(GgufError::DuplicateTensor {
                file: file(second).unwrap_or_default(),
                tensor: second.name.clone(),
                first: file(first).unwrap_or_default(),
            });
        }
    }
    Ok(by_name)
}

/// Reads the header of part `index`, from 0. The first `available` bytes of the source can be read.
fn read_part(source: &dyn Source, index: usize, available: u64) -> Result<Part, GgufError> {
    let mut cursor = Cursor::new(source, available);
    let version = read_version(&mut cursor)?;
    let tensor_count = cursor.u64(Place::Header("the tensor count"))?;
    let entry_count = cursor.u64(Place::Header("the metadata count"))?;
    cursor.check_count(tensor_count, tensors::LEAST_ENTRY, Place::Header("the tensor table"))?;
    let metadata = Metadata::read(&mut cursor, entry_count)?;
    let alignment = read_alignment(&metadata)?;
    let entries = tensors::read(&mut cursor, tensor_count)?;
    // Cannot overflow: headers and alignments are limited.
    let data = cursor.position().next_multiple_of(alignment);
    let layout = Layout { file: source.name(), len: source.len(), data, alignment, source: index };
    Ok(Part { version, alignment, metadata, tensors: layout.place(entries)? })
}

fn read_version(cursor: &mut Cursor<'_>) -> Result<u32, GgufError> {
    let found: [u8; 4] = cursor.array(Place::Header("the magic word"))?;
    if found != MAGIC {
        return Err(GgufError::NotGguf { file: cursor.file(), found });
    }
    let version = cursor.u32(Place::Header("the version"))?;
    if VERSIONS.contains(&version) {
        return Ok(version);
    }
    // Versions are small numbers, so in the other byte order the lower 16 bits are 0.
    if version != 0 && version & 0xffff == 0 {
        return Err(GgufError::BigEndian { file: cursor.file(), version: version.swap_bytes() });
    }
    Err(GgufError::Version { file: cursor.file(), version })
}

fn read_alignment(metadata: &Metadata) -> Result<u64, GgufError> {
    let value = metadata.opt_u64(ALIGNMENT)?.unwrap_or(DEFAULT_ALIGNMENT);
    if value.is_power_of_two() && (LEAST_ALIGNMENT..=MOST_ALIGNMENT).contains(&value) {
        return Ok(value);
    }
    let (least, most) = (LEAST_ALIGNMENT, MOST_ALIGNMENT);
    Err(GgufError::Alignment { file: metadata.file().to_owned(), value, least, most })
}
