//! The choice of tokens on a GPU: encodes what rows of logits ask of sampling for the device.

use super::gpu_shard::GpuShards;
use super::process_logits::record_failed;
use crate::sample::SampledSession;
use bevy_ecs::prelude::*;
use weft_components::{AtLayer, Model, ModelConfig, ReadsLogits, TokenMask, Wave, WaveOf};
use weft_gpu::sampling::SampleKind;
use weft_platform::PAGE;

/// Records the choice of tokens for waves whose head has just been recorded. The host chooses for rows whose logits are
/// wanted, and for settings that the device does not support.
pub fn sample_gpu(
    mut commands: Commands<'_, '_>,
    waves: Query<'_, '_, (&Wave, &WaveOf)>,
    mut models: Query<'_, '_, (&ModelConfig, &mut GpuShards), With<Model>>,
    masks: Query<'_, '_, &TokenMask, Without<ReadsLogits>>,
    mut sessions: Query<'_, '_, SampledSession>,
) {
    for (wave, of) in &waves {
        let (AtLayer::OnDevice, Some(place)) = (wave.at, wave.place) else { continue };
        let Ok((config, mut model)) = models.get_mut(of.0) else { continue };
        let Some(gpu_shard) = model.on(place) else { continue };
        let _span = tracing::trace_span!("sample", sessions = wave.spans.len()).entered();
        let (batch, chosen, room) = gpu_shard.sampling();
        batch.clear();
        chosen.clear();
        for span in &wave.spans {
            // Rows before those that tokens are chosen from are computed only for their logits.
            for _ in span.logits.clone().skip(1 + span.drafts) {
                batch.push_host();
            }
            if span.logits.is_empty() {
                chosen.push(false);
                continue;
            }
            let session = sessions.get_mut(span.session).ok();
            let device = session.filter(|session| {
                session.cursor.epoch == span.epoch
                    && span.complete
                    && session.wanted.is_none()
                    && !session.reads_logits
                    && session.request.max_tokens > 0
                    && session.sampler.kind() != SampleKind::Host
                    && batch.adjustments().len() + session.sampler.adjustments() * (1 + span.drafts) <= room
                    // Penalties look back at tokens that are only drafted.
                    && (span.drafts == 0 || session.sampler.runs_ahead())
            });
            chosen.push(device.is_some());
            match device {
                Some(mut session) => {
                    for last in span.rows.end - 1 - span.drafts..span.rows.end {
                        let slot = wave.kv.first().map_or(0, |kv| kv.slots[last]);
                        let place = slot * PAGE as u32 + wave.positions[last] % PAGE as u32;
                        session.sampler.ask(batch, place);
                        session.cursor.unread += 1;
                    }
                }
                None => (0..=span.drafts).for_each(|_| batch.push_host()),
            }
        }
        // A session's mask applies to the row that its token is chosen from: the last of its span.
        let rows = wave.spans.iter().flat_map(|span| {
            let last = span.logits.end.saturating_sub(1);
            // Where a system reads the logits, the host applies the mask that is there when it does.
            let mask = masks.get(span.session).ok().filter(|_| span.complete);
            span.logits.clone().map(move |row| mask.filter(|_| row == last).map(|mask| &mask.0[..]))
        });
        if let Err(error) = gpu_shard.record_processing(config.vocabulary, rows) {
            record_failed(&mut commands, of.0, error);
        }
        gpu_shard.record_sample();
    }
}
