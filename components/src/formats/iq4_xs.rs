//! IQ4_XS: 256 weights in 136 bytes: a half scale `d`, eight pairs of high bits and eight nibbles of 6-bit scales `s`
//! for each 32 weights, and nibbles as in IQ4_NL; `w = d * (s - 32) * value(code)`.

use super::block_bits::{half_bits, half_value, nibbles};
use super::block_format::{BlockCodes, BlockFormat, TileLayout};
use super::iq4_nl;

/// Sixteen unevenly spaced values with one scale for every 32 weights.
pub struct Iq4Xs;

impl BlockFormat for Iq4Xs {
    const NAME: &'static str = "IQ4_XS";
    const GGML_TYPE: u32 = 23;
    const BLOCK: usize = 256;
    const BYTES: usize = 136;
    const LAYOUT: TileLayout = TileLayout::T4Super;
    const TABLE: [i8; 16] = iq4_nl::TABLE;

    #[inline]
    fn codes(block: &[u8], part: usize) -> BlockCodes {
        let low = (block[4 + part / 2] >> (4 * (part % 2))) & 15;
        let high = (half_bits(block, 2) >> (2 * part)) & 3;
        let sub_scale = [(u16::from(low) | (high << 4)) as i8 - 32; 2];
        let codes = nibbles(&block[8 + 16 * part..]);
        BlockCodes { codes, scale: half_value(block, 0), sub_scale, ..BlockCodes::default() }
    }
}
