//! Q4_0: 32 weights in 18 bytes, a half scale `d` and 32 nibbles; `w = d * (code - 8)`.

use super::{half_bits, half_value, nibbles};
use crate::format::{BlockCodes, BlockFormat, TileLayout};

/// 4-bit codes with one scale a block.
pub struct Q4_0;

impl BlockFormat for Q4_0 {
    const NAME: &'static str = "Q4_0";
    const GGML_TYPE: u32 = 2;
    const BLOCK: usize = 32;
    const BYTES: usize = 18;
    const LAYOUT: TileLayout = TileLayout::U4;
    const ZERO_POINT: u8 = 8;

    fn dequantize(block: &[u8], out: &mut [f32]) {
        let scale = half_value(block, 0);
        for (value, code) in out.iter_mut().zip(nibbles(&block[2..])) {
            *value = scale * (f32::from(code) - 8.0);
        }
    }

    fn codes(block: &[u8]) -> BlockCodes {
        BlockCodes { codes: nibbles(&block[2..]), scale: half_bits(block, 0), min: 0 }
    }
}
