//! Products that norm their rows first, and products that gate their results, compared with the separate steps in
//! `f64`. Where 8-bit codes are computed on the way, an element between two codes may become either; the tolerance
//! includes the difference.

#![allow(clippy::unwrap_used, reason = "a failed test should stop where it failed")]

use crate::common::act::{Act, Codes};
use crate::common::product::{Few, KINDS, exact, fit, matrix, product, rows_of};
use crate::common::twins::{GATES, rms_norm, round8};
use crate::common::{Random, buffer, devices, is_untouched, largest, output, read, reduce, within};
use weft_gpu::shader::{Part, parts};
use weft_gpu::{ActFormat, Gpu, wgpu};

/// The inputs of a product, and its results.
struct Product {
    x: wgpu::Buffer,
    beside: wgpu::Buffer,
    /// The sums.
    wanted: Vec<f64>,
    /// Tolerance of each sum.
    allowed: Vec<f64>,
}

impl Product {
    /// Random rows for the part `dot`.
    fn new(gpu: &Gpu, random: &mut Random, dot: Part, kind: &Few, weights: &[f32], columns: usize) -> Self {
        let (count, room) = (kind.rows * columns, kind.most * columns);
        // Rounding errors of sums, as in `products.rs`.
        let sums = |wanted: &[f64]| vec![1e-5 * largest(wanted); wanted.len()];
        if dot == parts::DOT_Q8 {
            let codes = Codes::new(gpu, random, count, room);
            let wanted = product(weights, &codes.exact, columns);
            return Self { x: codes.numbers, beside: codes.scales, allowed: sums(&wanted), wanted };
        }
        let mut x = random.floats(count);
        let norm: Vec<f32> = random.floats(columns).iter().map(|w| 1.0 + w).collect();
        let (wanted, allowed) = if dot == parts::DOT_F32 {
            let wanted = product(weights, &exact(&x), columns);
            (wanted.clone(), sums(&wanted))
        } else {
            let normed = rms_norm(&x, &norm);
            if dot == parts::DOT_NORM_Q8 {
                let rounded = round8(&normed);
                let sizes: Vec<f32> = weights.iter().map(|w| w.abs()).collect();
                let wanted = product(weights, &rounded.exact, columns);
                let doubt = product(&sizes, &rounded.doubt, columns);
                let allowed = sums(&wanted).iter().zip(doubt).map(|(sum, doubt)| sum + doubt).collect();
                (wanted, allowed)
            } else {
                // The norm has fewer rounding errors than the sums.
                let wanted = product(weights, &normed, columns);
                (wanted.clone(), sums(&wanted))
            }
        };
        x.resize(room, 1.0);
        Self { x: buffer(gpu, &x), beside: buffer(gpu, &norm), wanted, allowed }
    }
}

#[test]
fn normed_rows() {
    for gpu in devices() {
        let mut random = Random(1);
        // One row, as in plans, and several, which the kernels also support.
        for (format, dot, kind) in [
            ("F32", parts::DOT_NORM_F32, KINDS[2]),
            ("BF16", parts::DOT_NORM_F32, KINDS[0]),
            ("Q4_1", parts::DOT_NORM_F32, KINDS[5]),
            ("Q8_0", parts::DOT_NORM_Q8, KINDS[0]),
            ("Q4_0", parts::DOT_NORM_Q8, KINDS[2]),
            ("Q4_1", parts::DOT_NORM_Q8, KINDS[5]),
            ("Q6_K", parts::DOT_NORM_F32, KINDS[0]),
            ("Q4_K", parts::DOT_NORM_Q8, KINDS[0]),
            ("Q6_K", parts::DOT_NORM_Q8, KINDS[5]),
            ("Q2_K", parts::DOT_NORM_Q8, KINDS[4]),
        ] {
            // Rows, as floats, in less than 16 KiB of memory, and one row longer than the lanes of a workgroup process
            // at once.
            let columns = fit(format, 32 * (1 + random.below(28 * 4 / kind.most)));
            let n = 1 + random.below(150);
            let (w, weights) = matrix(&gpu, &mut random, format, n, columns);
            let rows = Product::new(&gpu, &mut random, dot, &kind, &weights, columns);
            let (wave, out) = (rows_of(&gpu, kind.rows), output(&gpu, kind.most * n));
            let buffers = [(0, &wave), (1, &rows.x), (2, &rows.beside), (30, &out)];
            kind.run(&gpu, &w, &[dot, parts::OUT_STORE], 1, &[("OUT_STRIDE", n as u32)], &buffers);
            let what = format!("{format} {kind:?} {columns}x{n}");
            let count = rows.wanted.len();
            within(&read::<f32>(&gpu, &out, count), &rows.wanted, &rows.allowed, &what);
            let behind = &read::<u32>(&gpu, &out, kind.most * n)[count..];
            assert!(behind.iter().all(is_untouched), "{what}: rows that are not the wave's");
        }
    }
}

#[test]
fn gated_products() {
    for gpu in devices() {
        let mut random = Random(2);
        let (_, lanes) = reduce(&gpu);
        for (i, (format, dot, form, most, rows)) in [
            ("BF16", parts::DOT_F32, ActFormat::F32, 4, 3),
            ("Q4_1", parts::DOT_NORM_F32, ActFormat::F32, 1, 1),
            ("F16", parts::DOT_F32, ActFormat::F32, 1, 1),
            ("Q8_0", parts::DOT_Q8, ActFormat::Q8, 2, 2),
            ("Q4_0", parts::DOT_NORM_Q8, ActFormat::Q8, 1, 1),
            ("Q4_1", parts::DOT_Q8, ActFormat::Q8, 1, 1),
            ("Q4_K", parts::DOT_NORM_Q8, ActFormat::Q8, 1, 1),
            ("Q6_K", parts::DOT_Q8, ActFormat::Q8, 4, 3),
        ]
        .into_iter()
        .enumerate()
        {
            let (gate_part, gate_of, slope) = GATES[i % GATES.len()];
            // As in plans: a block of 32 columns, gate and up, in one workgroup, in two passes.
            let kind = Few { each: 32 / (256 / lanes), passes: 2, split: 1, most, rows };
            let columns = fit(format, 32 * (1 + random.below(30)));
            // Not all are whole tiles, if no blocks are computed.
            let unit = if form == ActFormat::Q8 { 32 } else { 4 };
            let width = unit * (1 + random.below(200 / unit));
            let (w, weights) = matrix(&gpu, &mut random, format, 2 * width, columns);
            let (gates, ups) = weights.split_at(width * columns);
            let gate = Product::new(&gpu, &mut Random(3), dot, &kind, gates, columns);
            // The same rows.
            let up = Product::new(&gpu, &mut Random(3), dot, &kind, ups, columns);
            let gated = |i: usize| gate_of(gate.wanted[i]) * up.wanted[i];
            let wanted: Vec<f64> = (0..gate.wanted.len()).map(gated).collect();
            let allowed: Vec<f64> = (0..wanted.len())
                .map(|i| {
                    // A gate's exponential is within 3 + 2|x| units of 2^-23 (WGSL). For large |x| it hardly matters,
                    // or the gate is nearly 0. The slope of squared ReLU grows with the gate.
                    let (g, u) = (gate.wanted[i], up.wanted[i]);
                    let slope = slope.max(2.0 * g.abs());
                    slope * gate.allowed[i] * (u.abs() + up.allowed[i])
                        + gate_of(g).abs() * up.allowed[i]
                        + 5e-6 * wanted[i].abs()
                })
                .collect();
            let act = Act::new(&gpu, form, wanted.len());
            let wave = rows_of(&gpu, rows);
            let buffers = [(0, &wave), (1, &gate.x), (2, &gate.beside)];
            let buffers: Vec<_> = buffers.into_iter().chain(act.bindings()).collect();
            let kernel = [dot, form.part(), gate_part, parts::OUT_GATE];
            kind.run(&gpu, &w, &kernel, 2, &[("ACT_WIDTH", width as u32)], &buffers);
            act.check(&gpu, &wanted, &allowed, &format!("{format} {form:?} {kind:?} {columns}x{width}"));
        }
    }
}
