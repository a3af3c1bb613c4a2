//! Super-blocks: sub-blocks whose scales, and minimums if any, are small integers multiplied by a common f16.
//!
//! The best scale of each sub-block is searched first. The largest one determines the f16. All scales are then rounded,
//! and codes are chosen for the rounded scales.

use super::bits::put_half;
use super::search::{Line, Lines, Unit, Values, best_line, best_scale, clamp, inverse, peak, round, sums};

/// A super-block of `PARTS` sub-blocks of `N` elements.
#[derive(Debug)]
pub(super) struct Super<const N: usize, const PARTS: usize> {
    /// Integer scales: not negative if there are minimums, otherwise signed.
    pub(super) scales: [i8; PARTS],
    /// Integer minimums, which are subtracted. Not negative.
    pub(super) mins: [u8; PARTS],
    /// Codes of the elements.
    pub(super) codes: [[u8; N]; PARTS],
}

/// Computes the weights of the errors of a sub-block's elements.
pub(super) type Weights<const N: usize> = fn(&[f32; N]) -> [f32; N];

/// Splits `x` into sub-blocks.
fn parts<const N: usize, const PARTS: usize>(x: &[f32]) -> Option<&[[f32; N]; PARTS]> {
    x.as_chunks::<N>().0.first_chunk()
}

/// Encodes a super-block with scales from `-levels` to `levels - 1`. The f16 factor is written at `out[at..]`.
#[inline(always)]
pub(super) fn scaled<V: Values, const N: usize, const PARTS: usize>(
    x: &[f32],
    values: V,
    weights: Weights<N>,
    levels: f32,
    (out, at): (&mut [u8], usize),
) -> Option<Super<N, PARTS>> {
    let x: &[[f32; N]; PARTS] = parts(x)?;
    let size = Unit::of(x.as_flattened());
    let mut scales = [0.0; PARTS];
    for (scale, x) in scales.iter_mut().zip(x) {
        let x = size.parts(x);
        *scale = best_scale(values, &x, &weights(&x)) * size.size;
    }
    let largest = peak(&scales);
    let unit = put_half(out, at, largest / -levels)?;
    let to_unit = inverse(unit);
    let mut result = Super { scales: [0; PARTS], mins: [0; PARTS], codes: [[0; N]; PARTS] };
    for (part, x) in x.iter().enumerate() {
        let scale = round(clamp(scales[part] * to_unit, -levels, levels - 1.0));
        let inverse = inverse(unit * scale);
        result.scales[part] = scale as i8;
        result.codes[part] = x.map(|x| values.code(values.nearest(inverse * x)));
    }
    Some(result)
}

/// Encodes a super-block with scales and minimums from 0 to `levels`. Their f16 factors are written at `out[at[0]..]`
/// and `out[at[1]..]`.
#[inline(always)]
pub(super) fn with_mins<const N: usize, const PARTS: usize>(
    x: &[f32],
    lines: Lines,
    weights: Weights<N>,
    levels: f32,
    (out, at): (&mut [u8], [usize; 2]),
) -> Option<Super<N, PARTS>> {
    let x: &[[f32; N]; PARTS] = parts(x)?;
    let size = Unit::of(x.as_flattened());
    let mut best = [(Line::default(), [0.0; N]); PARTS];
    for ((line, weight), x) in best.iter_mut().zip(x) {
        let x = size.parts(x);
        *weight = weights(&x);
        let Line { scale, min } = best_line(lines, &x, weight);
        *line = Line { scale: scale * size.size, min: min * size.size };
    }
    let scale = best.iter().fold(0.0, |most: f32, (line, _)| most.max(line.scale));
    let min = best.iter().fold(0.0, |most: f32, (line, _)| most.max(-line.min));
    let units =
        Line { scale: put_half(out, at[0], scale / levels)?, min: put_half(out, at[1], min / levels)? };
    let mut result = Super { scales: [0; PARTS], mins: [0; PARTS], codes: [[0; N]; PARTS] };
    for (part, (x, (line, weights))) in x.iter().zip(&best).enumerate() {
        let [scale, min] = nearest_levels(x, weights, *line, units, lines.most, levels);
        let (inverse, offset) = (inverse(units.scale * scale), units.min * min);
        result.scales[part] = scale as i8;
        result.mins[part] = min as u8;
        result.codes[part] = x.map(|x| round(clamp(inverse * (x + offset), 0.0, lines.most)) as u8);
    }
    Some(result)
}

/// Returns the integer scale and minimum with the least error among those next to `line`.
#[inline(always)]
fn nearest_levels<const N: usize>(
    x: &[f32; N],
    weights: &[f32; N],
    line: Line,
    units: Line,
    most: f32,
    levels: f32,
) -> [f32; 2] {
    let (to_scale, to_min) = (inverse(units.scale), inverse(units.min));
    let middle = round(clamp(line.scale * to_scale, 0.0, levels));
    let mut best = [middle, round(clamp(-line.min * to_min, 0.0, levels))];
    let mut least = f32::INFINITY;
    for change in [0.0, -1.0, 1.0] {
        let scale = clamp(middle + change, 0.0, levels);
        let step = units.scale * scale;
        let to_code = inverse(step);
        // The minimum that fits the codes of this scale.
        let [weight, offset] = sums::<N, 2>(|i| {
            let code = round(clamp(to_code * (x[i] - line.min), 0.0, most));
            [weights[i], weights[i] * (step * code - x[i])]
        });
        let min = round(clamp(offset * inverse(weight) * to_min, 0.0, levels));
        let offset = units.min * min;
        let [error] = sums::<N, 1>(|i| {
            let code = round(clamp(to_code * (x[i] + offset), 0.0, most));
            let error = x[i] + offset - step * code;
            [weights[i] * error * error]
        });
        if error < least {
            least = error;
            best = [scale, min];
        }
    }
    best
}
