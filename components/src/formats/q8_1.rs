//! Q8_1: 32 weights in 36 bytes, a half scale `d`, a half with `d * Σ q` for products, which is not used, and 32 signed
//! bytes; `w = d * q`, stored as unsigned `q + 128`.

use super::block_bits::{half_value, signed_bytes};
use super::block_format::{BlockCodes, BlockFormat, TileLayout};

/// 8-bit codes with one scale, and the sum of the codes, per block.
pub struct Q8_1;

impl BlockFormat for Q8_1 {
    const NAME: &'static str = "Q8_1";
    const GGML_TYPE: u32 = 9;
    const BLOCK: usize = 32;
    const BYTES: usize = 36;
    const LAYOUT: TileLayout = TileLayout::U8;
    const ZERO_POINT: u8 = 128;

    #[inline]
    fn codes(block: &[u8], _part: usize) -> BlockCodes {
        BlockCodes { codes: signed_bytes(&block[4..]), scale: half_value(block, 0), ..BlockCodes::default() }
    }
}
