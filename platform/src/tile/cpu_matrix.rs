//! A matrix in tiles, and the errors of packing one.

use crate::buffer::{Buffer, MemoryError, checked_size};
use crate::simd::LANES;
use crate::tile::code_planes::{self, VECTOR};
use crate::tile::scale_planes::ScaleGroup;
use core::fmt;
use half::{bf16, f16};
use weft_components::formats::FORMATS;
use weft_components::{CODES, Codec, TensorFormat, TileLayout};

/// Why rows could not be packed into a matrix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// The engine knows only the size of this format.
    #[error(
        "the engine cannot compute with the format {format}: convert the file to one of {}",
        computed_with()
    )]
    NoCodec {
        /// The format.
        format: TensorFormat,
    },
    /// A row is not a whole number of blocks.
    #[error("rows of {cols} elements are not whole blocks of {format}: the file is damaged")]
    PartialBlock {
        /// The format.
        format: TensorFormat,
        /// Elements in a row.
        cols: usize,
    },
    /// The number of bytes does not match the shape.
    #[error(
        "rows {first} to {end} of {rows} × {cols} in {format} do not fit {found} bytes: the file is damaged"
    )]
    Size {
        /// The format.
        format: TensorFormat,
        /// First row of these bytes.
        first: usize,
        /// Row after the last.
        end: usize,
        /// Rows of the matrix.
        rows: usize,
        /// Columns of the matrix.
        cols: usize,
        /// Bytes received.
        found: u64,
    },
    /// The same rows were packed before.
    #[error("rows from {first} on were packed before")]
    Twice {
        /// The first of them.
        first: usize,
    },
    /// Some rows were never packed.
    #[error("{tiles} tiles of a matrix of {rows} rows are missing")]
    Missing {
        /// Rows of the matrix.
        rows: usize,
        /// Tiles of 16 rows whose rows are missing.
        tiles: usize,
    },
    /// Too little memory for the tiles.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

/// Weights in tiles. The module `tile` documents the layout.
pub struct CpuMatrix {
    pub(crate) format: TensorFormat,
    pub(crate) codec: Codec,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) row_bytes: usize,
    pub(crate) codes: Buffer,
    pub(crate) scales: Buffer,
}

/// Names of the formats that the engine can compute with.
fn computed_with() -> String {
    let names: Vec<&str> = FORMATS.iter().filter(|f| f.codec.is_some()).map(|f| f.name).collect();
    names.join(", ")
}

/// Bytes of a tile in the plane of codes or values, and in the plane of scales.
pub(crate) fn tile_bytes(layout: TileLayout, cols: usize) -> Result<(usize, usize), MemoryError> {
    Ok(match layout {
        TileLayout::F32 => (checked_size(&[cols, LANES, 4])?, 0),
        TileLayout::F16 | TileLayout::Bf16 => (checked_size(&[cols, LANES, 2])?, 0),
        _ => {
            let (blocks, group) = (cols / CODES, ScaleGroup::of(layout));
            let codes = checked_size(&[blocks, layout.codes().bits as usize, VECTOR])?;
            (codes, checked_size(&[blocks / group.blocks, group.bytes()])?)
        }
    })
}

impl CpuMatrix {
    /// Bytes that a matrix of this shape takes in memory. Takes none.
    ///
    /// # Errors
    /// A format that is not computed with, or a size that overflows.
    pub fn memory(format: TensorFormat, rows: usize, cols: usize) -> Result<usize, PackError> {
        let codec = format.codec().ok_or(PackError::NoCodec { format })?;
        let (codes, scales) = tile_bytes(codec.layout, cols)?;
        Ok(checked_size(&[rows.div_ceil(LANES), codes.saturating_add(scales)])?)
    }

    /// A matrix of zeros: codes of 0 and scales of 0.
    pub(crate) fn zeroed(format: TensorFormat, rows: usize, cols: usize) -> Result<Self, PackError> {
        let codec = format.codec().ok_or(PackError::NoCodec { format })?;
        let partial = PackError::PartialBlock { format, cols };
        let row_bytes = format.row_bytes(cols).ok_or(partial.clone())?;
        let group = ScaleGroup::of(codec.layout).blocks * CODES;
        if codec.layout.is_quantized() && !cols.is_multiple_of(group) {
            return Err(partial);
        }
        let (codes, scales) = tile_bytes(codec.layout, cols)?;
        let tiles = rows.div_ceil(LANES);
        Ok(Self {
            format,
            codec,
            rows,
            cols,
            row_bytes,
            codes: Buffer::zeroed(checked_size(&[tiles, codes])?)?,
            scales: Buffer::zeroed(checked_size(&[tiles, scales])?)?,
        })
    }

    /// Outputs.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Inputs.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The file's format.
    pub fn format(&self) -> TensorFormat {
        self.format
    }

    /// How the tiles are laid out.
    pub fn layout(&self) -> TileLayout {
        self.codec.layout
    }

    /// Bytes of memory in use.
    pub fn bytes(&self) -> usize {
        self.codes.len() + self.scales.len()
    }

    /// Number of tiles of 16 rows.
    pub(crate) fn tiles(&self) -> usize {
        self.rows.div_ceil(LANES)
    }

    /// The values that codes index, less the smallest of them: 0 to 255.
    pub(crate) fn table(&self) -> [u8; 16] {
        let least = self.least();
        self.codec.table.map(|v| (i32::from(v) - least) as u8)
    }

    /// Returns true if all of [`CpuMatrix::table`] fits into seven bits.
    pub(crate) fn table_is_narrow(&self) -> bool {
        self.table().iter().all(|v| *v < 128)
    }

    fn least(&self) -> i32 {
        self.codec.table.iter().copied().min().map_or(0, i32::from)
    }

    /// The number to add to a code, or to an entry of [`CpuMatrix::table`], to get its value.
    pub(crate) fn offset(&self) -> i32 {
        if self.codec.layout.codes().table { self.least() } else { -i32::from(self.codec.zero_point) }
    }

    /// Factor of all scales.
    pub(crate) fn unit(&self) -> f32 {
        self.codec.unit
    }

    /// Codes or values of one tile.
    #[inline(always)]
    pub fn tile(&self, tile: usize) -> &[u8] {
        let size = self.codes.len() / self.tiles().max(1);
        &self.codes.bytes()[tile * size..][..size]
    }

    /// Scales of one tile.
    #[inline(always)]
    pub fn tile_scales(&self, tile: usize) -> &[u8] {
        let size = self.scales.len() / self.tiles().max(1);
        &self.scales.bytes()[tile * size..][..size]
    }

    /// Writes the exact values of row `row` to `out`, at most [`CpuMatrix::cols`] of them. A row past the end is zeros.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        if row >= self.rows {
            return out.fill(0.0);
        }
        let (tile, lane) = (self.tile(row / LANES), row % LANES);
        match self.codec.layout {
            TileLayout::F32 => {
                for (out, k) in out.iter_mut().zip(tile.as_chunks::<64>().0) {
                    *out = f32::from_le_bytes(k.as_chunks().0[lane]);
                }
            }
            TileLayout::F16 => {
                for (out, k) in out.iter_mut().zip(tile.as_chunks::<32>().0) {
                    *out = f16::from_le_bytes(k.as_chunks().0[lane]).to_f32();
                }
            }
            TileLayout::Bf16 => {
                for (out, k) in out.iter_mut().zip(tile.as_chunks::<32>().0) {
                    *out = bf16::from_le_bytes(k.as_chunks().0[lane]).to_f32();
                }
            }
            layout => {
                let (bits, group) = (layout.codes().bits as usize, ScaleGroup::of(layout));
                let scales = self.tile_scales(row / LANES);
                let blocks = tile.chunks_exact(bits * VECTOR).zip(out.chunks_mut(CODES));
                for (block, (codes, out)) in blocks.enumerate() {
                    let mut values = group.load(scales, block, lane);
                    values.codes = code_planes::load(bits, codes, lane);
                    let values = values.values(&self.codec);
                    out.copy_from_slice(&values[..out.len()]);
                }
            }
        }
    }
}

impl fmt::Debug for CpuMatrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CpuMatrix({} × {} {})", self.rows, self.cols, self.format)
    }
}
