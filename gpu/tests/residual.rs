//! Updates of the residual, and scaling and capping of logits, compared with twins in `f64`.

#![allow(clippy::unwrap_used, reason = "a failed test should stop where it failed")]

use crate::common::product::exact;
use crate::common::twins::EPSILON;
use crate::common::{Random, buffer, devices, read, reduce, run, wave, within};
use weft_gpu::shader::{KernelSpec, Part, parts};
use weft_gpu::{Gpu, WaveData, wgpu};

const ROWS: usize = 5;
const FACTOR: f32 = 0.22;

/// Inputs of the kernel besides delta.
struct Scene {
    width: usize,
    norm: Option<Vec<f32>>,
    bias: Vec<f32>,
    scale: f32,
}

impl Scene {
    fn new(random: &mut Random, width: usize, normed: bool) -> Self {
        let norm = normed.then(|| random.floats(width).iter().map(|w| 1.0 + w).collect());
        Self { width, norm, bias: random.floats(width), scale: 0.5 }
    }

    /// Runs the kernel with the part that defines `delta`, and compares.
    fn check(
        &self,
        gpu: &Gpu,
        random: &mut Random,
        part: Part,
        constants: &[(&'static str, u32)],
        buffers: &[(u32, &wgpu::Buffer)],
        delta: &[f64],
    ) {
        let Self { width, norm, bias, scale } = self;
        let before = random.floats(ROWS * width);
        let mut wanted = exact(&before);
        let mut allowed = vec![0.0; wanted.len()];
        for ((row, delta), allowed) in wanted
            .chunks_exact_mut(*width)
            .zip(delta.chunks_exact(*width))
            .zip(allowed.chunks_exact_mut(*width))
        {
            let shifted: Vec<f64> =
                delta.iter().zip(bias).map(|(x, b)| x * f64::from(*scale) + f64::from(*b)).collect();
            let squares: f64 = shifted.iter().map(|x| x * x).sum();
            let mut by = f64::from(FACTOR);
            if norm.is_some() {
                by /= (squares / *width as f64 + f64::from(EPSILON)).sqrt();
            }
            for (i, x) in shifted.iter().enumerate() {
                let more = x * by * norm.as_ref().map_or(1.0, |norm| f64::from(norm[i]));
                row[i] += more;
                // Some ten rounding errors of what is added, and of the terms of a sum of experts.
                allowed[i] = 2e-6 * (1.0 + more.abs());
            }
        }
        let (reduce, lanes) = reduce(gpu);
        let spec = KernelSpec::new("residual", [parts::WAVE, reduce, part, parts::RESIDUAL])
            .with("WG", 256u32)
            .with("LANES", lanes)
            .with("WIDTH", *width as u32)
            .with("NORM", u32::from(norm.is_some()))
            .with("FACTOR", FACTOR)
            .with("EPSILON", EPSILON);
        let spec = constants.iter().fold(spec, |spec, (name, value)| spec.with(name, *value));
        let extra: Vec<f32> = norm.clone().unwrap_or_else(|| vec![f32::NAN; *width]);
        let extra: Vec<f32> =
            extra.into_iter().chain(bias.iter().copied()).chain([*scale, 0.0, 0.0, 0.0]).collect();
        let (wave, hidden, extra) =
            (wave(gpu, &WaveData::default()), buffer(gpu, &before), buffer(gpu, &extra));
        let all = [(0, &wave), (3, &hidden), (4, &extra)];
        let all: Vec<_> = all.into_iter().chain(buffers.iter().copied()).collect();
        run(gpu, &spec, &all, [ROWS as u32, 1, 1]);
        let found = read::<f32>(gpu, &hidden, wanted.len());
        within(&found, &wanted, &allowed, &format!("width {width}, normed {}", norm.is_some()));
    }
}

#[test]
fn rows_of_a_product() {
    for gpu in devices() {
        let mut random = Random(1);
        for (width, normed) in [(64, false), (96, true), (1408, true)] {
            let scene = Scene::new(&mut random, width, normed);
            let delta = random.floats(ROWS * width);
            let rows = buffer(&gpu, &delta);
            scene.check(&gpu, &mut random, parts::DELTA_ROWS, &[], &[(1, &rows)], &exact(&delta));
        }
    }
}

#[test]
fn experts_in_the_order_of_their_scores() {
    for gpu in devices() {
        let mut random = Random(2);
        for (width, experts, used, shared) in [(64, 4usize, 2usize, 0u32), (96, 8, 3, 1), (1056, 60, 4, 2)] {
            let scene = Scene::new(&mut random, width, shared == 1);
            let rows = random.floats(ROWS * used * width);
            let weights: Vec<f32> = random.floats(ROWS * used);
            let routes: Vec<[u32; 2]> = weights.iter().map(|w| [0, w.to_bits()]).collect();
            let beside = random.floats(ROWS * width);
            let scores: Vec<f32> = random.floats(ROWS * (experts + 1)).iter().map(|x| 4.0 * x).collect();
            let mut delta = vec![0.0; ROWS * width];
            for (row, delta) in delta.chunks_exact_mut(width).enumerate() {
                let gate = f64::from(scores[row * (experts + 1) + experts]);
                let share = [0.0, 1.0, 1.0 / (1.0 + (-gate).exp())][shared as usize];
                for (i, sum) in delta.iter_mut().enumerate() {
                    let of = |slot: usize| {
                        let pair = row * used + slot;
                        f64::from(weights[pair]) * f64::from(rows[pair * width + i])
                    };
                    *sum = (0..used).map(of).sum::<f64>() + share * f64::from(beside[row * width + i]);
                }
            }
            let buffers = [buffer(&gpu, &rows), buffer(&gpu, &beside), buffer(&gpu, &scores)];
            let routes = buffer(&gpu, &routes);
            let buffers = [(1, &buffers[0]), (2, &routes), (5, &buffers[1]), (6, &buffers[2])];
            let constants = [
                ("USED", used as u32),
                ("EXPERTS", experts as u32),
                ("SCORES", experts as u32 + 1),
                ("SHARED", shared),
            ];
            scene.check(&gpu, &mut random, parts::DELTA_EXPERTS, &constants, &buffers, &delta);
        }
    }
}

#[test]
fn logits_scaled_and_capped() {
    const VOCABULARY: usize = 1030;
    const SCALE: f32 = 0.125;
    for gpu in devices() {
        let mut random = Random(3);
        for cap in [0.0, 30.0f32] {
            let mut logits: Vec<f32> = random.floats(3 * VOCABULARY).iter().map(|x| 900.0 * x).collect();
            logits[..2].copy_from_slice(&[1e30, -1e30]);
            let capped = |x: &f32| {
                let x = f64::from(*x) * f64::from(SCALE);
                if cap > 0.0 { f64::from(cap) * (x / f64::from(cap)).tanh() } else { x }
            };
            let wanted: Vec<f64> = logits.iter().map(capped).collect();
            let allowed: Vec<f64> = wanted.iter().map(|x| 2e-6 * x.abs() + 2e-6 * f64::from(cap)).collect();
            let logits = buffer(&gpu, &logits);
            let spec = KernelSpec::new("cap_logits", [parts::CAP_LOGITS])
                .with("WG", 256u32)
                .with("VOCABULARY", VOCABULARY as u32)
                .with("SCALE", SCALE)
                .with("CAP", cap);
            run(&gpu, &spec, &[(1, &logits)], [VOCABULARY.div_ceil(256) as u32, 3, 1]);
            within(&read::<f32>(&gpu, &logits, wanted.len()), &wanted, &allowed, &format!("cap {cap}"));
        }
    }
}
