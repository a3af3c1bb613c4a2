//! A matrix whose rows arrive in any order, from several threads at once.
#![expect(unsafe_code, reason = "threads fill disjoint tiles of one matrix")]

use crate::kernels::{Kernels, PackTile, Packing};
use crate::shared::Shared;
use crate::simd::LANES;
use crate::tile::cpu_matrix::{CpuMatrix, PackError, tile_bytes};
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

impl CpuMatrix {
    /// The matrix whose rows, in the file's order and format, are `bytes`.
    ///
    /// # Errors
    /// See [`PackError`].
    pub fn pack(format: TensorFormat, rows: usize, cols: usize, bytes: &[u8]) -> Result<Self, PackError> {
        let packer = TilePacker::new(Kernels::detect(), format, rows, cols, bytes.len() as u64)?;
        packer.pack(0, bytes)?;
        packer.finish()
    }
}
