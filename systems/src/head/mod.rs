//! The head: hidden state to logits, for the rows whose logits somebody wants.

mod gpu;

pub use gpu::head_gpu;

use crate::cpu::{self, Adapting, CpuBackend, CpuPlan, CpuScratch, sized};
use bevy_ecs::prelude::*;
use weft_components::{AdapterSite, AtLayer, Ends, Model, ModelConfig, Place, TensorRole, Wave, WaveOf};
use weft_platform::Need;

/// Computes the logits of waves that stand before the head. Waits where the head is not there.
pub fn head_cpu(
    backend: Res<'_, CpuBackend>,
    mut waves: Query<'_, '_, (&mut Wave, &WaveOf, &mut CpuScratch)>,
    models: Query<'_, '_, (&ModelConfig, &Ends, &CpuPlan), With<Model>>,
) {
    for (mut wave, of, mut scratch) in &mut waves {
        if wave.at != AtLayer::Head {
            continue;
        }
        let Ok((config, ends, plan)) = models.get(of.0) else {
            continue;
        };
        if ends.head != Place::Cpu || wave.hidden_at != Place::Cpu {
            continue;
        }
        let Some((norm, head)) = plan.model.vector(TensorRole::OutputNorm).zip(plan.head(config.tied)) else {
            continue;
        };
        let _span = tracing::trace_span!("head", rows = wave.logit_rows.len()).entered();
        let cpu = &backend.0;
        let wave = &mut *wave;
        let (rows, width) = (wave.logit_rows.len(), config.embedding);
        let CpuScratch { normed, activations, gated, adapters, .. } = &mut *scratch;
        let wanted = sized(gated, rows * width);
        for (row, out) in wave.logit_rows.iter().zip(wanted.chunks_exact_mut(width)) {
            out.copy_from_slice(&wave.hidden[*row as usize * width..][..width]);
        }
        let normed = sized(normed, rows * width);
        cpu::norm_rows(cpu, wanted, norm, config.norm_epsilon, normed);
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
