//! Q6_K: 256 weights in 210 bytes: 128 bytes of nibbles, 64 of bit pairs above them, 16 signed scales `s` for each 16
//! weights, a half scale `d`; `w = d * s * (code - 32)`.
//!
//! In the 64 bytes of nibbles of each half, the low nibbles are parts 0 and 1, the high nibbles parts 2 and 3. The
//! pairs are stored like the codes of Q2_K.

use super::block_bits::{bit_fields, half_value};
use super::block_format::{BlockCodes, BlockFormat, TileLayout};

/// 6-bit codes with a scale for every 16 weights.
pub struct Q6K;

impl BlockFormat for Q6K {
    const NAME: &'static str = "Q6_K";
    const GGML_TYPE: u32 = 14;
    const BLOCK: usize = 256;
    const BYTES: usize = 210;
    const LAYOUT: TileLayout = TileLayout::U6Halves;
    const ZERO_POINT: u8 = 32;

    #[inline]
    fn codes(block: &[u8], part: usize) -> BlockCodes {
        let (half, quarter) = (part / 4, part % 4);
        let mut codes = bit_fields(&block[64 * half + 32 * (quarter % 2)..], 4 * (quarter / 2), 15);
        for (code, high) in codes.iter_mut().zip(bit_fields(&block[128 + 32 * half..], 2 * quarter, 3)) {
            *code |= high << 4;
        }
        BlockCodes {
            codes,
            scale: half_value(block, 208),
            sub_scale: [block[192 + 2 * part], block[193 + 2 * part]].map(u8::cast_signed),
            ..BlockCodes::default()
        }
    }
}
