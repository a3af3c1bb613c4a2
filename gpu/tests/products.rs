//! Matrix products on the GPU compared with sums in `f64`, for every layout, on random shapes.

#![allow(clippy::unwrap_used, reason = "a failed test should stop where it failed")]

use crate::common::act::Codes;
use crate::common::product::{FORMATS, Few, KINDS, exact, fit, matrix, product, reading, rows_of};
use crate::common::{Random, buffer, close, devices, output, read, run};
use weft_gpu::Gpu;
use weft_gpu::shader::{Part, parts};

/// Checks one kind of product, which stores its sums or adds them to the output.
fn check_few(gpu: &Gpu, random: &mut Random, format: &str, kind: Few, dot: Part, add: bool) {
    let (n, columns) = (1 + random.below(200), kind.columns(random, format));
    let what = format!("{format} {kind:?} {columns}x{n}, add {add}, on {}", gpu.info.name);
    let (w, weights) = matrix(gpu, random, format, n, columns);
    let (count, room) = (kind.rows * columns, kind.most * columns);
    let ([x, beside], wanted) = if dot == parts::DOT_Q8 {
        let codes = Codes::new(gpu, random, count, room);
        ([codes.numbers, codes.scales], product(&weights, &codes.exact, columns))
    } else {
        let mut x = random.floats(count);
        let wanted = product(&weights, &exact(&x), columns);
        x.resize(room, 1.0);
        let x = buffer(gpu, &x);
        ([x.clone(), x], wanted)
    };
    // Adding to NaN would hide errors, so the output contains numbers before, also in rows that are not the wave's.
    let before = if add { random.floats(kind.most * n) } else { vec![f32::NAN; kind.most * n] };
    let (out, wave) = (buffer(gpu, &before), rows_of(gpu, kind.rows));
    let out_part = if add { parts::OUT_ADD } else { parts::OUT_STORE };
    let buffers = [(0, &wave), (1, &x), (2, &beside), (30, &out)];
    kind.run(gpu, &w, &[dot, out_part], 1, &[("OUT_STRIDE", n as u32)], &buffers);
    let wanted = if add { added(wanted, &before) } else { wanted };
    // Some tens of roundings of 2^-24 each, of terms that together are a few times as large as the largest sum.
    // Products of codes are exact, and so are products of a float with a code.
    close(&read::<f32>(gpu, &out, wanted.len()), &wanted, 1e-5, &what);
    let found = read::<u32>(gpu, &out, before.len());
    let kept = found.iter().zip(&before).skip(wanted.len()).all(|(found, before)| *found == before.to_bits());
    assert!(kept, "{what}: rows that are not the wave's");
}

fn added(mut sums: Vec<f64>, base: &[f32]) -> Vec<f64> {
    sums.iter_mut().zip(base).for_each(|(sum, base)| *sum += f64::from(*base));
    sums
}

/// Number of formats before the first that has super-blocks, or codes whose number of bits is not a power of two. A
/// driver takes about half a second to compile a kernel, so these run with several kinds on both paths. The others,
/// whose parts are the same for all kinds, run with one kind on one path.
const SIMPLE: usize = 6;

/// The kinds of [`KINDS`] for the other formats: those with few products, which compile fast.
const OTHERS: [Few; 4] = [KINDS[0], KINDS[1], KINDS[4], KINDS[5]];

/// Each of the simple formats runs with two of the six kinds, each kind with two of them.
#[test]
fn few_rows_of_floats() {
    for (gpu, others) in devices().iter().zip([false, true]) {
        let mut random = Random(1);
        for (i, format) in FORMATS.into_iter().enumerate() {
            if i < SIMPLE {
                for (j, add) in [(i, i % 2 == 0), ((i + 3) % 6, i % 2 == 1)] {
                    check_few(gpu, &mut random, format, KINDS[j], parts::DOT_F32, add);
                }
            } else if others {
                check_few(gpu, &mut random, format, OTHERS[i % 4], parts::DOT_F32, i % 2 == 0);
            }
        }
    }
}

/// Each of the simple formats runs with three kinds, each kind with one or two formats.
#[test]
fn few_rows_of_codes() {
    for (gpu, others) in devices().iter().zip([true, false]) {
        let mut random = Random(5);
        for (i, format) in FORMATS.into_iter().enumerate().skip(3) {
            if i < SIMPLE {
                for j in [0, 1, 3] {
                    check_few(gpu, &mut random, format, KINDS[(i + j) % 6], parts::DOT_Q8, j == 1);
                }
            } else if others {
                check_few(gpu, &mut random, format, OTHERS[i % 4], parts::DOT_Q8, i % 2 == 0);
            }
        }
    }
}

#[test]
fn many_rows_of_floats() {
    for gpu in devices() {
        let mut random = Random(2);
        for (i, format) in FORMATS.into_iter().enumerate() {
            // Adding to the output does not depend on the format.
            for add in if i < SIMPLE { &[false, true][..] } else { &[false] } {
                let add = *add;
                let (rows, columns, n) =
                    [(33, 64, 96), (1, 96, 31), (50, 576, 40)][(i + usize::from(add)) % 3];
                let columns = fit(format, columns);
                let (w, weights) = matrix(&gpu, &mut random, format, n, columns);
                let x = random.floats(rows * columns);
                let base = random.floats(rows * n);
                let segment = &w.segments[0];
                let planes: Vec<_> = segment.buffers().collect();
                let spec = reading("matmul", &w, parts::MATMUL);
                let spec = w
                    .shape(spec, segment)
                    .with("ROW_COUNT", 0u32)
                    .with("GRID_Y", 65_535u32)
                    .with("ADD", u32::from(add))
                    .with("OUT_STRIDE", n as u32);
                let out = if add { buffer(&gpu, &base) } else { output(&gpu, rows * n) };
                let (x_buffer, wave) = (buffer(&gpu, &x), rows_of(&gpu, rows));
                let mut buffers = vec![(0, &wave), (1, &x_buffer), (30, &out)];
                buffers.extend(planes.iter().map(|(index, buffer)| (*index, buffer)));
                run(&gpu, &spec, &buffers, [rows.div_ceil(32) as u32, n.div_ceil(32) as u32, 1]);
                let wanted = product(&weights, &exact(&x), columns);
                let wanted = if add { added(wanted, &base) } else { wanted };
                let what = format!("{format} {rows}x{columns}x{n} {add}");
                close(&read(&gpu, &out, rows * n), &wanted, 1e-5, &what);
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
            let columns = fit(format, columns);
            let (w, weights) = matrix(&gpu, &mut random, format, n, columns);
            let x: Vec<half::f16> =
                random.floats(rows * columns).into_iter().map(half::f16::from_f32).collect();
            let exact_x: Vec<f64> = x.iter().map(|x| x.to_f64()).collect();
            let mut padded = x.clone();
            let tiled = rows.next_multiple_of(128);
            padded.resize(tiled * columns, half::f16::ZERO);
            let base = random.floats(tiled * n);
            for add in [false, true] {
                let segment = &w.segments[0];
                let planes: Vec<_> = segment.buffers().collect();
                let spec = reading("matmul", &w, parts::MATMUL_COOPERATIVE);
                let spec = w
                    .shape(spec, segment)
                    .with("ROW_COUNT", 0u32)
                    .with("GRID_Y", 65_535u32)
                    .with("ADD", u32::from(add))
                    .with("OUT_STRIDE", n as u32);
                let out = if add { buffer(&gpu, &base) } else { output(&gpu, tiled * n) };
                let (x_buffer, wave) = (buffer(&gpu, &padded), rows_of(&gpu, 1));
                let mut buffers = vec![(0, &wave), (1, &x_buffer), (30, &out)];
                buffers.extend(planes.iter().map(|(index, buffer)| (*index, buffer)));
                run(&gpu, &spec, &buffers, [rows.div_ceil(128) as u32, n.div_ceil(128) as u32, 1]);
                let wanted = product(&weights, &exact_x, columns);
                let wanted = if add { added(wanted, &base) } else { wanted };
                // Weights are rounded to f16: 2^-11 each, in either direction.
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
            let columns = fit(format, columns);
            let (w, weights) = matrix(&gpu, &mut random, format, n, columns);
            let x: Vec<half::f16> =
                random.floats(rows * columns).into_iter().map(half::f16::from_f32).collect();
            let exact_x: Vec<f64> = x.iter().map(|x| x.to_f64()).collect();
            let mut padded = x.clone();
            padded.resize(16 * bands as usize * columns, half::f16::ZERO);
            let base = random.floats(rows * n);
            for add in [false, true] {
                let segment = &w.segments[0];
                let planes: Vec<_> = segment.buffers().collect();
                let spec = reading("matmul", &w, parts::MATMUL_SKINNY);
                let spec = w
                    .shape(spec, segment)
                    .with("ROW_COUNT", 0u32)
                    .with("GRID_X", 2u32)
                    .with("BANDS", bands)
                    .with("ADD", u32::from(add))
                    .with("OUT_STRIDE", n as u32);
                let out = if add { buffer(&gpu, &base) } else { output(&gpu, rows * n) };
                let (x_buffer, wave) = (buffer(&gpu, &padded), rows_of(&gpu, rows));
                let mut buffers = vec![(0, &wave), (1, &x_buffer), (30, &out)];
                buffers.extend(planes.iter().map(|(index, buffer)| (*index, buffer)));
                run(&gpu, &spec, &buffers, [2, n.div_ceil(64) as u32, 1]);
                let wanted = product(&weights, &exact_x, columns);
                let wanted = if add { added(wanted, &base) } else { wanted };
                // Weights are rounded to f16: 2^-11 each, in either direction.
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
