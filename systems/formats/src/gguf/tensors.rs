//! The tensor table: names, formats, shapes and byte ranges, all checked against the file.

use std::ops::Range;

use weft_components::TensorFormat;

use super::GgufError;
use super::cursor::{Cursor, Place};

/// Largest number of dimensions of a tensor.
pub(super) const MAX_DIMENSIONS: u32 = 4;

/// Smallest size of a table entry in bytes: the length of its name, one character, the number of dimensions, one
/// dimension, type and offset.
pub(super) const LEAST_ENTRY: u64 = 8 + 1 + 4 + 8 + 4 + 8;

/// A tensor of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name, unique in all parts.
    pub name: String,
    /// The format of its elements.
    pub format: TensorFormat,
    /// One to four dimensions, none of them 0, innermost first as in GGUF. A matrix of `[inputs, outputs]` has
    /// `outputs` rows of `inputs` elements. A row is a whole number of blocks.
    pub shape: Vec<u64>,
    /// Index of its part: the position of the source in the argument of `Gguf::read`.
    pub source: usize,
    /// Its bytes, from the start of the part. The range is inside the part, starts at a multiple of the part's
    /// alignment, and does not overlap another tensor.
    pub range: Range<u64>,
}

impl TensorInfo {
    /// Returns the number of elements.
    pub fn elements(&self) -> u64 {
        // Checked when the table was read. If the shape was changed since, the product saturates instead of panicking.
        self.shape.iter().fold(1, |product: u64, &dimension| product.saturating_mul(dimension))
    }

    /// Returns the number of bytes.
    pub fn bytes(&self) -> u64 {
        self.range.end.saturating_sub(self.range.start)
    }
}

/// A table entry that has not been checked against the size of the file.
pub(super) struct Entry {
    name: String,
    format: TensorFormat,
    shape: Vec<u64>,
    /// From the start of the data.
    offset: u64,
    bytes: u64,
}

/// Reads a table of `count` entries.
pub(super) fn read(cursor: &mut Cursor<'_>, count: u64) -> Result<Vec<Entry>, GgufError> {
    let mut entries = cursor.vec(count, LEAST_ENTRY, Place::Header("the tensor table"))?;
    for index in 0..count {
        entries.push(entry(cursor, index)?);
    }
    Ok(entries)
}

fn entry(cursor: &mut Cursor<'_>, index: u64) -> Result<Entry, GgufError> {
    let name = cursor.name(Place::TensorName(index))?;
    let place = Place::Tensor(&name);
    let dimensions = cursor.u32(place)?;
    if !(1..=MAX_DIMENSIONS).contains(&dimensions) {
        return Err(GgufError::Dimensions {
            file: cursor.file(),
            tensor: name,
            dimensions,
            most: MAX_DIMENSIONS,
        });
    }
    let mut shape = Vec::with_capacity(dimensions as usize);
    for _ in 0..dimensions {
        shape.push(cursor.u64(place)?);
    }
    let id = cursor.u32(place)?;
    let offset = cursor.u64(place)?;
    if shape.contains(&0) {
        return Err(GgufError::ZeroDimension { file: cursor.file(), tensor: name, shape });
    }
    let Some(format) = TensorFormat::from_ggml(id) else {
        return Err(GgufError::UnknownFormat { file: cursor.file(), tensor: name, id });
    };
    let row = shape.first().copied().unwrap_or_default();
    let block = format.block() as u64;
    if !row.is_multiple_of(block) {
        let format = format.name();
        return Err(GgufError::RowNotBlocks { file: cursor.file(), tensor: name, row, block, format });
    }
    match sizes(&shape, format) {
        Some(bytes) => Ok(Entry { name, format, shape, offset, bytes }),
        None => Err(GgufError::SizeOverflow { file: cursor.file(), tensor: name, shape, offset }),
    }
}

/// Returns the bytes of a tensor; `None` if they or its elements exceed 64 bits.
pub(super) fn sizes(shape: &[u64], format: TensorFormat) -> Option<u64> {
    let elements = shape.iter().try_fold(1, |product: u64, &dimension| product.checked_mul(dimension))?;
    (elements / format.block() as u64).checked_mul(format.block_bytes() as u64)
}

/// The data section of one part. `data` is the offset of its first byte: the end of the header, aligned.
pub(super) struct Layout<'a> {
    pub(super) file: &'a str,
    pub(super) len: u64,
    pub(super) data: u64,
    pub(super) alignment: u64,
    pub(super) source: usize,
}

impl Layout<'_> {
    /// Checks the entries against the file and returns its tensors.
    pub(super) fn place(&self, entries: Vec<Entry>) -> Result<Vec<TensorInfo>, GgufError> {
        let mut tensors = Vec::with_capacity(entries.len());
        for entry in entries {
            tensors.push(self.place_one(entry)?);
        }
        self.check_overlap(&tensors)?;
        Ok(tensors)
    }

    fn place_one(&self, entry: Entry) -> Result<TensorInfo, GgufError> {
        let Entry { name, format, shape, offset, bytes } = entry;
        let file = || self.file.to_owned();
        if !offset.is_multiple_of(self.alignment) {
            return Err(GgufError::Unaligned {
                file: file(),
                tensor: name,
                offset,
                alignment: self.alignment,
            });
        }
        let start = self.data.checked_add(offset);
        let (Some(start), Some(end)) = (start, start.and_then(|start| start.checked_add(bytes))) else {
            return Err(GgufError::SizeOverflow { file: file(), tensor: name, shape, offset });
        };
        if end > self.len {
            return Err(GgufError::PastEnd { file: file(), tensor: name, start, end, len: self.len });
        }
        Ok(TensorInfo { name, format, shape, source: self.source, range: start..end })
    }

    fn check_overlap(&self, tensors: &[TensorInfo]) -> Result<(), GgufError> {
        let mut by_start: Vec<&TensorInfo> = tensors.iter().collect();
        by_start.sort_unstable_by_key(|tensor| tensor.range.start);
        for pair in by_start.windows(2) {
            if let &[first, second] = pair
                && second.range.start < first.range.end
            {
                return Err(GgufError::Overlap {
                    file: self.file.to_owned(),
                    tensor: first.name.clone(),
                    other: second.name.clone(),
                    offset: second.range.start,
                });
            }
        }
        Ok(())
    }
}
