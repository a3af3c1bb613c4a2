//! A matrix whose rows arrive in any order, from several threads at once.
#![expect(unsafe_code, reason = "threads fill disjoint tiles of one matrix")]

use super::{CpuMatrix, PackError, tile_bytes};
use crate::kernels::{Kernels, PackTile, Packing};
use crate::simd::LANES;
use crate::threads::Shared;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use weft_components::TensorFormat;

/// Rows of a tile: those that arrive together are a multiple, but for the last ones.
pub const TILE_ROWS: usize = LANES;

/// Lays out a matrix as its rows arrive.
pub struct TilePacker {
    matrix: CpuMatrix,
    packing: Packing,
    /// Bytes of a tile in each plane.
    tile: usize,
    scale_tile: usize,
    /// The planes, which are the matrix's and stay where they are when it moves.
    codes: Shared<u8>,
    scales: Shared<u8>,
    /// Tiles that have been given to a thread to fill: each is given once.
    taken: Box<[AtomicBool]>,
    filled: AtomicUsize,
}

impl TilePacker {
    /// A matrix without its rows yet, which have `bytes` bytes in all.
    ///
    /// # Errors
    /// A format without codec, a row that is no whole number of blocks, another number of bytes than the shape says, or
    /// no memory.
    pub fn new(
        kernels: &Kernels,
        format: TensorFormat,
        rows: usize,
        cols: usize,
        bytes: u64,
    ) -> Result<Self, PackError> {
        let packing = kernels.packing(format).ok_or(PackError::NoCodec { format })?;
        // Before memory is asked for: the bytes are there, so the tiles are no larger than about twice as much.
        let row_bytes = format.row_bytes(cols).ok_or(PackError::PartialBlock { format, cols })?;
        if row_bytes.checked_mul(rows).map(|size| size as u64) != Some(bytes) {
            return Err(PackError::Size { format, first: 0, end: rows, rows, cols, found: bytes });
        }
        let mut matrix = CpuMatrix::zeroed(format, rows, cols)?;
        let (tile, scale_tile) = tile_bytes(matrix.codec.layout, cols)?;
        let codes = Shared(matrix.codes.bytes_mut().as_mut_ptr());
        let scales = Shared(matrix.scales.bytes_mut().as_mut_ptr());
        let taken = (0..matrix.tiles()).map(|_| AtomicBool::new(false)).collect();
        Ok(Self { matrix, packing, tile, scale_tile, codes, scales, taken, filled: AtomicUsize::new(0) })
    }

    /// Lays out rows from `first` on, in the file's order and format: whole tiles, or as far as the last row.
    ///
    /// # Errors
    /// [`PackError::Size`] where they are no whole tiles or go past the end, [`PackError::Twice`] where one has come before.
    pub fn pack(&self, first: usize, bytes: &[u8]) -> Result<(), PackError> {
        let CpuMatrix { format, rows, cols, row_bytes, .. } = self.matrix;
        let count = bytes.len().checked_div(row_bytes).unwrap_or(0);
        let end = first.saturating_add(count);
        let whole = first.is_multiple_of(LANES) && (count.is_multiple_of(LANES) || end == rows);
        if count * row_bytes != bytes.len() || end > rows || !whole {
            return Err(PackError::Size { format, first, end, rows, cols, found: bytes.len() as u64 });
        }
        for (at, bytes) in bytes.chunks(LANES * row_bytes.max(1)).enumerate() {
            self.pack_tile(first / LANES + at, bytes)?;
        }
        Ok(())
    }

    fn pack_tile(&self, tile: usize, rows: &[u8]) -> Result<(), PackError> {
        let first = tile * LANES;
        match self.taken.get(tile) {
            Some(taken) if !taken.swap(true, Ordering::Relaxed) => {}
            _ => return Err(PackError::Twice { first }),
        }
        // SAFETY: both planes hold a part of these sizes for each entry of `taken`, and outlive the borrow of `self`. The
        // entry was false until now and is never made false again, so nobody else has or will have these parts, until
        // `finish` has taken `self`.
        let (codes, scales) = unsafe {
            (
                core::slice::from_raw_parts_mut(self.codes.0.add(tile * self.tile), self.tile),
                core::slice::from_raw_parts_mut(self.scales.0.add(tile * self.scale_tile), self.scale_tile),
            )
        };
        self.packing.run(&mut PackTile { rows, row_bytes: self.matrix.row_bytes, codes, scales });
        self.filled.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// The matrix, whole.
    ///
    /// # Errors
    /// [`PackError::Missing`] where rows have not come.
    pub fn finish(self) -> Result<CpuMatrix, PackError> {
        let missing = self.taken.len() - self.filled.into_inner();
        if missing > 0 && self.matrix.row_bytes > 0 {
            let CpuMatrix { rows, .. } = self.matrix;
            return Err(PackError::Missing { rows, tiles: missing });
        }
        Ok(self.matrix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tile::codes::VECTOR;
    use weft_components::formats::FORMATS;
    use weft_components::{BlockCodes, CODES, Codec, TileLayout};

    /// A bit of each byte of the tiles that the module describes, row by row and code by code.
    fn naive(format: TensorFormat, rows: usize, cols: usize, bytes: &[u8]) -> CpuMatrix {
        let mut matrix = CpuMatrix::zeroed(format, rows, cols).unwrap();
        let (tile, scale_tile) = tile_bytes(matrix.codec.layout, cols).unwrap();
        let Codec { layout, codes, .. } = matrix.codec;
        for (row, bytes) in bytes.chunks_exact(matrix.row_bytes).enumerate() {
            let lane = row % LANES;
            let places = &mut matrix.codes.bytes_mut()[row / LANES * tile..][..tile];
            let scales = &mut matrix.scales.bytes_mut()[row / LANES * scale_tile..][..scale_tile];
            let size = format.block_bytes();
            if !layout.is_quantized() {
                for (col, value) in bytes.chunks_exact(size).enumerate() {
                    places[(col * LANES + lane) * size..][..size].copy_from_slice(value);
                }
                continue;
            }
            let parts = format.block() / CODES;
            for block in 0..cols / CODES {
                let values = codes(&bytes[block / parts * size..][..size], block % parts);
                store_codes(layout, &mut places[block * tile / (cols / CODES)..], lane, &values.codes);
                store_scales(layout, scales, block, lane, &values);
            }
        }
        matrix
    }

    /// See `codes`: a plane of `n` bits holds them in `n` vectors, groups of four columns `n` apart in one of them.
    fn store_codes(layout: TileLayout, block: &mut [u8], lane: usize, codes: &[u8; CODES]) {
        let planes: &[usize] = match layout.codes().bits {
            2 => &[2],
            3 => &[2, 1],
            4 => &[4],
            5 => &[4, 1],
            6 => &[4, 2],
            _ => &[8],
        };
        for (k, code) in codes.iter().enumerate() {
            let (mut start, mut shift) = (0, 0);
            for &bits in planes {
                let field = u16::from(*code) >> shift & ((1 << bits) - 1);
                let place = &mut block[start + k / 4 % bits * VECTOR + 4 * lane + k % 4];
                *place |= (field << (k / 4 / bits * bits)) as u8;
                start += bits * VECTOR;
                shift += bits;
            }
        }
    }

    /// See `scales`.
    fn store_scales(layout: TileLayout, scales: &mut [u8], block: usize, lane: usize, values: &BlockCodes) {
        use weft_components::ScaleKind;
        let heads = [(values.scale, values.sub_scale), (values.min, values.sub_min)];
        let heads = &heads[..if layout.codes().min { 2 } else { 1 }];
        let (subs, blocks) = match layout.scales() {
            ScaleKind::Super if layout == TileLayout::U2Super => (0, 8),
            ScaleKind::Super => (1, 8),
            ScaleKind::SuperHalves => (2, 8),
            _ => (0, 1),
        };
        let half = |value: f32| half::f16::from_f32(value).to_ne_bytes().to_vec();
        for (head, (scale, sub)) in heads.iter().enumerate() {
            let bytes = match layout {
                TileLayout::U8Float => scale.to_ne_bytes().to_vec(),
                TileLayout::T4Float => half::bf16::from_f32(*scale).to_ne_bytes().to_vec(),
                _ => half(*scale),
            };
            let start = block / blocks * heads.len() * LANES * (bytes.len() + blocks * subs);
            scales[start + (head * LANES + lane) * bytes.len()..][..bytes.len()].copy_from_slice(&bytes);
            for (at, sub) in sub.iter().enumerate().take(subs) {
                let set = (block % blocks * heads.len() + head) * subs + at;
                scales[start + (heads.len() * bytes.len() + set) * LANES + lane] = sub.cast_unsigned();
            }
        }
    }

    /// Random bytes whose halves are no NaNs: those come out quiet, by one instruction or another.
    fn random_rows(format: TensorFormat, len: usize, seed: &mut u64) -> Vec<u8> {
        let mut next = || {
            *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (*seed >> 33) as u8
        };
        // An exponent byte of a half, a bfloat16 or a float that is all ones has bits 2 to 6 set.
        let quiet = |byte: u8| if byte & 0x7c == 0x7c { byte & !0x40 } else { byte };
        let quiet: fn(u8) -> u8 = if format.block() == 1 { |byte| byte } else { quiet };
        (0..len).map(|_| quiet(next())).collect()
    }

    #[test]
    fn every_kernel_gives_the_bytes_that_the_layout_says() {
        let mut seed = 7;
        for format in FORMATS.iter().filter_map(|info| TensorFormat::from_name(info.name)) {
            if format.codec().is_none() {
                continue;
            }
            for (rows, blocks) in [(1, 1), (16, 3), (17, 2), (35, 8), (48, 5), (5, 9)] {
                // Floats in rows of no whole vector as well.
                let cols = format.block().max(7 * (blocks % 3) + 1) * blocks;
                let group = if format.block() == 1 { 1 } else { format.block() };
                let cols = cols.next_multiple_of(group);
                let bytes = random_rows(format, rows * format.row_bytes(cols).unwrap(), &mut seed);
                let want = naive(format, rows, cols, &bytes);
                for kernels in Kernels::available() {
                    let packer = TilePacker::new(kernels, format, rows, cols, bytes.len() as u64).unwrap();
                    packer.pack(0, &bytes).unwrap();
                    let found = packer.finish().unwrap();
                    let what = format!("{format} {rows} × {cols} {}", kernels.name());
                    assert!(found.codes.bytes() == want.codes.bytes(), "codes of {what}");
                    assert!(found.scales.bytes() == want.scales.bytes(), "scales of {what}");
                }
            }
        }
    }
}
