//! The plan of a model on a GPU: kernels bound to buffers, in the order of use, for each class of waves.
//!
//! A wave of few rows reads each matrix once for all its rows. With cooperative matrices, so does a wave of somewhat
//! more rows. Waves of many rows are computed in tiles. Kernels depend on the number of rows, so a plan holds its steps
//! once for each [`Class`] of waves.

use super::adapters::AdapterBuffers;
use super::layer_weights::{EndWeights, LayerMap};
use super::lowering::{Lowering, UnboundStep};
use super::scratch::{Scratch, sampling};
use super::shape::{Class, WaveShape};
use super::steps::{HeadSteps, LayerSteps, Step};
use std::collections::BTreeMap;
use weft_components::ModelConfig;
use weft_gpu::sampling::{SampleBatch, SampleStep, Sampling};
use weft_gpu::shader::KernelSpec;
use weft_gpu::{AttentionShape, Commands, Gpu, GpuError};

/// Steps in order.
#[derive(Default)]
struct Steps(Vec<Step>);

impl Steps {
    fn record(&self, shape: &WaveShape, commands: &mut Commands) {
        for Step { bound, grid } in &self.0 {
            commands.dispatch(bound, grid.map(|extent| extent.of(shape)));
        }
    }
}

/// All kernels that a device runs for a model.
pub(super) struct Plan {
    classes: Vec<Class>,
    embed: Steps,
    layers: BTreeMap<usize, Vec<LayerSteps<Steps>>>,
    head: Vec<HeadSteps<Steps>>,
    /// In the order of [`SampleStep::ALL`].
    sample: Steps,
    sampling: Sampling,
    /// The buffers that the kernels of adapters are bound to, in a plan for rows with adapters.
    pub(super) adapters: Option<AdapterBuffers>,
}

impl Plan {
    /// Compiles and binds all kernels, in parallel if the platform has threads. With `adapters`, the plan is for waves
    /// whose rows may use them.
    pub(super) fn build(
        gpu: &Gpu,
        config: &ModelConfig,
        attention: &AttentionShape,
        scratch: &Scratch,
        layers: &LayerMap,
        ends: &EndWeights,
        adapters: Option<AdapterBuffers>,
    ) -> Result<Self, GpuError> {
        let lowering =
            Lowering { caps: &gpu.capabilities, config, attention, scratch, adapters: adapters.as_ref() };
        let embed = lowering.embed(ends);
        let classes = Class::all(&gpu.capabilities);
        let layers: BTreeMap<usize, Vec<LayerSteps<Vec<UnboundStep>>>> = layers
            .iter()
            .map(|(index, weights)| {
                let steps = classes.iter().map(|class| lowering.layer(*index, weights, *class));
                Ok((*index, steps.collect::<Result<_, GpuError>>()?))
            })
            .collect::<Result<_, GpuError>>()?;
        let head: Vec<_> = classes.iter().filter_map(|class| lowering.head(ends, *class)).collect();
        let sample = if head.is_empty() {
            Vec::new()
        } else {
            SampleStep::ALL.map(|step| lowering.sample(step)).into()
        };

        let mut specs: Vec<KernelSpec> = Vec::new();
        let mut note = |steps: &[UnboundStep]| {
            for UnboundStep { spec, .. } in steps {
                if !specs.contains(spec) {
                    specs.push(spec.clone());
                }
            }
        };
        note(&embed);
        // Layers that are alike in layouts, windows, rotary embedding and tensors add no kernels.
        for steps in layers.values().flatten() {
            steps.each().for_each(|steps| note(steps));
        }
        head.iter().for_each(|steps| note(&steps.logits));
        note(&sample);
        gpu.pipelines.prepare(&specs);
        if let Some(error) = gpu.failure() {
            return Err(error);
        }
        let bind =
            |steps: Vec<UnboundStep>| Steps(steps.into_iter().map(|lowering| lowering.bind(gpu)).collect());
        Ok(Self {
            classes,
            embed: bind(embed),
            layers: layers
                .into_iter()
                .map(|(index, classes)| (index, classes.into_iter().map(|steps| steps.map(bind)).collect()))
                .collect(),
            head: head.into_iter().map(|steps| HeadSteps { logits: bind(steps.logits) }).collect(),
            sample: bind(sample),
            sampling: sampling(config),
            adapters,
        })
    }

    /// The index of the class for a number of rows.
    fn class_of(&self, rows: u32) -> usize {
        self.classes.iter().position(|class| rows as usize <= class.most()).unwrap_or_default()
    }

    /// Records the embedding.
    pub(super) fn record_embed(&self, shape: &WaveShape, commands: &mut Commands) {
        self.embed.record(shape, commands);
    }

    /// Records a layer's attention. Returns `false` if the layer is not on this device.
    pub(super) fn record_attention(&self, layer: usize, shape: &WaveShape, commands: &mut Commands) -> bool {
        let Some(steps) = self.layers.get(&layer).and_then(|classes| classes.get(self.class_of(shape.rows)))
        else {
            return false;
        };
        steps.project.record(shape, commands);
        steps.attend[shape.attend as usize].record(shape, commands);
        steps.output.record(shape, commands);
        true
    }

    /// Records a layer's feed-forward network. Returns `false` if the layer is not on this device.
    pub(super) fn record_ffn(&self, layer: usize, shape: &WaveShape, commands: &mut Commands) -> bool {
        let Some(steps) = self.layers.get(&layer).and_then(|classes| classes.get(self.class_of(shape.rows)))
        else {
            return false;
        };
        steps.ffn.record(shape, commands);
        true
    }

    /// Records the head up to the logits.
    pub(super) fn record_head(&self, shape: &WaveShape, commands: &mut Commands) {
        if let Some(steps) = self.head.get(self.class_of(shape.logit_rows)) {
            steps.logits.record(shape, commands);
        }
    }
}

impl Plan {
    /// Records the choice of tokens.
    pub(super) fn record_sample(&self, batch: &SampleBatch, shape: &WaveShape, commands: &mut Commands) {
        for step in batch.steps() {
            let place = SampleStep::ALL.iter().position(|found| *found == step);
            if let Some(Step { bound, .. }) = place.and_then(|place| self.sample.0.get(place)) {
                commands.dispatch(bound, self.sampling.grid(step, shape.logit_rows));
            }
        }
    }
}
