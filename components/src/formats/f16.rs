//! F16: IEEE half floats, little endian.

use super::block_bits::half_value;
use super::block_format::{BlockFormat, TileLayout};

/// IEEE half floats.
pub struct F16;

impl BlockFormat for F16 {
    const NAME: &'static str = "F16";
    const GGML_TYPE: u32 = 1;
    const BLOCK: usize = 1;
    const BYTES: usize = 2;
    const LAYOUT: TileLayout = TileLayout::F16;

    fn dequantize(block: &[u8], out: &mut [f32]) {
        out[0] = half_value(block, 0);
    }
}
