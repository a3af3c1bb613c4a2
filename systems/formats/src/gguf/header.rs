//! The header of a file to be written: metadata, tensor table, and the offsets of the tensors' data.
//!
//! Entries are encoded as they are added, so the header of a large vocabulary is in memory only once.
//!
//! Invariant: the tables are within the reader's limits. Tensors are in the order in which they were added. Each is
//! aligned and padded to the alignment, including the last one, because llama.cpp requires its padding.

use std::collections::HashSet;
use std::io::{self, Read, Write};

use weft_components::TensorFormat;

use super::cursor::{MAX_HEADER, MAX_NAME};
use super::tensors::{MAX_DIMENSIONS, sizes};
use super::{GgufWriteError, MAGIC, Metadata, encode, read_alignment};

/// The version that is written.
pub(super) const VERSION: u32 = 3;

/// Bytes before the metadata: magic, version and two counts.
const FIXED: u64 = 4 + 4 + 8 + 8;

/// A tensor of a file to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedTensor {
    /// Its name, unique in the file.
    pub name: String,
    /// The format of its elements.
    pub format: TensorFormat,
    /// One to four dimensions, none of them 0, innermost first.
    pub shape: Vec<u64>,
    /// Offset from the start of the data, a multiple of the alignment.
    pub offset: u64,
    /// Bytes of its data, without the padding after them.
    pub bytes: u64,
}

/// The header of a file to be written.
#[derive(Clone, Debug)]
pub struct GgufHeader {
    file: String,
    alignment: u64,
    entry_count: u64,
    /// The encoded metadata.
    entries: Vec<u8>,
    /// The encoded tensor table.
    table: Vec<u8>,
    tensors: Vec<PlannedTensor>,
    names: HashSet<String>,
    /// Bytes of all data, including padding.
    data_bytes: u64,
}

impl GgufHeader {
    /// Makes a header with `metadata` and without tensors. The alignment is `general.alignment`, or 32 if the key is
    /// missing.
    ///
    /// # Errors
    /// [`GgufWriteError::Key`], [`GgufWriteError::Depth`], [`GgufWriteError::HeaderTooLarge`], or
    /// [`GgufWriteError::Metadata`] for an invalid alignment.
    pub fn new(metadata: &Metadata) -> Result<Self, GgufWriteError> {
        let mut header = Self {
            file: metadata.file().to_owned(),
            alignment: read_alignment(metadata)?,
            entry_count: metadata.len() as u64,
            entries: Vec::new(),
            table: Vec::new(),
            tensors: Vec::new(),
            names: HashSet::new(),
            data_bytes: 0,
        };
        for (key, value) in metadata.iter() {
            if !is_name(key) {
                return Err(GgufWriteError::Key { file: header.file, key: key.to_owned(), most: MAX_NAME });
            }
            encode::entry(&mut header.entries, key, value)
                .map_err(|_| GgufWriteError::Depth { file: header.file.clone(), key: key.to_owned() })?;
            header.check_size()?;
        }
        Ok(header)
    }

    /// Appends a tensor. `shape` is innermost first.
    ///
    /// # Errors
    /// [`GgufWriteError::TensorName`], [`GgufWriteError::DuplicateTensor`], [`GgufWriteError::Shape`],
    /// [`GgufWriteError::RowNotBlocks`], [`GgufWriteError::SizeOverflow`] or [`GgufWriteError::HeaderTooLarge`].
    pub fn tensor(&mut self, name: &str, format: TensorFormat, shape: &[u64]) -> Result<(), GgufWriteError> {
        let file = || self.file.clone();
        let tensor = || name.to_owned();
        if !is_name(name) {
            return Err(GgufWriteError::TensorName { file: file(), tensor: tensor(), most: MAX_NAME });
        }
        if self.names.contains(name) {
            return Err(GgufWriteError::DuplicateTensor { file: file(), tensor: tensor() });
        }
        let dimensions = u32::try_from(shape.len()).unwrap_or(u32::MAX);
        if !(1..=MAX_DIMENSIONS).contains(&dimensions) || shape.contains(&0) {
            let (shape, most) = (shape.to_vec(), MAX_DIMENSIONS);
            return Err(GgufWriteError::Shape { file: file(), tensor: tensor(), shape, most });
        }
        let (row, block) = (shape.first().copied().unwrap_or_default(), format.block() as u64);
        if !row.is_multiple_of(block) {
            let format = format.name();
            return Err(GgufWriteError::RowNotBlocks { file: file(), tensor: tensor(), row, block, format });
        }
        let bytes = sizes(shape, format);
        let end = bytes
            .and_then(|bytes| self.data_bytes.checked_add(bytes))
            .and_then(|end| end.checked_next_multiple_of(self.alignment))
            // Leaves room for the header, so that the size of the file does not overflow.
            .filter(|end| *end <= u64::MAX - 2 * MAX_HEADER);
        let (Some(bytes), Some(end)) = (bytes, end) else {
            return Err(GgufWriteError::SizeOverflow {
                file: file(),
                tensor: tensor(),
                shape: shape.to_vec(),
            });
        };
        let offset = self.data_bytes;
        encode::string(&mut self.table, name);
        self.table.extend(dimensions.to_le_bytes());
        self.table.extend(shape.iter().flat_map(|dimension| dimension.to_le_bytes()));
        self.table.extend(format.ggml_type().to_le_bytes());
        self.table.extend(offset.to_le_bytes());
        self.check_size()?;
        self.names.insert(name.to_owned());
        self.tensors.push(PlannedTensor {
            name: name.to_owned(),
            format,
            shape: shape.to_vec(),
            offset,
            bytes,
        });
        self.data_bytes = end;
        Ok(())
    }

    /// Returns the name of the file in messages.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Returns the alignment of the tensors' data in bytes.
    pub fn alignment(&self) -> u64 {
        self.alignment
    }

    /// Returns the tensors in the order in which their data must be written.
    pub fn tensors(&self) -> &[PlannedTensor] {
        &self.tensors
    }

    /// Returns the offset of the data in the file: the size of the header and its padding.
    pub fn data_start(&self) -> u64 {
        // Cannot overflow: headers and alignments are limited.
        self.size().next_multiple_of(self.alignment)
    }

    /// Returns the size of the file in bytes.
    pub fn file_bytes(&self) -> u64 {
        // Cannot overflow: it was checked when each tensor was added.
        self.data_start().saturating_add(self.data_bytes)
    }

    /// Writes the header and its padding.
    pub(crate) fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(&MAGIC)?;
        out.write_all(&VERSION.to_le_bytes())?;
        out.write_all(&(self.tensors.len() as u64).to_le_bytes())?;
        out.write_all(&self.entry_count.to_le_bytes())?;
        out.write_all(&self.entries)?;
        out.write_all(&self.table)?;
        write_zeros(out, self.data_start() - self.size())
    }

    fn size(&self) -> u64 {
        FIXED + self.entries.len() as u64 + self.table.len() as u64
    }

    fn check_size(&self) -> Result<(), GgufWriteError> {
        if self.size() > MAX_HEADER {
            return Err(GgufWriteError::HeaderTooLarge { file: self.file.clone(), limit: MAX_HEADER });
        }
        Ok(())
    }
}

/// Writes `count` bytes of padding.
pub(super) fn write_zeros(out: &mut impl Write, count: u64) -> io::Result<()> {
    io::copy(&mut io::repeat(0).take(count), out).map(drop)
}

/// Returns true if the reader accepts a key or tensor name of this length.
fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&(name.len() as u64))
}
