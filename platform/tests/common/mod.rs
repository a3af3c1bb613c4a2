//! What the kernel tests and benchmarks share: seeded numbers, weights in every format, and the table of shapes.

#![allow(dead_code, reason = "each test and benchmark uses a part")]
#![allow(clippy::unwrap_used, reason = "a helper of tests: a panic is a failed test")]

pub(crate) mod kv_format;

use weft_components::TensorFormat;
use weft_platform::{Activations, Cpu, CpuMatrix, Kernels, Need};

/// Formats the engine computes with.
pub(crate) const FORMATS: [&str; 6] = ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q8_0"];

/// Matrices of SmolLM2-135M: what, outputs, inputs. The head is tied.
pub(crate) const SHAPES: [(&str, usize, usize); 5] = [
    ("qkv", 960, 576),
    ("attention_out", 576, 576),
    ("gate_up", 3072, 576),
    ("down", 576, 1536),
    ("head", 49152, 576),
];

/// A small generator (SplitMix64): the same numbers everywhere.
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

    /// Mostly small, sometimes large: what activations look like.
    pub(crate) fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n)
            .map(|_| {
                let v = self.float();
                if self.below(50) == 0 { v * 20.0 } else { v }
            })
            .collect()
    }

    /// `rows * cols` weights in `format`, as a file holds them.
    pub(crate) fn weights(&mut self, format: TensorFormat, rows: usize, cols: usize) -> Vec<u8> {
        let row = format.row_bytes(cols).unwrap();
        let mut bytes: Vec<u8> = Vec::with_capacity(rows * row);
        while bytes.len() < rows * row {
            let scale = half::f16::from_f32(self.float() * 0.02);
            match format.name() {
                "F32" => bytes.extend(self.float().to_le_bytes()),
                "F16" => bytes.extend(half::f16::from_f32(self.float()).to_le_bytes()),
                "BF16" => bytes.extend(half::bf16::from_f32(self.float()).to_le_bytes()),
                "Q4_1" => {
                    bytes.extend(scale.to_le_bytes());
                    bytes.extend(half::f16::from_f32(self.float() * 0.2).to_le_bytes());
                    bytes.extend((0..16).map(|_| self.bits() as u8));
                }
                _ => {
                    bytes.extend(scale.to_le_bytes());
                    bytes.extend((2..format.block_bytes()).map(|_| self.bits() as u8));
                }
            }
        }
        bytes
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
