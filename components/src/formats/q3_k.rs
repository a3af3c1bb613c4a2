//! Q3_K: 256 weights in 110 bytes: 32 bytes of third bits, 64 of 2-bit codes, 12 of 6-bit scales `s` for each 16
//! weights, a half scale `d`; `w = d * (s - 32) * (code - 4)`.
//!
//! The codes are stored as in Q2_K. Bit `p` of the 32 bytes of third bits belongs to part `p`. The low four bits of
//! scales 0 to 7 are the low nibbles of the first eight bytes, those of scales 8 to 15 the high nibbles. The high two
//! bits of the scales are pairs of bits in the last four bytes, scales 0 to 3 in the lowest pairs.

use super::block_bits::{bit_fields, half_value};
use super::block_format::{BlockCodes, BlockFormat, TileLayout};

/// 3-bit codes with a scale for every 16 weights.
pub struct Q3K;

impl BlockFormat for Q3K {
    const NAME: &'static str = "Q3_K";
    const GGML_TYPE: u32 = 11;
    const BLOCK: usize = 256;
    const BYTES: usize = 110;
    const LAYOUT: TileLayout = TileLayout::U3Halves;
    const ZERO_POINT: u8 = 4;

    #[inline]
    fn codes(block: &[u8], part: usize) -> BlockCodes {
        let mut codes = bit_fields(&block[32 + 32 * (part / 4)..], 2 * (part % 4), 3);
        for (code, high) in codes.iter_mut().zip(bit_fields(block, part, 1)) {
            *code |= high << 2;
        }
        let scale = |i: usize| {
            let low = (block[96 + i % 8] >> (4 * (i / 8))) & 15;
            let high = (block[104 + i % 4] >> (2 * (i / 4))) & 3;
            (low | (high << 4)).cast_signed() - 32
        };
        BlockCodes {
            codes,
            scale: half_value(block, 108),
            sub_scale: [scale(2 * part), scale(2 * part + 1)],
            ..BlockCodes::default()
        }
    }
}
