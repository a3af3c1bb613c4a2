//! Q8_K: 256 weights in 292 bytes, a float scale `d`, 256 signed bytes, and 16 sums of them that are not used; `w = d *
//! q`, stored as unsigned `q + 128`.

use super::block_bits::{signed_bytes, word};
use super::block_format::{BlockCodes, BlockFormat, TileLayout};

/// 8-bit codes with one float scale per super-block.
pub struct Q8K;

impl BlockFormat for Q8K {
    const NAME: &'static str = "Q8_K";
    const GGML_TYPE: u32 = 15;
    const BLOCK: usize = 256;
    const BYTES: usize = 292;
    const LAYOUT: TileLayout = TileLayout::U8Float;
    const ZERO_POINT: u8 = 128;

    #[inline]
    fn codes(block: &[u8], part: usize) -> BlockCodes {
        let codes = signed_bytes(&block[4 + 32 * part..]);
        BlockCodes { codes, scale: f32::from_bits(word(block, 0)), ..BlockCodes::default() }
    }
}
