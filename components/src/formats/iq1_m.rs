//! IQ1_M: 256 weights in 56 bytes: 32 low bytes of grid indices, 16 bytes of nibbles with an index's high three bits and the sign of its
//! `δ`, and four words of four 3-bit scales `s` for each 16 weights, whose high nibbles together are the half scale `d`;
//! `w = d * (2 s + 1) * (grid + δ)` with `δ = ±1/8`.

use super::block_bits::half_bits;
use super::block_format::{BlockCodes, BlockFormat, TileLayout};
use super::{grids, iq1_s};

/// Three values from a grid, with a scale for every 16 weights and a shift for every 8.
pub struct Iq1M;

impl BlockFormat for Iq1M {
    const NAME: &'static str = "IQ1_M";
    const GGML_TYPE: u32 = 29;
    const BLOCK: usize = 256;
    const BYTES: usize = 56;
    const LAYOUT: TileLayout = TileLayout::T3Halves;
    const TABLE: [i8; 16] = iq1_s::TABLE;
    const UNIT: f32 = 0.125;

    #[inline]
    fn codes(block: &[u8], part: usize) -> BlockCodes {
        let codes = grids::eights(|group| {
            let nibble = block[32 + 2 * part + group / 2] >> (4 * (group % 2));
            let index = u16::from(block[4 * part + group]) | (u16::from(nibble & 7) << 8);
            // A negative shift is the codes' third bit, as the sign is in the other formats.
            (grids::IQ1[usize::from(index)], if nibble & 8 == 0 { 0 } else { 0xff })
        });
        let scale = (0..4).fold(0, |bits, i| bits | (half_bits(block, 48 + 2 * i) >> 12 << (4 * i)));
        let sub_scales = half_bits(block, 48 + 2 * (part / 2)) >> (6 * (part % 2));
        BlockCodes {
            codes,
            scale: half::f16::from_bits(scale).to_f32(),
            sub_scale: [sub_scales, sub_scales >> 3].map(|s| (s & 7) as i8 * 2 + 1),
            ..BlockCodes::default()
        }
    }
}
