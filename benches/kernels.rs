//! Kernels at the shapes of SmolLM2-135M: the cases of `platform/tests`, timed.
//!
//! `cargo bench -p weft-platform --bench kernels -- FILTER`. `WEFT_ISA` picks the instruction set, `WEFT_THREADS` the
//! number of threads. Throughput is printed in GB/s for one row (weights read) and in Gelem/s for many, where an
//! element is a multiply-add: two operations.
//!
//! The head is larger than the cache, so `product/*/head/1` is what streaming weights from memory reaches;
//! `stream/*` is the limit, a plain sum over memory.
//!
//! Limits of the machine that the kernels were tuned on (2 cores of an AMD EPYC of the Zen 4 generation, AVX-512 VNNI,
//! 3.7 GHz, 1 MiB of second-level cache a core, 32 MiB of third-level cache): memory 22.8 GB/s from one thread, 28.4
//! from two; 128 operations a cycle and core in 8-bit dot products, 474 GOPS; 32 in f32, 118 GFLOPS. Best of many runs
//! there, on two threads: a whole model's products (`model`) 2,500 to 2,600 rows/s at 512 rows, 1,400 to 1,900 at 16,
//! and at one row 375 (Q4_0 with a Q8_0 head), 412 (Q4_1), 169 (Q8_0; 24 GB/s); 8-bit products 600 to 690 GOPS,
//! floats 217 to 234; attention at one row 9.3 µs a layer for a context of 512 and 36 for 2,048, at 512 rows 2.2 ms and
//! 14.7; a fork and join 0.3 µs at best and 0.5 to 0.9 usually. Other programs' load shows at once: compare the best of
//! several runs.

#![expect(clippy::unwrap_used, reason = "a helper of tests may panic")]

#[path = "../platform/tests/common/mod.rs"]
mod common;

use common::{FORMATS, Random, SHAPES, format, load, matrix};
use core::hint::black_box;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::collections::BTreeSet;
use std::time::Duration;
use weft_components::Activation;
use weft_platform::{
    Activations, AttentionParams, AttentionScratch, AttentionSpan, Cpu, CpuMatrix, Kernels, KvArena,
    KvFormat, KvShape, Need, PAGE, Pool, TilePacker, attention, matmul,
};

fn pool() -> Pool {
    let threads = std::env::var("WEFT_THREADS").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    Pool::new(threads).unwrap()
}

fn cpu(pool: &Pool) -> Cpu {
    let named = std::env::var("WEFT_ISA").ok().and_then(|name| Kernels::by_name(&name));
    pool.cpu(named.unwrap_or(Kernels::detect()))
}

/// Reads memory larger than any cache.
fn stream(c: &mut Criterion) {
    let pool = pool();
    let memory = vec![1u64; 16 << 20];
    let mut group = c.benchmark_group("stream");
    group.throughput(Throughput::Bytes(size_of_val(&memory[..]) as u64));
    for threads in BTreeSet::from([1, pool.threads()]) {
        let cpu = Cpu { threads, ..cpu(&pool) };
        group.bench_function(BenchmarkId::from_parameter(threads), |b| {
            pool.install(|| {
                b.iter(|| {
                    cpu.for_each_chunk(memory.len(), 1 << 16, |range| {
                        black_box(memory[range].iter().fold(0u64, |a, v| a.wrapping_add(*v)));
                    });
                });
            });
        });
    }
}

fn fork(c: &mut Criterion) {
    let pool = pool();
    let cpu = cpu(&pool);
    c.bench_function("fork/empty", |b| {
        pool.install(|| b.iter(|| cpu.for_each_chunk(1000, 1, |range| _ = black_box(range))));
    });
    // Work that a decoder does between forks: a norm.
    let (x, mut out) = (vec![1.0; 576], vec![0.0; 576]);
    c.bench_function("fork/norm", |b| {
        pool.install(|| {
            b.iter(|| {
                cpu.kernels.rms_norm(&x, &x, 1e-5, &mut out);
                cpu.for_each_chunk(1000, 1, |range| _ = black_box(range));
            });
        });
    });
}

fn product(c: &mut Criterion) {
    let pool = pool();
    let cpu = cpu(&pool);
    let mut group = c.benchmark_group("product");
    let mut random = Random(1);
    for format in ["Q4_0", "Q4_1", "Q8_0", "F16"] {
        for (shape, outs, ins) in SHAPES {
            let w = matrix(&mut random, format, outs, ins);
            for rows in [1, 16, 512] {
                if shape == "head" && rows > 16 {
                    continue;
                }
                let acts = load(&cpu, &[&w], &random.floats(rows * ins), rows);
                let mut out = vec![0.0; rows * outs];
                group.throughput(if rows == 1 {
                    Throughput::Bytes(w.bytes() as u64)
                } else {
                    Throughput::Elements((rows * outs * ins) as u64)
                });
                group.bench_function(format!("{format}/{shape}/{rows}"), |b| {
                    pool.install(|| b.iter(|| matmul(&cpu, &[&w], &acts, &mut out, outs)));
                });
            }
        }
    }
}

/// Every format, with a matrix of a model of a billion weights whose rows are whole super-blocks.
fn formats(c: &mut Criterion) {
    let pool = pool();
    let cpu = cpu(&pool);
    let mut group = c.benchmark_group("formats");
    let mut random = Random(5);
    let (outs, ins) = (16384, 2048);
    for format in FORMATS {
        let w = matrix(&mut random, format, outs, ins);
        for rows in [1, 64] {
            let acts = load(&cpu, &[&w], &random.floats(rows * ins), rows);
            let mut out = vec![0.0; rows * outs];
            group.throughput(if rows == 1 {
                Throughput::Bytes(w.bytes() as u64)
            } else {
                Throughput::Elements((rows * outs * ins) as u64)
            });
            group.bench_function(format!("{format}/{rows}"), |b| {
                pool.install(|| b.iter(|| matmul(&cpu, &[&w], &acts, &mut out, outs)));
            });
        }
    }
}

/// Lays out rows as they arrive, on one thread. Throughput is in bytes of the file. Memory for the tiles is allocated
/// before.
fn pack(c: &mut Criterion) {
    let kernels = cpu(&pool()).kernels;
    let mut group = c.benchmark_group("pack");
    let mut random = Random(7);
    let (outs, ins) = (2048, 2048);
    for name in FORMATS {
        let bytes = random.weights(format(name), outs, ins);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(name, |b| {
            b.iter_batched(
                || TilePacker::new(kernels, format(name), outs, ins, bytes.len() as u64).unwrap(),
                |packer| packer.pack(0, black_box(&bytes)).unwrap(),
                BatchSize::PerIteration,
            );
        });
    }
}

/// One row times a matrix larger than any cache: the rate at which weights of a large model are read.
fn memory(c: &mut Criterion) {
    let pool = pool();
    let cpu = cpu(&pool);
    let mut group = c.benchmark_group("memory");
    let mut random = Random(6);
    let ins = 2048;
    for (format, outs) in
        [("F32", 1 << 17), ("F16", 1 << 17), ("BF16", 1 << 17), ("Q8_0", 1 << 18), ("Q4_K", 1 << 18)]
    {
        let w = matrix(&mut random, format, outs, ins);
        let acts = load(&cpu, &[&w], &random.floats(ins), 1);
        let mut out = vec![0.0; outs];
        group.throughput(Throughput::Bytes(w.bytes() as u64));
        group.bench_function(format, |b| {
            pool.install(|| b.iter(|| matmul(&cpu, &[&w], &acts, &mut out, outs)));
        });
    }
}

/// All matrices of a model, one after another: the time of a token without attention.
fn model(c: &mut Criterion) {
    let pool = pool();
    let cpu = cpu(&pool);
    let mut group = c.benchmark_group("model");
    let mut random = Random(2);
    for format in ["Q4_0", "Q4_1", "Q8_0"] {
        let layers: Vec<Vec<CpuMatrix>> = (0..30)
            .map(|_| {
                SHAPES[..4].iter().map(|(_, outs, ins)| matrix(&mut random, format, *outs, *ins)).collect()
            })
            .collect();
        let head = matrix(&mut random, if format == "Q4_1" { "Q4_1" } else { "Q8_0" }, 49152, 576);
        let x = random.floats(512 * 1536);
        let mut out = vec![0.0; 512 * 3072];
        let mut logits = vec![0.0; 16 * 49152];
        for rows in [1, 16, 512] {
            group.throughput(Throughput::Elements(rows as u64));
            group.bench_function(format!("{format}/{rows}"), |b| {
                let mut acts = Activations::new();
                pool.install(|| {
                    b.iter(|| {
                        for layer in &layers {
                            for w in layer {
                                acts.load(&cpu, &x, rows, w.cols(), Need::of(&[w]));
                                matmul(&cpu, &[w], &acts, &mut out, w.rows());
                            }
                        }
                        let last = if rows == 512 { 1 } else { rows };
                        acts.load(&cpu, &x, last, 576, Need::of(&[&head]));
                        matmul(&cpu, &[&head], &acts, &mut logits, 49152);
                    });
                });
            });
        }
    }
}

fn attend(c: &mut Criterion) {
    for (name, format) in [
        ("attention", KvFormat::F16),
        ("attention_f32", KvFormat::F32),
        ("attention_bf16", KvFormat::Bf16),
        ("attention_q8_0", KvFormat::Q8_0),
        ("attention_q4_0", KvFormat::Q4_0),
    ] {
        attend_to(c, name, format);
    }
}

fn attend_to(c: &mut Criterion, name: &str, format: KvFormat) {
    let pool = pool();
    let cpu = cpu(&pool);
    let mut group = c.benchmark_group(name);
    let mut random = Random(3);
    let shape = KvShape { layers: 1, slots: 64, kv_heads: 3, k_dim: 64, v_dim: 64, format };
    let params = AttentionParams { heads: 9, scale: 0.125, ..AttentionParams::default() };
    let mut arena = KvArena::new(shape).unwrap();
    for t in 0..64 * PAGE {
        let (k, v) = (random.floats(192), random.floats(192));
        arena.write(cpu.kernels, 0, (t / PAGE) as u32, t % PAGE, &k, &v);
    }
    let table: Vec<u32> = (0..64).collect();
    let q = random.floats(512 * 576);
    let mut out = vec![0.0; 512 * 576];
    let mut scratch = AttentionScratch::default();
    for (rows, context) in [(1, 128), (1, 512), (1, 2048), (512, 512), (512, 2048)] {
        let spans = [AttentionSpan { first_row: 0, rows, start: context - rows, table: &table, recent: &[] }];
        group.bench_function(format!("{rows}/{context}"), |b| {
            pool.install(|| {
                b.iter(|| {
                    attention(&cpu, &arena, 0, None, &spans, &params, &q, 576, &mut out, 576, &mut scratch)
                });
            });
        });
    }
    let (k, v) = (random.floats(192), random.floats(192));
    group.bench_function("write", |b| {
        let mut t = 0;
        b.iter(|| {
            t = (t + 1) % (64 * PAGE);
            arena.write(cpu.kernels, 0, (t / PAGE) as u32, t % PAGE, &k, &v);
        });
    });
}

fn vectors(c: &mut Criterion) {
    let kernels = cpu(&pool()).kernels;
    let mut random = Random(4);
    let (x, w, mut out) = (random.floats(1536), random.floats(1536), vec![0.0; 1536]);
    let mut group = c.benchmark_group("vector");
    group.bench_function("rms_norm/576", |b| b.iter(|| kernels.rms_norm(&x[..576], &w, 1e-5, &mut out)));
    group.bench_function("silu_mul/1536", |b| b.iter(|| kernels.gate(Activation::Silu, &x, &w, &mut out)));
    let logits = random.floats(49152);
    group.bench_function("argmax/49152", |b| b.iter(|| kernels.argmax(&logits)));
    let cpu = Cpu { kernels, threads: 1 };
    let mut acts = Activations::new();
    let need = Need { quantized: true, floats: false };
    group.bench_function("quantize/1536", |b| b.iter(|| acts.load(&cpu, &x, 1, 1536, need)));
    let many = random.floats(512 * 576);
    group.bench_function("quantize/512x576", |b| b.iter(|| acts.load(&cpu, &many, 512, 576, need)));
}

criterion_group! {
    name = kernels;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
        .sample_size(20);
    targets = stream, fork, product, formats, pack, memory, model, attend, vectors
}
criterion_main!(kernels);
