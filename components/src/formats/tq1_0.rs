//! TQ1_0: 256 weights in 54 bytes: 48 bytes of five ternary digits, 4 bytes of four, a half scale `d`; `w = d * (code -
//! 1)`.
//!
//! A byte is a fraction of 256 whose digits in base 3 are the codes: digit `n` is `(byte * 3^n mod 256) * 3 / 256`.
//! Digit `n` of the first 32 bytes gives the weights from `32 n` on, of the next 16 bytes those from `160 + 16 n` on,
//! of the last four bytes those from `240 + 4 n` on.

use super::block_bits::half_value;
use super::block_format::{BlockCodes, BlockFormat, TileLayout};

/// Ternary digits, five per byte, with one scale per super-block.
pub struct Tq1_0;

impl BlockFormat for Tq1_0 {
    const NAME: &'static str = "TQ1_0";
    const GGML_TYPE: u32 = 34;
    const BLOCK: usize = 256;
    const BYTES: usize = 54;
    const LAYOUT: TileLayout = TileLayout::U2Super;
    const ZERO_POINT: u8 = 1;

    #[inline]
    fn codes(block: &[u8], part: usize) -> BlockCodes {
        const POWERS: [u8; 5] = [1, 3, 9, 27, 81];
        let codes = core::array::from_fn(|i| {
            let (byte, digit) = match 32 * part + i {
                weight @ 0..160 => (weight % 32, weight / 32),
                weight @ 160..240 => (32 + weight % 16, (weight - 160) / 16),
                weight => (48 + weight % 4, (weight - 240) / 4),
            };
            let fraction = block[byte].wrapping_mul(POWERS[digit]);
            ((u16::from(fraction) * 3) >> 8) as u8
        });
        BlockCodes { codes, scale: half_value(block, 52), ..BlockCodes::default() }
    }
}
