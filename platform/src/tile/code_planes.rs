//! Planes of codes: the layout of the bits of a tile's codes.
//!
//! A block of 32 columns and 16 rows has 8 groups of four columns. A plane of `n` bits contains `n` bits of each of its
//! codes, in `n` vectors of 64 bytes. Byte `4 r + i` of vector `v` belongs to row `r` and to the columns `4 g + i` of
//! the groups `g = v`, `v + n`, `v + 2 n`, …, from its lowest bits on. Codes of 3, 5 and 6 bits are a plane of their
//! low bits followed by a plane of their high bits.

use weft_components::CODES;

/// Bytes of a vector of codes.
pub(crate) const VECTOR: usize = 64;

/// Bits of the planes that codes of `bits` bits are divided into, low bits first; 0 if there is no second plane.
pub(crate) const fn planes(bits: usize) -> [usize; 2] {
    match bits {
        3 => [2, 1],
        5 => [4, 1],
        6 => [4, 2],
        whole => [whole, 0],
    }
}

/// The codes of row `lane` of a block of `bits` vectors.
pub(super) fn load(bits: usize, block: &[u8], lane: usize) -> [u8; CODES] {
    let [low, high] = planes(bits);
    core::array::from_fn(|k| {
        let code = load_plane(low, block, lane, k);
        if high == 0 { code } else { code | load_plane(high, &block[low * VECTOR..], lane, k) << low }
    })
}

fn load_plane(bits: usize, plane: &[u8], lane: usize, k: usize) -> u8 {
    let (group, i) = (k / 4, k % 4);
    let byte = plane[group % bits * VECTOR + 4 * lane + i];
    (byte >> (group / bits * bits)) & mask(bits) as u8
}

const fn mask(bits: usize) -> u32 {
    (1 << bits) - 1
}
