//! BF16: the upper half of an IEEE single float, little endian.

use super::block_bits::half_bits;
use super::block_format::{BlockFormat, TileLayout};

/// bfloat16.
pub struct Bf16;

impl BlockFormat for Bf16 {
    const NAME: &'static str = "BF16";
    const GGML_TYPE: u32 = 30;
    const BLOCK: usize = 1;
    const BYTES: usize = 2;
    const LAYOUT: TileLayout = TileLayout::Bf16;

    fn dequantize(block: &[u8], out: &mut [f32]) {
        out[0] = f32::from_bits(u32::from(half_bits(block, 0)) << 16);
    }
}
