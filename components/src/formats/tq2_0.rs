//! TQ2_0: 256 weights in 66 bytes: 64 bytes of 2-bit codes as in Q2_K, a half scale `d`; `w = d * (code - 1)`.

use super::block_bits::{bit_fields, half_value};
use super::block_format::{BlockCodes, BlockFormat, TileLayout};

/// Ternary digits in two bits each, with one scale per super-block.
pub struct Tq2_0;

impl BlockFormat for Tq2_0 {
    const NAME: &'static str = "TQ2_0";
    const GGML_TYPE: u32 = 35;
    const BLOCK: usize = 256;
    const BYTES: usize = 66;
    const LAYOUT: TileLayout = TileLayout::U2Super;
    const ZERO_POINT: u8 = 1;

    #[inline]
    fn codes(block: &[u8], part: usize) -> BlockCodes {
        let codes = bit_fields(&block[32 * (part / 4)..], 2 * (part % 4), 3);
        BlockCodes { codes, scale: half_value(block, 64), ..BlockCodes::default() }
    }
}
