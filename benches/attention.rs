//! Attention on the GPU, timed: microseconds a layer, GB/s of keys and values for few rows, TFLOP/s for many.
//!
//! `cargo bench -p weft-gpu --bench attention -- FILTER` runs the cases whose names contain `FILTER`. `WEFT_WORKGROUPS`
//! is the number of workgroups that few rows are split for (default 396, three for each multiprocessor of an H200).
//!
//! A layer follows another, as in a model: each dispatch waits for the last one, and layers' keys and values take turns
//! in memory larger than caches. Operations are those that a causal mask leaves, two for a multiply-add.

#![expect(clippy::unwrap_used, reason = "a bench may panic")]
#![expect(clippy::print_stdout, reason = "a bench prints")]

#[path = "../gpu/tests/common/mod.rs"]
mod common;

use common::{Random, buffer, wave};
use std::time::{Duration, Instant};
use weft_gpu::{
    ActFormat, AttentionKernels, AttentionShape, Bound, Commands, Gpu, GpuOptions, KvLayout, PAGE, TILE,
    WaveData, wgpu,
};

/// Bytes of the keys and values of all layers together.
const MEMORY: usize = 256 << 20;
const LAYERS: usize = 16;

/// The rows of one wave: the last rows of each session.
struct Case {
    sessions: usize,
    rows: usize,
    context: usize,
}

/// The keys and values of a layer.
type Layer = [wgpu::Buffer; 2];

fn main() {
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let workgroups = std::env::var("WEFT_WORKGROUPS").ok().and_then(|n| n.parse().ok()).unwrap_or(396);
    let gpu = pollster::block_on(Gpu::open(&GpuOptions::default())).unwrap();
    println!("{}, subgroup {:?}", gpu.info.name, gpu.capabilities.subgroup);
    let others = KvLayout::ALL.into_iter().filter(|kv| *kv != KvLayout::F16);
    let shapes = [(4, 64), (4, 128), (8, 128), (1, 64)].map(|(group, length)| (group, length, KvLayout::F16));
    for (group, length, kv) in shapes.into_iter().chain(others.map(|kv| (4, 128, kv))) {
        let shape = AttentionShape {
            heads: 8 * group,
            kv_heads: 8,
            key: length,
            value: length,
            scale: 0.125,
            cap: 0.0,
            window: 0,
            tables: 0,
            recent: None,
            kv,
        };
        let kernels = shape.kernels(&gpu.capabilities, ActFormat::Q8).unwrap();
        let decode = [(1, 100), (1, 500), (1, 2_048), (1, 8_192), (1, 32_768), (16, 2_048), (64, 1_024)];
        for (sessions, context) in decode {
            let name = format!("decode/{group}x{length}/{kv:?}/{sessions}x{context}");
            if name.contains(&filter) {
                bench(&gpu, &kernels, &shape, &name, &Case { sessions, rows: 1, context }, workgroups);
            }
        }
        for (rows, context) in [(128, 128), (512, 512), (2_048, 2_048), (512, 8_192)] {
            let name = format!("prefill/{group}x{length}/{kv:?}/{rows}of{context}");
            if name.contains(&filter) {
                bench(&gpu, &kernels, &shape, &name, &Case { sessions: 1, rows, context }, workgroups);
            }
        }
    }
}

fn bench(
    gpu: &Gpu,
    kernels: &AttentionKernels,
    shape: &AttentionShape,
    name: &str,
    case: &Case,
    workgroups: usize,
) {
    let mut random = Random(1);
    let rows = case.sessions * case.rows;
    let pages = case.context.div_ceil(PAGE);
    // Pages in a scattered order, one session after another.
    let mut tables: Vec<u32> = (0..(case.sessions * pages) as u32).collect();
    (1..tables.len()).for_each(|i| tables.swap(i, random.below(i + 1)));
    let elements = case.sessions * pages * PAGE * shape.kv_heads;
    let token_bytes = shape.kv.head_bytes(shape.key) + shape.kv.head_bytes(shape.value);
    let bytes = elements * token_bytes;
    // Finite numbers in every format.
    let halves = |random: &mut Random, count: usize| -> Vec<half::f16> {
        (0..count).map(|_| half::f16::from_f32(random.unit())).collect()
    };
    let layers: Vec<Layer> = (0..(MEMORY / bytes).clamp(1, LAYERS))
        .map(|_| {
            [shape.key, shape.value]
                .map(|length| buffer(gpu, &halves(&mut random, elements * shape.kv.head_bytes(length) / 2)))
        })
        .collect();
    let queries = buffer(gpu, &random.floats(rows * shape.heads * shape.key));

    let first = (case.context - case.rows) as u32;
    let positions: Vec<u32> = (0..rows).map(|row| first + (row % case.rows) as u32).collect();
    let starts: Vec<u32> = (0..rows).map(|row| (row / case.rows * pages) as u32).collect();
    let tiles: Vec<u32> =
        (0..case.rows).step_by(TILE).map(|row| (row * 256 + TILE.min(case.rows - row)) as u32).collect();
    let splits = kernels.splits(rows, case.context, workgroups);
    let data = WaveData {
        tokens: &positions,
        positions: &positions,
        tables: &starts,
        tiles: &tiles,
        splits,
        ..WaveData::default()
    };
    let (wave, tables) = (wave(gpu, &data), buffer(gpu, &tables));
    let partials = gpu.storage("partials", kernels.partials_bytes(rows, splits)).unwrap();
    let act = gpu.storage("activations", (rows * shape.heads * shape.value) as u64).unwrap();
    let scales = gpu.storage("scales", (rows * shape.heads * shape.value / 4) as u64).unwrap();

    let (way, list) = if case.rows > 1 {
        ("tiled", vec![(&kernels.tiled, kernels.tiled_grid(tiles.len()))])
    } else if splits > 1 {
        let split = (&kernels.split, kernels.split_grid(rows, splits));
        ("split", vec![split, (&kernels.combine, kernels.combine_grid(rows))])
    } else if kernels.is_short(rows, workgroups) {
        ("short", vec![(&kernels.short, kernels.short_grid(rows))])
    } else {
        ("direct", vec![(&kernels.direct, kernels.direct_grid(rows))])
    };
    let recorded: Vec<(Bound, [u32; 3])> = layers
        .iter()
        .flat_map(|[keys, values]| {
            let all = [&wave, &queries, keys, values, &tables, &partials, &act, &scales];
            let buffers: Vec<_> = [0, 1, 2, 3, 4, 5, 20, 21]
                .into_iter()
                .zip(all.map(wgpu::Buffer::as_entire_binding))
                .collect();
            let bind =
                |(spec, grid): &(&_, [u32; 3])| (Bound::new(gpu, gpu.pipelines.get(spec), &buffers), *grid);
            list.iter().map(bind).collect::<Vec<_>>()
        })
        .collect();
    let run = |times: usize| -> Duration {
        let mut commands = Commands::default();
        for (bound, grid) in (0..times).flat_map(|_| &recorded) {
            commands.dispatch(bound, *grid);
        }
        let start = Instant::now();
        commands.submit(gpu);
        gpu.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
        assert_eq!(gpu.failure(), None);
        start.elapsed()
    };
    // Enough runs for a fifth of a second, of which a submit and its wait take little. The best of three.
    run(1);
    let times = (200_000 / run(1).as_micros().max(1)).clamp(1, 500) as usize;
    let best = (0..3).map(|_| run(times)).min().unwrap().as_secs_f64() / (times * layers.len()) as f64;
    let keys: usize = positions.iter().map(|position| *position as usize + 1).sum();
    let speed = if case.rows > 1 {
        let operations = 2 * (shape.key + shape.value) * shape.heads * keys;
        format!("{:8.2} TFLOP/s", operations as f64 / best / 1e12)
    } else {
        format!("{:8.1} GB/s", (keys * shape.kv_heads * token_bytes) as f64 / best / 1e9)
    };
    println!("{name:32} {way:6} {splits:3} splits {:10.1} µs {speed}", best * 1e6);
}
