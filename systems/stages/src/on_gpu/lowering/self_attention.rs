//! The kernels of attention: the projection of heads, their norms and rotary embedding, the weighted sum, the output
//! projection.

use super::adapter::Adapted;
use super::product::{In, Out};
use super::{Lowering, UnboundStep};
use crate::on_gpu::layer_weights::{Heads, LayerKv, LayerWeights};
use crate::on_gpu::shape::{Class, Extent};
use weft_components::{AdapterSite, LayerConfig, RopeConfig, RopeStyle};
use weft_gpu::shader::{KernelSpec, Part, parts};
use weft_gpu::{ActFormat, AttentionShape, GpuError, RecentPages, Segment, wgpu};
use weft_platform::PAGE;

/// Lanes of a workgroup that computes some heads.
const HEAD_LANES: u32 = 64;

impl Lowering<'_> {
    /// The rotary embedding of a layer's heads. `None` if the layer has none.
    fn rope_of(&self, index: usize) -> Option<&RopeConfig> {
        self.config.ropes.get(self.config.layer.get(index)?.rope?)
    }

    /// The constants of rotary embedding. A layer without it rotates no dimension.
    fn rope_shape(&self, index: usize, weights: &LayerWeights, spec: KernelSpec) -> KernelSpec {
        let config = self.config;
        let layer = self.layer_config(index);
        let class = layer.recent.map_or(layer.kv_class, |recent| recent.class);
        RecentPages::constants(self.shape_of(index, weights).recent, spec)
            .with("HEADS", config.heads as u32)
            .with("KV_HEADS", config.kv_heads as u32)
            .with("KEY", config.key_length as u32)
            .with("VALUE", config.value_length as u32)
            .with("ROPE", self.rope_of(index).map_or(0, |rope| rope.dimensions as u32))
            .with("PAGE", PAGE as u32)
            .with("KV_CLASS", class as u32)
    }

    fn layer_config(&self, index: usize) -> LayerConfig {
        self.config.layer.get(index).copied().unwrap_or_default()
    }

    /// The shape of a layer's attention.
    fn shape_of(&self, index: usize, weights: &LayerWeights) -> AttentionShape {
        let LayerConfig { window, kv_class, recent, .. } = self.layer_config(index);
        let tables = |class: usize| class * self.scratch.table_words;
        let LayerKv { layout, sealed_slots, .. } = weights.kv;
        let recent =
            recent.map(|of| RecentPages { tokens: of.tokens, tables: tables(of.class), sealed_slots });
        let window = window.unwrap_or(0);
        AttentionShape { window, tables: tables(kv_class), recent, kv: layout, ..*self.attention }
    }

    fn rope_buffers(&self, index: usize, weights: &LayerWeights) -> Vec<(u32, wgpu::Buffer)> {
        let scratch = self.scratch;
        let table = self.config.layer.get(index).and_then(|layer| layer.rope).unwrap_or(0);
        let angles = scratch.angles.get(table).map(|angles| (5, angles.clone()));
        let cache =
            [(6, scratch.queries.clone()), (7, weights.kv.keys.clone()), (8, weights.kv.values.clone())];
        angles.into_iter().chain(cache).collect()
    }

    /// 1 if the two halves of a head are rotated together, 0 if neighbours are.
    fn halves(&self, index: usize) -> u32 {
        u32::from(self.rope_of(index).is_some_and(|rope| rope.style == RopeStyle::Half))
    }

    /// The parts with which the projection of queries, keys and values itself rotates and stores its outputs. `None`
    /// unless nothing else is done to them, neighbours rotate together, the cache stores pairs of elements by themselves,
    /// and all the buffers fit one kernel.
    fn turns(&self, index: usize, weights: &LayerWeights, class: Class) -> Option<Vec<Part>> {
        /// Wave, input, norm, angles, queries, keys and values, besides the planes of weights.
        const BUFFERS: usize = 7;
        let fits = |segment: &Segment| {
            BUFFERS + segment.buffers().count() <= self.caps.storage_buffers as usize
                && segment.rows.len().is_multiple_of(2)
        };
        let turns = matches!(class, Class::Few(_))
            && self.adapters.is_none()
            && weights.heads.is_none()
            && self.halves(index) == 0
            && weights.qkv.matrices.iter().flat_map(|m| &m.matrix.segments).all(fits);
        weights.kv.layout.pairs().filter(|_| turns)
    }

    /// From the hidden state to queries, and to keys and values in the cache.
    pub(super) fn project(&self, index: usize, weights: &LayerWeights, class: Class) -> Vec<UnboundStep> {
        let norm = weights.attention_norm.as_ref();
        let adapted = Adapted { layer: Some(index), site: AdapterSite::Qkv };
        let mut steps = if let Some(pairs) = self.turns(index, weights, class) {
            let shaped = |spec| self.rope_shape(index, weights, spec);
            let out = Out::Rope(&shaped, self.rope_buffers(index, weights), pairs);
            self.normed("qkv_rope", norm, &weights.qkv, class, &out, adapted)
        } else {
            let store = Out::Store(&self.scratch.qkv, weights.qkv.rows);
            let mut steps = self.normed("qkv", norm, &weights.qkv, class, &store, adapted);
            steps.push(match (&weights.heads, weights.kv.layout.pairs()) {
                (None, Some(pairs)) => self.rope(index, weights, &pairs),
                (heads, _) => self.rope_heads(index, weights, heads.as_ref()),
            });
            steps
        };
        steps.extend(self.seal(index, weights));
        steps
    }

    /// Converts the pages that a wave completes, if the layer's pages are sealed.
    fn seal(&self, index: usize, weights: &LayerWeights) -> Option<UnboundStep> {
        let (spec, [across, ..]) = self.shape_of(index, weights).seal(1)?;
        let buffers = vec![
            (0, self.scratch.wave.clone()),
            (4, self.scratch.tables.clone()),
            (7, weights.kv.keys.clone()),
            (8, weights.kv.values.clone()),
        ];
        Some(UnboundStep { spec, buffers, grid: [Extent::Fixed(across), Extent::Rows, Extent::Fixed(1)] })
    }

    fn rope(&self, index: usize, weights: &LayerWeights, pairs: &[Part]) -> UnboundStep {
        let list = [parts::WAVE, parts::ROPE].iter().chain(pairs).chain(&[parts::ROPE_KV]).copied();
        let spec = KernelSpec::new("rope_kv", list).with("WG", 64u32).with("HALVES", self.halves(index));
        let mut buffers = vec![(0, self.scratch.wave.clone()), (1, self.scratch.qkv.clone())];
        buffers.extend(self.rope_buffers(index, weights));
        let across = (weights.qkv.rows as u32).div_ceil(2 * 64);
        UnboundStep {
            spec: self.rope_shape(index, weights, spec),
            buffers,
            grid: [Extent::Fixed(across), Extent::Rows, Extent::Fixed(1)],
        }
    }

    /// Stores heads, after what the layer does to them, if it does anything.
    fn rope_heads(&self, index: usize, weights: &LayerWeights, heads: Option<&Heads>) -> UnboundStep {
        let config = self.config;
        let (reduce, lanes) = self.reduce();
        let [query, key] = heads.map_or([config.key_length; 2], |heads| heads.spans).map(|span| span as u32);
        let is = |property: fn(&Heads) -> bool| u32::from(heads.is_some_and(property));
        let queries = (config.heads * config.key_length) as u32;
        let keys = (config.kv_heads * config.key_length) as u32;
        let value = config.value_length as u32;
        // A norm over all heads takes a whole workgroup.
        let wide = query as usize > config.key_length;
        let list = [parts::WAVE, reduce, parts::ROPE, parts::ROPE_HEADS];
        let spec = KernelSpec::new("rope_heads", list.into_iter().chain(weights.kv.layout.heads()))
            .with("WG", if wide { super::WG } else { HEAD_LANES })
            .with("LANES", lanes)
            .with("HALVES", self.halves(index))
            .with("SPAN_QUERY", query)
            .with("SPAN_KEY", key)
            .with("SPAN_VALUE", value)
            .with("BIAS", is(|heads| heads.bias))
            .with("NORM", is(|heads| heads.norm))
            .with("SCALED", is(|heads| heads.scaled))
            .with("EPSILON", config.norm_epsilon);
        let mut buffers = vec![
            (0, self.scratch.wave.clone()),
            (1, self.scratch.qkv.clone()),
            // Not read if nothing is done to the heads.
            (2, heads.map_or(&self.scratch.qkv, |heads| &heads.extra.buffer).clone()),
        ];
        buffers.extend(self.rope_buffers(index, weights));
        let spans = queries / query + keys / key + config.kv_heads as u32;
        UnboundStep {
            spec: self.rope_shape(index, weights, spec),
            buffers,
            grid: [Extent::Fixed(spans), Extent::Rows, Extent::Fixed(1)],
        }
    }

    /// The weighted sum of values, for each kind of `Attend`, as the output projection reads it.
    pub(super) fn attend(
        &self,
        index: usize,
        weights: &LayerWeights,
        class: Class,
    ) -> Result<[Vec<UnboundStep>; 4], GpuError> {
        let scratch = self.scratch;
        let output = self.kind(&weights.output, class);
        // A norm in between reads floats.
        let kind = if weights.sub_norm.is_some() { ActFormat::F32 } else { output };
        let kept: Vec<(u32, wgpu::Buffer)> = if weights.sub_norm.is_some() {
            vec![(20, scratch.qkv.clone())]
        } else {
            Self::act_buffers(&scratch.inner, kind).into()
        };
        let shape = self.shape_of(index, weights);
        // A kernel that turns the output back reads floats, too, from whichever buffer it does not write.
        let back = shape.rotate_back(self.caps, kind, 1);
        let [floats, _] = scratch.inner.buffers(ActFormat::F32);
        let turned = if weights.sub_norm.is_some() { &floats } else { &scratch.qkv };
        let (kernels, out) = match &back {
            Some(_) => (shape.kernels(self.caps, ActFormat::F32)?, vec![(20, turned.clone())]),
            None => (shape.kernels(self.caps, kind)?, kept.clone()),
        };
        let lowering = |spec: &KernelSpec, across: [u32; 3], down: Extent, deep: Extent| {
            let mut buffers = vec![
                (0, scratch.wave.clone()),
                (1, scratch.queries.clone()),
                (2, weights.kv.keys.clone()),
                (3, weights.kv.values.clone()),
                (4, scratch.tables.clone()),
                (5, scratch.partials.clone()),
            ];
            buffers.extend(out.iter().cloned());
            UnboundStep { spec: spec.clone(), buffers, grid: [Extent::Fixed(across[0]), down, deep] }
        };
        let one = Extent::Fixed(1);
        let mut attend = [
            vec![lowering(&kernels.short, kernels.short_grid(1), Extent::Rows, one)],
            vec![lowering(&kernels.direct, kernels.direct_grid(1), Extent::Rows, one)],
            vec![
                lowering(&kernels.split, kernels.split_grid(1, 1), Extent::Rows, Extent::Splits),
                lowering(&kernels.combine, kernels.combine_grid(1), Extent::Rows, one),
            ],
            vec![lowering(&kernels.tiled, kernels.tiled_grid(1), Extent::AttentionTiles, one)],
        ];
        if let Some((spec, [across, ..])) = back {
            let buffers = [(0, scratch.wave.clone()), (1, turned.clone())].into_iter().chain(kept);
            let buffers: Vec<_> = buffers.collect();
            let grid = [Extent::Fixed(across), Extent::Rows, one];
            let step = || UnboundStep { spec: spec.clone(), buffers: buffers.clone(), grid };
            attend.iter_mut().for_each(|steps| steps.push(step()));
        }
        if let Some(norm) = &weights.sub_norm {
            let width = self.config.heads * self.config.value_length;
            let act = (&scratch.inner, output);
            attend
                .iter_mut()
                .for_each(|steps| steps.push(self.norm(norm, &scratch.qkv, width, act, Extent::Rows)));
        }
        Ok(attend)
    }

    /// The output projection of attention, added to the residual.
    pub(super) fn output(&self, index: usize, weights: &LayerWeights, class: Class) -> Vec<UnboundStep> {
        let residual = weights.attention_residual.as_ref();
        let input = In::Act(&self.scratch.inner);
        let adapted = Adapted { layer: Some(index), site: AdapterSite::AttentionOutput };
        self.add_to_residual("attn_output", &weights.output, class, input, residual, adapted)
    }
}
