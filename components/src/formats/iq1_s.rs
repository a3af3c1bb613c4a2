//! IQ1_S: 256 weights in 50 bytes: a half scale `d`, 32 low bytes of grid indices, and for each 32 weights a word of the four
//! indices' high three bits, a 3-bit scale `s` and the sign of `δ`; `w = d * (2 s + 1) * (grid + δ)` with `δ = ±1/8`.

use super::block_bits::{half_bits, half_value};
use super::block_format::{BlockCodes, BlockFormat, TileLayout};
use super::grids;

/// Three values from a grid, with one scale and shift for every 32 weights.
pub struct Iq1S;

/// Eight times `grid + δ`, at code `grid + 1`, plus 4 if `δ` is negative.
pub(super) const TABLE: [i8; 16] = [-7, 1, 9, 0, -9, -1, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0];

impl BlockFormat for Iq1S {
    const NAME: &'static str = "IQ1_S";
    const GGML_TYPE: u32 = 19;
    const BLOCK: usize = 256;
    const BYTES: usize = 50;
    const LAYOUT: TileLayout = TileLayout::T3Super;
    const TABLE: [i8; 16] = TABLE;
    const UNIT: f32 = 0.125;

    #[inline]
    fn codes(block: &[u8], part: usize) -> BlockCodes {
        let word = half_bits(block, 34 + 2 * part);
        let shift = u8::from(word & 0x8000 != 0) << 2;
        let codes = grids::eights(|group| {
            let index = u16::from(block[2 + 4 * part + group]) | (((word >> (3 * group)) & 7) << 8);
            (grids::IQ1[usize::from(index)], 0)
        });
        BlockCodes {
            codes: codes.map(|code| code | shift),
            scale: half_value(block, 0),
            sub_scale: [((word >> 12) & 7) as i8 * 2 + 1; 2],
            ..BlockCodes::default()
        }
    }
}
