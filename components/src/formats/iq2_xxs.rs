//! IQ2_XXS: 256 weights in 66 bytes: a half scale `d`, and for each 32 weights four grid indices and a word of four 7-bit sets of signs
//! and a 4-bit scale `s`; `w = d * (2 s + 1) / 8 * ±grid`.

use super::block_bits::{half_value, word};
use super::block_format::{BlockCodes, BlockFormat, TileLayout};
use super::grids;

/// Signed values from a grid of 256, with one scale for every 32 weights.
pub struct Iq2Xxs;

/// The values of the levels, and their negatives at the level plus 4.
pub(super) const TABLE: [i8; 16] = [8, 25, 43, 0, -8, -25, -43, 0, 0, 0, 0, 0, 0, 0, 0, 0];

impl BlockFormat for Iq2Xxs {
    const NAME: &'static str = "IQ2_XXS";
    const GGML_TYPE: u32 = 16;
    const BLOCK: usize = 256;
    const BYTES: usize = 66;
    const LAYOUT: TileLayout = TileLayout::T3Super;
    const TABLE: [i8; 16] = TABLE;
    const UNIT: f32 = 0.125;

    #[inline]
    fn codes(block: &[u8], part: usize) -> BlockCodes {
        let at = 2 + 8 * part;
        let word = word(block, at + 4);
        let codes = grids::eights(|group| {
            (grids::IQ2_XXS[usize::from(block[at + group])], grids::even_signs(word >> (7 * group)))
        });
        let sub_scale = [(word >> 28) as i8 * 2 + 1; 2];
        BlockCodes { codes, scale: half_value(block, 0), sub_scale, ..BlockCodes::default() }
    }
}
