//! Products with matrices: random matrices of every format, the kernel for few rows, and the twin.

use super::twins::EPSILON;
use super::{Random, reduce, run, wave};
use weft_components::TensorFormat;
use weft_gpu::shader::{KernelSpec, Part, parts};
use weft_gpu::{Encoding, Gpu, GpuMatrix, WaveData, pack, wgpu};

/// One format of each layout. The first three are floats.
pub const FORMATS: [&str; 20] = [
    "F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "IQ4_NL", "Q8_K", "MXFP4", "Q4_K", "Q5_K",
    "TQ2_0", "IQ2_XXS", "IQ3_S", "Q2_K", "Q3_K", "Q6_K", "IQ2_S",
];

/// Formats that share their layout with one of [`FORMATS`].
pub const RELATED: [&str; 7] = ["Q8_1", "IQ4_XS", "IQ3_XXS", "IQ1_S", "TQ1_0", "IQ1_M", "IQ2_XS"];

/// The smallest row length of the format that is at least `columns`.
pub fn fit(format: &str, columns: usize) -> usize {
    columns.next_multiple_of(TensorFormat::from_name(format).unwrap().block().max(32))
}

/// A random matrix on the device, and its exact values.
pub fn matrix(
    gpu: &Gpu,
    random: &mut Random,
    format: &str,
    rows: usize,
    columns: usize,
) -> (GpuMatrix, Vec<f32>) {
    let format = TensorFormat::from_name(format).unwrap();
    let mut bytes = vec![0; format.row_bytes(columns).unwrap() * rows];
    let mut exact = vec![0.0; rows * columns];
    for (block, values) in
        bytes.chunks_exact_mut(format.block_bytes()).zip(exact.chunks_exact_mut(format.block()))
    {
        draw(random, format, block, values);
    }
    let encoding = Encoding::of("w", format, columns).unwrap();
    let matrix = GpuMatrix::new(gpu, "w", encoding, rows, columns).unwrap();
    matrix.write(gpu, 0, &pack(format, &bytes));
    (matrix, exact)
}

/// A random block of a format. All bytes are valid, but scales may have any size; blocks whose weights are too large or
/// too small are drawn again.
fn draw(random: &mut Random, format: TensorFormat, block: &mut [u8], values: &mut [f32]) {
    let [least, most] = if format.block() == 1 { [0.0, 1.0] } else { [0.02, 2.0] };
    loop {
        block.fill_with(|| random.word() as u8);
        assert!(format.dequantize(block, values));
        let largest = values.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        if values.iter().all(|x| x.is_finite()) && (least..=most).contains(&largest) {
            return;
        }
    }
}

/// A kernel that reads a matrix. `kernel` is the part that computes.
pub fn reading(name: &'static str, matrix: &GpuMatrix, kernel: Part) -> KernelSpec {
    KernelSpec::new(name, [&[parts::WAVE][..], &matrix.decode(), &[kernel]].concat())
}

/// A wave with `rows` rows, where nothing else matters.
pub fn rows_of(gpu: &Gpu, rows: usize) -> wgpu::Buffer {
    let zeros = vec![0; rows];
    let data = WaveData {
        tokens: &zeros,
        positions: &zeros,
        kv: [&zeros; weft_gpu::KV_CLASSES],
        tables: &zeros,
        ..WaveData::default()
    };
    wave(gpu, &data)
}

/// The floats as `f64`, which the twins take.
pub fn exact(floats: &[f32]) -> Vec<f64> {
    floats.iter().copied().map(f64::from).collect()
}

/// The twin: rows of `x` times rows of weights, both `columns` long.
pub fn product(weights: &[f32], x: &[f64], columns: usize) -> Vec<f64> {
    let dot = |x: &[f64], w: &[f32]| x.iter().zip(w).map(|(x, w)| x * f64::from(*w)).sum();
    x.chunks_exact(columns).flat_map(|x| weights.chunks_exact(columns).map(move |w| dot(x, w))).collect()
}

/// How `matvec.wgsl` is launched.
#[derive(Clone, Copy, Debug)]
pub struct Few {
    /// Weight rows that a team processes at once, and number of passes.
    pub each: u32,
    pub passes: u32,
    /// Teams that share weight rows.
    pub split: u32,
    /// Rows that the kernel can process, and rows of the wave.
    pub most: usize,
    pub rows: usize,
}

const fn few(each: u32, passes: u32, split: u32, most: usize, rows: usize) -> Few {
    Few { each, passes, split, most, rows }
}

/// All numbers of weight rows, passes and splits, with one row and with several.
pub const KINDS: [Few; 6] = [
    few(1, 1, 1, 1, 1),
    few(2, 1, 2, 4, 1),
    few(2, 2, 1, 4, 3),
    few(4, 1, 1, 8, 5),
    few(2, 2, 4, 1, 1),
    few(4, 1, 1, 1, 1),
];

impl Few {
    /// A random row length for a format. If teams share rows, often several iterations long.
    pub fn columns(&self, random: &mut Random, format: &str) -> usize {
        fit(format, 32 * (1 + random.below(if self.split > 1 { 140 } else { 36 })))
    }

    /// Runs the kernel with these parts. The output part takes `parts_of` weight rows per column.
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
        let codes = kernel.iter().any(|part| [parts::DOT_Q8, parts::DOT_NORM_Q8].contains(part));
        let add = if codes { parts::ADD_Q8 } else { parts::ADD_F32 };
        let list = [parts::WAVE, reduce, add, parts::MATVEC, parts::ROWS_WAVE];
        let list = [&list[..], &matrix.decode(), kernel].concat();
        let spec = KernelSpec::new("matvec", list);
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
