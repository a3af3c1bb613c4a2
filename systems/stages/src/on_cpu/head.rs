//! The head: the final norm, for the rows whose hidden state is wanted, and logits, for the rows whose logits are
//! wanted.

use super::{self as cpu, Adapting, CpuPlace, CpuPlan, CpuScratch, sized};
use crate::host::HostCpu;
use bevy_ecs::prelude::*;
use weft_components::{
    AdapterSite, AtLayer, EndsHeldBy, Model, ModelConfig, Resident, TensorRole, Wave, WaveOf,
};
use weft_platform::Need;

/// Computes the final hidden states and the logits of waves that have reached the head. A wave waits while the head's
/// weights are missing.
pub fn head_cpu(
    host: Res<'_, HostCpu>,
    here: Res<'_, CpuPlace>,
    mut waves: Query<'_, '_, (&mut Wave, &WaveOf, &mut CpuScratch)>,
    models: Query<'_, '_, (&ModelConfig, &EndsHeldBy, &CpuPlan, Has<Resident>), With<Model>>,
) {
    for (mut wave, of, mut scratch) in &mut waves {
        if wave.at != AtLayer::Head {
            continue;
        }
        let Ok((config, EndsHeldBy(ends), plan, resident)) = models.get(of.0) else {
            continue;
        };
        if ends.head != here.0 || wave.place != Some(here.0) {
            continue;
        }
        let (norm, Some(head)) = (plan.model.vector(TensorRole::OutputNorm), plan.head(config.tied)) else {
            continue;
        };
        // If the model is complete and has no such norm, it ends without one.
        if norm.is_none() && !resident {
            continue;
        }
        let _span = tracing::trace_span!("head", rows = wave.logit_rows.len()).entered();
        let cpu = &host.0;
        let wave = &mut *wave;
        let (rows, width) = (wave.logit_rows.len(), config.embedding);
        let CpuScratch { normed, activations, adapters, .. } = &mut *scratch;
        let gather = |rows: &[u32], out: &mut [f32]| {
            for (row, out) in rows.iter().zip(out.chunks_exact_mut(width)) {
                out.copy_from_slice(&wave.hidden[*row as usize * width..][..width]);
            }
            if let Some(norm) = norm {
                cpu::norm_in_place(cpu, out, norm, config.norm_epsilon);
            }
        };
        gather(&wave.state_rows, sized(&mut wave.states, wave.state_rows.len() * width));
        let normed = sized(normed, rows * width);
        gather(&wave.logit_rows, normed);
        cpu::load(cpu, activations, normed, width, Need::of(&[head]));
        let logits = sized(&mut wave.logits, rows * config.vocabulary);
        cpu::product(cpu, &[head], activations, logits, config.vocabulary);
        let adapting = Adapting::head(cpu, &wave.adapters, plan, &wave.logit_rows, adapters);
        if let Some(mut adapting) = adapting {
            let out = (&mut *logits, config.vocabulary);
            adapting.add(AdapterSite::Head, (&*normed, width), activations, out);
        }
        cpu::scale_rows(cpu, logits, config.vocabulary, config.logit_scale);
        if let Some(cap) = config.logit_cap {
            cpu::cap_rows(cpu, logits, config.vocabulary, cap);
        }
        wave.at = AtLayer::Sample;
    }
}
