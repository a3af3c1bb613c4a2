//! Computes embeddings from final hidden states.
//!
//! States arrive with the waves that carried their rows. They are summed in 64 bits in the order of their positions, so
//! an embedding depends neither on how its text was split into chunks nor on the other rows of the waves.

use core::ops::Range;
use weft_components::{EmbeddingKept, EmbeddingWanted, Pooling, WaveSpan};

/// Final hidden states of a wave.
#[derive(Clone, Copy)]
pub(super) struct StateRows<'a> {
    /// `[rows, width]`.
    pub states: &'a [f32],
    /// The wave's row of each state.
    pub rows: &'a [u32],
    /// Floats in each row.
    pub width: usize,
}

/// Positions of a text whose hidden states make its embedding.
pub(crate) fn wanted_positions(wanted: &EmbeddingWanted) -> Range<usize> {
    let tokens = wanted.tokens;
    match wanted.pooling {
        Pooling::None | Pooling::Mean => 0..tokens,
        Pooling::Cls => 0..tokens.min(1),
        Pooling::Last => tokens.saturating_sub(1)..tokens,
    }
}

/// Adds the states of a span to those kept for its session. Positions that arrived before, because the context is
/// computed a second time, are skipped.
pub(super) fn keep_states(
    wanted: &EmbeddingWanted,
    kept: &mut EmbeddingKept,
    StateRows { states, rows, width }: StateRows<'_>,
    span: &WaveSpan,
) {
    for index in span.states.clone() {
        let position = span.start + rows[index] as usize - span.rows.start;
        if position < kept.positions {
            continue;
        }
        let state = &states[index * width..][..width];
        if wanted.pooling == Pooling::Mean {
            kept.sum.resize(width, 0.0);
            kept.sum.iter_mut().zip(state).for_each(|(sum, x)| *sum += f64::from(*x));
        } else {
            kept.rows.push(state.to_vec());
        }
    }
    kept.positions = kept.positions.max(span.start + span.rows.len());
}

/// The vectors of an embedding: one, or one for each token with [`Pooling::None`]. A vector of length 0 is not
/// normalized.
pub fn vectors(wanted: &EmbeddingWanted, kept: EmbeddingKept) -> Vec<Vec<f32>> {
    let EmbeddingKept { positions, sum, mut rows } = kept;
    if wanted.pooling == Pooling::Mean {
        rows.push(sum.iter().map(|sum| (sum / positions.max(1) as f64) as f32).collect());
    }
    if wanted.normalize {
        for row in &mut rows {
            let length = row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
            if length > 0.0 {
                row.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
            }
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use bevy_ecs::entity::Entity;

    fn span(start: usize, rows: Range<usize>, states: Range<usize>) -> WaveSpan {
        let session = Entity::PLACEHOLDER;
        WaveSpan {
            session,
            rows,
            start,
            table: 0..0,
            logits: 0..0,
            states,
            epoch: 0,
            complete: false,
            drafts: 0,
            adapter: None,
        }
    }

    #[test]
    fn what_comes_twice_counts_once() {
        let wanted = EmbeddingWanted { tokens: 3, pooling: Pooling::Mean, normalize: false };
        let mut kept = EmbeddingKept::default();
        let states = [1.0, 2.0, 3.0, 4.0, 5.0, 9.0];
        let first = StateRows { states: &states[..4], rows: &[3, 4], width: 2 };
        keep_states(&wanted, &mut kept, first, &span(0, 3..5, 0..2));
        let again = StateRows { states: &states, rows: &[0, 1, 2], width: 2 };
        keep_states(&wanted, &mut kept, again, &span(0, 0..3, 0..3));
        assert_eq!((kept.positions, &kept.sum[..]), (3, &[9.0, 15.0][..]));
        assert_eq!(vectors(&wanted, kept), [[3.0, 5.0]]);
    }

    #[test]
    fn lengths_are_one_or_nothing() {
        let wanted = EmbeddingWanted { tokens: 2, pooling: Pooling::None, normalize: true };
        let kept = EmbeddingKept { rows: vec![vec![3.0, 4.0], vec![0.0, 0.0]], ..EmbeddingKept::default() };
        assert_eq!(vectors(&wanted, kept), [[0.6, 0.8], [0.0, 0.0]]);
    }

    #[test]
    fn each_pooling_asks_for_its_positions() {
        let of = |pooling| wanted_positions(&EmbeddingWanted { tokens: 5, pooling, normalize: true });
        assert_eq!(
            [Pooling::None, Pooling::Mean, Pooling::Cls, Pooling::Last].map(of),
            [0..5, 0..5, 0..1, 4..5]
        );
    }
}
