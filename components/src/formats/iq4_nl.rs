//! IQ4_NL: 32 weights in 18 bytes, a half scale `d` and 32 nibbles that index a table; `w = d * value(code)`.

use super::block_bits::{half_value, nibbles};
use super::block_format::{BlockCodes, BlockFormat, TileLayout};

/// Sixteen unevenly spaced values with one scale per block.
pub struct Iq4Nl;

/// The values.
pub(super) const TABLE: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

impl BlockFormat for Iq4Nl {
    const NAME: &'static str = "IQ4_NL";
    const GGML_TYPE: u32 = 20;
    const BLOCK: usize = 32;
    const BYTES: usize = 18;
    const LAYOUT: TileLayout = TileLayout::T4;
    const TABLE: [i8; 16] = TABLE;

    #[inline]
    fn codes(block: &[u8], _part: usize) -> BlockCodes {
        BlockCodes { codes: nibbles(&block[2..]), scale: half_value(block, 0), ..BlockCodes::default() }
    }
}
