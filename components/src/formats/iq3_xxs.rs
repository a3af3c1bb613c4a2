//! IQ3_XXS: 256 weights in 98 bytes: a half scale `d`, 64 grid indices, and for each 32 weights a word of four 7-bit sets of signs and a
//! 4-bit scale `s`; `w = d * (2 s + 1) / 4 * ±grid`.

use super::block_bits::{half_value, word};
use super::block_format::{BlockCodes, BlockFormat, TileLayout};
use super::grids;

/// Signed values from a grid of 256 quadruples, with one scale for every 32 weights.
pub struct Iq3Xxs;

impl BlockFormat for Iq3Xxs {
    const NAME: &'static str = "IQ3_XXS";
    const GGML_TYPE: u32 = 18;
    const BLOCK: usize = 256;
    const BYTES: usize = 98;
    const LAYOUT: TileLayout = TileLayout::T4Super;
    /// The values of the levels, and their negatives at the level plus 8.
    const TABLE: [i8; 16] = [4, 12, 20, 28, 36, 44, 52, 62, -4, -12, -20, -28, -36, -44, -52, -62];
    const UNIT: f32 = 0.25;

    #[inline]
    fn codes(block: &[u8], part: usize) -> BlockCodes {
        let word = word(block, 66 + 4 * part);
        let codes = grids::fours(
            |group| grids::IQ3_XXS[usize::from(block[2 + 8 * part + group])],
            |pair| grids::even_signs(word >> (7 * pair)),
        );
        let sub_scale = [(word >> 28) as i8 * 2 + 1; 2];
        BlockCodes { codes, scale: half_value(block, 0), sub_scale, ..BlockCodes::default() }
    }
}
