//! Products with matrices: random ones of every format, the kernel of few rows, and the twin.

use super::twins::EPSILON;
use super::{Random, reduce, run, wave};
use weft_components::TensorFormat;
use weft_gpu::shader::{KernelSpec, Part, parts};
use weft_gpu::{Gpu, GpuMatrix, WaveData, layout_of, pack, wgpu};

/// A format of each layout.
pub const FORMATS: [&str; 6] = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1"];

/// A random matrix: on the device, and its exact values.
pub fn matrix(
    gpu: &Gpu,
    random: &mut Random,
    format: &str,
    rows: usize,
    columns: usize,
) -> (GpuMatrix, Vec<f32>) {
    let format = TensorFormat::from_name(format).unwrap();
    let mut bytes = Vec::new();
    for _ in 0..rows * columns / format.block() {
        let start = bytes.len();
        bytes.extend((0..format.block_bytes()).map(|_| random.word() as u8));
        let block = &mut bytes[start..];
        match format.name() {
            "F32" => block.copy_from_slice(&random.unit().to_le_bytes()),
            "F16" => block.copy_from_slice(&half::f16::from_f32(random.unit()).to_le_bytes()),
            "BF16" => block.copy_from_slice(&half::bf16::from_f32(random.unit()).to_le_bytes()),
            name => {
                block[..2].copy_from_slice(&half::f16::from_f32(random.unit() * 0.01).to_le_bytes());
                if name == "Q4_1" {
                    block[2..4].copy_from_slice(&half::f16::from_f32(random.unit() * 0.1).to_le_bytes());
                }
            }
        }
    }
    let mut exact = vec![0.0; rows * columns];
    assert!(format.dequantize(&bytes, &mut exact));
    let matrix = GpuMatrix::new(gpu, "w", layout_of("w", format, columns).unwrap(), rows, columns).unwrap();
    matrix.write(gpu, 0, &pack(format, &bytes));
    (matrix, exact)
}

/// The wave of so many rows, of which nothing else counts.
pub fn rows_of(gpu: &Gpu, rows: usize) -> wgpu::Buffer {
    let zeros = vec![0; rows];
    let data =
        WaveData { tokens: &zeros, positions: &zeros, kv: &zeros, tables: &zeros, ..WaveData::default() };
    wave(gpu, &data)
}

/// Floats as the twins take them.
pub fn exact(floats: &[f32]) -> Vec<f64> {
    floats.iter().copied().map(f64::from).collect()
}

/// The twin: rows of `x` times rows of weights, `columns` long.
pub fn product(weights: &[f32], x: &[f64], columns: usize) -> Vec<f64> {
    let dot = |x: &[f64], w: &[f32]| x.iter().zip(w).map(|(x, w)| x * f64::from(*w)).sum();
    x.chunks_exact(columns).flat_map(|x| weights.chunks_exact(columns).map(move |w| dot(x, w))).collect()
}

/// How `matvec.wgsl` is launched.
#[derive(Clone, Copy, Debug)]
pub struct Few {
    /// Weight rows that a team takes at once, and how often.
    pub each: u32,
    pub passes: u32,
    /// Teams that share weight rows.
    pub split: u32,
    /// Rows that the kernel takes, and that there are.
    pub most: usize,
    pub rows: usize,
}

const fn few(each: u32, passes: u32, split: u32, most: usize, rows: usize) -> Few {
    Few { each, passes, split, most, rows }
}

/// Every number of weight rows, passes and splits, with one row and with several.
pub const KINDS: [Few; 6] = [
    few(1, 1, 1, 1, 1),
    few(2, 1, 2, 4, 1),
    few(2, 2, 1, 4, 3),
    few(4, 1, 1, 8, 5),
    few(2, 2, 4, 1, 1),
    few(4, 1, 1, 1, 1),
];

impl Few {
    /// A random length of weight rows: where teams share them, often some turns long.
    pub fn columns(&self, random: &mut Random) -> usize {
        32 * (1 + random.below(if self.split > 1 { 140 } else { 36 }))
    }

    /// Runs the kernel with these parts, of which the output takes `parts_of` weight rows for a column.
    pub fn run(
        &self,
        gpu: &Gpu,
        matrix: &GpuMatrix,
        kernel: &[Part],
        parts_of: u32,
        constants: &[(&'static str, u32)],
        buffers: &[(u32, &wgpu::Buffer)],
    ) {
        let (reduce, lanes) = reduce(gpu);
        let segment = &matrix.segments[0];
        let list = [parts::WAVE, reduce, matrix.decode(), parts::MATVEC];
        let spec = KernelSpec::new("matvec", list.into_iter().chain(kernel.iter().copied()));
        let spec = matrix
            .shape(spec, segment)
            .with("WG", 256u32)
            .with("LANES", lanes)
            .with("NR", self.each)
            .with("PASSES", self.passes)
            .with("SPLIT", self.split)
            .with("PARTS", parts_of)
            .with("ROWS", self.most as u32)
            .with("ROW_COUNT", 0u32)
            .with("EPSILON", EPSILON)
            .with("GRID_X", 2u32);
        let spec = constants.iter().fold(spec, |spec, (name, value)| spec.with(name, *value));
        let tile = 256 / lanes / self.split * self.each * self.passes / parts_of;
        let tiles = (matrix.rows as u32 / parts_of).div_ceil(tile);
        let planes: Vec<_> = segment.buffers().collect();
        let planes = planes.iter().map(|(index, buffer)| (*index, buffer));
        let buffers: Vec<_> = buffers.iter().copied().chain(planes).collect();
        run(gpu, &spec, &buffers, [2, tiles.div_ceil(2), 1]);
    }
}
