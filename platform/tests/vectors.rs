//! Vector kernels compared with formulas in f64, and every instruction set compared with plain Rust, bit for bit.

#![expect(clippy::unwrap_used, reason = "a helper of tests may panic")]

use crate::common::{Random, bits};
use weft_components::{Activation, RopeStyle};
use weft_platform::Kernels;

const LENGTHS: [usize; 10] = [1, 2, 15, 16, 17, 63, 64, 130, 576, 1000];

/// Compares `kernel` on every instruction set with plain Rust bit for bit, and plain Rust with `exact`, within `bound`
/// of the magnitude.
fn check(what: &str, bound: f64, exact: &[f64], kernel: impl Fn(&Kernels) -> Vec<f32>) {
    let want = kernel(Kernels::by_name("scalar").unwrap());
    assert_eq!(want.len(), exact.len());
    for (i, (want, exact)) in want.iter().zip(exact).enumerate() {
        let error = (f64::from(*want) - exact).abs();
        assert!(error <= bound * exact.abs().max(1e-30), "{what} {i}: {want} {exact}");
    }
    for kernels in Kernels::available() {
        assert_eq!(bits(&kernel(kernels)), bits(&want), "{what} {kernels:?}");
    }
}

#[test]
fn rms_norm() {
    let mut random = Random(10);
    for n in LENGTHS {
        let (x, weight) = (random.floats(n), random.floats(n));
        let norm = |x: &[f32]| -> Vec<f64> {
            let mean = x.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / n as f64;
            let scale = 1.0 / (mean + f64::from(1e-5f32)).sqrt();
            x.iter().zip(&weight).map(|(x, w)| f64::from(*x) * scale * f64::from(*w)).collect()
        };
        // A sum of squares of at most 1000 terms in 64 partial sums, a square root, a division and two products.
        let bound = 1e-6;
        check("rms_norm", bound, &norm(&x), |k| {
            let mut out = vec![0.0; n];
            k.rms_norm(&x, &weight, 1e-5, &mut out);
            out
        });
    }
}

#[test]
fn layer_norm() {
    let mut random = Random(19);
    for n in LENGTHS {
        let (x, weight, bias) = (random.floats(n), random.floats(n), random.floats(n));
        let mean = x.iter().map(|v| f64::from(*v)).sum::<f64>() / n as f64;
        let variance = x.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n as f64;
        let scale = 1.0 / (variance + 1e-5).sqrt();
        // Differences and the bias may cancel. The result is compared after adding a hundred, which no element exceeds.
        let norm = |((x, w), b): ((&f32, &f32), &f32)| {
            (f64::from(*x) - mean) * scale * f64::from(*w) + f64::from(*b) + 100.0
        };
        let exact: Vec<f64> = x.iter().zip(&weight).zip(&bias).map(norm).collect();
        check("layer_norm", 1e-6, &exact, |k| {
            let mut x = x.clone();
            k.layer_norm(&mut x, &weight, &bias, 1e-5);
            x.iter().map(|v| v + 100.0).collect()
        });
    }
}

/// The error function, integrated with Simpson's rule, with an error of 1e-12.
fn erf(x: f64) -> f64 {
    const STEPS: usize = 2000;
    let end = x.abs().min(7.0);
    let at = |i: usize| (-(end * i as f64 / STEPS as f64).powi(2)).exp();
    let inner: f64 = (1..STEPS).map(|i| at(i) * if i % 2 == 1 { 4.0 } else { 2.0 }).sum();
    let integral = (at(0) + inner + at(STEPS)) * end / STEPS as f64 / 3.0;
    (2.0 / std::f64::consts::PI.sqrt() * integral).copysign(x)
}

#[test]
fn gelu_with_the_error_function() {
    let mut random = Random(20);
    for n in LENGTHS {
        let (gate, up) = (random.floats(n), random.floats(n));
        let gelu = |x: f64| 0.5 * x * (1.0 + erf(x / 2f64.sqrt()));
        let exact: Vec<f64> =
            gate.iter().zip(&up).map(|(g, u)| gelu(f64::from(*g)) * f64::from(*u)).collect();
        let tail: Vec<f64> = exact.iter().map(|v| v + 1f64.copysign(*v)).collect();
        // erfc has a relative error of 1.2e-7 plus some roundings; 1 is added.
        check("gelu_erf_mul", 2e-6, &tail, |k| {
            let mut out = vec![0.0; n];
            k.gate(Activation::GeluErf, &gate, &up, &mut out);
            out.iter().zip(&exact).map(|(v, exact)| v + 1f32.copysign(*exact as f32)).collect()
        });
        let alone: Vec<f64> = gate.iter().map(|g| gelu(f64::from(*g)) + 2.0).collect();
        check("activate", 1e-6, &alone, |k| {
            let mut out = vec![0.0; n];
            k.activate(Activation::GeluErf, &gate, &mut out);
            out.iter().map(|v| v + 2.0).collect()
        });
    }
}

#[test]
fn silu_mul() {
    let mut random = Random(11);
    for n in LENGTHS {
        let mut gate = random.floats(n);
        let up = random.floats(n);
        for (i, gate) in gate.iter_mut().enumerate() {
            // Down to where the exact value is still a normal float times 2^-20.
            *gate *= [1.0, 3.9, 1e-3, 1e-20][i % 4];
        }
        let silu = |(g, u): (&f32, &f32)| f64::from(*g) / (1.0 + (-f64::from(*g)).exp()) * f64::from(*u);
        let exact: Vec<f64> = gate.iter().zip(&up).map(silu).collect();
        check("silu_mul", 1e-6, &exact, |k| {
            let mut out = vec![0.0; n];
            k.gate(Activation::Silu, &gate, &up, &mut out);
            out
        });
    }
}

#[test]
fn silu_of_extremes() {
    for kernels in Kernels::available() {
        let gate = [-1e30, -200.0, -0.0, 200.0, 1e30, f32::NAN, f32::INFINITY];
        let mut out = [0.0; 7];
        for activation in [Activation::Silu, Activation::Gelu, Activation::GeluErf] {
            kernels.gate(activation, &gate, &[1.0; 7], &mut out);
            assert!(out[0].abs() < 1e-7 && out[1].abs() < 1e-30 && out[2] == 0.0, "{kernels:?} {out:?}");
            assert_eq!((out[3], out[4], out[6]), (200.0, 1e30, f32::INFINITY), "{kernels:?}");
            assert!(out[5].is_nan(), "{kernels:?}: a NaN must show");
        }
        kernels.gate(Activation::ReluSquared, &gate, &[1.0; 7], &mut out);
        assert_eq!(out[..4], [0.0, 0.0, 0.0, 40_000.0], "{kernels:?}");
        assert!(out[5].is_nan(), "{kernels:?}: a NaN must show");
    }
}

#[test]
fn gelu_mul_and_relu2_mul() {
    let mut random = Random(16);
    for n in LENGTHS {
        let gate = random.floats(n);
        let up = random.floats(n);
        let gelu = |x: f64| {
            let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
            x / (1.0 + (-2.0 * u).exp())
        };
        let of = |f: &dyn Fn(f64) -> f64| -> Vec<f64> {
            gate.iter().zip(&up).map(|(g, u)| f(f64::from(*g)) * f64::from(*u)).collect()
        };
        let run = |k: &Kernels, activation| {
            let mut out = vec![0.0; n];
            k.gate(activation, &gate, &up, &mut out);
            out
        };
        // The argument of the exponential reaches 60 for gates near 10, with a rounding error of some units in the last
        // place each, which the exponential turns into a relative error of the tail.
        let gelu = of(&gelu);
        let in_range = gelu.iter().zip(&up).all(|(v, u)| v.is_finite() && u.is_finite());
        assert!(in_range);
        let tail: Vec<f64> = gelu.iter().map(|v| v + 1f64.copysign(*v)).collect();
        let beside_one = |v: &f32| v + 1f32.copysign(*v);
        check("gelu_mul", 4e-6, &tail, |k| run(k, Activation::Gelu).iter().map(beside_one).collect());
        let relu2 = of(&|x: f64| x.max(0.0).powi(2));
        check("relu2_mul", 2e-7, &relu2, |k| run(k, Activation::ReluSquared));
    }
}

#[test]
fn caps_sigmoids_and_softmax() {
    let mut random = Random(17);
    for n in LENGTHS {
        let x = random.floats(n);
        let exact = |f: &dyn Fn(f64) -> f64| -> Vec<f64> { x.iter().map(|v| f(f64::from(*v))).collect() };
        let own = |k: &Kernels, f: &dyn Fn(&Kernels, &mut [f32])| {
            let mut x = x.clone();
            f(k, &mut x);
            x
        };
        // tanh has an error of 2e-7 of the cap, which is less than 1e-5 of values above a fiftieth of it, so one is
        // added.
        let capped = exact(&|v| 3.0 * (v / 3.0).tanh() + 4.0);
        check("soft_cap", 1e-6, &capped, |k| {
            own(k, &|k, x| k.soft_cap(x, 3.0)).iter().map(|v| v + 4.0).collect()
        });
        check("sigmoid", 1e-6, &exact(&|v| 1.0 / (1.0 + (-v).exp())), |k| own(k, &|k, x| k.sigmoid(x)));
        let largest = x.iter().fold(f32::NEG_INFINITY, |a, b| a.max(*b));
        let powers = exact(&|v| (v - f64::from(largest)).exp());
        let sum: f64 = powers.iter().sum();
        let wanted: Vec<f64> = powers.iter().map(|v| v / sum).collect();
        check("softmax", 3e-6, &wanted, |k| own(k, &|k, x| k.softmax(x)));
    }
}

#[test]
fn scaled_sums_and_norms_in_place() {
    let mut random = Random(18);
    for n in LENGTHS {
        let (x, delta, weight) = (random.floats(n), random.floats(n), random.floats(n));
        let sums = x.iter().zip(&delta).map(|(x, d)| f64::from(x + d * 0.3)).collect::<Vec<_>>();
        check("add_scaled", 0.0, &sums, |k| {
            let mut x = x.clone();
            k.add_scaled(&mut x, &delta, 0.3);
            x
        });
        let scaled = x.iter().map(|x| f64::from(x * 0.3)).collect::<Vec<_>>();
        check("scale", 0.0, &scaled, |k| {
            let mut x = x.clone();
            k.scale(&mut x, 0.3);
            x
        });
        for k in Kernels::available() {
            let (mut out, mut own) = (vec![0.0; n], x.clone());
            k.rms_norm(&x, &weight, 1e-5, &mut out);
            k.rms_norm_in_place(&mut own, &weight, 1e-5);
            assert_eq!(bits(&own), bits(&out), "{k:?}");
        }
    }
}

#[test]
fn add() {
    let mut random = Random(12);
    for n in LENGTHS {
        let (x, delta) = (random.floats(n), random.floats(n));
        let exact: Vec<f64> = x.iter().zip(&delta).map(|(x, d)| f64::from(x + d)).collect();
        check("add", 0.0, &exact, |k| {
            let mut x = x.clone();
            k.add(&mut x, &delta);
            x
        });
    }
}

#[test]
fn rope() {
    let mut random = Random(13);
    for style in [RopeStyle::Adjacent, RopeStyle::Half] {
        for (head_dim, rotary, heads) in
            [(64, 64, 9), (64, 32, 3), (80, 80, 2), (20, 20, 3), (16, 6, 1), (128, 128, 2)]
        {
            let x = random.floats(heads * head_dim);
            let angles: Vec<f64> = (0..rotary / 2).map(|_| f64::from(random.float()) * 6.0).collect();
            let cos: Vec<f32> = angles.iter().map(|a| a.cos() as f32).collect();
            let sin: Vec<f32> = angles.iter().map(|a| a.sin() as f32).collect();
            let mut exact: Vec<f64> = x.iter().map(|v| f64::from(*v)).collect();
            for head in exact.chunks_mut(head_dim) {
                for i in 0..rotary / 2 {
                    let (a, b) = match style {
                        RopeStyle::Adjacent => (2 * i, 2 * i + 1),
                        RopeStyle::Half => (i, i + rotary / 2),
                    };
                    let (va, vb) = (head[a], head[b]);
                    let (c, s) = (f64::from(cos[i]), f64::from(sin[i]));
                    (head[a], head[b]) = (va * c - vb * s, va * s + vb * c);
                }
            }
            // The rotation may cancel, so the bound is relative to the pair, whose length is up to 20 √2. 100 is added
            // to both sides. Two products and a sum of that size, and the rounding of the 100, have errors up to
            // 1.5e-5.
            let shifted: Vec<f64> = exact.iter().map(|v| v + 100.0).collect();
            check("rope", 1.5e-7, &shifted, |k| {
                let mut x = x.clone();
                k.rope(style, &mut x, head_dim, &cos, &sin);
                x.iter().map(|v| v + 100.0).collect()
            });
        }
    }
}

#[test]
fn argmax_takes_the_first_and_no_nan() {
    let mut random = Random(14);
    for kernels in Kernels::available() {
        for n in LENGTHS {
            let mut x = random.floats(n);
            let want = x.iter().enumerate().fold(0, |best, (i, v)| if *v > x[best] { i } else { best });
            assert_eq!(kernels.argmax(&x), want, "{kernels:?} {n}");
            x.push(x[want]);
            x.push(f32::NAN);
            assert_eq!(kernels.argmax(&x), want, "{kernels:?} {n}");
        }
        assert_eq!(kernels.argmax(&[]), 0);
        assert_eq!(kernels.argmax(&[f32::NAN, f32::NEG_INFINITY]), 1);
        assert_eq!(kernels.argmax(&[f32::NAN, f32::NAN]), 0);
        assert_eq!(kernels.argmax(&[f32::NAN, -3.0, -2.0]), 2);
    }
}

#[test]
fn halves_round_as_the_standard_says() {
    let mut random = Random(15);
    let mut x: Vec<f32> = (0..100_000).map(|_| f32::from_bits(random.bits() as u32)).collect();
    // Ties, the largest f16, numbers that overflow, subnormals.
    x.extend([1.000_488_3, 1.001_464_8, 65504.0, 65519.9, 65520.0, 1e9, 6e-8, 2.9e-8, 2.98e-8, -0.0]);
    x.extend([f32::INFINITY, f32::NEG_INFINITY, f32::NAN]);
    let want: Vec<u16> = x.iter().map(|v| half::f16::from_f32_const(*v).to_bits()).collect();
    for kernels in Kernels::available() {
        let mut out = vec![0; x.len()];
        kernels.to_f16(&x, &mut out);
        assert!(out == want, "{kernels:?}");
    }
}
