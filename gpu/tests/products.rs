//! Matrix products on the GPU against sums in `f64`, for every layout, on random shapes.

#![allow(clippy::unwrap_used, reason = "a failed test should stop where it failed")]

mod common;

use common::{Random, buffer, close, devices, output, read, reduce, run, wave};
use weft_components::TensorFormat;
use weft_gpu::shader::{KernelSpec, parts};
use weft_gpu::{Gpu, GpuMatrix, WaveData, layout_of, pack, wgpu};

const FORMATS: [&str; 6] = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1"];

/// A random matrix: on the device, and its exact values.
fn matrix(
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

fn product(weights: &[f32], x: &[f32], columns: usize) -> Vec<f64> {
    let dot = |x: &[f32], w: &[f32]| x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
    x.chunks_exact(columns).flat_map(|x| weights.chunks_exact(columns).map(move |w| dot(x, w))).collect()
}

fn rows_of(gpu: &Gpu, rows: usize) -> wgpu::Buffer {
    let zeros = vec![0; rows];
    let data =
        WaveData { tokens: &zeros, positions: &zeros, kv: &zeros, tables: &zeros, ..WaveData::default() };
    wave(gpu, &data)
}

#[test]
fn few_rows_of_floats() {
    for gpu in devices() {
        let (reduce, lanes) = reduce(&gpu);
        let mut random = Random(1);
        for format in FORMATS {
            for (rows, columns, n, max, passes, split) in [
                (1, 64, 96, 1, 1, 1),
                (1, 576, 200, 4, 1, 2),
                (3, 224, 33, 4, 2, 1),
                (8, 96, 64, 8, 1, 1),
                (1, 1056, 130, 1, 2, 4),
            ] {
                let (w, exact) = matrix(&gpu, &mut random, format, n, columns);
                let x = random.floats(rows * columns);
                let base = random.floats(rows * n);
                for (add, out_part) in [(false, parts::OUT_STORE), (true, parts::OUT_ADD)] {
                    let out = if add { buffer(&gpu, &base) } else { output(&gpu, rows * n) };
                    let segment = &w.segments[0];
                    let spec = KernelSpec::new(
                        "matvec",
                        [parts::WAVE, w.decode(), parts::DOT_F32, reduce, parts::MATVEC, out_part],
                    );
                    let tile = 256 / lanes / split * 2 * passes;
                    let spec = w
                        .shape(spec, segment)
                        .with("WG", 256u32)
                        .with("LANES", lanes)
                        .with("NR", 2u32)
                        .with("PASSES", passes)
                        .with("SPLIT", split)
                        .with("PARTS", 1u32)
                        .with("ROWS", max)
                        .with("ROW_COUNT", 0u32)
                        .with("GRID_X", 2u32)
                        .with("OUT_STRIDE", n as u32);
                    let mut x = x.clone();
                    x.resize(max as usize * columns, 0.0);
                    let mut buffers = vec![(1, buffer(&gpu, &x)), (30, out), (0, rows_of(&gpu, rows))];
                    buffers.push((10, segment.codes.clone()));
                    buffers.extend(segment.scales.clone().map(|scales| (11, scales)));
                    let buffers: Vec<_> = buffers.iter().map(|(i, b)| (*i, b)).collect();
                    let tiles = (n as u32).div_ceil(tile);
                    run(&gpu, &spec, &buffers, [2, tiles.div_ceil(2), 1]);
                    let mut wanted = product(&exact, &x[..rows * columns], columns);
                    if add {
                        wanted.iter_mut().zip(&base).for_each(|(w, b)| *w += f64::from(*b));
                    }
                    close(
                        &read(&gpu, buffers[1].1, rows * n),
                        &wanted,
                        1e-5,
                        &format!("{format} {rows}x{columns}x{n}"),
                    );
                }
            }
        }
    }
}

#[test]
fn many_rows_of_floats() {
    for gpu in devices() {
        let mut random = Random(2);
        for format in FORMATS {
            for (rows, columns, n) in [(33, 64, 96), (1, 96, 31), (50, 576, 40)] {
                let (w, exact) = matrix(&gpu, &mut random, format, n, columns);
                let x = random.floats(rows * columns);
                let segment = &w.segments[0];
                let spec = KernelSpec::new("matmul", [parts::WAVE, w.decode(), parts::MATMUL]);
                let spec = w
                    .shape(spec, segment)
                    .with("ROW_COUNT", 0u32)
                    .with("GRID_Y", 65_535u32)
                    .with("ADD", 0u32)
                    .with("OUT_STRIDE", n as u32);
                let (x_buffer, out) = (buffer(&gpu, &x), output(&gpu, rows * n));
                let wave = rows_of(&gpu, rows);
                let mut buffers = vec![(0, &wave), (1, &x_buffer), (30, &out), (10, &segment.codes)];
                buffers.extend(segment.scales.as_ref().map(|scales| (11, scales)));
                run(&gpu, &spec, &buffers, [rows.div_ceil(32) as u32, n.div_ceil(32) as u32, 1]);
                let wanted = product(&exact, &x, columns);
                close(&read(&gpu, &out, rows * n), &wanted, 1e-5, &format!("{format} {rows}x{columns}x{n}"));
            }
        }
    }
}

#[test]
fn many_rows_of_halves_on_cooperative_matrices() {
    let [gpu, _] = devices();
    if !gpu.capabilities.cooperative {
        return;
    }
    let mut random = Random(3);
    for format in FORMATS {
        for (rows, columns, n) in [(33, 64, 128), (130, 96, 256), (50, 576, 128)] {
            let (w, exact) = matrix(&gpu, &mut random, format, n, columns);
            let x: Vec<half::f16> =
                random.floats(rows * columns).into_iter().map(half::f16::from_f32).collect();
            let exact_x: Vec<f32> = x.iter().map(|x| x.to_f32()).collect();
            let mut padded = x.clone();
            let tiled = rows.next_multiple_of(128);
            padded.resize(tiled * columns, half::f16::ZERO);
            let base = random.floats(tiled * n);
            for add in [false, true] {
                let segment = &w.segments[0];
                let spec = KernelSpec::new("matmul", [parts::WAVE, w.decode(), parts::MATMUL_COOPERATIVE]);
                let spec = w
                    .shape(spec, segment)
                    .with("ROW_COUNT", 0u32)
                    .with("GRID_Y", 65_535u32)
                    .with("ADD", u32::from(add))
                    .with("OUT_STRIDE", n as u32);
                let out = if add { buffer(&gpu, &base) } else { output(&gpu, tiled * n) };
                let (x_buffer, wave) = (buffer(&gpu, &padded), rows_of(&gpu, 1));
                let mut buffers = vec![(0, &wave), (1, &x_buffer), (30, &out), (10, &segment.codes)];
                buffers.extend(segment.scales.as_ref().map(|scales| (11, scales)));
                run(&gpu, &spec, &buffers, [rows.div_ceil(128) as u32, n.div_ceil(128) as u32, 1]);
                let mut wanted = product(&exact, &exact_x, columns);
                if add {
                    wanted.iter_mut().zip(&base).for_each(|(w, b)| *w += f64::from(*b));
                }
                // Weights are rounded to halves: 2^-11 each, of either sign.
                close(
                    &read(&gpu, &out, rows * n),
                    &wanted,
                    5e-4,
                    &format!("{format} {rows}x{columns}x{n} {add}"),
                );
            }
        }
    }
}

#[test]
fn a_band_of_halves_on_cooperative_matrices() {
    let [gpu, _] = devices();
    if !gpu.capabilities.cooperative {
        return;
    }
    let mut random = Random(4);
    for format in FORMATS {
        for (rows, columns, n, bands) in [(9, 64, 128, 1u32), (30, 288, 56, 2), (61, 1024, 128, 4)] {
            let (w, exact) = matrix(&gpu, &mut random, format, n, columns);
            let x: Vec<half::f16> =
                random.floats(rows * columns).into_iter().map(half::f16::from_f32).collect();
            let exact_x: Vec<f32> = x.iter().map(|x| x.to_f32()).collect();
            let mut padded = x.clone();
            padded.resize(16 * bands as usize * columns, half::f16::ZERO);
            let base = random.floats(rows * n);
            for add in [false, true] {
                let segment = &w.segments[0];
                let spec = KernelSpec::new("matmul", [parts::WAVE, w.decode(), parts::MATMUL_SKINNY]);
                let spec = w
                    .shape(spec, segment)
                    .with("ROW_COUNT", 0u32)
                    .with("GRID_X", 2u32)
                    .with("BANDS", bands)
                    .with("ADD", u32::from(add))
                    .with("OUT_STRIDE", n as u32);
                let out = if add { buffer(&gpu, &base) } else { output(&gpu, rows * n) };
                let (x_buffer, wave) = (buffer(&gpu, &padded), rows_of(&gpu, rows));
                let mut buffers = vec![(0, &wave), (1, &x_buffer), (30, &out), (10, &segment.codes)];
                buffers.extend(segment.scales.as_ref().map(|scales| (11, scales)));
                run(&gpu, &spec, &buffers, [2, n.div_ceil(64) as u32, 1]);
                let mut wanted = product(&exact, &exact_x, columns);
                if add {
                    wanted.iter_mut().zip(&base).for_each(|(w, b)| *w += f64::from(*b));
                }
                // Weights are rounded to halves: 2^-11 each, of either sign.
                close(
                    &read(&gpu, &out, rows * n),
                    &wanted,
                    5e-4,
                    &format!("{format} {rows}x{columns}x{n} {add}"),
                );
            }
        }
    }
}
