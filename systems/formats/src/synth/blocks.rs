//! How random blocks of each format are drawn: what part of a block is left to chance, and where its scale goes.

use super::random::SplitMix64;
use half::f16;

/// A format's blocks.
#[derive(Debug)]
pub(super) struct BlockRecipe {
    /// The format's name.
    pub(super) format: &'static str,
    /// What must hold of random bytes before the scale is written over them.
    fix: fn(&mut [u8]),
    scale: ScalePlace,
}

/// Where the scale of a block goes, and how it is stored.
#[derive(Clone, Copy, Debug)]
enum ScalePlace {
    /// A half at this offset, of either sign, so that the mean is zero whatever the codes are.
    Half(usize),
    /// A half at the first offset; at the second a half of so many times as much, which makes the mean zero.
    WithMin(usize, usize, f32),
    /// A 32-bit float at the start, of either sign.
    Float,
    /// A power of two at the start, as a biased exponent of twice the scale.
    Exponent,
    /// A half in the upper nibbles of four words at this offset.
    Nibbles(usize),
}

const fn recipe(format: &'static str, fix: fn(&mut [u8]), scale: ScalePlace) -> BlockRecipe {
    BlockRecipe { format, fix, scale }
}

/// Formats whose blocks are drawn by a recipe. Offsets: the block layouts in `ggml-common.h` of the ggml project.
pub(super) static RECIPES: [BlockRecipe; 21] = {
    use ScalePlace::{Exponent, Float, Half, Nibbles, WithMin};
    [
        recipe("Q5_0", nothing, Half(0)),
        recipe("Q5_1", nothing, WithMin(0, 2, -15.5)),
        recipe("Q8_1", no_sum, Half(0)),
        recipe("Q2_K", equal_nibbles, WithMin(80, 82, 1.5)),
        recipe("Q3_K", nothing, Half(108)),
        recipe("Q4_K", equal_scales, WithMin(0, 2, 7.5)),
        recipe("Q5_K", equal_scales, WithMin(0, 2, 15.5)),
        recipe("Q6_K", nothing, Half(208)),
        recipe("Q8_K", no_sums, Float),
        recipe("IQ1_S", nothing, Half(0)),
        recipe("IQ1_M", nothing, Nibbles(48)),
        recipe("IQ2_XXS", nothing, Half(0)),
        recipe("IQ2_XS", nothing, Half(0)),
        recipe("IQ2_S", nothing, Half(0)),
        recipe("IQ3_XXS", nothing, Half(0)),
        recipe("IQ3_S", nothing, Half(0)),
        recipe("IQ4_NL", nothing, Half(0)),
        recipe("IQ4_XS", nothing, Half(0)),
        recipe("TQ1_0", nothing, Half(52)),
        recipe("TQ2_0", ternary, Half(64)),
        recipe("MXFP4", nothing, Exponent),
    ]
};

fn nothing(_: &mut [u8]) {}

/// Q8_1's sum of codes is not read, and zero says so.
fn no_sum(block: &mut [u8]) {
    block[2..4].fill(0);
}

/// As [`no_sum`], a sum for each 16 codes.
fn no_sums(block: &mut [u8]) {
    block[260..].fill(0);
}

/// Each scale of 4 bits and its minimum, the nibbles of a byte, are equal and not zero.
fn equal_nibbles(block: &mut [u8]) {
    for byte in &mut block[..16] {
        *byte = ((*byte & 15) | 1) * 0x11;
    }
}

/// Each scale of 6 bits and its minimum are equal: scales 0 to 3 in bytes 0 to 3 and minimums in bytes 4 to 7, whose upper bits are
/// those of scales and minimums 4 to 7, of which bytes 8 to 11 have the lower four.
fn equal_scales(block: &mut [u8]) {
    let scales = &mut block[4..16];
    for i in 0..4 {
        scales[i] |= 1;
        scales[i + 4] = scales[i];
        scales[i + 8] = (scales[i + 8] & 15) * 0x11;
    }
}

/// Pairs of bits are 0 to 2: where both are set the upper one is cleared.
fn ternary(block: &mut [u8]) {
    for byte in &mut block[..64] {
        *byte &= !((*byte << 1) & 0xaa);
    }
}

impl BlockRecipe {
    /// Fills `block`, one of the format's, with random weights of this scale.
    pub(super) fn fill(&self, stream: &mut SplitMix64, scale: f32, block: &mut [u8]) {
        let mut words = block.chunks_exact_mut(8);
        for word in &mut words {
            word.copy_from_slice(&stream.next().to_le_bytes());
        }
        let bits = stream.next();
        let rest = words.into_remainder();
        let len = rest.len();
        rest.copy_from_slice(&bits.to_le_bytes()[..len]);
        (self.fix)(block);
        // A bit that no remainder of a block takes.
        let signed = if bits >> 63 == 0 { scale } else { -scale };
        let mut half = |at: usize, value: f32| {
            block[at..at + 2].copy_from_slice(&f16::from_f32(value).to_le_bytes());
        };
        match self.scale {
            ScalePlace::Half(at) => half(at, signed),
            ScalePlace::WithMin(at, min, times) => {
                half(at, scale);
                half(min, times * f16::from_f32(scale).to_f32());
            }
            ScalePlace::Float => block[..4].copy_from_slice(&signed.to_le_bytes()),
            ScalePlace::Exponent => block[0] = exponent(scale, stream.next()),
            ScalePlace::Nibbles(at) => {
                let bits = f16::from_f32(signed).to_bits();
                for i in 0..4 {
                    let byte = &mut block[at + 2 * i + 1];
                    *byte = (*byte & 15) | (((bits >> (4 * i)) & 15) << 4) as u8;
                }
            }
        }
    }
}

/// The biased exponent of one of the two powers of two around `2 * scale`, so that the mean of their squares is its square.
fn exponent(scale: f32, random: u64) -> u8 {
    const BIAS: i32 = 127;
    let twice = 2.0 * scale;
    if !twice.is_normal() {
        return 0;
    }
    let low = (twice.to_bits() >> 23) as i32 - BIAS;
    let ratio = twice / f32::from_bits(((low + BIAS) as u32) << 23);
    let chance = (ratio * ratio - 1.0) / 3.0;
    let up = (random >> 40) as f32 / ((1u32 << 24) as f32) < chance;
    u8::try_from(low + BIAS + i32::from(up)).unwrap_or(0)
}
