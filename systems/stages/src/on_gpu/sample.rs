//! The choice of tokens on a GPU: what rows of logits ask for, as the device reads it.

use super::GpuModel;
use crate::sample::SampledSession;
use bevy_ecs::prelude::*;
use weft_components::{AtLayer, Model, Wave, WaveOf};
use weft_gpu::sampling::SampleKind;
use weft_platform::PAGE;

/// Records the choice of tokens of waves whose head has just been recorded. Rows whose logits somebody wants, and those of
/// settings that the device does not take, are left to the host.
pub fn sample_gpu(
    waves: Query<'_, '_, (&Wave, &WaveOf)>,
    mut models: Query<'_, '_, &mut GpuModel, With<Model>>,
    mut sessions: Query<'_, '_, SampledSession>,
) {
    for (wave, of) in &waves {
        let (AtLayer::OnDevice, Some(place)) = (wave.at, wave.place) else { continue };
        let Ok(mut model) = models.get_mut(of.0) else { continue };
        let Some(part) = model.on(place) else { continue };
        let _span = tracing::trace_span!("sample", sessions = wave.spans.len()).entered();
        let (batch, chosen, room) = part.sampling();
        batch.clear();
        chosen.clear();
        for span in &wave.spans {
            // Every row but a span's last is there for its logits alone.
            for _ in span.logits.clone().skip(1) {
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
                    && batch.adjustments().len() + session.sampler.adjustments() <= room
            });
            chosen.push(device.is_some());
            match device {
                Some(mut session) => {
                    let last = span.rows.end - 1;
                    let place = wave.slots[last] * PAGE as u32 + wave.positions[last] % PAGE as u32;
                    session.sampler.ask(batch, place);
                    session.cursor.unread += 1;
                }
                None => batch.push_host(),
            }
        }
        part.record_sample();
    }
}
