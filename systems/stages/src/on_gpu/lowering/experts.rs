//! The kernels of experts: a router scores them, the best of each row are chosen, and each row passes through its
//! experts, without a readback in between. A *pair* is a row and one of its experts: pair `row * used + slot`.
//!
//! With few rows, each pair is computed alone. With many, the pairs of one expert are computed in groups, so that its
//! weights are read once for several rows.

use super::product::{FewRows, In, Out};
use super::{Lowering, UnboundStep};
use crate::on_gpu::layer_weights::{Experts, Residual};
use crate::on_gpu::product::{Product, ProductMatrix};
use crate::on_gpu::scratch::{ExpertScratch, PAIR_GROUP, pair_tiles};
use crate::on_gpu::shape::{Class, Extent};
use crate::on_gpu::vectors::Vectors;
use weft_components::{ExpertConfig, TensorRole};
use weft_gpu::shader::{KernelSpec, parts};
use weft_gpu::{ActFormat, Count};

/// Lanes of a workgroup that chooses a row's experts.
const ROUTE_LANES: u32 = 64;

impl Lowering<'_> {
    /// A layer's experts, from the hidden state into the residual.
    pub(super) fn experts(
        &self,
        norm: Option<&Vectors>,
        experts: &Experts,
        residual: Option<&Residual>,
        class: Class,
    ) -> Vec<UnboundStep> {
        let (Some(config), Some(scratch), Some(residual)) =
            (&self.config.experts, &self.scratch.experts, residual)
        else {
            return Vec::new();
        };
        let products = [Some(&experts.router), Some(&experts.gate_up)].into_iter();
        let products = products.chain([experts.shared.as_ref().map(|shared| &shared.gate_up)]).flatten();
        let mut kinds: Vec<ActFormat> = Vec::new();
        for kind in products.map(|product| self.kind(product, class)) {
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        let (mut steps, input) = self.input(norm, &kinds, class);
        let scores = Out::Store(&scratch.scores, experts.router.rows);
        steps.extend(self.product("router", &experts.router, class, input, &scores, Count::Rows));
        steps.push(self.route(config, scratch, experts));
        if !matches!(class, Class::Few(_)) {
            steps.push(self.group(config, scratch));
        }
        let down = self.kind(&experts.down, class);
        let gate = Out::Gate(&scratch.gated, down, experts.down.columns());
        steps.extend(self.pairs("expert_gate_up", &experts.gate_up, class, input, &gate, config.used));
        let store = Out::Store(&scratch.rows, self.config.embedding);
        let gated = In::Act(&scratch.gated);
        steps.extend(self.pairs("expert_down", &experts.down, class, gated, &store, 1));
        if let Some(shared) = &experts.shared {
            steps.extend(self.gated(input, shared, class, None));
            let store = Out::Store(&self.scratch.qkv, self.config.embedding);
            let gated = In::Act(&self.scratch.gated);
            steps.extend(self.product("shared_down", &shared.down, class, gated, &store, Count::Rows));
        }
        steps.push(self.mix(config, scratch, experts, residual));
        steps
    }

    /// Chooses each row's experts.
    fn route(&self, config: &ExpertConfig, scratch: &ExpertScratch, experts: &Experts) -> UnboundStep {
        let (reduce, lanes) = self.reduce();
        let spec = KernelSpec::new("route", [parts::WAVE, reduce, parts::ROUTE])
            .with("WG", ROUTE_LANES)
            .with("LANES", lanes)
            .with("EXPERTS", config.count as u32)
            .with("SCORES", experts.router.rows as u32)
            .with("USED", config.used as u32)
            .with("NORMALISE", u32::from(config.normalise))
            .with("WEIGHT_SCALE", config.weight_scale);
        let wave = self.scratch.wave.clone();
        let buffers = vec![(0, wave), (1, scratch.scores.clone()), (2, scratch.routes.clone())];
        UnboundStep { spec, buffers, grid: super::a_row(Extent::Rows) }
    }

    /// Groups pairs by expert.
    fn group(&self, config: &ExpertConfig, scratch: &ExpertScratch) -> UnboundStep {
        let spec = KernelSpec::new("group_pairs", [parts::WAVE, parts::GROUP_PAIRS])
            .with("WG", super::WG)
            .with("EXPERTS", config.count as u32)
            .with("USED", config.used as u32)
            .with("GROUP", PAIR_GROUP as u32)
            .with("TILES", self.tiles(config));
        let wave = self.scratch.wave.clone();
        let buffers = vec![(0, wave), (1, scratch.routes.clone()), (2, scratch.groups.clone())];
        UnboundStep { spec, buffers, grid: [Extent::Fixed(1); 3] }
    }

    /// Tiles of pairs that fit the buffers.
    fn tiles(&self, config: &ExpertConfig) -> u32 {
        pair_tiles(config, self.scratch.rows) as u32
    }

    /// A product of pairs with their experts' matrices. `share` neighbouring pairs have one row of the input.
    fn pairs(
        &self,
        name: &'static str,
        product: &Product,
        class: Class,
        input: In<'_>,
        out: &Out<'_>,
        share: usize,
    ) -> Vec<UnboundStep> {
        let (Some(config), Some(scratch)) = (&self.config.experts, &self.scratch.experts) else {
            return Vec::new();
        };
        let kind = self.kind(product, class);
        let (of, list, deep) = match class {
            Class::Few(_) => {
                let of = FewRows { parts: &[parts::ROWS_PAIRS], most: 1 };
                (of, &scratch.routes, Extent::Pairs { used: config.used as u32 })
            }
            Class::Bands(_) | Class::Many => {
                let of = FewRows { parts: &[parts::ROWS_GROUPS], most: PAIR_GROUP };
                let (used, experts) = (config.used as u32, config.count as u32);
                (of, &scratch.groups, Extent::PairTiles { used, experts })
            }
        };
        let lowering = |m: &ProductMatrix| {
            let matrix = &*m.matrix;
            let (spec, [x, y, _]) = self.matvec(name, matrix, kind, m.rows, of, input, out);
            let spec = matrix
                .encoding
                .constants(spec)
                .with("K", matrix.columns as u32)
                .with("N", m.rows as u32)
                .with("ROW_BASE", 0u32)
                .with("FIRST", m.experts.start as u32)
                .with("HELD", m.experts.len() as u32)
                .with("EXPERTS", config.count as u32)
                .with("USED", config.used as u32)
                .with("SHARE", share as u32)
                .with("TILES", self.tiles(config));
            let [numbers, beside] = self.read(input, kind);
            let mut buffers = vec![(1, numbers), (2, beside), (3, list.clone())];
            buffers.extend(matrix.segments.iter().flat_map(|segment| segment.buffers()));
            let spec = Self::put(spec, out, &mut buffers);
            UnboundStep { spec, buffers, grid: [x, y, deep] }
        };
        product.matrices.iter().map(lowering).collect()
    }

    /// Adds the weighted outputs of a row's experts to the residual.
    fn mix(
        &self,
        config: &ExpertConfig,
        scratch: &ExpertScratch,
        experts: &Experts,
        residual: &Residual,
    ) -> UnboundStep {
        let shared = match &experts.shared {
            None => 0u32,
            Some(_) if !experts.router.has(TensorRole::SharedRouter) => 1,
            Some(_) => 2,
        };
        let from = vec![
            (1, scratch.rows.clone()),
            (2, scratch.routes.clone()),
            (5, self.scratch.qkv.clone()),
            (6, scratch.scores.clone()),
        ];
        let mut lowering = self.residual(residual, parts::DELTA_EXPERTS, from);
        lowering.spec = lowering
            .spec
            .with("USED", config.used as u32)
            .with("EXPERTS", config.count as u32)
            .with("SCORES", experts.router.rows as u32)
            .with("SHARED", shared);
        lowering
    }
}
