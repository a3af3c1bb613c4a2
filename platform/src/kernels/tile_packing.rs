//! Packs rows of a file into a tile: 16 rows at once, 32 columns at a time.
//!
//! The format's own [`BlockFormat::codes`], compiled for the kernel's instruction set, reads a block of each row. The
//! codes of the 16 rows are then transposed in registers and stored one vector at a time. So a format needs no kernel
//! of its own.

use crate::simd::{LANES, Transpose, unroll};
use crate::tile::code_planes::{VECTOR, planes};
use crate::tile::scale_planes::ScaleGroup;
use weft_components::{BlockCodes, BlockFormat, CODES};

/// A tile to fill. It starts zeroed, so that missing rows are zeros.
pub(crate) struct PackTile<'a> {
    /// At most 16 rows, whole blocks each.
    pub(crate) rows: &'a [u8],
    pub(crate) row_bytes: usize,
    /// The tile's codes, or its float values.
    pub(crate) codes: &'a mut [u8],
    pub(crate) scales: &'a mut [u8],
}

/// A kernel that fills a tile.
pub(crate) type PackFn = unsafe fn(&mut PackTile<'_>);

/// A kernel for each format that the engine computes with, by GGUF type id.
pub(in crate::kernels) type PackTable = &'static [(u32, PackFn)];

/// The [`PackTable`] of an instruction set. `$pack_as::<F>` is its function for the format `F`.
macro_rules! pack_table {
    ($pack_as:ident) => {
        weft_components::computed_formats!(crate::kernels::tile_packing::pack_table { @ $pack_as })
    };
    (@ $pack_as:ident $($format:ident)*) => {
        &[$((
            <weft_components::formats::$format as weft_components::BlockFormat>::GGML_TYPE,
            $pack_as::<weft_components::formats::$format>,
        )),*]
    };
}
pub(in crate::kernels) use pack_table;

/// Fills a tile with rows in the format `F`.
#[inline(always)]
pub(in crate::kernels) fn pack<S: Transpose, F: BlockFormat>(s: S, tile: &mut PackTile<'_>) {
    match const { F::LAYOUT.codes().bits } {
        0 if F::BYTES == 4 => floats::<S, 4>(s, tile),
        0 => floats::<S, 2>(s, tile),
        2 => blocks::<S, F, 2>(s, tile),
        3 => blocks::<S, F, 3>(s, tile),
        4 => blocks::<S, F, 4>(s, tile),
        5 => blocks::<S, F, 5>(s, tile),
        6 => blocks::<S, F, 6>(s, tile),
        _ => blocks::<S, F, 8>(s, tile),
    }
}

/// Packs values of `SIZE` bytes: for each column the values of the 16 rows.
#[inline(always)]
fn floats<S: Transpose, const SIZE: usize>(s: S, tile: &mut PackTile<'_>) {
    const LINE: usize = 32;
    let (whole, rest) = tile.codes.as_chunks_mut::<{ LINE * LANES }>();
    let mut lines = [[0; LINE]; LANES];
    for (at, place) in whole.iter_mut().enumerate() {
        for (line, row) in lines.iter_mut().zip(tile.rows.chunks_exact(tile.row_bytes)) {
            if let Some(bytes) = row.get(at * LINE..).and_then(<[u8]>::first_chunk) {
                *line = *bytes;
            }
        }
        let words = s.transpose(&lines);
        for (place, word) in place.as_chunks_mut().0.iter_mut().zip(words) {
            s.store_codes(if SIZE == 2 { s.unzip(word) } else { word }, place);
        }
    }
    let done = whole.len() * LINE;
    for (lane, row) in tile.rows.chunks_exact(tile.row_bytes).enumerate().take(LANES) {
        let values = row.get(done..).unwrap_or_default().as_chunks::<SIZE>().0;
        for (place, value) in rest.chunks_exact_mut(SIZE * LANES).zip(values) {
            place[SIZE * lane..][..SIZE].copy_from_slice(value);
        }
    }
}

/// Packs blocks of codes of `BITS` bits, and their scales.
#[inline(always)]
fn blocks<S: Transpose, F: BlockFormat, const BITS: usize>(s: S, tile: &mut PackTile<'_>) {
    let group = const { ScaleGroup::of(F::LAYOUT) };
    let parts = const { F::BLOCK / CODES };
    let mut codes = [[0; CODES]; LANES];
    for (at, place) in tile.codes.chunks_exact_mut(parts * BITS * VECTOR).enumerate() {
        // `part` is a constant, so that shifts and scales are compiled for each part instead of branching. This is
        // three times as fast.
        unroll!(part < F::BLOCK / CODES, {
            let block = at * parts + part;
            let first = part.is_multiple_of(group.blocks);
            let scales = &mut tile.scales[block / group.blocks * group.bytes()..][..group.bytes()];
            let mut heads = [[0.0; LANES]; 2];
            let rows = tile.rows.chunks_exact(tile.row_bytes).take(LANES);
            for (lane, row) in rows.enumerate() {
                let BlockCodes { codes: of_row, scale, min, sub_scale, sub_min } =
                    F::codes(&row[at * F::BYTES..][..F::BYTES], part);
                codes[lane] = of_row;
                if first {
                    heads[0][lane] = scale;
                    heads[1][lane] = min;
                }
                group.store_subs(scales, block, lane, [sub_scale, sub_min]);
            }
            store::<S, BITS>(s, &codes, &mut place[part * BITS * VECTOR..][..BITS * VECTOR]);
            if first {
                group.store_heads(s, scales, &heads);
            }
        });
    }
}

/// Stores a block's codes in planes of bits.
#[inline(always)]
fn store<S: Transpose, const BITS: usize>(s: S, codes: &[[u8; CODES]; LANES], place: &mut [u8]) {
    let [low, high] = const { planes(BITS) };
    let quads = s.transpose(codes);
    let (low_plane, high_plane) = place.as_chunks_mut().0.split_at_mut(low);
    store_plane(s, low, low_plane, &quads, 0);
    store_plane(s, high, high_plane, &quads, low);
}

/// Stores `bits` bits of each code, starting at bit `shift`.
#[inline(always)]
fn store_plane<S: Transpose>(s: S, bits: usize, plane: &mut [[u8; VECTOR]], quads: &[S::B; 8], shift: usize) {
    if bits == 8 {
        for (vector, quad) in plane.iter_mut().zip(quads) {
            s.store_codes(*quad, vector);
        }
        return;
    }
    let mask = (1u32 << bits) - 1;
    for (v, vector) in plane.iter_mut().enumerate().take(bits) {
        let mut packed = s.field(quads[v], shift as i32, mask as u8);
        for i in 1..8 / bits.max(1) {
            let to = bits * i;
            let bits = s.field(quads[v + to], shift as i32 - to as i32, (mask << to) as u8);
            packed = s.or(packed, bits);
        }
        s.store_codes(packed, vector);
    }
}
