//! Q5_K: 256 weights in 176 bytes: half scales `d` and `dmin`, 12 bytes of 6-bit scales `s` and minimums `m` as in
//! Q4_K, 32 bytes of fifth bits, 128 bytes of nibbles as in Q4_K; `w = d * s * code - dmin * m`.
//!
//! Bit `p` of the 32 bytes of fifth bits belongs to part `p`.

use super::block_bits::{bit_fields, half_value, scale_and_min};
use super::block_format::{BlockCodes, BlockFormat, TileLayout};

/// 5-bit codes with a scale and a minimum for every 32 weights.
pub struct Q5K;

impl BlockFormat for Q5K {
    const NAME: &'static str = "Q5_K";
    const GGML_TYPE: u32 = 13;
    const BLOCK: usize = 256;
    const BYTES: usize = 176;
    const LAYOUT: TileLayout = TileLayout::U5MinSuper;

    #[inline]
    fn codes(block: &[u8], part: usize) -> BlockCodes {
        let (scale, min) = scale_and_min(&block[4..], part);
        let mut codes = bit_fields(&block[48 + 32 * (part / 2)..], 4 * (part % 2), 15);
        for (code, high) in codes.iter_mut().zip(bit_fields(&block[16..], part, 1)) {
            *code |= high << 4;
        }
        BlockCodes {
            codes,
            scale: half_value(block, 0),
            min: -half_value(block, 2),
            sub_scale: [scale; 2],
            sub_min: [min; 2],
        }
    }
}
