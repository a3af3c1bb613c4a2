//! Activations that a kernel writes for the next product, and 8-bit activations for a product to read.

use super::{Random, buffer, is_untouched, largest, output, read, within};
use half::f16;
use weft_gpu::{ActFormat, Gpu, wgpu};

/// Words behind the output, which must not be written.
const SPARE: usize = 16;

/// Output that a kernel fills.
pub struct Act {
    format: ActFormat,
    count: usize,
    numbers: wgpu::Buffer,
    scales: wgpu::Buffer,
}

impl Act {
    /// Memory for `count` elements, a multiple of 4, or of 32 where they are 8-bit codes.
    pub fn new(gpu: &Gpu, format: ActFormat, count: usize) -> Self {
        let numbers = output(gpu, Self::words(format, count) + SPARE);
        Self { format, count, numbers, scales: output(gpu, count.div_ceil(32) * 2 + SPARE) }
    }

    fn words(format: ActFormat, count: usize) -> usize {
        match format {
            ActFormat::F32 => count,
            ActFormat::F16 => count / 2,
            ActFormat::Q8 => count / 4,
        }
    }

    /// The bindings of the `act_*` parts.
    pub fn bindings(&self) -> [(u32, &wgpu::Buffer); 2] {
        [(20, &self.numbers), (21, &self.scales)]
    }

    /// Asserts that the activations are `wanted`, each within `allowed` plus the rounding to the format, and that
    /// nothing was written behind them.
    pub fn check(&self, gpu: &Gpu, wanted: &[f64], allowed: &[f64], what: &str) {
        assert_eq!(self.count, wanted.len(), "{what}");
        let words = Self::words(self.format, self.count);
        assert!(read::<u32>(gpu, &self.numbers, words + SPARE)[words..].iter().all(is_untouched), "{what}");
        match self.format {
            ActFormat::F32 => within(&read::<f32>(gpu, &self.numbers, self.count), wanted, allowed, what),
            ActFormat::F16 => {
                let found: Vec<f32> =
                    read::<f16>(gpu, &self.numbers, self.count).iter().map(|h| h.to_f32()).collect();
                // Values that f16 cannot represent become its largest.
                let most = f16::MAX.to_f64();
                let wanted: Vec<f64> = wanted.iter().map(|x| x.clamp(-most, most)).collect();
                // Half a unit in the last of 11 bits, or 2^-25 below 2^-14. WGSL allows packing to either neighbour;
                // devices choose the nearer one.
                let rounding = |x: &f64| x.abs() * 0.5f64.powi(11) + 0.5f64.powi(25);
                let allowed: Vec<f64> = wanted.iter().zip(allowed).map(|(x, a)| rounding(x) + a).collect();
                within(&found, &wanted, &allowed, what);
            }
            ActFormat::Q8 => self.check_codes(gpu, wanted, allowed, what),
        }
    }

    fn check_codes(&self, gpu: &Gpu, wanted: &[f64], allowed: &[f64], what: &str) {
        let blocks = self.count / 32;
        let behind = read::<u32>(gpu, &self.scales, 2 * blocks + SPARE);
        assert!(behind[2 * blocks..].iter().all(is_untouched), "{what}");
        let codes = read::<i8>(gpu, &self.numbers, self.count);
        let scales = read::<[f32; 2]>(gpu, &self.scales, blocks);
        for (block, [scale, sum]) in scales.iter().enumerate() {
            let codes = &codes[32 * block..][..32];
            let total: f32 = codes.iter().map(|code| f32::from(*code)).sum();
            // The sum of codes is exact, its product with the scale is rounded.
            assert!(
                (sum - total * scale).abs() <= 2e-7 * (total * scale).abs(),
                "{what}: sum of block {block}"
            );
            let wanted = &wanted[32 * block..][..32];
            // Half a step of rounding, plus the rounding of the scale and of its inverse.
            let rounding = 0.5001 / 127.0 * largest(wanted);
            let found: Vec<f32> = codes.iter().map(|code| f32::from(*code) * scale).collect();
            let allowed: Vec<f64> = allowed[32 * block..][..32].iter().map(|a| rounding + 2.0 * a).collect();
            within(&found, wanted, &allowed, &format!("{what}: block {block}"));
        }
    }
}

/// 8-bit activations for a product to read.
pub struct Codes {
    /// The codes.
    pub numbers: wgpu::Buffer,
    /// Scales and sums of the blocks.
    pub scales: wgpu::Buffer,
    /// The values that the codes stand for.
    pub exact: Vec<f64>,
}

impl Codes {
    /// `count` random codes, in memory for `room`.
    pub fn new(gpu: &Gpu, random: &mut Random, count: usize, room: usize) -> Self {
        let mut codes: Vec<i8> = (0..count).map(|_| random.below(255) as i8).collect();
        codes.iter_mut().filter(|code| **code == i8::MIN).for_each(|code| *code = 127);
        let (mut scales, mut exact) = (Vec::new(), Vec::new());
        for block in codes.chunks_exact(32) {
            let scale = random.unit().abs() * 0.01;
            let sum: i32 = block.iter().map(|code| i32::from(*code)).sum();
            scales.push([scale, scale * sum as f32]);
            exact.extend(block.iter().map(|code| f64::from(*code) * f64::from(scale)));
        }
        // Rows that are not the wave's would show in a sum.
        codes.resize(room, 1);
        scales.resize(room / 32, [1.0; 2]);
        Self { numbers: buffer(gpu, &codes), scales: buffer(gpu, &scales), exact }
    }
}
