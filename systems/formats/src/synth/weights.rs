//! Random weights, generated in their storage format: codes and scales are drawn directly, without quantizing.
//!
//! Codes are uniform over the values that the format's quantizer uses, so kernels are tested with all of them. The
//! scale of a block is one of sixteen, so that mixed-up blocks are detected. The mean is 0 even if codes are not
//! symmetric: a mean that all weights share would grow with the width and dominate the result.
//!
//! To add a format, add an entry to [`GENERATORS`] with a function that fills whole blocks, or an entry to [`RECIPES`].

use super::blocks::{BlockRecipe, RECIPES};
use super::random::SplitMix64;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use std::sync::OnceLock;
use weft_components::formats::{Bf16, F16, F32, Q4_0, Q4_1, Q8_0};
use weft_components::{BlockFormat, TensorFormat};

/// How the weights of a format are generated.
#[derive(Debug)]
struct Generator {
    /// Type id of the format.
    ggml_type: u32,
    /// Variance of the weights if every scale is 1.
    variance: f32,
    /// Fills whole blocks.
    fill: fn(&RandomWeights, &mut SplitMix64, &mut [u8]),
}

const fn generator<F: BlockFormat>(
    variance: f32,
    fill: fn(&RandomWeights, &mut SplitMix64, &mut [u8]),
) -> Generator {
    Generator { ggml_type: F::GGML_TYPE, variance, fill }
}

/// Formats with a known variance, whose blocks are filled by a function.
const GENERATORS: [Generator; 6] = [
    // Uniform from -1 to 1.
    generator::<F32>(1.0 / 3.0, fill_f32),
    generator::<F16>(1.0 / 3.0, fill_f16),
    generator::<Bf16>(1.0 / 3.0, fill_bf16),
    // The odd numbers from -127 to 127.
    generator::<Q8_0>((128.0 * 128.0 - 1.0) / 3.0, fill_q8_0),
    // -8 to 7. The scale has a random sign, so the mean is 0 and the variance is the mean of the squares.
    generator::<Q4_0>((16.0 * 16.0 - 1.0) / 12.0 + 0.25, fill_q4_0),
    // 0 to 15, minus 7.5.
    generator::<Q4_1>((16.0 * 16.0 - 1.0) / 12.0, fill_q4_1),
];

/// Number of different scales in a tensor.
const SCALES: usize = 16;

/// Returns the names of the formats that weights can be generated in.
pub(super) fn format_names() -> impl Iterator<Item = &'static str> {
    let format = |generator: &Generator| TensorFormat::from_ggml(generator.ggml_type);
    let drawn = GENERATORS.iter().filter_map(format).map(TensorFormat::name);
    drawn.chain(RECIPES.iter().map(|recipe| recipe.format))
}

/// How whole blocks are filled.
#[derive(Clone, Copy, Debug)]
enum Fill {
    Function(fn(&RandomWeights, &mut SplitMix64, &mut [u8])),
    /// By a recipe, in blocks of this many bytes.
    Recipe(&'static BlockRecipe, usize),
}

/// Returns the mean square of a recipe's weights if every scale is 1. It is measured once, over 2^20 elements.
fn mean_square(index: usize, format: TensorFormat) -> f32 {
    static MEASURED: [OnceLock<f32>; RECIPES.len()] = [const { OnceLock::new() }; RECIPES.len()];
    const ELEMENTS: usize = 1 << 20;
    *MEASURED[index].get_or_init(|| {
        let mut stream = SplitMix64::new(0, 0, 0);
        let (mut block, mut values) = (vec![0; format.block_bytes()], vec![0.0; format.block()]);
        let blocks = ELEMENTS / format.block();
        let mut sum = 0.0;
        for _ in 0..blocks {
            RECIPES[index].fill(&mut stream, 1.0, &mut block);
            format.dequantize(&block, &mut values);
            sum += values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>();
        }
        (sum / (blocks * format.block()) as f64) as f32
    })
}

/// The distribution of one tensor's weights.
#[derive(Clone, Debug)]
pub(super) struct RandomWeights {
    fill: Fill,
    /// Added to floats.
    mean: f32,
    /// Factor of floats.
    scale: f32,
    /// Scales of quantized blocks, as f16 bits.
    scales: [u16; SCALES],
    /// The minimum for each scale, as f16 bits. It makes the mean of codes 0 to 15 equal to 0.
    minima: [u16; SCALES],
}

impl RandomWeights {
    /// Makes weights with a mean and a standard deviation. Quantized weights always have a mean of 0. `None` if the
    /// format has no generator.
    pub(super) fn new(format: TensorFormat, mean: f32, deviation: f32) -> Option<Self> {
        let generator = GENERATORS.iter().find(|generator| generator.ggml_type == format.ggml_type());
        let (fill, variance) = match generator {
            Some(generator) => (Fill::Function(generator.fill), generator.variance),
            None => {
                let index = RECIPES.iter().position(|recipe| recipe.format == format.name())?;
                format.codec()?;
                (Fill::Recipe(&RECIPES[index], format.block_bytes()), mean_square(index, format))
            }
        };
        let scale = deviation / variance.sqrt();
        let steps: [f32; SCALES] = core::array::from_fn(|i| 0.75 + 0.5 * i as f32 / (SCALES - 1) as f32);
        let square = steps.iter().map(|step| step * step).sum::<f32>() / SCALES as f32;
        let scales = steps.map(|step| f16::from_f32(scale * step / square.sqrt()));
        let minima = scales.map(|scale| f16::from_f32(-7.5 * scale.to_f32()).to_bits());
        Some(Self { fill, mean, scale, scales: scales.map(f16::to_bits), minima })
    }

    /// Fills `bytes`, whole blocks, from the stream.
    pub(super) fn fill(&self, mut stream: SplitMix64, bytes: &mut [u8]) {
        match self.fill {
            Fill::Function(fill) => fill(self, &mut stream, bytes),
            Fill::Recipe(recipe, block) => {
                for block in bytes.chunks_exact_mut(block) {
                    let scale = f16::from_bits(self.choose(stream.next()).0).to_f32();
                    recipe.fill(&mut stream, scale, block);
                }
            }
        }
    }

    /// Returns the scale and minimum that the low bits select.
    fn choose(&self, bits: u64) -> (u16, u16) {
        let index = bits as usize % SCALES;
        (self.scales[index], self.minima[index])
    }
}

/// Fills `bytes` with random words in which the bits of `set` are 1.
fn fill_words(stream: &mut SplitMix64, bytes: &mut [u8], set: u64) {
    for word in bytes.as_chunks_mut::<8>().0 {
        *word = (stream.next() | set).to_le_bytes();
    }
}

fn fill_f32(weights: &RandomWeights, stream: &mut SplitMix64, bytes: &mut [u8]) {
    let step = weights.scale / (1u32 << 31) as f32;
    for values in bytes.chunks_mut(8) {
        let word = stream.next();
        for (value, bits) in values.as_chunks_mut::<4>().0.iter_mut().zip([word as u32, (word >> 32) as u32])
        {
            *value = (bits.cast_signed() as f32 * step + weights.mean).to_le_bytes();
        }
    }
}

/// Number of floats that are converted at once.
const FLOATS: usize = 32;

/// Generates 32 floats with 16 random bits each.
fn floats(weights: &RandomWeights, stream: &mut SplitMix64) -> [f32; FLOATS] {
    let step = weights.scale / (1u32 << 15) as f32;
    let mut floats = [0.0; FLOATS];
    for values in floats.as_chunks_mut::<4>().0 {
        let word = stream.next();
        for (value, shift) in values.iter_mut().zip([0, 16, 32, 48]) {
            let bits = ((word >> shift) as u16).cast_signed();
            *value = (f32::from(bits) + 0.5) * step + weights.mean;
        }
    }
    floats
}

fn fill_f16(weights: &RandomWeights, stream: &mut SplitMix64, bytes: &mut [u8]) {
    for values in bytes.chunks_mut(2 * FLOATS) {
        let mut halves = [f16::ZERO; FLOATS];
        halves.convert_from_f32_slice(&floats(weights, stream));
        for (value, half) in values.as_chunks_mut().0.iter_mut().zip(halves) {
            *value = half.to_le_bytes();
        }
    }
}

fn fill_bf16(weights: &RandomWeights, stream: &mut SplitMix64, bytes: &mut [u8]) {
    for values in bytes.chunks_mut(2 * FLOATS) {
        for (value, float) in values.as_chunks_mut().0.iter_mut().zip(floats(weights, stream)) {
            *value = bf16::from_f32(float).to_le_bytes();
        }
    }
}

fn fill_q8_0(weights: &RandomWeights, stream: &mut SplitMix64, bytes: &mut [u8]) {
    for block in bytes.as_chunks_mut::<{ Q8_0::BYTES }>().0 {
        let (scale, codes) = block.split_at_mut(2);
        scale.copy_from_slice(&weights.choose(stream.next()).0.to_le_bytes());
        // Odd codes are symmetric. Quantizers never use -128.
        fill_words(stream, codes, 0x0101_0101_0101_0101);
    }
}

fn fill_q4_0(weights: &RandomWeights, stream: &mut SplitMix64, bytes: &mut [u8]) {
    const SIGN: u64 = 1 << 15;
    for block in bytes.as_chunks_mut::<{ Q4_0::BYTES }>().0 {
        let (scale, codes) = block.split_at_mut(2);
        let bits = stream.next();
        // A bit that does not select the scale.
        let sign = (bits & SIGN) as u16;
        scale.copy_from_slice(&(weights.choose(bits).0 ^ sign).to_le_bytes());
        fill_words(stream, codes, 0);
    }
}

fn fill_q4_1(weights: &RandomWeights, stream: &mut SplitMix64, bytes: &mut [u8]) {
    for block in bytes.as_chunks_mut::<{ Q4_1::BYTES }>().0 {
        let (ends, codes) = block.split_at_mut(4);
        let (scale, min) = weights.choose(stream.next());
        ends[..2].copy_from_slice(&scale.to_le_bytes());
        ends[2..].copy_from_slice(&min.to_le_bytes());
        fill_words(stream, codes, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Generates `elements` weights and decodes them.
    fn values(format: TensorFormat, mean: f32, deviation: f32, elements: usize) -> Vec<f32> {
        let weights = RandomWeights::new(format, mean, deviation).unwrap();
        let mut bytes = vec![0; format.row_bytes(elements).unwrap()];
        weights.fill(SplitMix64::new(1, 2, 3), &mut bytes);
        let mut values = vec![0.0; elements];
        assert!(format.dequantize(&bytes, &mut values));
        values
    }

    fn mean_and_deviation(values: &[f32]) -> (f64, f64) {
        let n = values.len() as f64;
        let mean = values.iter().map(|value| f64::from(*value)).sum::<f64>() / n;
        let variance = values.iter().map(|value| (f64::from(*value) - mean).powi(2)).sum::<f64>() / n;
        (mean, variance.sqrt())
    }

    #[test]
    fn weights_have_the_deviation_asked_for_and_no_mean() {
        const ELEMENTS: usize = 1 << 20;
        for name in format_names() {
            let format = TensorFormat::from_name(name).unwrap();
            for fan_in in [64.0, 4096.0, 14_336.0f64] {
                let wanted = fan_in.powf(-0.5);
                let (mean, deviation) = mean_and_deviation(&values(format, 0.0, wanted as f32, ELEMENTS));
                // Blocks differ in scale and, in Q4_0, in sign. With 2^15 blocks the deviation varies by 0.1 %, and the
                // mean by 0.12 standard deviations over the square root of 2^15; the bound is four times that. Scales
                // round by up to 2^-11, and below the smallest normal f16 by up to 0.05 %.
                // The scales within super-blocks vary over their whole range. Their squares vary by 0.35 % over 2^16 of
                // them, both here and where their mean was measured.
                let stray = if format.block() > 32 { 1e-2 } else { 5e-3 };
                assert!((deviation / wanted - 1.0).abs() < stray, "{name} {fan_in}: {deviation}");
                assert!(mean.abs() < 4e-3 * wanted, "{name} {fan_in}: {mean}");
            }
        }
    }

    #[test]
    fn floats_have_a_mean() {
        for name in ["F32", "F16", "BF16"] {
            let values = values(TensorFormat::from_name(name).unwrap(), 1.0, 0.03, 4097);
            let (mean, deviation) = mean_and_deviation(&values);
            // 0.03 over the square root of 4097 is 5e-4. The step of BF16 at 1 is 2^-8.
            assert!(
                (mean - 1.0).abs() < 2e-3 && (deviation - 0.03).abs() < 1e-3,
                "{name}: {mean} {deviation}"
            );
        }
    }

    #[test]
    fn every_code_occurs_and_scales_differ() {
        for name in ["Q8_0", "Q4_0", "Q4_1"] {
            let format = TensorFormat::from_name(name).unwrap();
            let codec = format.codec().unwrap();
            let weights = RandomWeights::new(format, 0.0, 0.02).unwrap();
            let mut bytes = vec![0; 1000 * format.block_bytes()];
            weights.fill(SplitMix64::new(0, 0, 0), &mut bytes);
            let (mut codes, mut scales) =
                (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
            for block in bytes.chunks(format.block_bytes()) {
                let block = (codec.codes)(block, 0);
                codes.extend(block.codes);
                scales.insert(block.scale.to_bits());
            }
            // Q8_0 uses odd codes only. Q4_0 has each scale with both signs.
            let wanted = match name {
                "Q8_0" => ((0..128).map(|i| 2 * i + 1).collect(), SCALES),
                "Q4_0" => ((0..16).collect(), 2 * SCALES),
                _ => ((0..16).collect(), SCALES),
            };
            assert_eq!((codes, scales.len()), wanted, "{name}");
        }
    }
}
