//! IQ3_S: 256 weights in 110 bytes: a half scale `d`, 64 low bytes of grid indices, 8 bytes of their ninth bits, 32 bytes of signs, 4
//! bytes of 4-bit scales `s` for each 32 weights; `w = d * (2 s + 1) * ±grid`.

use super::block_bits::half_value;
use super::block_format::{BlockCodes, BlockFormat, TileLayout};
use super::grids;

/// Signed values from a grid of 512 quadruples, with one scale for every 32 weights.
pub struct Iq3S;

impl BlockFormat for Iq3S {
    const NAME: &'static str = "IQ3_S";
    const GGML_TYPE: u32 = 21;
    const BLOCK: usize = 256;
    const BYTES: usize = 110;
    const LAYOUT: TileLayout = TileLayout::T4Super;
    /// The values of the levels, and their negatives at the level plus 8.
    const TABLE: [i8; 16] = [1, 3, 5, 7, 9, 11, 13, 15, -1, -3, -5, -7, -9, -11, -13, -15];

    #[inline]
    fn codes(block: &[u8], part: usize) -> BlockCodes {
        let codes = grids::fours(
            |group| {
                let high = (block[66 + part] >> group) & 1;
                grids::IQ3_S[usize::from(block[2 + 8 * part + group]) | (usize::from(high) << 8)]
            },
            |pair| block[74 + 4 * part + pair],
        );
        let sub_scale = [grids::odd_scales(block[106 + part / 2])[part % 2]; 2];
        BlockCodes { codes, scale: half_value(block, 0), sub_scale, ..BlockCodes::default() }
    }
}
