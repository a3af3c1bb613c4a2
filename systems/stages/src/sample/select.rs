//! Selects the `k` largest of a row of logits without sorting the row.
//!
//! Candidates are pairs of logit and token id. Their order is: larger logit first, lower id first among equals. Logits
//! that are NaN or `-inf` never become candidates.

use std::cmp::Ordering;

use super::largest::max;

/// Logits whose maximum is compared with the threshold at once.
const BLOCK: usize = 64;

/// A token that may still be chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Candidate {
    /// Its logit, after bias and penalties, before temperature. Never NaN or `-inf`.
    pub(super) logit: f32,
    /// Its id.
    pub(super) token: u32,
}

/// Order of candidates: likeliest first, then lowest id.
pub(super) fn likeliest_first(a: &Candidate, b: &Candidate) -> Ordering {
    b.logit.partial_cmp(&a.logit).unwrap_or(Ordering::Equal).then(a.token.cmp(&b.token))
}

/// Fills `out` with every token whose logit is above `-inf` and at least `floor`, in order of id.
pub(super) fn gather(logits: &[f32], floor: f32, out: &mut Vec<Candidate>) {
    out.clear();
    for (token, &logit) in (0u32..).zip(logits) {
        if logit >= floor && logit > f32::NEG_INFINITY {
            out.push(Candidate { logit, token });
        }
    }
}

/// Fills `out` with the `k` likeliest tokens, sorted; fewer where fewer have a logit above `-inf`.
///
/// One pass over the row: a block whose maximum does not beat the threshold is skipped, and the candidates are cut back
/// to `k` when there are twice as many, which raises the threshold. O(vocab + k log k).
pub(super) fn top_k(logits: &[f32], k: usize, out: &mut Vec<Candidate>) {
    out.clear();
    let k = k.min(logits.len());
    if k == 0 {
        return;
    }
    let full = (2 * k).max(2 * BLOCK);
    let mut threshold = f32::NEG_INFINITY;
    for (start, block) in (0u32..).step_by(BLOCK).zip(logits.chunks(BLOCK)) {
        if max(block) <= threshold {
            continue;
        }
        for (token, &logit) in (start..).zip(block) {
            // Equals of the threshold come later and so lose against those already held.
            if logit > threshold {
                out.push(Candidate { logit, token });
            }
        }
        if out.len() >= full {
            keep_likeliest(out, k);
            threshold = out.last().map_or(threshold, |last| last.logit);
        }
    }
    keep_likeliest(out, k);
    out.sort_unstable_by(likeliest_first);
}

/// Cuts `out` back to its `k` likeliest, the last of them at the end, the others in no order.
fn keep_likeliest(out: &mut Vec<Candidate>, k: usize) {
    if out.len() > k
        && let Some(last) = k.checked_sub(1)
    {
        out.select_nth_unstable_by(last, likeliest_first);
        out.truncate(k);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_a_full_sort() {
        let mut state = 1u32;
        for len in [1usize, 7, 64, 65, 1000, 4097] {
            // Few distinct values, so that there are many ties.
            let logits: Vec<f32> = (0..len)
                .map(|i| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    match i % 11 {
                        3 => f32::NAN,
                        5 => f32::NEG_INFINITY,
                        _ => ((state >> 24) as f32 - 128.0) * 0.1,
                    }
                })
                .collect();
            let mut sorted = Vec::new();
            gather(&logits, f32::NEG_INFINITY, &mut sorted);
            sorted.sort_by(likeliest_first);
            let mut got = Vec::new();
            for k in [1usize, 2, 40, 64, 256, 5000] {
                top_k(&logits, k, &mut got);
                assert_eq!(got, sorted[..k.min(sorted.len())], "{len} {k}");
            }
        }
    }

    #[test]
    fn ascending_rows_are_no_trap() {
        let logits: Vec<f32> = (0..10_000).map(|i| i as f32).collect();
        let mut got = Vec::new();
        top_k(&logits, 3, &mut got);
        assert_eq!(got.iter().map(|c| c.token).collect::<Vec<_>>(), [9999, 9998, 9997]);
    }
}
