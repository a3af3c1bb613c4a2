//! Searches for the scale, or the scale and the minimum, of a few weights: weighted least squares over candidates.
//!
//! For given codes `q` the best scale is `Σ w x q / Σ w q²`, and with it the error falls by `(Σ w x q)² / Σ w q²`. Codes follow from
//! a scale by rounding, so a search tries scales around the one that makes the largest weight the largest code, takes the codes
//! of each, and keeps the one whose codes allow the least error. A scale and a minimum are the same in two unknowns.
//!
//! Everything is arrays of a known length and sums in lanes, which compilers turn into vector instructions. The weights are given
//! as parts of the largest ([`Unit`]), so that no square of a sum overflows or vanishes.

/// Partial sums: as many as the widest vectors hold.
const LANES: usize = 8;

/// The sums of `K` terms over the `N` elements, a multiple of [`LANES`].
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

/// `value` as an integer, halves to even, which must be within ±2²²: adding this leaves no bits for a fraction.
#[inline(always)]
pub(super) fn round(value: f32) -> f32 {
    const NO_FRACTION: f32 = 12_582_912.0;
    (value + NO_FRACTION) - NO_FRACTION
}

/// As [`f32::clamp`], in two instructions; a NaN gives `low`.
#[inline(always)]
pub(super) fn clamp(value: f32, low: f32, high: f32) -> f32 {
    let raised = if value > low { value } else { low };
    if raised < high { raised } else { high }
}

/// `1 / scale`, or 0 for a scale that is 0 or so small that its inverse is infinite.
#[inline(always)]
pub(super) fn inverse(scale: f32) -> f32 {
    let inverse = scale.recip();
    if inverse.is_finite() { inverse } else { 0.0 }
}

/// The element of the largest size, with its sign.
#[inline(always)]
pub(super) fn peak(x: &[f32]) -> f32 {
    x.iter().fold(0.0, |peak: f32, &value| if value.abs() > peak.abs() { value } else { peak })
}

/// Elements as parts of the largest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unit {
    /// The size of the largest.
    pub(super) size: f32,
    inverse: f32,
}

impl Unit {
    /// Of the largest of `x`.
    pub(super) fn of(x: &[f32]) -> Self {
        let size = peak(x).abs();
        Self { size, inverse: inverse(size) }
    }

    /// `x` in parts of it.
    #[inline(always)]
    pub(super) fn parts<const N: usize>(self, x: &[f32; N]) -> [f32; N] {
        x.map(|x| x * self.inverse)
    }
}

/// How much elements count: their size, and for all the root of the mean square. Large weights matter more than their number says,
/// since what they are multiplied by tends to be large as well.
#[inline(always)]
pub(super) fn by_size_and_mean<const N: usize>(x: &[f32; N]) -> [f32; N] {
    let [squares] = sums::<N, 1>(|i| [x[i] * x[i]]);
    let mean = (squares / N as f32).sqrt();
    x.map(|x| mean + x.abs())
}

/// Smallest and largest element.
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

/// The values that codes stand for before they are scaled.
pub(super) trait Values: Copy {
    /// The value that the largest element becomes in the middle candidate: the one farthest from zero.
    fn farthest(self) -> f32;
    /// By how much [`Values::farthest`] is changed from a candidate to the next.
    fn step(self) -> f32;
    /// Candidates on each side of the middle one.
    fn tries(self) -> i32;
    /// The value nearest to `value`.
    fn nearest(self, value: f32) -> f32;
    /// The code of a value that [`Values::nearest`] gave.
    fn code(self, value: f32) -> u8;
}

/// The integers from `-n` to `n - 1`; codes begin at 0.
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

/// The scale for which the values nearest to `x / scale` have the least error `Σ weights (x - scale value)²`; 0 where no scale is
/// better than none.
#[inline(always)]
pub(super) fn best_scale<V: Values, const N: usize>(values: V, x: &[f32; N], weights: &[f32; N]) -> f32 {
    let to_peak = inverse(peak(x));
    // The best scale so far, and by how much it lowers the error.
    let mut best = (0.0, 0.0);
    for candidate in -values.tries()..=values.tries() {
        let farthest = values.farthest() + values.step() * candidate as f32;
        best = better_scale(values, x, weights, farthest * to_peak, best);
    }
    // The codes of the best scale may differ from those that it was found with, and allow a better one.
    better_scale(values, x, weights, inverse(best.0), best).0
}

/// The best scale for the values nearest to `from * x`, or `best` where that is better.
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
    // Compared as products, which saves a division.
    if squares > 0.0 && products * products > best.1 * squares {
        let scale = products / squares;
        return (scale, products * scale);
    }
    best
}

/// A scale, zero or more, and what is added to the scaled codes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Line {
    pub(super) scale: f32,
    pub(super) min: f32,
}

/// What lines a format allows, and which are tried.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lines {
    /// The largest code.
    pub(super) most: f32,
    /// Whether the minimum may be above zero.
    pub(super) free: bool,
    /// The first candidate makes the range of the weights so many steps more than the largest code.
    pub(super) from: f32,
    /// Candidates, a tenth of a step apart.
    pub(super) tries: u32,
}

/// The line for which the codes nearest to `(x - min) / scale`, from 0 to `lines.most`, have the least error `Σ weights (x - scale
/// code - min)²`.
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
    // Distances from the least element, so that nothing cancels where all are far from zero.
    let y: [f32; N] = x.map(|x| x - low);
    let most_min = if lines.free { f32::INFINITY } else { -low };
    let totals = sums::<N, 3>(|i| [weights[i], weights[i] * y[i], weights[i] * y[i] * y[i]]);
    let mut best = (Line { scale: (high - low) / lines.most, min: 0.0 }, f32::INFINITY);
    for candidate in 0..lines.tries {
        let steps = lines.most + lines.from + STEP * candidate as f32;
        let from = Line { scale: steps * to_range, min: 0.0 };
        best = better_line(lines.most, &y, weights, totals, most_min, from, best);
    }
    // As with a scale alone.
    let from = Line { scale: inverse(best.0.scale), min: best.0.min };
    let Line { scale, min } = better_line(lines.most, &y, weights, totals, most_min, from, best).0;
    Line { scale, min: min + low }
}

/// The best line for the codes nearest to `from.scale * (y - from.min)`, with its error, or `best` where that is better. `totals` are
/// `Σ w`, `Σ w y` and `Σ w y²`.
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
    // Σ w (y - scale code - min)², multiplied out.
    let error = square
        + scale * (scale * squares - 2.0 * products)
        + min * (min * weight - 2.0 * sum + 2.0 * scale * codes);
    if scale > 0.0 && error < best.1 { (Line { scale, min }, error) } else { best }
}
