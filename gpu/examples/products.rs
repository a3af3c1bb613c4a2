//! Times matrix products on the GPU of this machine: `cargo run --release -p weft-gpu --example products`.
//!
//! Each line is the median of several submits of one kernel, repeated within it so often that its launch time is
//! negligible.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program for looking at numbers")]

use std::time::Instant;
use weft_components::TensorFormat;
use weft_gpu::shader::{KernelSpec, parts};
use weft_gpu::{Bound, Commands, Encoding, Gpu, GpuMatrix, GpuOptions, WaveData, wave_bytes, wgpu};

const REPEAT: u32 = 20;

fn time(gpu: &Gpu, bound: &Bound, grid: [u32; 3]) -> f64 {
    let mut times: Vec<f64> = (0..5)
        .map(|_| {
            let mut commands = Commands::default();
            for _ in 0..REPEAT {
                commands.dispatch(bound, grid);
            }
            let start = Instant::now();
            commands.submit(gpu);
            gpu.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
            start.elapsed().as_secs_f64() / f64::from(REPEAT)
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[2]
}

fn main() {
    let gpu = pollster::block_on(Gpu::open(&GpuOptions::default())).unwrap();
    println!("{} {:?}", gpu.info.name, gpu.capabilities);
    let max_rows = 2048usize;
    let wave = gpu.storage("wave", wave_bytes(max_rows)).unwrap();
    let random: Vec<u32> = (0..1u32 << 22).map(|i| i.wrapping_mul(0x9e37_79b9) & 0x3fff_3fff).collect();
    for (rows, k, n) in [
        (2048usize, 2048usize, 16384usize),
        (2048, 8192, 2048),
        (2048, 2048, 3072),
        (2048, 4096, 28672),
        (64, 2048, 16384),
        (64, 8192, 2048),
        (64, 2048, 128_256),
        (16, 2048, 16384),
        (16, 8192, 2048),
        (16, 2048, 3072),
        (16, 2048, 2048),
        (16, 2048, 128_256),
    ] {
        let zeros = vec![0u32; rows];
        let data = WaveData {
            tokens: &zeros,
            positions: &zeros,
            kv: [&zeros; weft_gpu::KV_CLASSES],
            tables: &zeros,
            ..WaveData::default()
        };
        let mut words = Vec::new();
        data.encode(&mut words);
        gpu.queue.write_buffer(&wave, 0, bytemuck::cast_slice(&words));
        let x = gpu.storage("x", (rows.next_multiple_of(128) * k * 2) as u64).unwrap();
        let out = gpu.storage("out", (rows.next_multiple_of(128) * n * 4) as u64).unwrap();
        let fill = |buffer: &wgpu::Buffer| {
            let bytes: &[u8] = bytemuck::cast_slice(&random);
            let mut at = 0;
            while at < buffer.size() {
                let part = (bytes.len() as u64).min(buffer.size() - at) / 4 * 4;
                gpu.queue.write_buffer(buffer, at, &bytes[..part as usize]);
                at += part.max(16);
            }
        };
        fill(&x);
        for format in ["Q8_0", "Q4_0", "F16", "Q4_K", "Q6_K"] {
            let encoding = Encoding::of("w", TensorFormat::from_name(format).unwrap(), k).unwrap();
            let w = GpuMatrix::new(&gpu, "w", encoding, n, k).unwrap();
            let segment = &w.segments[0];
            segment.planes.iter().flatten().for_each(&fill);
            let skinny = rows <= 64;
            let part = if skinny { parts::MATMUL_SKINNY } else { parts::MATMUL_COOPERATIVE };
            let spec = KernelSpec::new("matmul", [&[parts::WAVE][..], &w.decode(), &[part]].concat());
            let spec = w
                .shape(spec, segment)
                .with("ROW_COUNT", 0u32)
                .with("GRID_X", 32_768u32)
                .with("GRID_Y", 32_768u32)
                .with("BANDS", rows.div_ceil(16) as u32)
                .with("ADD", 0u32)
                .with("OUT_STRIDE", n as u32);
            let kernel = gpu.pipelines.get(&spec);
            let buffers: Vec<(u32, wgpu::Buffer)> = [(0, wave.clone()), (1, x.clone()), (30, out.clone())]
                .into_iter()
                .chain(segment.buffers())
                .collect();
            let buffers: Vec<_> = buffers.iter().map(|(i, b)| (*i, b.as_entire_binding())).collect();
            let bound = Bound::new(&gpu, kernel, &buffers);
            let grid = if skinny {
                [n.div_ceil(32) as u32, 1, 1]
            } else {
                [rows.div_ceil(128) as u32, n.div_ceil(128) as u32, 1]
            };
            let seconds = time(&gpu, &bound, grid);
            let flops = 2.0 * (rows * k * n) as f64;
            println!(
                "{rows}x{k}x{n} {format}: {:.1} us, {:.1} TFLOP/s, {:.0} GB/s",
                seconds * 1e6,
                flops / seconds * 1e-12,
                weft_gpu::device_bytes(encoding.layout, n, k) as f64 / seconds * 1e-9,
            );
            assert_eq!(gpu.failure(), None);
        }
    }
}
