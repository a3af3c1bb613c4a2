//! Q2_K: 256 weights in 84 bytes: 16 bytes of a 4-bit scale `s` (low) and minimum `m` (high) for each 16 weights, 64
//! bytes of 2-bit codes, half scales `d` and `dmin`; `w = d * s * code - dmin * m`.
//!
//! The same pair of bits in 32 bytes is a part of 32 weights: four parts in the first 32 bytes, four in the second 32.

use super::block_bits::{bit_fields, half_value};
use super::block_format::{BlockCodes, BlockFormat, TileLayout};

/// 2-bit codes with a scale and a minimum for every 16 weights.
pub struct Q2K;

impl BlockFormat for Q2K {
    const NAME: &'static str = "Q2_K";
    const GGML_TYPE: u32 = 10;
    const BLOCK: usize = 256;
    const BYTES: usize = 84;
    const LAYOUT: TileLayout = TileLayout::U2MinHalves;

    #[inline]
    fn codes(block: &[u8], part: usize) -> BlockCodes {
        let halves = [block[2 * part], block[2 * part + 1]];
        BlockCodes {
            codes: bit_fields(&block[16 + 32 * (part / 4)..], 2 * (part % 4), 3),
            scale: half_value(block, 80),
            min: -half_value(block, 82),
            sub_scale: halves.map(|byte| (byte & 15).cast_signed()),
            sub_min: halves.map(|byte| (byte >> 4).cast_signed()),
        }
    }
}
