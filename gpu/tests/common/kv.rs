//! A KV cache as a GPU stores it, and the rotation of its heads.

use super::Random;
use half::{bf16, f16};
use weft_gpu::{KvLayout, PAGE};

/// The keys, or the values, of a cache.
pub struct KvCache {
    pub layout: KvLayout,
    /// Elements of a head.
    pub dim: usize,
    pub bytes: Vec<u8>,
}

impl KvCache {
    /// Memory for `heads` heads of each of `slots` pages. It contains NaN, as memory that was never written may.
    pub fn new(layout: KvLayout, slots: usize, heads: usize, dim: usize) -> Self {
        Self { layout, dim, bytes: vec![0xff; slots * heads * PAGE * layout.head_bytes(dim)] }
    }

    /// Bits of an element.
    fn bits(&self) -> usize {
        match self.layout {
            KvLayout::F32 => 32,
            KvLayout::Q8_0 => 8,
            KvLayout::Q4_0 => 4,
            _ => 16,
        }
    }

    /// Ranges of the codes, and of the scales, of the head at `at`: (slot * heads + head) * PAGE + offset.
    fn ranges(&self, at: usize) -> [core::ops::Range<usize>; 2] {
        let (page, offset) = (at / PAGE * PAGE * self.layout.head_bytes(self.dim), at % PAGE);
        let codes = self.dim * self.bits() / 8;
        let scales = self.layout.head_bytes(self.dim) - codes;
        let (first, second) = (page + offset * codes, page + PAGE * codes + offset * scales);
        [first..first + codes, second..second + scales]
    }

    /// Stores random elements.
    pub fn fill(&mut self, random: &mut Random, at: usize) {
        let [codes, scales] = self.ranges(at);
        let blocks = self.dim.div_ceil(32);
        match self.layout {
            KvLayout::F32 => bytemuck::cast_slice_mut(&mut self.bytes[codes]).fill_with(|| random.unit()),
            KvLayout::F16 => {
                bytemuck::cast_slice_mut(&mut self.bytes[codes]).fill_with(|| f16::from_f32(random.unit()))
            }
            KvLayout::BF16 => {
                bytemuck::cast_slice_mut(&mut self.bytes[codes]).fill_with(|| bf16::from_f32(random.unit()))
            }
            _ => {
                self.bytes[codes].fill_with(|| random.word() as u8);
                let scales: &mut [f16] = bytemuck::cast_slice_mut(&mut self.bytes[scales]);
                scales[..blocks].fill_with(|| f16::from_f32(random.unit() / 128.0));
            }
        }
    }

    /// The elements of a head.
    pub fn get(&self, at: usize) -> Vec<f64> {
        let [codes, scales] = self.ranges(at);
        let (codes, scales) = (&self.bytes[codes], &self.bytes[scales]);
        let scale = |i: usize| bytemuck::pod_read_unaligned::<f16>(&scales[i / 32 * 2..][..2]).to_f64();
        match self.layout {
            KvLayout::F32 => bytemuck::cast_slice(codes).iter().map(|x: &f32| f64::from(*x)).collect(),
            KvLayout::F16 => bytemuck::cast_slice(codes).iter().map(|x: &f16| x.to_f64()).collect(),
            KvLayout::BF16 => bytemuck::cast_slice(codes).iter().map(|x: &bf16| x.to_f64()).collect(),
            KvLayout::Q8_0 => {
                codes.iter().enumerate().map(|(i, x)| f64::from(x.cast_signed()) * scale(i)).collect()
            }
            _ => (0..self.dim)
                .map(|i| {
                    let byte = codes[i / 8 * 4 + i % 4];
                    let code = if i % 8 < 4 { byte & 15 } else { byte >> 4 };
                    (f64::from(code) - 8.0) * scale(i)
                })
                .collect(),
        }
    }

    /// Makes a head what it was before it was written.
    pub fn clear(&mut self, at: usize) {
        self.ranges(at).into_iter().for_each(|range| self.bytes[range].fill(0xff));
    }

    /// Asserts that the head at `at` is `wanted`, rotated if the format rotates, each within `allowed` plus the rounding
    /// to the format.
    pub fn check(&self, at: usize, wanted: &[f64], allowed: f64, what: &str) {
        let mut wanted = wanted.to_vec();
        if self.layout.rotates(self.dim) {
            rotate(&mut wanted);
        }
        // A rotated element is a sum of up to 256, over the root of their number.
        let allowed = if self.layout.rotates(self.dim) { 16.0 * allowed } else { allowed };
        let found = self.get(at);
        for (block, (wanted, found)) in wanted.chunks(32).zip(found.chunks(32)).enumerate() {
            let largest = wanted.iter().fold(0.0f64, |most, x| most.max(x.abs()));
            let rounding = |x: f64| match self.layout {
                KvLayout::F32 => 0.0,
                // Packing may round to either neighbour, at most 2^-10 apart, or 2^-24 below 2^-14.
                KvLayout::F16 => 0.5f64.powi(10) * x.abs() + 0.5f64.powi(24),
                KvLayout::BF16 => 0.5f64.powi(8) * x.abs(),
                // Half a step, and the rounding of the scale, which limits the largest element.
                KvLayout::Q8_0 => (0.5 / 127.0 + 0.5f64.powi(10)) * largest + 0.5f64.powi(24),
                // Checked below.
                _ => f64::INFINITY,
            };
            for (i, (wanted, found)) in wanted.iter().zip(found).enumerate() {
                let off = (wanted - found).abs();
                let most = allowed + rounding(*wanted);
                assert!(
                    off <= most,
                    "{what}: {i} of block {block} is {found}, wanted {wanted}, {most:.2e} allowed"
                );
            }
            if self.layout == KvLayout::Q4_0 {
                let squares = |found: &[f64]| -> f64 {
                    wanted.iter().zip(found).map(|(wanted, found)| (wanted - found).powi(2)).sum()
                };
                let (found, best) = (squares(found), four_bits(wanted));
                let most = (1.02 * best.sqrt() + allowed * 8.0).powi(2) + 1e-9 * largest * largest;
                assert!(found <= most, "{what}: block {block} has an error of {found}, {best} is possible");
            }
        }
    }
}

/// The squared error of a block in codes of 4 bits, with the best of three scales.
fn four_bits(block: &[f64]) -> f64 {
    let most = block.iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap_or_default();
    let all: f64 = block.iter().map(|x| x * x).sum();
    let error = |divisor: f64| {
        let codes = block.iter().map(|x| (x * divisor / most).clamp(-8.0, 7.0).round_ties_even());
        let (mut products, mut squares) = (0.0, 0.0);
        for (x, q) in block.iter().zip(codes) {
            products += x * q;
            squares += q * q;
        }
        if squares > 0.0 { all - products * products / squares } else { all }
    };
    [-7.8, -8.5, -9.75].map(error).into_iter().fold(f64::INFINITY, f64::min)
}

/// Multiplies a head by the Hadamard matrix of the largest power of two that divides its length, over the root of that.
pub fn rotate(head: &mut [f64]) {
    let order = 1usize << head.len().trailing_zeros();
    if order < 16 {
        return;
    }
    for block in head.chunks_exact_mut(order) {
        let from = block.to_vec();
        for (i, to) in block.iter_mut().enumerate() {
            let sign = |j: usize| if (i & j).count_ones() % 2 == 1 { -1.0 } else { 1.0 };
            let sum: f64 = from.iter().enumerate().map(|(j, x)| sign(j) * x).sum();
            *to = sum / (order as f64).sqrt();
        }
    }
}
