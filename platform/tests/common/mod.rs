//! Shared by the kernel tests and benchmarks: seeded numbers, weights in every format, and the table of shapes.

#![allow(dead_code, reason = "each test and benchmark uses a part")]
#![allow(clippy::unwrap_used, reason = "a helper of tests: a panic is a failed test")]

pub(crate) mod kv_format;

use weft_components::TensorFormat;
use weft_platform::{Activations, Cpu, CpuMatrix, Kernels, Need, Pool};

/// Formats that the engine computes with.
pub(crate) const FORMATS: [&str; 27] = [
    "F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q8_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K",
    "Q6_K", "Q8_K", "IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_NL", "IQ4_XS",
    "TQ1_0", "TQ2_0", "MXFP4",
];

/// Matrices of SmolLM2-135M: name, outputs, inputs. The head is tied.
pub(crate) const SHAPES: [(&str, usize, usize); 5] = [
    ("qkv", 960, 576),
    ("attention_out", 576, 576),
    ("gate_up", 3072, 576),
    ("down", 576, 1536),
    ("head", 49152, 576),
];

/// A small generator (SplitMix64) that gives the same numbers everywhere.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From -1 to 1.
    pub(crate) fn float(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    /// Mostly small, sometimes large, like activations.
    pub(crate) fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n)
            .map(|_| {
                let v = self.float();
                if self.below(50) == 0 { v * 20.0 } else { v }
            })
            .collect()
    }

    /// `rows * cols` weights in `format`, as in a file: random bytes, with scales that keep weights below about 1 in
    /// magnitude.
    pub(crate) fn weights(&mut self, format: TensorFormat, rows: usize, cols: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> =
            (0..rows * format.row_bytes(cols).unwrap()).map(|_| self.bits() as u8).collect();
        set_scales(format, &mut bytes, |size| self.float() * size);
        bytes
    }
}

/// Replaces the scales and minimums of blocks, and floats, with values of `scale` that keep weights below about 1.
pub(crate) fn set_scales(format: TensorFormat, bytes: &mut [u8], mut scale: impl FnMut(f32) -> f32) {
    for block in bytes.chunks_mut(format.block_bytes()) {
        match format.name() {
            "F32" => block.copy_from_slice(&scale(1.0).to_le_bytes()),
            "BF16" => block.copy_from_slice(&half::bf16::from_f32(scale(1.0)).to_le_bytes()),
            "Q8_K" => block[..4].copy_from_slice(&scale(0.02).to_le_bytes()),
            // A power of two, less one because the values are doubled.
            "MXFP4" => block[0] = (128.0 + scale(0.1).abs().log2().max(-20.0)) as u8,
            // The f16 scale is the high nibbles of four words.
            "IQ1_M" => {
                let scale = half::f16::from_f32(scale(0.02)).to_bits();
                for (i, byte) in [49, 51, 53, 55].into_iter().enumerate() {
                    block[byte] = (block[byte] & 15) | ((scale >> (4 * i)) as u8 & 15) << 4;
                }
            }
            name => {
                for (at, size) in half_scales(name) {
                    block[*at..][..2].copy_from_slice(&half::f16::from_f32(scale(*size)).to_le_bytes());
                }
            }
        }
    }
}

/// Offsets of a block's f16 scales and minimums, and their largest magnitudes.
fn half_scales(name: &str) -> &'static [(usize, f32)] {
    match name {
        "F16" => &[(0, 1.0)],
        "Q4_1" | "Q5_1" => &[(0, 0.02), (2, 0.2)],
        "Q4_K" | "Q5_K" => &[(0, 1e-3), (2, 1e-2)],
        "Q2_K" => &[(80, 0.02), (82, 0.02)],
        "Q3_K" => &[(108, 0.01)],
        "Q6_K" => &[(208, 1e-3)],
        "TQ1_0" => &[(52, 1.0)],
        "TQ2_0" => &[(64, 1.0)],
        "IQ3_S" | "IQ3_XXS" | "IQ2_XXS" | "IQ2_XS" | "IQ2_S" | "IQ4_XS" => &[(0, 1e-3)],
        _ => &[(0, 0.02)],
    }
}

/// The smallest number of columns that is a whole number of the format's blocks, and at least `blocks` blocks.
pub(crate) fn columns(format: TensorFormat, blocks: usize) -> usize {
    match format.block() {
        1 => 32 * blocks - 11,
        block => block * blocks.div_ceil(block / 32),
    }
}

pub(crate) fn format(name: &str) -> TensorFormat {
    TensorFormat::from_name(name).unwrap()
}

/// A random matrix.
pub(crate) fn matrix(random: &mut Random, name: &str, rows: usize, cols: usize) -> CpuMatrix {
    let bytes = random.weights(format(name), rows, cols);
    CpuMatrix::pack(format(name), rows, cols, &bytes).unwrap()
}

pub(crate) fn serial(kernels: &'static Kernels) -> Cpu {
    Cpu { kernels, threads: 1 }
}

/// Activations loaded for `weights`.
pub(crate) fn load(cpu: &Cpu, weights: &[&CpuMatrix], x: &[f32], rows: usize) -> Activations {
    let mut acts = Activations::new();
    acts.load(cpu, x, rows, weights[0].cols(), Need::of(weights));
    acts
}

pub(crate) fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|v| v.to_bits()).collect()
}

/// Asserts that `run` gives the same bits with these kernels in chunks of several lengths, on one thread and on those of the
/// pool. `what` says in a failure of what.
pub(crate) fn same_in_chunks(
    pool: &Pool,
    kernels: &'static Kernels,
    tokens: usize,
    want: &[f32],
    run: impl Fn(&Cpu, usize) -> Vec<f32> + Sync,
    what: &str,
) {
    for chunk in [1, 7, 32, 50, 512] {
        if chunk == 1 && kernels.name() == "scalar" && tokens > 200 {
            continue;
        }
        assert!(bits(&run(&serial(kernels), chunk)) == bits(want), "{kernels:?} in {chunk}s: {what}");
        let out = pool.install(|| run(&pool.cpu(kernels), chunk));
        assert!(bits(&out) == bits(want), "{kernels:?} in {chunk}s, 3 threads: {what}");
    }
}
