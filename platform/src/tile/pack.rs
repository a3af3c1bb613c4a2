//! Rows of a file into tiles.

use super::codes;
use super::scales::ScaleGroup;
use crate::simd::LANES;
use crate::threads::Cpu;
use weft_components::{CODES, Codec, TileLayout};

/// Tiles being filled: mutable planes that start at the first row's tile, and the rows' bytes.
pub(super) struct Part<'a> {
    pub(super) codec: Codec,
    pub(super) block: usize,
    pub(super) block_bytes: usize,
    pub(super) row_bytes: usize,
    pub(super) tile: usize,
    pub(super) scale_tile: usize,
    pub(super) codes: &'a mut [u8],
    pub(super) scales: &'a mut [u8],
    pub(super) source: &'a [u8],
    pub(super) lane: usize,
}

impl Part<'_> {
    /// Packs in parallel. Starts at lane 0.
    pub(super) fn pack(self, cpu: &Cpu) {
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

    pub(super) fn run(&mut self) {
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
        let bits = self.codec.layout.codes().bits as usize;
        let scales = ScaleGroup::of(self.codec.layout);
        let tile_codes = &mut self.codes[tile * self.tile..][..self.tile];
        let tile_scales = &mut self.scales[tile * self.scale_tile..][..self.scale_tile];
        let mut blocks = tile_codes.chunks_exact_mut(bits * codes::VECTOR).enumerate();
        for bytes in bytes.chunks_exact(self.block_bytes) {
            for (part, (block, place)) in blocks.by_ref().take(self.block / CODES).enumerate() {
                let values = (self.codec.codes)(bytes, part);
                codes::store(bits, place, lane, &values.codes);
                scales.store(tile_scales, block, lane, &values);
            }
        }
    }
}
