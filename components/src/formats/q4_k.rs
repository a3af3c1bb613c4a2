//! Q4_K: 256 weights in 144 bytes: half scales `d` and `dmin`, 12 bytes of 6-bit scales `s` and minimums `m` for each 32 weights, 128
//! bytes of nibbles; `w = d * s * code - dmin * m`.
//!
//! Parts `2 i` and `2 i + 1` are the low and high nibbles of the 32 bytes `i`.

use super::block_bits::{bit_fields, half_value, scale_and_min};
use super::block_format::{BlockCodes, BlockFormat, TileLayout};

/// 4-bit codes with a scale and a minimum for every 32 weights.
pub struct Q4K;

impl BlockFormat for Q4K {
    const NAME: &'static str = "Q4_K";
    const GGML_TYPE: u32 = 12;
    const BLOCK: usize = 256;
    const BYTES: usize = 144;
    const LAYOUT: TileLayout = TileLayout::U4MinSuper;

    #[inline]
    fn codes(block: &[u8], part: usize) -> BlockCodes {
        let (scale, min) = scale_and_min(&block[4..], part);
        BlockCodes {
            codes: bit_fields(&block[16 + 32 * (part / 2)..], 4 * (part % 2), 15),
            scale: half_value(block, 0),
            min: -half_value(block, 2),
            sub_scale: [scale; 2],
            sub_min: [min; 2],
        }
    }
}
