//! Weights as the CPU multiplies them: row-interleaved tiles.
//!
//! A [`CpuMatrix`] of `rows × cols` (outputs × inputs) is cut into tiles of 16 rows; a lane of a vector is a row, so a
//! product ends without a horizontal sum. The last tile is padded with zeros. Tiles lie one after another, so a matrix
//! times one vector reads memory once, in order.
//!
//! - Float layouts: a tile holds, for each column, its 16 values.
//! - Quantized layouts: a tile holds, for each block of 32 columns, its codes; the half scales lie in a plane of their
//!   own, 16 a block, followed by 16 half minimums where the layout has them.
//!   - `U8`: 8 vectors of 64 bytes; bytes `4 r + i` of vector `g` is the code of row `r`, column `4 g + i`.
//!   - `U4`, `U4Min`: 4 vectors of 64 bytes; vector `v` has vector `v` of the above in its low nibbles and vector
//!     `v + 4` in its high ones.
//!
//! Invariant: [`CpuMatrix::row`] gives what [`TensorFormat::dequantize`] gives, bit for bit.

use crate::buffer::{Buffer, MemoryError, checked_size};
use crate::simd::LANES;
use crate::threads::Cpu;
use core::fmt;
use half::{bf16, f16};
use weft_components::{BlockCodes, CODES, Codec, TensorFormat, TileLayout};

/// Why bytes did not become a matrix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// The engine only knows the size of this format.
    #[error(
        "format {format} cannot be computed with: convert the file to Q8_0, Q4_1, Q4_0, F16, BF16 or F32"
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
        /// Elements a row.
        cols: usize,
    },
    /// More or fewer bytes than the shape says.
    #[error(
        "rows {first} to {end} of {rows} × {cols} in {format} do not fit {found} bytes: the file is damaged"
    )]
    Size {
        /// The format.
        format: TensorFormat,
        /// First row of the bytes.
        first: usize,
        /// Row after the last.
        end: usize,
        /// Rows of the matrix.
        rows: usize,
        /// Columns of the matrix.
        cols: usize,
        /// Bytes given.
        found: usize,
    },
    /// No memory for the tiles.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

/// Weights in tiles. See the module for the layout.
pub struct CpuMatrix {
    format: TensorFormat,
    codec: Codec,
    rows: usize,
    cols: usize,
    row_bytes: usize,
    codes: Buffer,
    scales: Buffer,
}

/// Whether tiles in this layout can be multiplied.
fn has_tiles(layout: TileLayout) -> bool {
    layout.index() < TileLayout::U5.index()
}

/// Bytes of a tile in the plane of codes or values, and in the plane of scales.
fn tile_bytes(layout: TileLayout, cols: usize) -> Result<(usize, usize), MemoryError> {
    let blocks = cols / CODES;
    Ok(match layout {
        TileLayout::F32 => (checked_size(&[cols, LANES, 4])?, 0),
        TileLayout::F16 | TileLayout::Bf16 => (checked_size(&[cols, LANES, 2])?, 0),
        TileLayout::U4 => (checked_size(&[blocks, 4 * 64])?, checked_size(&[blocks, LANES, 2])?),
        TileLayout::U4Min => (checked_size(&[blocks, 4 * 64])?, checked_size(&[blocks, LANES, 4])?),
        _ => (checked_size(&[blocks, 8 * 64])?, checked_size(&[blocks, LANES, 2])?),
    })
}

impl CpuMatrix {
    /// A matrix of zeros (codes of 0 and scales of 0), to be filled by [`CpuMatrix::pack_rows`] as rows arrive.
    ///
    /// # Errors
    /// A format without codec, a row that is no whole number of blocks, or no memory.
    pub fn zeroed(format: TensorFormat, rows: usize, cols: usize) -> Result<Self, PackError> {
        let codec = format.codec().filter(|c| has_tiles(c.layout)).ok_or(PackError::NoCodec { format })?;
        let partial = PackError::PartialBlock { format, cols };
        let row_bytes = format.row_bytes(cols).ok_or(partial.clone())?;
        if codec.layout.is_quantized() && !cols.is_multiple_of(CODES) {
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

    /// The matrix whose rows, in the file's order and format, are `bytes`.
    ///
    /// # Errors
    /// See [`PackError`].
    pub fn pack(format: TensorFormat, rows: usize, cols: usize, bytes: &[u8]) -> Result<Self, PackError> {
        Self::pack_on(&Cpu { threads: 1, ..Cpu::serial() }, format, rows, cols, bytes)
    }

    /// [`CpuMatrix::pack`], split over the threads of `cpu`.
    ///
    /// # Errors
    /// See [`PackError`].
    pub fn pack_on(
        cpu: &Cpu,
        format: TensorFormat,
        rows: usize,
        cols: usize,
        bytes: &[u8],
    ) -> Result<Self, PackError> {
        let size = PackError::Size { format, first: 0, end: rows, rows, cols, found: bytes.len() };
        // Before memory is asked for: the bytes are there, so the tiles are no larger than about twice as much.
        let row_bytes = format.row_bytes(cols).ok_or(PackError::PartialBlock { format, cols })?;
        if row_bytes.checked_mul(rows) != Some(bytes.len()) {
            return Err(size);
        }
        let mut matrix = Self::zeroed(format, rows, cols)?;
        if matrix.row_bytes > 0 {
            let (codes, scales) = tile_bytes(matrix.codec.layout, cols)?;
            let part = Part {
                codec: matrix.codec,
                block_bytes: format.block_bytes(),
                row_bytes,
                tile: codes,
                scale_tile: scales,
                codes: matrix.codes.bytes_mut(),
                scales: matrix.scales.bytes_mut(),
                source: bytes,
                lane: 0,
            };
            part.pack(cpu);
        }
        Ok(matrix)
    }

    /// Fills rows from `first` on with `bytes`, whole rows in the file's order and format.
    ///
    /// # Errors
    /// [`PackError::Size`] where they are no whole rows or go past the end.
    pub fn pack_rows(&mut self, first: usize, bytes: &[u8]) -> Result<(), PackError> {
        let count = bytes.len().checked_div(self.row_bytes).unwrap_or(0);
        let end = first.saturating_add(count);
        if count * self.row_bytes != bytes.len() || end > self.rows {
            let (format, rows, cols) = (self.format, self.rows, self.cols);
            return Err(PackError::Size { format, first, end, rows, cols, found: bytes.len() });
        }
        if count == 0 {
            return Ok(());
        }
        let (tile, scale_tile) = tile_bytes(self.codec.layout, self.cols)?;
        let mut part = Part {
            codec: self.codec,
            block_bytes: self.format.block_bytes(),
            row_bytes: self.row_bytes,
            tile,
            scale_tile,
            codes: &mut self.codes.bytes_mut()[first / LANES * tile..],
            scales: &mut self.scales.bytes_mut()[first / LANES * scale_tile..],
            source: bytes,
            lane: first % LANES,
        };
        part.run();
        Ok(())
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

    /// Memory held, in bytes.
    pub fn bytes(&self) -> usize {
        self.codes.len() + self.scales.len()
    }

    /// Tiles of 16 rows.
    pub(crate) fn tiles(&self) -> usize {
        self.rows.div_ceil(LANES)
    }

    /// What the file's format subtracts from a code.
    pub(crate) fn zero_point(&self) -> u8 {
        self.codec.zero_point
    }

    /// Codes or values of one tile.
    #[inline(always)]
    pub(crate) fn tile(&self, tile: usize) -> &[u8] {
        let size = self.codes.len() / self.tiles().max(1);
        &self.codes.bytes()[tile * size..][..size]
    }

    /// Half scales (and minimums) of one tile.
    #[inline(always)]
    pub(crate) fn tile_scales(&self, tile: usize) -> &[u16] {
        let size = self.scales.len() / self.tiles().max(1);
        bytemuck::cast_slice(&self.scales.bytes()[tile * size..][..size])
    }

    /// Exact values of row `row` into `out`: at most [`CpuMatrix::cols`] of them. A row past the end is zeros.
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
            _ => {
                let scales = self.tile_scales(row / LANES);
                let stride = self.block_scales();
                for (block, out) in out.chunks_mut(CODES).enumerate() {
                    let scale = f16::from_bits(scales[block * stride + lane]).to_f32();
                    let min = match self.codec.layout {
                        TileLayout::U4Min => f16::from_bits(scales[block * stride + LANES + lane]).to_f32(),
                        _ => 0.0,
                    };
                    for (k, out) in out.iter_mut().enumerate() {
                        let code = f32::from(self.code(tile, block, lane, k));
                        *out = match self.codec.layout {
                            TileLayout::U4Min => scale * code + min,
                            _ => scale * (code - f32::from(self.codec.zero_point)),
                        };
                    }
                }
            }
        }
    }

    /// Scales and minimums of a block of a tile.
    fn block_scales(&self) -> usize {
        if self.codec.layout == TileLayout::U4Min { 2 * LANES } else { LANES }
    }

    fn code(&self, tile: &[u8], block: usize, lane: usize, k: usize) -> u8 {
        let (group, i) = (k / 4, k % 4);
        if self.codec.layout == TileLayout::U8 {
            return tile[(block * 8 + group) * 64 + 4 * lane + i];
        }
        let byte = tile[(block * 4 + group % 4) * 64 + 4 * lane + i];
        if group < 4 { byte & 15 } else { byte >> 4 }
    }
}

impl fmt::Debug for CpuMatrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CpuMatrix({} × {} {})", self.rows, self.cols, self.format)
    }
}

/// Tiles being filled: mutable planes that start at the first row's tile, and the rows' bytes.
struct Part<'a> {
    codec: Codec,
    block_bytes: usize,
    row_bytes: usize,
    tile: usize,
    scale_tile: usize,
    codes: &'a mut [u8],
    scales: &'a mut [u8],
    source: &'a [u8],
    lane: usize,
}

impl Part<'_> {
    /// Packs in parallel. Starts at lane 0.
    fn pack(self, cpu: &Cpu) {
        /// Tiles that are worth a fork: tens of µs.
        const GRAIN: usize = 4;
        let tiles = self.codes.len().checked_div(self.tile).unwrap_or(0);
        let step = tiles.div_ceil(cpu.pieces(tiles, GRAIN)).max(1);
        let codes = self.codes.chunks_mut((step * self.tile).max(1));
        // No scales, no chunks of them: then as many empty ones.
        let mut scales = self.scales.chunks_mut((step * self.scale_tile).max(1));
        let sources = self.source.chunks(step * LANES * self.row_bytes);
        let mut parts: Vec<Part<'_>> = codes
            .zip(sources)
            .map(|(codes, source)| Part { codes, source, scales: scales.next().unwrap_or_default(), ..self })
            .collect();
        cpu.for_each_part(&mut parts, 1, 1, |_, part| part.iter_mut().for_each(Part::run));
    }

    fn run(&mut self) {
        for (row, bytes) in self.source.chunks_exact(self.row_bytes).enumerate() {
            let (tile, lane) = ((self.lane + row) / LANES, (self.lane + row) % LANES);
            match self.codec.layout {
                TileLayout::F32 => self.floats::<4>(tile, lane, bytes),
                TileLayout::F16 | TileLayout::Bf16 => self.floats::<2>(tile, lane, bytes),
                _ => self.blocks(tile, lane, bytes),
            }
        }
    }

    fn floats<const SIZE: usize>(&mut self, tile: usize, lane: usize, bytes: &[u8]) {
        let tile = &mut self.codes[tile * self.tile..][..self.tile];
        let columns = tile.as_chunks_mut::<SIZE>().0.chunks_exact_mut(LANES);
        for (column, value) in columns.zip(bytes.as_chunks::<SIZE>().0) {
            column[lane] = *value;
        }
    }

    fn blocks(&mut self, tile: usize, lane: usize, bytes: &[u8]) {
        let codes = &mut self.codes[tile * self.tile..][..self.tile];
        let scales = &mut self.scales[tile * self.scale_tile..][..self.scale_tile];
        let blocks = bytes.len() / self.block_bytes;
        let (code_block, scale_block) = (self.tile / blocks, self.scale_tile / blocks);
        for (block, bytes) in bytes.chunks_exact(self.block_bytes).enumerate() {
            let BlockCodes { codes: values, scale, min, .. } = (self.codec.codes)(bytes, 0);
            let [scale, min] = [scale, min].map(|x| f16::from_f32(x).to_bits());
            let scales = &mut scales[block * scale_block..][..scale_block];
            scales[2 * lane..][..2].copy_from_slice(&scale.to_ne_bytes());
            if self.codec.layout == TileLayout::U4Min {
                scales[2 * (LANES + lane)..][..2].copy_from_slice(&min.to_ne_bytes());
            }
            let codes = &mut codes[block * code_block..][..code_block];
            let (quads, _) = values.as_chunks::<4>();
            if self.codec.layout == TileLayout::U8 {
                for (vector, quad) in codes.as_chunks_mut::<64>().0.iter_mut().zip(quads) {
                    vector[4 * lane..][..4].copy_from_slice(quad);
                }
            } else {
                let (low, high) = quads.split_at(4);
                for (vector, (low, high)) in
                    codes.as_chunks_mut::<64>().0.iter_mut().zip(low.iter().zip(high))
                {
                    for ((byte, low), high) in vector[4 * lane..][..4].iter_mut().zip(low).zip(high) {
                        *byte = (low & 15) | (high << 4);
                    }
                }
            }
        }
    }
}
