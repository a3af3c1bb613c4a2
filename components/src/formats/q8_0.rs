//! Q8_0: 32 weights in 34 bytes, a half scale `d` and 32 signed bytes; `w = d * q`, stored as unsigned `q + 128`.

use super::block_bits::{half_value, signed_bytes};
use super::block_format::{BlockCodes, BlockFormat, TileLayout};

/// 8-bit codes with one scale per block.
pub struct Q8_0;

impl BlockFormat for Q8_0 {
    const NAME: &'static str = "Q8_0";
    const GGML_TYPE: u32 = 8;
    const BLOCK: usize = 32;
    const BYTES: usize = 34;
    const LAYOUT: TileLayout = TileLayout::U8;
    const ZERO_POINT: u8 = 128;

    #[inline]
    fn codes(block: &[u8], _part: usize) -> BlockCodes {
        BlockCodes { codes: signed_bytes(&block[2..]), scale: half_value(block, 0), ..BlockCodes::default() }
    }
}
