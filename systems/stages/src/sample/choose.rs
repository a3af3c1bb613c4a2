//! The last step of sampling: takes the most likely token, or draws one.

use super::exp::{BLOCK, block_weight, weight};
use super::largest::max;
use super::select::Candidate;

/// Logits that are compared with the running maximum at once. After one pass over a row, the block that contains the
/// maximum is known.
const ARGMAX_BLOCK: usize = 1024;

/// Id of the largest logit, the lowest id among equals, as in llama.cpp's greedy sampler. NaN never wins.
///
/// Returns `None` if no logit is above `-inf` (all masked, all NaN, or an empty row). Reads the row once.
#[must_use]
pub fn argmax(logits: &[f32]) -> Option<u32> {
    let mut best = f32::NEG_INFINITY;
    let mut place = None;
    for (index, block) in logits.chunks(ARGMAX_BLOCK).enumerate() {
        let found = max(block);
        if found > best {
            best = found;
            place = Some((index * ARGMAX_BLOCK, block));
        }
    }
    let (start, block) = place?;
    let within = block.iter().position(|&logit| logit == best)?;
    u32::try_from(start + within).ok()
}

/// Draws from candidates in proportion to their weights. `uniform` is in `[0, 1)`. Returns `None` if there are no
/// candidates.
pub(super) fn draw(candidates: &[Candidate], max: f32, temperature: f32, uniform: f64) -> Option<u32> {
    let of = |candidate: &Candidate| f64::from(weight(candidate.logit, max, temperature));
    let target = uniform * candidates.iter().map(of).sum::<f64>();
    let mut mass = 0.0;
    let mut last = None;
    for candidate in candidates {
        let weight = of(candidate);
        mass += weight;
        if weight > 0.0 {
            last = Some(candidate.token);
            if mass > target {
                break;
            }
        }
    }
    last
}

/// Draws from a whole row without making candidates of it: sums block by block, then searches the block that was hit.
///
/// `sums` is scratch, one f64 for each block.
pub(super) fn draw_row(
    logits: &[f32],
    max: f32,
    temperature: f32,
    uniform: f64,
    sums: &mut Vec<f64>,
) -> Option<u32> {
    sums.clear();
    sums.extend(logits.chunks(BLOCK).map(|block| block_weight(block, max, temperature)));
    let target = uniform * sums.iter().sum::<f64>();
    let mut mass = 0.0;
    let mut hit = None;
    for (index, &sum) in sums.iter().enumerate() {
        if sum > 0.0 {
            hit = Some((index * BLOCK, mass));
            if mass + sum > target {
                break;
            }
            mass += sum;
        }
    }
    let (start, mut mass) = hit?;
    let mut last = None;
    for (offset, &logit) in logits.get(start..)?.iter().take(BLOCK).enumerate() {
        let weight = f64::from(weight(logit, max, temperature));
        mass += weight;
        if weight > 0.0 {
            last = u32::try_from(start + offset).ok();
            if mass > target {
                break;
            }
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn argmax_is_the_first_of_equals_wherever_it_lies() {
        for len in [1usize, 15, 16, 17, 1023, 1024, 1025, 5000] {
            for at in [0, len / 3, len - 1] {
                let mut logits = vec![-1.0; len];
                logits[at] = 2.0;
                logits[len - 1] = 2.0;
                assert_eq!(argmax(&logits), Some(at as u32), "{len} {at}");
            }
        }
    }

    #[test]
    fn nan_and_masked_rows() {
        assert_eq!(argmax(&[]), None);
        assert_eq!(argmax(&[f32::NAN; 40]), None);
        assert_eq!(argmax(&[f32::NEG_INFINITY; 40]), None);
        let mut logits = vec![f32::NAN; 40];
        logits[33] = -1e30;
        assert_eq!(argmax(&logits), Some(33));
        logits[7] = f32::INFINITY;
        assert_eq!(argmax(&logits), Some(7));
    }

    #[test]
    fn both_draws_pick_the_same_token() {
        let logits: Vec<f32> = (0..1000).map(|i| (i as f32 * 1.7).sin() * 4.0).collect();
        let candidates: Vec<Candidate> = logits
            .iter()
            .enumerate()
            .map(|(token, &logit)| Candidate { logit, token: token as u32 })
            .collect();
        let top = max(&logits);
        let mut sums = Vec::new();
        for i in 0..500 {
            let uniform = (f64::from(i) + 0.5) / 500.0;
            assert_eq!(
                draw(&candidates, top, 0.8, uniform),
                draw_row(&logits, top, 0.8, uniform, &mut sums),
                "{uniform}"
            );
        }
        assert_eq!(draw_row(&[1.0, f32::NAN], 1.0, 1.0, 1.0 - f64::EPSILON, &mut sums), Some(0));
    }
}
