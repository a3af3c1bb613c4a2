//! Token masks on the host: the logits of tokens that a session may not generate become `-inf`.

use super::system::model_of;
use bevy_ecs::prelude::*;
use weft_components::{AtLayer, Chosen, Model, ModelConfig, ReadbackOf, TokenMask, Wave, WaveOf};

/// Applies the masks of sessions to the logits of waves at the stage `Sample`, in the row that each session's token is
/// chosen from. Runs in the set `Process`. Does nothing if no session has a mask.
pub fn mask_logits(
    masks: Query<'_, '_, &TokenMask>,
    mut waves: Query<'_, '_, (&mut Wave, AnyOf<(&WaveOf, &ReadbackOf)>)>,
    models: Query<'_, '_, &ModelConfig, With<Model>>,
) {
    if masks.is_empty() {
        return;
    }
    for (mut wave, of) in &mut waves {
        let model = model_of(of).map(|model| models.get(model));
        let (AtLayer::Sample, Some(Ok(config))) = (wave.at, model) else { continue };
        let Wave { spans, chosen, logits, .. } = &mut *wave;
        for (index, span) in spans.iter().enumerate() {
            let by_sampler = chosen.get(index).is_none_or(|chosen| *chosen == Chosen::Sampler);
            let (true, Ok(mask)) = (span.complete && by_sampler, masks.get(span.session)) else { continue };
            let Some(row) = span.logits.end.checked_sub(1).filter(|row| *row >= span.logits.start) else {
                continue;
            };
            let row = logits.get_mut(row * config.vocabulary..(row + 1) * config.vocabulary);
            for (token, logit) in row.unwrap_or_default().iter_mut().enumerate() {
                if !mask.allows(token) {
                    *logit = f32::NEG_INFINITY;
                }
            }
        }
    }
}
