//! MXFP4: 32 weights in 17 bytes, an exponent `e` and 32 nibbles that index a table; `w = 2^(e - 127) * value(code) /
//! 2`.
//!
//! The values are those of the 4-bit float of the Open Compute Project's "Microscaling Formats" (E2M1), doubled.

use super::block_bits::nibbles;
use super::block_format::{BlockCodes, BlockFormat, TileLayout};

/// 4-bit floats with one exponent per block.
pub struct Mxfp4;

impl BlockFormat for Mxfp4 {
    const NAME: &'static str = "MXFP4";
    const GGML_TYPE: u32 = 39;
    const BLOCK: usize = 32;
    const BYTES: usize = 17;
    const LAYOUT: TileLayout = TileLayout::T4Float;
    const TABLE: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

    #[inline]
    fn codes(block: &[u8], _part: usize) -> BlockCodes {
        // Half of the power of two. The two smallest are subnormal.
        let bits = match block[0] {
            e @ 0..2 => 0x0020_0000 << e,
            e => (u32::from(e) - 1) << 23,
        };
        BlockCodes { codes: nibbles(&block[1..]), scale: f32::from_bits(bits), ..BlockCodes::default() }
    }
}
