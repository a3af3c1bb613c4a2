//! Lowering: the kernels of a model, with the buffers and grids they will be bound to. The parts of a kernel follow
//! from its matrix's layout, the class of waves and the device's capabilities; the kernels of a layer follow from its
//! tensors.

mod adapter;
mod experts;
mod feed_forward;
mod product;
mod self_attention;

use super::adapters::AdapterBuffers;
use super::layer_weights::{EndWeights, LayerWeights, Residual};
use super::product::Product;
use super::scratch::{Activations, Scratch, sampling};
use super::shape::{Class, Extent};
use super::steps::{HeadSteps, LayerSteps, Step};
use super::vectors::Vectors;
use adapter::Adapted;
use product::{In, Out, reading};
use weft_components::{AdapterSite, ModelConfig};
use weft_gpu::sampling::SampleStep;
use weft_gpu::shader::{KernelSpec, Part, parts};
use weft_gpu::{ActFormat, AttentionShape, Bound, Capabilities, Count, Gpu, GpuError, wgpu};

/// Lanes of most workgroups.
const WG: u32 = 256;

/// A kernel that is not bound yet.
pub(super) struct UnboundStep {
    pub(super) spec: KernelSpec,
    buffers: Vec<(u32, wgpu::Buffer)>,
    grid: [Extent; 3],
}

impl UnboundStep {
    pub(super) fn bind(self, gpu: &Gpu) -> Step {
        let kernel = gpu.pipelines.get(&self.spec);
        let buffers: Vec<_> =
            self.buffers.iter().map(|(index, buffer)| (*index, buffer.as_entire_binding())).collect();
        Step { bound: Bound::new(gpu, kernel, &buffers), grid: self.grid }
    }
}

/// One workgroup for each row.
const fn a_row(rows: Extent) -> [Extent; 3] {
    [rows, Extent::Fixed(1), Extent::Fixed(1)]
}

/// Lowers a model to kernels.
pub(super) struct Lowering<'a> {
    pub(super) caps: &'a Capabilities,
    pub(super) config: &'a ModelConfig,
    /// Attention of a layer without a window.
    pub(super) attention: &'a AttentionShape,
    pub(super) scratch: &'a Scratch,
    /// The adapters that rows may use. `None` for waves that use none.
    pub(super) adapters: Option<&'a AdapterBuffers>,
}

impl Lowering<'_> {
    /// A kernel over the wave whose lanes can be reduced.
    fn spec(&self, name: &'static str, kernel: &[Part]) -> KernelSpec {
        let (reduce, lanes) = self.reduce();
        KernelSpec::new(name, [parts::WAVE, reduce].into_iter().chain(kernel.iter().copied()))
            .with("WG", WG)
            .with("LANES", lanes)
    }

    fn reduce(&self) -> (Part, u32) {
        self.caps.subgroup.map_or((parts::REDUCE_PLAIN, 32), |lanes| (parts::REDUCE_SUBGROUP, lanes))
    }

    fn act_buffers(act: &Activations, kind: ActFormat) -> [(u32, wgpu::Buffer); 2] {
        let [numbers, scales] = act.buffers(kind);
        [(20, numbers), (21, scales)]
    }

    pub(super) fn embed(&self, ends: &EndWeights) -> Vec<UnboundStep> {
        let Some(embedding) = &ends.embedding else { return Vec::new() };
        let mut steps: Vec<_> = embedding
            .segments()
            .map(|(matrix, segment)| {
                let spec = KernelSpec::new("embed", reading(matrix, &[parts::EMBED]))
                    .with("WG", 64u32)
                    .with("SCALE", self.config.embedding_scale)
                    .with("VOCABULARY", self.config.vocabulary as u32);
                let mut buffers = vec![
                    (0, self.scratch.wave.clone()),
                    (1, self.scratch.sampled.clone()),
                    (2, self.scratch.hidden.clone()),
                ];
                buffers.extend(segment.buffers());
                UnboundStep { spec: matrix.shape(spec, segment), buffers, grid: a_row(Extent::Rows) }
            })
            .collect();
        for (product, first) in [(&ends.positions, 0u32), (&ends.types, 1)] {
            steps.extend(product.iter().flat_map(|product| self.embed_add(product, first)));
        }
        steps.extend(ends.embedding_norm.as_ref().map(|norm| self.layer_norm(norm)));
        steps
    }

    /// Adds a row of a matrix to each embedding: the row of its position, or the first row if `first` is 1.
    fn embed_add(&self, product: &Product, first: u32) -> impl Iterator<Item = UnboundStep> {
        product.segments().map(move |(matrix, segment)| {
            let spec = KernelSpec::new("embed_add", reading(matrix, &[parts::EMBED_ADD]))
                .with("WG", 64u32)
                .with("FIRST", first);
            let mut buffers = vec![(0, self.scratch.wave.clone()), (2, self.scratch.hidden.clone())];
            buffers.extend(segment.buffers());
            UnboundStep { spec: matrix.shape(spec, segment), buffers, grid: a_row(Extent::Rows) }
        })
    }

    /// LayerNorm of the hidden state in place.
    fn layer_norm(&self, norm: &Vectors) -> UnboundStep {
        let spec = self
            .spec("layer_norm", &[parts::LAYER_NORM])
            .with("WIDTH", self.config.embedding as u32)
            .with("EPSILON", self.config.norm_epsilon);
        let scratch = self.scratch;
        let buffers = vec![(0, scratch.wave.clone()), (1, scratch.hidden.clone()), (2, norm.buffer.clone())];
        UnboundStep { spec, buffers, grid: a_row(Extent::Rows) }
    }

    /// The norm of rows of `x` as activations: of all rows, or of those whose logits are wanted.
    fn norm(
        &self,
        weight: &Vectors,
        x: &wgpu::Buffer,
        width: usize,
        (act, kind): (&Activations, ActFormat),
        rows: Extent,
    ) -> UnboundStep {
        let spec = self
            .spec("rms_norm", &[kind.part(), parts::RMS_NORM])
            .with("ACT_WIDTH", width as u32)
            .with("EPSILON", self.config.norm_epsilon)
            .with("GATHER", u32::from(matches!(rows, Extent::LogitRows)));
        let mut buffers = vec![(0, self.scratch.wave.clone()), (1, x.clone()), (2, weight.buffer.clone())];
        buffers.extend(Self::act_buffers(act, kind));
        UnboundStep { spec, buffers, grid: a_row(rows) }
    }

    /// Rows of the hidden state as activations.
    fn load(&self, act: &Activations, kind: ActFormat) -> UnboundStep {
        let width = self.config.embedding as u32;
        let spec = self.spec("load_act", &[kind.part(), parts::LOAD_ACT]).with("ACT_WIDTH", width);
        let mut buffers = vec![(0, self.scratch.wave.clone()), (1, self.scratch.hidden.clone())];
        buffers.extend(Self::act_buffers(act, kind));
        let across = Extent::Fixed((width / 4).div_ceil(WG));
        UnboundStep { spec, buffers, grid: [across, Extent::Rows, Extent::Fixed(1)] }
    }

    /// Adds a block's output to the residual. The part `delta` reads it from `from`.
    fn residual(&self, residual: &Residual, delta: Part, from: Vec<(u32, wgpu::Buffer)>) -> UnboundStep {
        let spec = self
            .spec("residual", &[delta, parts::RESIDUAL])
            .with("WIDTH", self.config.embedding as u32)
            .with("NORM", u32::from(residual.norm))
            .with("FACTOR", self.config.residual_scale)
            .with("EPSILON", self.config.norm_epsilon);
        let mut buffers = vec![
            (0, self.scratch.wave.clone()),
            (3, self.scratch.hidden.clone()),
            (4, residual.extra.buffer.clone()),
        ];
        buffers.extend(from);
        UnboundStep { spec, buffers, grid: a_row(Extent::Rows) }
    }

    pub(super) fn layer(
        &self,
        index: usize,
        weights: &LayerWeights,
        class: Class,
    ) -> Result<LayerSteps<Vec<UnboundStep>>, GpuError> {
        let normed = |mut steps: Vec<UnboundStep>, norm: &Option<Vectors>| {
            steps.extend(norm.as_ref().map(|norm| self.layer_norm(norm)));
            steps
        };
        Ok(LayerSteps {
            project: self.project(index, weights, class),
            attend: self.attend(index, weights, class)?,
            output: normed(self.output(index, weights, class), &weights.attention_layer_norm),
            ffn: normed(self.ffn(index, weights, class), &weights.ffn_layer_norm),
        })
    }

    /// One dispatch of sampling.
    pub(super) fn sample(&self, step: SampleStep) -> UnboundStep {
        let (scratch, kernels) = (self.scratch, sampling(self.config));
        let buffers = vec![
            (0, scratch.wave.clone()),
            (1, scratch.logits.clone()),
            (2, scratch.sample_rows.clone()),
            (3, scratch.adjustments.clone()),
            (4, scratch.ids.clone()),
            (5, scratch.sampled.clone()),
            (6, scratch.sample_partials.clone()),
        ];
        UnboundStep { spec: kernels.spec(self.caps, step), buffers, grid: [Extent::Fixed(1); 3] }
    }

    pub(super) fn head(&self, ends: &EndWeights, class: Class) -> Option<HeadSteps<Vec<UnboundStep>>> {
        let (norm, head) = (ends.norm.as_ref()?, ends.head()?);
        let (config, scratch) = (self.config, self.scratch);
        let act = (&scratch.inner, self.kind(head, class));
        let mut logits = vec![self.norm(norm, &scratch.hidden, config.embedding, act, Extent::LogitRows)];
        let store = Out::Store(&scratch.logits, config.vocabulary);
        logits.extend(self.product("head", head, class, In::Act(&scratch.inner), &store, Count::LogitRows));
        let x = (&self.read(In::Act(&scratch.inner), ActFormat::F32)[0], config.embedding);
        let adapted = Adapted { layer: None, site: AdapterSite::Head };
        logits.extend(self.adapt(adapted, x, (&scratch.logits, config.vocabulary), Count::LogitRows));
        let scaled = (config.logit_scale - 1.0).abs() > 0.0;
        if scaled || config.logit_cap.is_some() {
            logits.push(self.cap_logits());
        }
        Some(HeadSteps { logits })
    }

    fn cap_logits(&self) -> UnboundStep {
        let vocabulary = self.config.vocabulary as u32;
        let spec = KernelSpec::new("cap_logits", [parts::CAP_LOGITS])
            .with("WG", WG)
            .with("VOCABULARY", vocabulary)
            .with("SCALE", self.config.logit_scale)
            .with("CAP", self.config.logit_cap.unwrap_or(0.0));
        let across = Extent::Fixed(vocabulary.div_ceil(WG));
        let buffers = vec![(1, self.scratch.logits.clone())];
        UnboundStep { spec, buffers, grid: [across, Extent::LogitRows, Extent::Fixed(1)] }
    }
}
