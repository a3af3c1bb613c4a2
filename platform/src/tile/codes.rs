//! Planes of codes: where the bits of a tile's codes lie.
//!
//! A block of 32 columns and 16 rows has 8 groups of four columns. A plane of `n` bits holds `n` bits of each of its codes in `n`
//! vectors of 64 bytes: byte `4 r + i` of vector `v` is of row `r` and of the columns `4 g + i` of the groups `g = v`, `v + n`,
//! `v + 2 n`, …, from its lowest bits on. Codes of 3, 5 and 6 bits are a plane of their low bits followed by one of their high bits.

use weft_components::CODES;

/// Bytes of a vector of codes.
pub(crate) const VECTOR: usize = 64;

/// Bits of the planes that codes of `bits` bits are cut into, low bits first; 0 where there is no second one.
pub(crate) const fn planes(bits: usize) -> [usize; 2] {
    match bits {
        3 => [2, 1],
        5 => [4, 1],
        6 => [4, 2],
        whole => [whole, 0],
    }
}

/// Stores the codes of row `lane` into a block of `bits` vectors.
pub(super) fn store(bits: usize, block: &mut [u8], lane: usize, codes: &[u8; CODES]) {
    let mut quads = [0u32; CODES / 4];
    for (quad, codes) in quads.iter_mut().zip(codes.as_chunks::<4>().0) {
        *quad = u32::from_ne_bytes(*codes);
    }
    let [low, high] = planes(bits);
    let (low_plane, high_plane) = block.split_at_mut(low * VECTOR);
    store_plane(low, low_plane, lane, &quads, 0);
    store_plane(high, high_plane, lane, &quads, low);
}

/// Stores the bits from `shift` on of four codes at a time. No bits cross bytes: each is masked before it moves to its place.
fn store_plane(bits: usize, plane: &mut [u8], lane: usize, quads: &[u32; CODES / 4], shift: usize) {
    let mask = mask(bits) * 0x0101_0101;
    for (v, vector) in plane.as_chunks_mut::<VECTOR>().0.iter_mut().enumerate() {
        let quads = quads.iter().skip(v).step_by(bits).enumerate();
        let packed = quads.fold(0, |packed, (i, quad)| packed | ((quad >> shift) & mask) << (bits * i));
        vector[4 * lane..][..4].copy_from_slice(&packed.to_ne_bytes());
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
