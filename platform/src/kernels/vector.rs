//! Kernels on vectors of floats: norms, activation functions, rotary embedding, rounding.
//!
//! Element-wise loops without a [`Simd`] operation are plain Rust. The compiler vectorizes them for the instruction set
//! that the kernel is instantiated for, and they round the same everywhere. [`Simd`] operations must not be in
//! closures, because a closure does not inherit the instruction set of its function.

use crate::quant_panel::QuantRow;
use crate::simd::{LANES, Simd};
use weft_components::CODES;

/// `e^x` with an error of 2 units in the last place; 0 below -87.3, `e^88.3` above 88.3. Polynomial of the Cephes
/// library's `expf`.
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: S::F) -> S::F {
    const LOWEST: f32 = -87.3;
    const HIGHEST: f32 = 88.3;
    /// ln 2 in two parts. The first has few bits, so that its product is exact.
    const LN2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    const POLYNOMIAL: [f32; 6] =
        [1.987_569_1e-4, 1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5e-1];
    // The bound is the first operand, so that NaN stays NaN: `max` and the negated `max` return their second operand
    // then.
    let v = s.max(s.splat(LOWEST), x);
    let v = s.sub(s.splat(0.0), s.max(s.splat(-HIGHEST), s.sub(s.splat(0.0), v)));
    let rounded = s.fma(v, s.splat(core::f32::consts::LOG2_E), s.splat(crate::simd::ROUND));
    let n = s.sub(rounded, s.splat(crate::simd::ROUND));
    let r = s.fma(n, s.splat(-LN2[0]), v);
    let r = s.fma(n, s.splat(-LN2[1]), r);
    let mut p = s.splat(POLYNOMIAL[0]);
    p = s.fma(p, r, s.splat(POLYNOMIAL[1]));
    p = s.fma(p, r, s.splat(POLYNOMIAL[2]));
    p = s.fma(p, r, s.splat(POLYNOMIAL[3]));
    p = s.fma(p, r, s.splat(POLYNOMIAL[4]));
    p = s.fma(p, r, s.splat(POLYNOMIAL[5]));
    let p = s.add(s.fma(p, s.mul(r, r), r), s.splat(1.0));
    s.zero_below(x, LOWEST, s.mul(p, s.exp2_rounded(rounded)))
}

/// `tanh x` from [`exp`]; absolute error below 2e-7.
#[inline(always)]
pub(crate) fn tanh<S: Simd>(s: S, x: S::F) -> S::F {
    let one = s.splat(1.0);
    let e = exp(s, s.add(x, x));
    s.sub(one, s.div(s.splat(2.0), s.add(e, one)))
}

/// At most 16 values, padded with `pad`.
#[inline(always)]
fn padded(x: &[f32], pad: f32) -> [f32; LANES] {
    let mut out = [pad; LANES];
    out[..x.len()].copy_from_slice(x);
    out
}

/// Sum of a term over `x`, in four partial sums of vectors. The last vector is padded with `pad`.
macro_rules! sum_of {
    ($s:ident, $x:expr, $pad:expr, |$v:ident, $sum:ident| $term:expr) => {{
        let mut sums = [$s.splat(0.0); 4];
        let (quads, tail) = $x.as_chunks::<{ 4 * LANES }>();
        for quad in quads {
            for (sum, v) in sums.iter_mut().zip(quad.as_chunks::<LANES>().0) {
                let ($v, $sum) = ($s.load(v), *sum);
                *sum = $term;
            }
        }
        for tail in tail.chunks(LANES) {
            let ($v, $sum) = ($s.load(&padded(tail, $pad)), sums[0]);
            sums[0] = $term;
        }
        $s.reduce_add($s.add($s.add(sums[0], sums[2]), $s.add(sums[1], sums[3])))
    }};
}

#[inline(always)]
fn scale_of<S: Simd>(s: S, x: &[f32], eps: f32) -> f32 {
    let sum = sum_of!(s, x, 0.0, |v, sum| s.fma(v, v, sum));
    1.0 / (sum / x.len().max(1) as f32 + eps).sqrt()
}

/// `out = x / rms(x) * weight`.
#[inline(always)]
pub(crate) fn rms_norm<S: Simd>(s: S, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let scale = scale_of(s, x, eps);
    for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
        *out = x * scale * weight;
    }
}

/// `x = x / rms(x) * weight`.
#[inline(always)]
pub(crate) fn rms_norm_in_place<S: Simd>(s: S, x: &mut [f32], weight: &[f32], eps: f32) {
    let scale = scale_of(s, x, eps);
    for (x, weight) in x.iter_mut().zip(weight) {
        *x = *x * scale * weight;
    }
}

/// `x = (x - mean(x)) / sqrt(variance(x) + eps) * weight + bias`.
#[inline(always)]
pub(crate) fn layer_norm<S: Simd>(s: S, x: &mut [f32], weight: &[f32], bias: &[f32], eps: f32) {
    let n = x.len().max(1) as f32;
    let mean = sum_of!(s, x, 0.0, |v, sum| s.add(v, sum)) / n;
    let middle = s.splat(mean);
    // Padded with the mean, which contributes nothing.
    let squares = sum_of!(s, x, mean, |v, sum| {
        let v = s.sub(v, middle);
        s.fma(v, v, sum)
    });
    let scale = 1.0 / (squares / n + eps).sqrt();
    for ((x, weight), bias) in x.iter_mut().zip(weight).zip(bias) {
        *x = (*x - mean) * scale * weight + bias;
    }
}

/// `x += delta`.
#[inline(always)]
pub(crate) fn add<S: Simd>(_s: S, x: &mut [f32], delta: &[f32]) {
    for (x, delta) in x.iter_mut().zip(delta) {
        *x += delta;
    }
}

/// `x += delta * factor`.
#[inline(always)]
pub(crate) fn add_scaled<S: Simd>(_s: S, x: &mut [f32], delta: &[f32], factor: f32) {
    for (x, delta) in x.iter_mut().zip(delta) {
        *x += delta * factor;
    }
}

/// `x *= factor`.
#[inline(always)]
pub(crate) fn scale<S: Simd>(_s: S, x: &mut [f32], factor: f32) {
    for x in x {
        *x *= factor;
    }
}

/// Defines a kernel `$name` that computes `out = $act(gate) * up`, over the shortest of the three.
macro_rules! gate {
    ($(#[$doc:meta])* $name:ident, $act:ident) => {
        $(#[$doc])*
        #[inline(always)]
        pub(crate) fn $name<S: Simd>(s: S, gate: &[f32], up: &[f32], out: &mut [f32]) {
            let n = out.len().min(gate.len()).min(up.len());
            let (gates, gate_tail) = gate[..n].as_chunks();
            let (ups, up_tail) = up[..n].as_chunks();
            let (outs, out_tail) = out[..n].as_chunks_mut();
            for ((gate, up), out) in gates.iter().zip(ups).zip(outs) {
                s.store(s.mul($act(s, s.load(gate)), s.load(up)), out);
            }
            if !out_tail.is_empty() {
                let (gate, up) = (padded(gate_tail, 0.0), padded(up_tail, 0.0));
                let mut last = [0.0; LANES];
                s.store(s.mul($act(s, s.load(&gate)), s.load(&up)), &mut last);
                out_tail.copy_from_slice(&last[..out_tail.len()]);
            }
        }
    };
}

gate!(
    /// `out = gate / (1 + e^-gate) * up`.
    silu_mul,
    silu
);
gate!(
    /// `out = gelu(gate) * up`.
    gelu_mul,
    gelu
);
gate!(
    /// `out = gelu(gate) * up`, with the GELU of the error function.
    gelu_erf_mul,
    gelu_erf
);
gate!(
    /// `out = max(gate, 0)² * up`.
    relu2_mul,
    relu2
);

#[inline(always)]
fn logistic<S: Simd>(s: S, x: S::F) -> S::F {
    let one = s.splat(1.0);
    s.div(one, s.add(one, exp(s, s.sub(s.splat(0.0), x))))
}

#[inline(always)]
fn silu<S: Simd>(s: S, x: S::F) -> S::F {
    s.mul(x, logistic(s, x))
}

/// GELU with the tanh approximation, `x/2 (1 + tanh(u))` with `u = √(2/π) (x + 0.044715 x³)` (arXiv 1606.08415).
/// Computed as `x / (1 + e^-2u)`, which is equal and avoids cancellation for negative x.
#[inline(always)]
fn gelu<S: Simd>(s: S, x: S::F) -> S::F {
    const TWICE_ROOT: f32 = 1.595_769;
    let cubic = s.fma(s.mul(s.mul(x, x), s.splat(0.044_715)), x, x);
    s.mul(x, logistic(s, s.mul(cubic, s.splat(TWICE_ROOT))))
}

#[inline(always)]
fn relu2<S: Simd>(s: S, x: S::F) -> S::F {
    // The bound is the first operand, so that NaN stays NaN.
    let x = s.max(s.splat(0.0), x);
    s.mul(x, x)
}

/// GELU with the error function, `x/2 (1 + erf(x/√2))`, computed as `max(x, 0) - |x|/2 erfc(|x|/√2)`, which avoids
/// cancellation for negative x. The relative error of erfc is at most 1.2e-7 (Numerical Recipes, section 6.2).
#[inline(always)]
fn gelu_erf<S: Simd>(s: S, x: S::F) -> S::F {
    const POLYNOMIAL: [f32; 10] = [
        0.170_872_77,
        -0.822_152_2,
        1.488_515_9,
        -1.135_204,
        0.278_868_07,
        -0.186_288_06,
        0.096_784_18,
        0.374_091_96,
        1.000_023_7,
        -1.265_512_2,
    ];
    // Beyond this erfc is 0, and infinity times 0 would be NaN.
    const FAR: f32 = 30.0;
    let (one, zero) = (s.splat(1.0), s.splat(0.0));
    let size = s.sub(zero, s.max(s.splat(-FAR), s.sub(zero, s.abs(x))));
    let z = s.mul(size, s.splat(core::f32::consts::FRAC_1_SQRT_2));
    let t = s.div(one, s.fma(z, s.splat(0.5), one));
    let mut p = s.splat(POLYNOMIAL[0]);
    for coefficient in &POLYNOMIAL[1..] {
        p = s.fma(p, t, s.splat(*coefficient));
    }
    let complement = s.mul(t, exp(s, s.sub(p, s.mul(z, z))));
    s.sub(s.max(zero, x), s.mul(s.mul(size, s.splat(0.5)), complement))
}

/// Defines a kernel `$name` that computes `x = $f(x)`.
macro_rules! in_place {
    ($(#[$doc:meta])* $name:ident($($arg:ident: $ty:ty)?), $f:ident) => {
        $(#[$doc])*
        #[inline(always)]
        pub(crate) fn $name<S: Simd>(s: S, x: &mut [f32] $(, $arg: $ty)?) {
            let (chunks, tail) = x.as_chunks_mut();
            for x in chunks {
                s.store($f(s, s.load(x) $(, $arg)?), x);
            }
            if !tail.is_empty() {
                let mut last = padded(tail, 0.0);
                s.store($f(s, s.load(&last) $(, $arg)?), &mut last);
                tail.copy_from_slice(&last[..tail.len()]);
            }
        }
    };
}

in_place!(
    /// `x = 1 / (1 + e^-x)`.
    sigmoid(),
    logistic
);
in_place!(
    /// `x = cap * tanh(x / cap)`.
    soft_cap(cap: f32),
    capped
);

/// `cap * tanh(v / cap)`.
#[inline(always)]
pub(crate) fn capped<S: Simd>(s: S, v: S::F, cap: f32) -> S::F {
    s.mul(tanh(s, s.div(v, s.splat(cap))), s.splat(cap))
}

/// `x = e^x / Σ e^x`.
#[inline(always)]
pub(crate) fn softmax<S: Simd>(s: S, x: &mut [f32]) {
    let mut largest = s.splat(f32::NEG_INFINITY);
    let (chunks, tail) = x.as_chunks_mut::<LANES>();
    for chunk in &*chunks {
        largest = s.max(s.load(chunk), largest);
    }
    let mut last = padded(tail, f32::NEG_INFINITY);
    let largest = s.splat(s.reduce_max(s.max(s.load(&last), largest)));
    let mut sum = s.splat(0.0);
    for chunk in &mut *chunks {
        let v = exp(s, s.sub(s.load(chunk), largest));
        sum = s.add(sum, v);
        s.store(v, chunk);
    }
    if !tail.is_empty() {
        let v = exp(s, s.sub(s.load(&last), largest));
        sum = s.add(sum, v);
        s.store(v, &mut last);
        tail.copy_from_slice(&last[..tail.len()]);
    }
    let sum = s.reduce_add(sum);
    for x in x {
        *x /= sum;
    }
}

/// Rotates the pairs `(2 i, 2 i + 1)` of the first `2 cos.len()` elements of every head of `head_dim`.
#[inline(always)]
pub(crate) fn rope_pairs<S: Simd>(_s: S, x: &mut [f32], head_dim: usize, cos: &[f32], sin: &[f32]) {
    for head in x.chunks_exact_mut(head_dim) {
        for (([a, b], c), s) in head.as_chunks_mut::<2>().0.iter_mut().zip(cos).zip(sin) {
            (*a, *b) = (a.mul_add(*c, -(*b * s)), a.mul_add(*s, *b * c));
        }
    }
}

/// Rotates the pairs `(i, i + cos.len())` of the first `2 cos.len()` elements of every head of `head_dim`.
#[inline(always)]
pub(crate) fn rope_halves<S: Simd>(_s: S, x: &mut [f32], head_dim: usize, cos: &[f32], sin: &[f32]) {
    for head in x.chunks_exact_mut(head_dim) {
        let (first, second) = head.split_at_mut(cos.len().min(head_dim / 2));
        for (((a, b), c), s) in first.iter_mut().zip(second).zip(cos).zip(sin) {
            (*a, *b) = (a.mul_add(*c, -(*b * s)), a.mul_add(*s, *b * c));
        }
    }
}

/// Index of the largest value, the first among equals; 0 if there is none. NaN is ignored.
#[inline(always)]
pub(crate) fn argmax<S: Simd>(s: S, x: &[f32]) -> usize {
    let mut largest = s.splat(f32::NEG_INFINITY);
    let (chunks, tail) = x.as_chunks::<LANES>();
    for chunk in chunks {
        largest = s.max(s.load(chunk), largest);
    }
    let largest = s.reduce_max(s.max(s.load(&padded(tail, f32::NEG_INFINITY)), largest));
    // Whole vectors first, since searching for one value stops at each element.
    let (chunk, rest) = match chunks.iter().position(|chunk| chunk.contains(&largest)) {
        Some(i) => (i * LANES, &chunks[i][..]),
        None => (chunks.len() * LANES, tail),
    };
    rest.iter().position(|v| *v == largest).map_or(0, |i| chunk + i)
}

/// f16 bits of `x`, rounded to nearest even.
#[inline(always)]
pub(crate) fn to_f16<S: Simd>(s: S, x: &[f32], out: &mut [u16]) {
    let n = x.len().min(out.len());
    let (chunks, tail) = x[..n].as_chunks();
    let (outs, out_tail) = out[..n].as_chunks_mut();
    for (x, out) in chunks.iter().zip(outs) {
        s.store_f16(s.load(x), out);
    }
    if !tail.is_empty() {
        let mut half = [0; LANES];
        s.store_f16(s.load(&padded(tail, 0.0)), &mut half);
        out_tail.copy_from_slice(&half[..tail.len()]);
    }
}

/// bf16 bits of `x`, rounded to nearest even. The compiler vectorizes the integer operations of the conversion.
#[inline(always)]
pub(crate) fn to_bf16<S: Simd>(_: S, x: &[f32], out: &mut [u16]) {
    for (x, out) in x.iter().zip(out) {
        *out = half::bf16::from_f32(*x).to_bits();
    }
}

/// Quantizes one row of activations to 8-bit codes: see `activations`.
#[inline(always)]
pub(crate) fn quantize<S: Simd>(s: S, x: &[f32], out: QuantRow<'_>) {
    /// Blocks with smaller magnitudes become zero, because the inverse of their scale would overflow.
    const SMALLEST: f32 = 1e-30;
    let QuantRow { row, height, codes, scales, sums, offsets, half_sums, half_offsets } = out;
    let blocks = codes.chunks_exact_mut(height).zip(scales.chunks_exact_mut(height));
    let extra = sums.chunks_exact_mut(height).zip(offsets.chunks_exact_mut(height));
    let halves = half_sums.chunks_exact_mut(height).zip(half_offsets.chunks_exact_mut(height));
    let blocks = x.as_chunks::<CODES>().0.iter().zip(blocks).zip(extra).zip(halves);
    for (((x, (codes, scales)), (sums, offsets)), (half_sums, half_offsets)) in blocks {
        let (halves, _) = x.as_chunks::<LANES>();
        let (a, b) = (s.load(&halves[0]), s.load(&halves[1]));
        let largest = s.reduce_max(s.max(s.abs(a), s.abs(b)));
        let (scale, inverse) =
            if largest < SMALLEST { (0.0, 0.0) } else { (largest / 127.0, 127.0 / largest) };
        let inverse = s.splat(inverse);
        let (a, b) = (s.round(s.mul(a, inverse)), s.round(s.mul(b, inverse)));
        let (low, _) = codes[row].as_chunks_mut::<LANES>();
        s.store_i8(a, &mut low[0]);
        s.store_i8(b, &mut low[1]);
        let halves = [s.reduce_add_i(a), s.reduce_add_i(b)];
        let sum = halves[0].wrapping_add(halves[1]);
        scales[row] = scale;
        sums[row] = sum;
        offsets[row] = scale * sum as f32;
        half_sums[row] = halves;
        half_offsets[row] = [scale * halves[0] as f32, scale * halves[1] as f32];
    }
}
