//! Super-blocks: parts with a scale each, or a scale and a minimum, that are themselves small integers under a half.
//!
//! The best scale of each part is found first; the largest of them sets the half; the others are rounded, and the codes are chosen
//! anew for what came of it.

use super::bits::put_half;
use super::search::{Line, Lines, Unit, Values, best_line, best_scale, clamp, inverse, peak, round, sums};

/// A super-block of `PARTS` parts of `N` elements.
#[derive(Debug)]
pub(super) struct Super<const N: usize, const PARTS: usize> {
    /// Integer scales: from 0 where there are minimums, else with a sign.
    pub(super) scales: [i8; PARTS],
    /// Integer minimums, from 0: what is subtracted.
    pub(super) mins: [u8; PARTS],
    /// Codes.
    pub(super) codes: [[u8; N]; PARTS],
}

/// How much the elements of a part count.
pub(super) type Weights<const N: usize> = fn(&[f32; N]) -> [f32; N];

/// The parts of `x`.
fn parts<const N: usize, const PARTS: usize>(x: &[f32]) -> Option<&[[f32; N]; PARTS]> {
    x.as_chunks::<N>().0.first_chunk()
}

/// A super-block of scales from `-levels` to `levels - 1`. The half is written at `out[at..]`.
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

/// A super-block of scales and minimums from 0 to `levels`. Their halves are written at `out[at[0]..]` and `out[at[1]..]`.
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

/// The integer scale and minimum of the least error, of those next to `line`.
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
        // The minimum that suits the codes of this scale.
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
