//! IQ2_XS: 256 weights in 74 bytes: a half scale `d`, 32 words of a 9-bit grid index and 7 signs, 8 bytes of 4-bit scales `s` for each 16
//! weights; `w = d * (2 s + 1) / 8 * ±grid`.

use super::block_bits::{half_bits, half_value};
use super::block_format::{BlockCodes, BlockFormat, TileLayout};
use super::{grids, iq2_xxs};

/// Signed values from a grid of 512, with a scale for every 16 weights.
pub struct Iq2Xs;

impl BlockFormat for Iq2Xs {
    const NAME: &'static str = "IQ2_XS";
    const GGML_TYPE: u32 = 17;
    const BLOCK: usize = 256;
    const BYTES: usize = 74;
    const LAYOUT: TileLayout = TileLayout::T3Halves;
    const TABLE: [i8; 16] = iq2_xxs::TABLE;
    const UNIT: f32 = 0.125;

    #[inline]
    fn codes(block: &[u8], part: usize) -> BlockCodes {
        let codes = grids::eights(|group| {
            let word = half_bits(block, 2 + 8 * part + 2 * group);
            (grids::IQ2_XS[usize::from(word & 511)], grids::even_signs(u32::from(word >> 9)))
        });
        let sub_scale = grids::odd_scales(block[66 + part]);
        BlockCodes { codes, scale: half_value(block, 0), sub_scale, ..BlockCodes::default() }
    }
}
