//! Products compared with naive ones in f64. Every instruction set, number of rows and number of threads compared with
//! plain Rust, bit for bit.

#![expect(clippy::unwrap_used, reason = "a helper of tests may panic")]

use crate::common::{FORMATS, Random, bits, columns, format, load, matrix, serial};
use weft_platform::{Activations, CpuMatrix, Kernels, Need, PackError, Pool, TilePacker, matmul};

fn scalar() -> &'static Kernels {
    Kernels::by_name("scalar").unwrap()
}

#[test]
fn every_format_is_among_the_tested() {
    let rows = weft_components::formats::FORMATS.iter().filter(|f| f.codec.is_some()).map(|f| f.name);
    let mut names: Vec<&str> = rows.collect();
    let mut tested = FORMATS.to_vec();
    names.sort_unstable();
    tested.sort_unstable();
    assert_eq!(tested, names);
}

/// The activations as the product uses them: 8-bit codes times their block's scale.
fn rounded(x: &[f32], quantized: bool) -> Vec<f64> {
    if !quantized {
        return x.iter().map(|v| f64::from(*v)).collect();
    }
    x.chunks(32)
        .flat_map(|block| {
            let largest = block.iter().fold(0.0f32, |a, v| a.max(v.abs()));
            let scale = f64::from(largest / 127.0);
            block.iter().map(move |v| {
                let code = if largest > 0.0 { (v * (127.0 / largest)).round_ties_even() } else { 0.0 };
                f64::from(code) * scale
            })
        })
        .collect()
}

#[test]
fn plain_rust_is_the_naive_product() {
    let mut random = Random(1);
    let cpu = serial(scalar());
    for name in FORMATS {
        let codec = format(name).codec().unwrap();
        let (quantized, has_minimum) = (codec.layout.is_quantized(), codec.layout.codes().min);
        for _ in 0..30 {
            let cols = columns(format(name), 1 + random.below(24));
            let (rows, n) = (1 + random.below(40), 1 + random.below(20));
            let bytes = random.weights(format(name), rows, cols);
            let mut w = vec![0.0; rows * cols];
            assert!(format(name).dequantize(&bytes, &mut w));
            let packed = CpuMatrix::pack(format(name), rows, cols, &bytes).unwrap();
            let x = random.floats(n * cols);
            let mut out = vec![0.0; n * rows];
            matmul(&cpu, &[&packed], &load(&cpu, &[&packed], &x, n), &mut out, rows);
            for r in 0..n {
                let x = rounded(&x[r * cols..][..cols], quantized);
                for (o, w) in out[r * rows..][..rows].iter().zip(w.chunks(cols)) {
                    let products = w.iter().zip(&x).map(|(w, x)| f64::from(*w) * x);
                    let exact: f64 = products.clone().sum();
                    // Sums of at most 100 roundings in f32 of parts no larger than the sum of magnitudes. A minimum and
                    // its scaled codes, below 1, may cancel, so their magnitudes count separately.
                    let magnitude: f64 = products.map(f64::abs).sum::<f64>()
                        + if has_minimum { x.iter().map(|x| x.abs()).sum() } else { 0.0 };
                    let bound = 100.0 * f64::from(f32::EPSILON) * magnitude;
                    assert!((f64::from(*o) - exact).abs() <= bound, "{name} {rows}×{cols}×{n}: {o} {exact}");
                }
            }
        }
    }
}

#[test]
fn every_instruction_set_gives_the_same_bits() {
    let mut random = Random(2);
    for name in FORMATS {
        for round in 0..40 {
            let cols = columns(format(name), 1 + random.below(20));
            let (rows, n) = (1 + random.below(40), if round < 20 { round + 1 } else { 1 + random.below(70) });
            let w = matrix(&mut random, name, rows, cols);
            let x = random.floats(n * cols);
            let mut want = vec![0.0; n * rows];
            let cpu = serial(scalar());
            matmul(&cpu, &[&w], &load(&cpu, &[&w], &x, n), &mut want, rows);
            for kernels in Kernels::available() {
                let cpu = serial(kernels);
                let mut out = vec![0.0; n * rows];
                matmul(&cpu, &[&w], &load(&cpu, &[&w], &x, n), &mut out, rows);
                assert_eq!(bits(&out), bits(&want), "{name} {kernels:?} {rows}×{cols}×{n}");
            }
        }
    }
}

/// Blocks with the same byte everywhere, except for scales of 1. The largest codes and values are among them.
#[test]
fn extreme_codes_do_not_saturate() {
    for name in FORMATS.iter().filter(|name| format(name).block() > 1) {
        let format = format(name);
        let cols = columns(format, 1);
        for byte in [0x00, 0x0f, 0x7f, 0x80, 0x81, 0xf0, 0xff] {
            let mut bytes = vec![byte; 16 * format.row_bytes(cols).unwrap()];
            crate::common::set_scales(format, &mut bytes, |_| 1.0);
            let mut w = vec![0.0; 16 * cols];
            assert!(format.dequantize(&bytes, &mut w));
            let packed = CpuMatrix::pack(format, 16, cols, &bytes).unwrap();
            for sign in [1.0, -1.0] {
                // Activations that add up whatever the sign of a weight, and constant ones.
                for x in
                    [w[..cols].iter().map(|w| w.signum() * sign * 127.0).collect(), vec![sign * 127.0; cols]]
                {
                    let products = w[..cols].iter().zip(&x).map(|(w, x)| f64::from(*w) * f64::from(*x));
                    // Whole numbers or eighths, rounded a few times. One saturated sum would be off by a unit in
                    // 32,767.
                    let bound = 1e-6 * products.clone().map(f64::abs).sum::<f64>();
                    let exact: f64 = products.sum();
                    for kernels in Kernels::available() {
                        let cpu = serial(kernels);
                        let mut out = vec![0.0; 16];
                        matmul(&cpu, &[&packed], &load(&cpu, &[&packed], &x, 1), &mut out, 16);
                        let close = out.iter().all(|o| (f64::from(*o) - exact).abs() <= bound);
                        assert!(close, "{name} {byte:x} {kernels:?}: {out:?} {exact}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_row_does_not_depend_on_its_company_or_on_threads() {
    let mut random = Random(3);
    let pool = Pool::new(3).unwrap();
    for name in FORMATS {
        let (cols, n) = (256, 70);
        let weights = [
            matrix(&mut random, name, 40, cols),
            matrix(&mut random, "Q8_0", 17, cols),
            matrix(&mut random, "F16", 7, cols),
        ];
        let weights: Vec<&CpuMatrix> = weights.iter().collect();
        let x = random.floats(n * cols);
        // Wider than the outputs, to check that nothing else is written.
        let (width, stride) = (64, 70);
        for kernels in Kernels::available() {
            let cpu = serial(kernels);
            let mut alone = vec![f32::NAN; n * stride];
            for r in 0..n {
                let acts = load(&cpu, &weights, &x[r * cols..][..cols], 1);
                matmul(&cpu, &weights, &acts, &mut alone[r * stride..][..stride], stride);
            }
            let together = pool.install(|| {
                let cpu = pool.cpu(kernels);
                let mut out = vec![f32::NAN; n * stride];
                matmul(&cpu, &weights, &load(&cpu, &weights, &x, n), &mut out, stride);
                out
            });
            assert_eq!(bits(&alone), bits(&together), "{name} {kernels:?}");
            assert!(together.chunks(stride).all(|row| row[width..].iter().all(|v| v.is_nan())));
            assert!(together.chunks(stride).all(|row| row[..width].iter().all(|v| v.is_finite())));
        }
    }
}

#[test]
fn rows_come_back_as_they_went_in() {
    let mut random = Random(4);
    for name in FORMATS {
        let cols = columns(format(name), 9);
        let bytes = random.weights(format(name), 35, cols);
        let mut w = vec![0.0; 35 * cols];
        assert!(format(name).dequantize(&bytes, &mut w));
        let mut matrices = vec![CpuMatrix::pack(format(name), 35, cols, &bytes).unwrap()];
        let row_bytes = format(name).row_bytes(cols).unwrap();
        for kernels in Kernels::available() {
            // Out of order, from two threads.
            let packer = TilePacker::new(kernels, format(name), 35, cols, bytes.len() as u64).unwrap();
            let part =
                |first: usize, end: usize| packer.pack(first, &bytes[first * row_bytes..end * row_bytes]);
            std::thread::scope(|scope| {
                let other = scope.spawn(|| part(16, 32));
                part(32, 35).and(part(0, 16)).unwrap();
                other.join().unwrap().unwrap();
            });
            matrices.push(packer.finish().unwrap());
        }
        for matrix in matrices {
            for (r, want) in w.chunks(cols).enumerate() {
                let mut row = vec![f32::NAN; cols];
                matrix.row(r, &mut row);
                assert_eq!(bits(&row), bits(want), "{name} row {r}");
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let q4 = format("Q4_0");
    assert!(matches!(CpuMatrix::pack(q4, 2, 33, &[0; 36]), Err(PackError::PartialBlock { cols: 33, .. })));
    assert!(matches!(CpuMatrix::pack(q4, 2, 32, &[0; 35]), Err(PackError::Size { found: 35, .. })));
    assert!(matches!(CpuMatrix::pack(q4, usize::MAX, 64, &[0; 36]), Err(PackError::Size { .. })));
    assert!(matches!(CpuMatrix::pack(format("I32"), 1, 256, &[0; 1024]), Err(PackError::NoCodec { .. })));
    let packer = |rows, cols, bytes| TilePacker::new(scalar(), q4, rows, cols, bytes);
    assert!(matches!(packer(usize::MAX, 1 << 20, u64::MAX), Err(PackError::Size { .. })));
    let arriving = packer(20, 32, 20 * 18).unwrap();
    // Past the end, a partial tile, a partial row.
    for (first, count, end) in [(16, 90, 21), (0, 36, 2), (16, 20, 17), (usize::MAX, 18, usize::MAX)] {
        let error = arriving.pack(first, &vec![0; count]).unwrap_err();
        assert!(matches!(error, PackError::Size { end: found, .. } if found == end), "{error}");
    }
    arriving.pack(16, &[0; 4 * 18]).unwrap();
    assert_eq!(arriving.pack(16, &[0; 4 * 18]), Err(PackError::Twice { first: 16 }));
    assert!(matches!(arriving.finish(), Err(PackError::Missing { rows: 20, tiles: 1 })));
    assert!(CpuMatrix::pack(q4, 0, 32, &[]).is_ok());
    assert!(CpuMatrix::pack(q4, 4, 0, &[]).is_ok());
}

#[test]
fn activations_that_are_zero_tiny_or_infinite() {
    let mut random = Random(5);
    let w = matrix(&mut random, "Q8_0", 16, 32);
    for kernels in Kernels::available() {
        let cpu = serial(kernels);
        let product = |x: &[f32]| {
            let mut out = vec![0.0; 16];
            matmul(&cpu, &[&w], &load(&cpu, &[&w], x, 1), &mut out, 16);
            out
        };
        assert_eq!(product(&[0.0; 32]), [0.0; 16]);
        assert_eq!(product(&[1e-40; 32]), [0.0; 16]);
        let mut x = [1.0; 32];
        x[3] = f32::INFINITY;
        assert!(product(&x).iter().all(|v| !v.is_finite()), "an overflow must show");
    }
}

#[test]
fn scratch_is_kept() {
    let cpu = serial(Kernels::detect());
    let mut acts = Activations::new();
    let need = Need { quantized: true, floats: true };
    let x = vec![1.0; 64 * 64];
    acts.load(&cpu, &x, 64, 64, need);
    let bytes = acts.bytes();
    acts.load(&cpu, &x, 1, 64, need);
    acts.load(&cpu, &x, 64, 64, need);
    assert_eq!((acts.bytes(), acts.rows(), acts.cols(), acts.need()), (bytes, 64, 64, need));
}
