//! The largest logit of a row.

const LANES: usize = 16;

/// Largest of the logits, ignoring NaN. `-inf` if there is none.
pub(super) fn max(logits: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let mut chunks = logits.chunks_exact(LANES);
    for chunk in &mut chunks {
        for (lane, &logit) in lanes.iter_mut().zip(chunk) {
            // The comparison is false for NaN, so NaN never becomes the maximum.
            *lane = if logit > *lane { logit } else { *lane };
        }
    }
    lanes
        .iter()
        .chain(chunks.remainder())
        .fold(f32::NEG_INFINITY, |max, &logit| if logit > max { logit } else { max })
}
