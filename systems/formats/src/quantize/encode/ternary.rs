//! Encoders of TQ1_0 and TQ2_0: -1, 0 or 1 times a scale for each 256 elements.

use super::bits::{add_bits, put_half};
use super::search::{inverse, peak};

/// Elements of a super-block.
const N: usize = 256;

/// Writes the scale at `out[at..]` and returns the codes: 0, 1 and 2.
///
/// The scale is the largest magnitude. These formats are for weights that are already ternary, which are stored
/// exactly. Other weights lose nearly all accuracy with any scale. The scale with the least squared error is even worse
/// because it maps fewer weights to 0: SmolLM2's perplexity is then twice as large.
fn codes(x: &[f32], out: &mut [u8], at: usize) -> Option<[u8; N]> {
    let x: &[f32; N] = x.first_chunk()?;
    let largest = peak(x).abs();
    put_half(out, at, largest)?;
    let inverse = inverse(largest);
    Some(x.map(|x| u8::from(inverse * x > -0.5) + u8::from(inverse * x >= 0.5)))
}

/// Stores five base-3 digits in a byte, as a fraction of 256.
pub(super) fn tq1_0(x: &[f32], out: &mut [u8]) -> Option<()> {
    let codes = codes(x, out, 52)?;
    // First element, first byte, number of bytes, digits in a byte.
    for (start, first, bytes, digits) in [(0, 0, 32, 5), (160, 32, 16, 5), (240, 48, 4, 4)] {
        for (i, byte) in out.get_mut(first..first + bytes)?.iter_mut().enumerate() {
            let digit = |n: usize| if n < digits { u16::from(codes[start + n * bytes + i]) } else { 0 };
            let number = (0..5).fold(0, |number, n| 3 * number + digit(n));
            // Rounded up, so that multiplying by 3 returns each digit exactly.
            *byte = (256 * number).div_ceil(243) as u8;
        }
    }
    Some(())
}

/// Stores two bits for each code.
pub(super) fn tq2_0(x: &[f32], out: &mut [u8]) -> Option<()> {
    out.fill(0);
    let codes = codes(x, out, 64)?;
    for (part, codes) in codes.chunks_exact(32).enumerate() {
        add_bits(out.get_mut(32 * (part / 4)..64)?, codes, 0, 3, 2 * (part % 4));
    }
    Some(())
}
