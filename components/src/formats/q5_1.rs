//! Q5_1: 32 weights in 24 bytes, a half scale `d`, a half minimum `m`, 32 fifth bits and 32 nibbles; `w = d * code + m`.

use super::block_bits::{half_value, high_bits, nibbles, word};
use super::block_format::{BlockCodes, BlockFormat, TileLayout};

/// 5-bit codes with one scale and one minimum per block.
pub struct Q5_1;

impl BlockFormat for Q5_1 {
    const NAME: &'static str = "Q5_1";
    const GGML_TYPE: u32 = 7;
    const BLOCK: usize = 32;
    const BYTES: usize = 24;
    const LAYOUT: TileLayout = TileLayout::U5Min;

    #[inline]
    fn codes(block: &[u8], _part: usize) -> BlockCodes {
        let codes = high_bits(nibbles(&block[8..]), word(block, 4));
        let (scale, min) = (half_value(block, 0), half_value(block, 2));
        BlockCodes { codes, scale, min, ..BlockCodes::default() }
    }
}
