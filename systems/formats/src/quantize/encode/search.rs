//! Searches for the scale, or the scale and the minimum, of a block by weighted least squares over candidates.
//!
//! For given codes `q` the best scale is `Σ w x q / Σ w q²`. It reduces the error by `(Σ w x q)² / Σ w q²`. Rounding
//! turns a scale into codes. The search therefore tries scales around the one that maps the largest element to the
//! largest code, computes the codes of each, and keeps the scale whose codes have the least error. A scale and a
//! minimum are found the same way, with two unknowns.
//!
//! Arrays have a fixed length and sums are computed in lanes, so compilers vectorize them. Elements are divided by the
//! largest magnitude ([`Unit`]), so that squares and sums neither overflow nor underflow.

/// Number of partial sums: the lanes of the widest vectors.
const LANES: usize = 8;

/// Returns the sums of `K` terms over `N` elements. `N` must be a multiple of [`LANES`].
#[inline(always)]
pub(super) fn sums<const N: usize, const K: usize>(term: impl Fn(usize) -> [f32; K]) -> [f32; K] {
    let mut lanes = [[0.0; LANES]; K];
    for start in (0..N).step_by(LANES) {
        for lane in 0..LANES {
            let terms = term(start + lane);
            for (sums, term) in lanes.iter_mut().zip(terms) {
                sums[lane] += term;
            }
        }
    }
    lanes.map(|lanes| lanes.iter().sum())
}

/// Rounds to an integer, ties to even. `value` must be within ±2²². Adding the constant leaves no bits for a fraction.
#[inline(always)]
pub(super) fn round(value: f32) -> f32 {
    const NO_FRACTION: f32 = 12_582_912.0;
    (value + NO_FRACTION) - NO_FRACTION
}

/// As [`f32::clamp`], in two instructions. NaN becomes `low`.
#[inline(always)]
pub(super) fn clamp(value: f32, low: f32, high: f32) -> f32 {
    let raised = if value > low { value } else { low };
    if raised < high { raised } else { high }
}

/// Returns `1 / scale`, or 0 if `scale` is 0 or so small that its inverse is infinite.
#[inline(always)]
pub(super) fn inverse(scale: f32) -> f32 {
    let inverse = scale.recip();
    if inverse.is_finite() { inverse } else { 0.0 }
}

/// Returns the element with the largest magnitude, including its sign.
#[inline(always)]
pub(super) fn peak(x: &[f32]) -> f32 {
    x.iter().fold(0.0, |peak: f32, &value| if value.abs() > peak.abs() { value } else { peak })
}

/// Normalises elements by the largest magnitude.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unit {
    /// The largest magnitude.
    pub(super) size: f32,
    inverse: f32,
}

impl Unit {
    /// Returns the unit of the elements in `x`.
    pub(super) fn of(x: &[f32]) -> Self {
        let size = peak(x).abs();
        Self { size, inverse: inverse(size) }
    }

    /// Divides `x` by the largest magnitude.
    #[inline(always)]
    pub(super) fn parts<const N: usize>(self, x: &[f32; N]) -> [f32; N] {
        x.map(|x| x * self.inverse)
    }
}

/// Returns the weight of each element's error: its magnitude plus the root mean square of all elements. Large weights
/// matter more, because they tend to be multiplied by large activations.
#[inline(always)]
pub(super) fn by_size_and_mean<const N: usize>(x: &[f32; N]) -> [f32; N] {
    let [squares] = sums::<N, 1>(|i| [x[i] * x[i]]);
    let mean = (squares / N as f32).sqrt();
    x.map(|x| mean + x.abs())
}

/// Returns the smallest and the largest element.
#[inline(always)]
pub(super) fn range<const N: usize>(x: &[f32; N]) -> (f32, f32) {
    let (mut low, mut high) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
    for part in x.as_chunks::<LANES>().0 {
        for ((low, high), x) in low.iter_mut().zip(&mut high).zip(part) {
            *low = if *x < *low { *x } else { *low };
            *high = if *x > *high { *x } else { *high };
        }
    }
    (low.into_iter().fold(f32::INFINITY, f32::min), high.into_iter().fold(f32::NEG_INFINITY, f32::max))
}

/// The unscaled values that codes represent.
pub(super) trait Values: Copy {
    /// The value with the largest magnitude. The middle candidate maps the largest element to it.
    fn farthest(self) -> f32;
    /// Difference of [`Values::farthest`] between two candidates.
    fn step(self) -> f32;
    /// Number of candidates on each side of the middle one.
    fn tries(self) -> i32;
    /// Returns the representable value nearest to `value`.
    fn nearest(self, value: f32) -> f32;
    /// Returns the code of a value that [`Values::nearest`] returned.
    fn code(self, value: f32) -> u8;
}

/// The integers from `-n` to `n - 1`. Code 0 represents `-n`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signed(pub(super) f32);

impl Values for Signed {
    fn farthest(self) -> f32 {
        -self.0
    }

    fn step(self) -> f32 {
        0.1
    }

    fn tries(self) -> i32 {
        9
    }

    #[inline(always)]
    fn nearest(self, value: f32) -> f32 {
        round(clamp(value, -self.0, self.0 - 1.0))
    }

    #[inline(always)]
    fn code(self, value: f32) -> u8 {
        (value + self.0) as u8
    }
}

/// Returns the scale with the least error `Σ weights (x - scale value)²`, where `value` is the representable value
/// nearest to `x / scale`; 0 if no scale reduces the error.
#[inline(always)]
pub(super) fn best_scale<V: Values, const N: usize>(values: V, x: &[f32; N], weights: &[f32; N]) -> f32 {
    let to_peak = inverse(peak(x));
    // The best scale so far, and by how much it reduces the error.
    let mut best = (0.0, 0.0);
    for candidate in -values.tries()..=values.tries() {
        let farthest = values.farthest() + values.step() * candidate as f32;
        best = better_scale(values, x, weights, farthest * to_peak, best);
    }
    // The codes of the best scale may differ from those it was computed from and may allow a better scale.
    better_scale(values, x, weights, inverse(best.0), best).0
}

/// Returns the best scale for the values nearest to `from * x`, or `best` if that is better.
#[inline(always)]
fn better_scale<V: Values, const N: usize>(
    values: V,
    x: &[f32; N],
    weights: &[f32; N],
    from: f32,
    best: (f32, f32),
) -> (f32, f32) {
    let [products, squares] = sums::<N, 2>(|i| {
        let value = values.nearest(from * x[i]);
        [weights[i] * x[i] * value, weights[i] * value * value]
    });
    // Comparing products avoids a division.
    if squares > 0.0 && products * products > best.1 * squares {
        let scale = products / squares;
        return (scale, products * scale);
    }
    best
}

/// A scale, 0 or more, and a minimum that is added to the scaled codes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Line {
    pub(super) scale: f32,
    pub(super) min: f32,
}

/// The scales and minimums that a format allows, and the candidates to try.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lines {
    /// The largest code.
    pub(super) most: f32,
    /// True if the minimum may be positive.
    pub(super) free: bool,
    /// The first candidate divides the range of the elements into `most + from` steps.
    pub(super) from: f32,
    /// Number of candidates, 0.1 step apart.
    pub(super) tries: u32,
}

/// Returns the line with the least error `Σ weights (x - scale code - min)²`, where `code` is `(x - min) / scale`
/// rounded and clamped to 0 to `lines.most`.
#[inline(always)]
pub(super) fn best_line<const N: usize>(lines: Lines, x: &[f32; N], weights: &[f32; N]) -> Line {
    const STEP: f32 = 0.1;
    let (mut low, high) = range(x);
    if !lines.free && low > 0.0 {
        low = 0.0;
    }
    let to_range = inverse(high - low);
    if to_range == 0.0 {
        return Line { scale: 0.0, min: low };
    }
    // Distances from the least element avoid cancellation if all elements are far from 0.
    let y: [f32; N] = x.map(|x| x - low);
    let most_min = if lines.free { f32::INFINITY } else { -low };
    let totals = sums::<N, 3>(|i| [weights[i], weights[i] * y[i], weights[i] * y[i] * y[i]]);
    let mut best = (Line { scale: (high - low) / lines.most, min: 0.0 }, f32::INFINITY);
    for candidate in 0..lines.tries {
        let steps = lines.most + lines.from + STEP * candidate as f32;
        let from = Line { scale: steps * to_range, min: 0.0 };
        best = better_line(lines.most, &y, weights, totals, most_min, from, best);
    }
    // The best line's own codes may allow a better line, as in `best_scale`.
    let from = Line { scale: inverse(best.0.scale), min: best.0.min };
    let Line { scale, min } = better_line(lines.most, &y, weights, totals, most_min, from, best).0;
    Line { scale, min: min + low }
}

/// Returns the best line for the codes nearest to `from.scale * (y - from.min)`, with its error, or `best` if that is
/// better. `totals` are `Σ w`, `Σ w y` and `Σ w y²`.
#[inline(always)]
fn better_line<const N: usize>(
    most: f32,
    y: &[f32; N],
    weights: &[f32; N],
    [weight, sum, square]: [f32; 3],
    most_min: f32,
    from: Line,
    best: (Line, f32),
) -> (Line, f32) {
    let [codes, squares, products] = sums::<N, 3>(|i| {
        let code = round(clamp(from.scale * (y[i] - from.min), 0.0, most));
        let weighted = weights[i] * code;
        [weighted, weighted * code, weighted * y[i]]
    });
    let determinant = weight * squares - codes * codes;
    if determinant <= 0.0 {
        return best;
    }
    let mut scale = (weight * products - sum * codes) / determinant;
    let mut min = (squares * sum - codes * products) / determinant;
    if min > most_min {
        min = most_min;
        scale = (products - min * codes) / squares;
    }
    // `Σ w (y - scale code - min)²`, expanded.
    let error = square
        + scale * (scale * squares - 2.0 * products)
        + min * (min * weight - 2.0 * sum + 2.0 * scale * codes);
    if scale > 0.0 && error < best.1 { (Line { scale, min }, error) } else { best }
}
