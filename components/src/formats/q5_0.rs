//! Q5_0: 32 weights in 22 bytes, a half scale `d`, 32 fifth bits and 32 nibbles; `w = d * (code - 16)`.

use super::block_bits::{half_value, high_bits, nibbles, word};
use super::block_format::{BlockCodes, BlockFormat, TileLayout};

/// 5-bit codes with one scale per block.
pub struct Q5_0;

impl BlockFormat for Q5_0 {
    const NAME: &'static str = "Q5_0";
    const GGML_TYPE: u32 = 6;
    const BLOCK: usize = 32;
    const BYTES: usize = 22;
    const LAYOUT: TileLayout = TileLayout::U5;
    const ZERO_POINT: u8 = 16;

    #[inline]
    fn codes(block: &[u8], _part: usize) -> BlockCodes {
        let codes = high_bits(nibbles(&block[6..]), word(block, 2));
        BlockCodes { codes, scale: half_value(block, 0), ..BlockCodes::default() }
    }
}
