//! F32: IEEE single floats, little endian.

use super::block_format::{BlockFormat, TileLayout};

/// IEEE single floats.
pub struct F32;

impl BlockFormat for F32 {
    const NAME: &'static str = "F32";
    const GGML_TYPE: u32 = 0;
    const BLOCK: usize = 1;
    const BYTES: usize = 4;
    const LAYOUT: TileLayout = TileLayout::F32;

    fn dequantize(block: &[u8], out: &mut [f32]) {
        out[0] = f32::from_le_bytes([block[0], block[1], block[2], block[3]]);
    }
}
