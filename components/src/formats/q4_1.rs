//! Q4_1: 32 weights in 20 bytes, a half scale `d`, a half minimum `m` and 32 nibbles; `w = d * code + m`.

use super::block_bits::{half_value, nibbles};
use super::block_format::{BlockCodes, BlockFormat, TileLayout};

/// 4-bit codes with one scale and one minimum per block.
pub struct Q4_1;

impl BlockFormat for Q4_1 {
    const NAME: &'static str = "Q4_1";
    const GGML_TYPE: u32 = 3;
    const BLOCK: usize = 32;
    const BYTES: usize = 20;
    const LAYOUT: TileLayout = TileLayout::U4Min;

    #[inline]
    fn codes(block: &[u8], _part: usize) -> BlockCodes {
        let (scale, min) = (half_value(block, 0), half_value(block, 2));
        BlockCodes { codes: nibbles(&block[4..]), scale, min, ..BlockCodes::default() }
    }
}
