//! Packs a matrix whose rows arrive in any order, from several threads at once.
#![expect(unsafe_code, reason = "threads fill disjoint tiles of one matrix")]

use crate::kernels::{Kernels, PackTile, Packing};
use crate::shared::Shared;
use crate::simd::LANES;
use crate::tile::cpu_matrix::{CpuMatrix, PackError, tile_bytes};
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use weft_components::TensorFormat;

/// Rows in a tile. Rows that arrive together must be a multiple of it, except for the last ones.
pub const TILE_ROWS: usize = LANES;

/// Packs a matrix as its rows arrive.
pub struct TilePacker {
    matrix: CpuMatrix,
    packing: Packing,
    /// Bytes of a tile in each plane.
    tile: usize,
    scale_tile: usize,
    /// The planes of the matrix, which do not move in memory when the matrix does.
    codes: Shared<u8>,
    scales: Shared<u8>,
    /// Tiles that a thread has taken to fill. Each is taken once.
    taken: Box<[AtomicBool]>,
    filled: AtomicUsize,
}

impl TilePacker {
    /// Creates a matrix whose rows, `bytes` bytes in total, have not arrived yet.
    ///
    /// # Errors
    /// The format has no codec, a row is not a whole number of blocks, `bytes` does not match the shape, or memory is
    /// too small.
    pub fn new(
        kernels: &Kernels,
        format: TensorFormat,
        rows: usize,
        cols: usize,
        bytes: u64,
    ) -> Result<Self, PackError> {
        let packing = kernels.packing(format).ok_or(PackError::NoCodec { format })?;
        // Checked before memory is allocated: the bytes exist, so the tiles take at most about twice as much.
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

    /// Packs rows from `first` on, in the file's order and format: whole tiles, except at the last row.
    ///
    /// # Errors
    /// [`PackError::Size`] if they are not whole tiles or go past the end, [`PackError::Twice`] if one of them was
    /// packed before.
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
        // SAFETY: both planes have a part of these sizes for each entry of `taken`, and outlive the borrow of `self`.
        // The entry was false until now and never becomes false again. So no other thread gets these parts before
        // `finish` takes `self`.
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

    /// Returns the complete matrix.
    ///
    /// # Errors
    /// [`PackError::Missing`] if rows are missing.
    pub fn finish(self) -> Result<CpuMatrix, PackError> {
        let missing = self.taken.len() - self.filled.into_inner();
        if missing > 0 && self.matrix.row_bytes > 0 {
            let CpuMatrix { rows, .. } = self.matrix;
            return Err(PackError::Missing { rows, tiles: missing });
        }
        Ok(self.matrix)
    }
}

impl CpuMatrix {
    /// Packs a matrix from `bytes`, all its rows in the file's order and format.
    ///
    /// # Errors
    /// See [`PackError`].
    pub fn pack(format: TensorFormat, rows: usize, cols: usize, bytes: &[u8]) -> Result<Self, PackError> {
        let packer = TilePacker::new(Kernels::detect(), format, rows, cols, bytes.len() as u64)?;
        packer.pack(0, bytes)?;
        packer.finish()
    }
}
