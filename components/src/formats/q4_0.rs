//! Q4_0: 32 weights in 18 bytes, a half scale `d` and 32 nibbles; `w = d * (code - 8)`.

use super::block_bits::{half_value, nibbles};
use super::block_format::{BlockCodes, BlockFormat, TileLayout};

/// 4-bit codes with one scale per block.
pub struct Q4_0;

impl BlockFormat for Q4_0 {
    const NAME: &'static str = "Q4_0";
    const GGML_TYPE: u32 = 2;
    const BLOCK: usize = 32;
    const BYTES: usize = 18;
    const LAYOUT: TileLayout = TileLayout::U4;
    const ZERO_POINT: u8 = 8;

    #[inline]
    fn codes(block: &[u8], _part: usize) -> BlockCodes {
        BlockCodes { codes: nibbles(&block[2..]), scale: half_value(block, 0), ..BlockCodes::default() }
    }
}
