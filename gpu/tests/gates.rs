//! Gates of feed-forward networks over rows that contain gate and up side by side, and the norm that may follow,
//! compared with twins in `f64`.

#![allow(clippy::unwrap_used, reason = "a failed test should stop where it failed")]

use crate::common::act::Act;
use crate::common::twins::{EPSILON, GATES};
use crate::common::{Random, buffer, devices, reduce, run, wave};
use weft_gpu::shader::{KernelSpec, Part, parts};
use weft_gpu::{ActFormat, Gpu, WaveData};

const FORMS: [ActFormat; 3] = [ActFormat::F32, ActFormat::F16, ActFormat::Q8];

fn kernel(gpu: &Gpu, form: ActFormat, gate: Part, part: Part, width: usize) -> KernelSpec {
    let (reduce, lanes) = reduce(gpu);
    KernelSpec::new("gate", [parts::WAVE, reduce, form.part(), gate, part])
        .with("WG", 256u32)
        .with("LANES", lanes)
        .with("WIDTH", width as u32)
        .with("ACT_WIDTH", width as u32)
}

/// Gate times up of rows with `width` floats each, both scaled.
fn gated(x: &[f32], width: usize, gate_of: fn(f64) -> f64, scales: [f32; 2]) -> Vec<f64> {
    let [gate_scale, up_scale] = scales.map(f64::from);
    x.chunks_exact(2 * width)
        .map(|row| row.split_at(width))
        .flat_map(|(gate, up)| {
            gate.iter()
                .zip(up)
                .map(move |(gate, up)| gate_of(f64::from(*gate) * gate_scale) * (f64::from(*up) * up_scale))
        })
        .collect()
}

#[test]
fn gate_times_up() {
    for gpu in devices() {
        let mut random = Random(3);
        for ((form, turns), (gate, gate_of, _)) in
            FORMS.into_iter().zip([0, 1, 2]).flat_map(|pair| GATES.map(|gate| (pair, gate)))
        {
            // A multiple of 32, as all widths are, but not of what a workgroup processes at once.
            let (width, rows) = (1024 * turns + 32 * (1 + random.below(31)), 3);
            let mut x: Vec<f32> = random.floats(2 * rows * width).iter().map(|x| 8.0 * x).collect();
            // Gates whose exponential is infinite or zero, and products that f16 cannot represent.
            for (at, gate) in [(0, -200.0), (1, 200.0), (2, 1e5), (3, -1e5), (4, 0.0)] {
                x[2 * width + at] = gate;
            }
            let wanted = gated(&x, width, gate_of, [1.0; 2]);
            let act = Act::new(&gpu, form, wanted.len());
            let (wave, x) = (wave(&gpu, &WaveData::default()), buffer(&gpu, &x));
            let buffers: Vec<_> = [(0, &wave), (1, &x)].into_iter().chain(act.bindings()).collect();
            let spec = kernel(&gpu, form, gate, parts::GATE_MUL, width);
            run(&gpu, &spec, &buffers, [(width / 4).div_ceil(256) as u32, rows as u32, 1]);
            // An exponential is within 3 + 2|x| units of 2^-23 (WGSL), 19 for gates up to 8; GELU's goes to -17 and to
            // where it vanishes. A division is within 2.5 units, plus a sum and a product. Larger gates are unchanged
            // or vanish.
            let allowed: Vec<f64> = wanted.iter().map(|x| 6e-6 * x.abs() + 1e-7).collect();
            act.check(&gpu, &wanted, &allowed, &format!("{form:?}, width {width}"));
        }
    }
}

#[test]
fn a_nonlinearity_without_a_gate() {
    for gpu in devices() {
        let mut random = Random(5);
        for ((form, turns), (gate, gate_of, _)) in
            FORMS.into_iter().zip([0, 1, 2]).zip(GATES.into_iter().cycle().skip(3))
        {
            let (width, rows) = (1024 * turns + 32 * (1 + random.below(31)), 3);
            let x: Vec<f32> = random.floats(rows * width).iter().map(|x| 4.0 * x).collect();
            let bias = random.floats(width);
            let shifted = x.iter().zip(bias.iter().cycle()).map(|(x, bias)| f64::from(x + bias));
            let wanted: Vec<f64> = shifted.map(gate_of).collect();
            let act = Act::new(&gpu, form, wanted.len());
            let (wave, x, bias) = (wave(&gpu, &WaveData::default()), buffer(&gpu, &x), buffer(&gpu, &bias));
            let buffers: Vec<_> =
                [(0, &wave), (1, &x), (2, &bias)].into_iter().chain(act.bindings()).collect();
            let spec = kernel(&gpu, form, gate, parts::ACTIVATE, width);
            run(&gpu, &spec, &buffers, [(width / 4).div_ceil(256) as u32, rows as u32, 1]);
            // As above.
            let allowed: Vec<f64> = wanted.iter().map(|x| 6e-6 * x.abs() + 1e-7).collect();
            act.check(&gpu, &wanted, &allowed, &format!("{form:?}, width {width}"));
        }
    }
}

#[test]
fn a_norm_behind_the_gate() {
    for gpu in devices() {
        let mut random = Random(4);
        for (i, (form, (gate, gate_of, _))) in
            FORMS.into_iter().zip(GATES.into_iter().cycle().skip(2)).enumerate()
        {
            let (normed, biased) = (i != 1, i != 0);
            let (width, rows) = (512 * i + 32 * (1 + random.below(31)), 3);
            let x: Vec<f32> = random.floats(2 * rows * width).iter().map(|x| 3.0 * x).collect();
            let weight: Vec<f32> = random.floats(width).iter().map(|w| 1.0 + w).collect();
            let scales = [0.75, 1.5];
            let biases: Vec<f32> = random.floats(2 * width);
            // The bias is the input's, divided by its scale.
            let shift = |(i, x): (usize, &f32)| {
                let (at, half) = (i % (2 * width), i / width % 2);
                if biased { x + biases[at] / scales[half] } else { *x }
            };
            let shifted: Vec<f32> = x.iter().enumerate().map(shift).collect();
            let mut wanted = gated(&shifted, width, gate_of, scales);
            if normed {
                for row in wanted.chunks_exact_mut(width) {
                    let squares: f64 = row.iter().map(|x| x * x).sum();
                    let scale = (squares / width as f64 + f64::from(EPSILON)).sqrt().recip();
                    row.iter_mut().zip(&weight).for_each(|(x, w)| *x *= scale * f64::from(*w));
                }
            }
            let extra: Vec<f32> = weight.into_iter().chain(scales).chain([0.0; 2]).chain(biases).collect();
            let act = Act::new(&gpu, form, wanted.len());
            let (wave, x, extra) = (wave(&gpu, &WaveData::default()), buffer(&gpu, &x), buffer(&gpu, &extra));
            let buffers: Vec<_> =
                [(0, &wave), (1, &x), (2, &extra)].into_iter().chain(act.bindings()).collect();
            let spec = kernel(&gpu, form, gate, parts::GATE_NORM, width)
                .with("EPSILON", EPSILON)
                .with("NORM", u32::from(normed))
                .with("BIAS", u32::from(biased));
            run(&gpu, &spec, &buffers, [rows as u32, 1, 1]);
            // As above, plus a norm.
            let allowed: Vec<f64> = wanted.iter().map(|x| 8e-6 * x.abs() + 1e-6).collect();
            act.check(
                &gpu,
                &wanted,
                &allowed,
                &format!("{form:?}, width {width}, normed {normed}, biased {biased}"),
            );
        }
    }
}
