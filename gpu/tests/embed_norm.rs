//! Kernels that turn rows into activations: embedding, RMS norm and plain rows, each compared with its twin in `f64`.

#![allow(clippy::unwrap_used, reason = "a failed test should stop where it failed")]

use crate::common::act::Act;
use crate::common::product::{FORMATS, RELATED, exact, fit, matrix, reading};
use crate::common::twins::{EPSILON, layer_norm, rms_norm};
use crate::common::{Random, buffer, close, devices, is_untouched, output, read, reduce, run, wave};
use weft_gpu::shader::{KernelSpec, Part, parts};
use weft_gpu::{ActFormat, DEVICE_TOKEN, Gpu, WaveData};

const FORMS: [ActFormat; 3] = [ActFormat::F32, ActFormat::F16, ActFormat::Q8];

/// Factor of the embeddings.
const SCALE: f32 = 5.656_854;

/// A random width: a multiple of 32, as all widths are, but not of what a workgroup processes at once.
fn width(random: &mut Random, turns: usize) -> usize {
    1024 * turns + 32 * (1 + random.below(31))
}

#[test]
fn embedding() {
    for gpu in devices() {
        let mut random = Random(1);
        for (i, format) in FORMATS.into_iter().chain(RELATED).enumerate() {
            let (n, columns) = (5 + random.below(60), fit(format, 32 * (1 + random.below(30))));
            // The matrix may be a later segment of the vocabulary, or all of it.
            let base = if i % 2 == 0 { 0 } else { 1 + random.below(100) };
            let (w, weights) = matrix(&gpu, &mut random, format, n, columns);
            let last = (base + n - 1) as u32;
            let sampled = [base as u32 + random.below(n) as u32, last + 1, u32::MAX, last];
            let mut tokens: Vec<u32> = (0..8).map(|_| (base + random.below(n)) as u32).collect();
            tokens.extend((0..4).map(|place| DEVICE_TOKEN | place));
            // Rows of other segments, and host tokens that are in no segment.
            tokens.extend([last + 1, DEVICE_TOKEN - 1]);
            tokens.extend((base > 0).then(|| base as u32 - 1));
            let rows = tokens.len();
            let positions = vec![0; rows];
            let wave =
                wave(&gpu, &WaveData { tokens: &tokens, positions: &positions, ..WaveData::default() });
            let segment = &w.segments[0];
            let spec = reading("embed", &w, parts::EMBED)
                .with("WG", 64u32)
                .with("SCALE", SCALE)
                .with("VOCABULARY", (base + n) as u32);
            let spec = w
                .encoding
                .constants(spec)
                .with("K", columns as u32)
                .with("N", n as u32)
                .with("ROW_BASE", base as u32);
            let (sampled_buffer, hidden) = (buffer(&gpu, &sampled), output(&gpu, rows * columns));
            let mut buffers = vec![(0, &wave), (1, &sampled_buffer), (2, &hidden)];
            let planes: Vec<_> = segment.buffers().collect();
            buffers.extend(planes.iter().map(|(index, buffer)| (*index, buffer)));
            run(&gpu, &spec, &buffers, [rows as u32, 1, 1]);

            let found = read::<f32>(&gpu, &hidden, rows * columns);
            for (row, (token, found)) in tokens.iter().zip(found.chunks_exact(columns)).enumerate() {
                let what = format!("{format} row {row}, token {token} of {base} to {last}");
                let token = match token & DEVICE_TOKEN {
                    0 => *token,
                    // A token from the sampler is clamped to the vocabulary.
                    _ => sampled[(token & !DEVICE_TOKEN) as usize].min(last),
                };
                if (base as u32..=last).contains(&token) {
                    let wanted = &weights[(token as usize - base) * columns..][..columns];
                    let wanted: Vec<f64> = exact(wanted).iter().map(|x| x * f64::from(SCALE)).collect();
                    // The product of a code and an f16 is exact. With a minimum added it is rounded once, to 2^-24, and
                    // once more when it is scaled.
                    close(found, &wanted, 2.4e-7, &what);
                } else {
                    assert!(found.iter().all(|x| is_untouched(&x.to_bits())), "{what}");
                }
            }
        }
    }
}

/// A kernel that turns rows into activations.
fn rows_kernel(gpu: &Gpu, name: &'static str, form: ActFormat, part: Part, width: usize) -> KernelSpec {
    let (reduce, lanes) = reduce(gpu);
    KernelSpec::new(name, [parts::WAVE, reduce, form.part(), part])
        .with("WG", 256u32)
        .with("LANES", lanes)
        .with("ACT_WIDTH", width as u32)
}

#[test]
fn norm() {
    for gpu in devices() {
        let mut random = Random(2);
        for form in FORMS {
            for (gather, turns) in [(false, 1), (true, 0)] {
                let (width, rows) = (width(&mut random, turns), 5);
                let mut x = random.floats(rows * width);
                // Rows of different sizes: one whose squares sum to less than the epsilon, a large one, one of zeros.
                x[width..2 * width].iter_mut().for_each(|x| *x *= 1e-4);
                x[2 * width..3 * width].iter_mut().for_each(|x| *x *= 1e4);
                x[3 * width..4 * width].fill(0.0);
                let weight: Vec<f32> = random.floats(width).iter().map(|w| 1.0 + w).collect();
                let logit_rows: &[u32] = if gather { &[3, 1, 4] } else { &[] };
                let zeros = vec![0; rows];
                let data = WaveData { tokens: &zeros, positions: &zeros, logit_rows, ..WaveData::default() };
                let rows: Vec<u32> = if gather { logit_rows.to_vec() } else { (0..rows as u32).collect() };
                let taken: Vec<f32> =
                    rows.iter().flat_map(|row| &x[*row as usize * width..][..width]).copied().collect();
                let wanted = rms_norm(&taken, &weight);
                let act = Act::new(&gpu, form, wanted.len());
                let (wave, x, weight) = (wave(&gpu, &data), buffer(&gpu, &x), buffer(&gpu, &weight));
                let spec = rows_kernel(&gpu, "rms_norm", form, parts::RMS_NORM, width)
                    .with("EPSILON", EPSILON)
                    .with("GATHER", u32::from(gather));
                let buffers: Vec<_> =
                    [(0, &wave), (1, &x), (2, &weight)].into_iter().chain(act.bindings()).collect();
                run(&gpu, &spec, &buffers, [rows.len() as u32, 1, 1]);
                // A sum of squares with some ten roundings of 2^-24, halved by the root, whose inverse is within 2
                // units of 2^-23 (WGSL), and two products.
                let allowed: Vec<f64> = wanted.iter().map(|x| 1e-6 * x.abs()).collect();
                act.check(&gpu, &wanted, &allowed, &format!("{form:?}, width {width}, gather {gather}"));
            }
        }
    }
}

#[test]
fn what_is_added_to_embeddings() {
    for gpu in devices() {
        let mut random = Random(4);
        for (i, format) in FORMATS.into_iter().enumerate() {
            let first = i % 2;
            let (n, columns) = (5 + random.below(60), fit(format, 32 * (1 + random.below(30))));
            let (w, weights) = matrix(&gpu, &mut random, format, n, columns);
            let positions: Vec<u32> = (0..9).map(|_| random.below(n) as u32).collect();
            let x = random.floats(positions.len() * columns);
            let data = WaveData { tokens: &positions, positions: &positions, ..WaveData::default() };
            let (wave, hidden) = (wave(&gpu, &data), buffer(&gpu, &x));
            let spec =
                reading("embed_add", &w, parts::EMBED_ADD).with("WG", 64u32).with("FIRST", first as u32);
            let spec = w.shape(spec, &w.segments[0]);
            let mut buffers = vec![(0, &wave), (2, &hidden)];
            let planes: Vec<_> = w.segments[0].buffers().collect();
            buffers.extend(planes.iter().map(|(index, buffer)| (*index, buffer)));
            run(&gpu, &spec, &buffers, [positions.len() as u32, 1, 1]);
            let found = read::<f32>(&gpu, &hidden, x.len());
            for ((position, x), found) in
                positions.iter().zip(x.chunks_exact(columns)).zip(found.chunks_exact(columns))
            {
                let row = if first == 1 { 0 } else { *position as usize };
                let added = &weights[row * columns..][..columns];
                let wanted: Vec<f64> = x.iter().zip(added).map(|(x, w)| f64::from(*x) + *w as f64).collect();
                close(found, &wanted, 1e-6, &format!("{format}, row {row}"));
            }
        }
    }
}

#[test]
fn norm_about_the_mean() {
    for gpu in devices() {
        let mut random = Random(5);
        for turns in [0, 1] {
            let (width, rows) = (width(&mut random, turns), 4);
            let mut x = random.floats(rows * width);
            x[width..2 * width].iter_mut().for_each(|x| *x = 30.0 + 4.0 * *x);
            x[2 * width..3 * width].fill(0.5);
            let (weight, bias) = (random.floats(width), random.floats(width));
            let wanted = layer_norm(&x, &weight, &bias);
            let extra: Vec<f32> = weight.into_iter().chain(bias).collect();
            let (wave, x, extra) = (wave(&gpu, &WaveData::default()), buffer(&gpu, &x), buffer(&gpu, &extra));
            let (reduce, lanes) = reduce(&gpu);
            let spec = KernelSpec::new("layer_norm", [parts::WAVE, reduce, parts::LAYER_NORM])
                .with("WG", 256u32)
                .with("LANES", lanes)
                .with("WIDTH", width as u32)
                .with("EPSILON", EPSILON);
            run(&gpu, &spec, &[(0, &wave), (1, &x), (2, &extra)], [rows as u32, 1, 1]);
            // A mean of 30 has an error of some roundings of 2^-24 of it, relative to a deviation of 2.
            close(&read::<f32>(&gpu, &x, wanted.len()), &wanted, 5e-6, &format!("width {width}"));
        }
    }
}

#[test]
fn rows_as_they_are() {
    for gpu in devices() {
        let mut random = Random(3);
        for (form, turns) in FORMS.into_iter().zip([0, 1, 2]) {
            let (width, rows) = (width(&mut random, turns), 3);
            let x: Vec<f32> = random.floats(rows * width).iter().map(|x| 8.0 * x).collect();
            let wanted = exact(&x);
            let act = Act::new(&gpu, form, wanted.len());
            let (wave, x) = (wave(&gpu, &WaveData::default()), buffer(&gpu, &x));
            let buffers: Vec<_> = [(0, &wave), (1, &x)].into_iter().chain(act.bindings()).collect();
            let spec = rows_kernel(&gpu, "load_act", form, parts::LOAD_ACT, width);
            run(&gpu, &spec, &buffers, [(width / 4).div_ceil(256) as u32, rows as u32, 1]);
            act.check(&gpu, &wanted, &vec![0.0; wanted.len()], &format!("{form:?}, width {width}"));
        }
    }
}
