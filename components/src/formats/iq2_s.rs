//! IQ2_S: 256 weights in 82 bytes: a half scale `d`, 32 low bytes of grid indices, 32 bytes of signs, 8 bytes of the indices' high two
//! bits, 8 bytes of 4-bit scales `s` for each 16 weights; `w = d * (2 s + 1) / 8 * ±grid`.

use super::block_bits::half_value;
use super::block_format::{BlockCodes, BlockFormat, TileLayout};
use super::{grids, iq2_xxs};

/// Signed values from a grid of 1024, with a scale for every 16 weights.
pub struct Iq2S;

impl BlockFormat for Iq2S {
    const NAME: &'static str = "IQ2_S";
    const GGML_TYPE: u32 = 22;
    const BLOCK: usize = 256;
    const BYTES: usize = 82;
    const LAYOUT: TileLayout = TileLayout::T3Halves;
    const TABLE: [i8; 16] = iq2_xxs::TABLE;
    const UNIT: f32 = 0.125;

    #[inline]
    fn codes(block: &[u8], part: usize) -> BlockCodes {
        let codes = grids::eights(|group| {
            let high = (block[66 + part] >> (2 * group)) & 3;
            let index = u16::from(block[2 + 4 * part + group]) | (u16::from(high) << 8);
            (grids::IQ2_S[usize::from(index)], block[34 + 4 * part + group])
        });
        let sub_scale = grids::odd_scales(block[74 + part]);
        BlockCodes { codes, scale: half_value(block, 0), sub_scale, ..BlockCodes::default() }
    }
}
