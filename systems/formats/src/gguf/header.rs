//! The header of a file that is to be written: metadata, tensor table, and where each tensor's data will lie.
//!
//! The bytes are made as entries are added, so that the header of a large vocabulary is held once.
//!
//! Invariant: the tables are within the limits that the reader sets, tensors lie in the order in which they were
//! added, each aligned and padded to the alignment, the last one too: llama.cpp counts on its padding.

use std::collections::HashSet;
use std::io::{self, Read, Write};

use weft_components::TensorFormat;

use super::cursor::{MAX_HEADER, MAX_NAME};
use super::tensors::{MAX_DIMENSIONS, sizes};
use super::{GgufWriteError, MAGIC, Metadata, encode, read_alignment};

/// The version that is written.
pub(super) const VERSION: u32 = 3;

/// Bytes before the metadata: magic word, version and two counts.
const FIXED: u64 = 4 + 4 + 8 + 8;

/// A tensor of a file that is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedTensor {
    /// Its name, unique.
    pub name: String,
    /// How its numbers are stored.
    pub format: TensorFormat,
    /// One to four dimensions, none zero, innermost first.
    pub shape: Vec<u64>,
    /// Where its data begin, from the beginning of all data. A multiple of the alignment.
    pub offset: u64,
    /// Bytes of its data, without the padding after them.
    pub bytes: u64,
}

/// The header of a file that is to be written.
#[derive(Clone, Debug)]
pub struct GgufHeader {
    file: String,
    alignment: u64,
    entry_count: u64,
    /// The metadata as the file has them.
    entries: Vec<u8>,
    /// The tensor table as the file has it.
    table: Vec<u8>,
    tensors: Vec<PlannedTensor>,
    names: HashSet<String>,
    /// Bytes of all data, padding included.
    data_bytes: u64,
}

impl GgufHeader {
    /// A header with `metadata` and no tensors yet. The alignment is `general.alignment`, where the metadata have it.
    ///
    /// # Errors
    /// [`GgufWriteError::Key`], [`GgufWriteError::Depth`], [`GgufWriteError::HeaderTooLarge`], or
    /// [`GgufWriteError::Metadata`] for an alignment that is none.
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

    /// Adds a tensor after those that are there.
    ///
    /// `shape` is innermost first.
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
            // The largest file that the header's own bytes may precede.
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

    /// What the file is called in messages.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Alignment of the tensors' data, in bytes.
    pub fn alignment(&self) -> u64 {
        self.alignment
    }

    /// Tensors in the order in which their data are to follow.
    pub fn tensors(&self) -> &[PlannedTensor] {
        &self.tensors
    }

    /// Where the data begin in the file: the bytes of the header and of the padding after it.
    pub fn data_start(&self) -> u64 {
        // Far below 2^64: headers and alignments have limits.
        self.size().next_multiple_of(self.alignment)
    }

    /// Bytes of the whole file.
    pub fn file_bytes(&self) -> u64 {
        // Checked as each tensor was added.
        self.data_start().saturating_add(self.data_bytes)
    }

    /// Writes the header and the padding after it.
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

/// Whether the reader takes a key or tensor name of this length.
fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&(name.len() as u64))
}
