//! The kernels of feed-forward networks.

use super::adapter::Adapted;
use super::product::{In, Out};
use super::{Lowering, UnboundStep, WG};
use crate::on_gpu::layer_weights::{Dense, Ffn, Gated, LayerWeights};
use crate::on_gpu::shape::{Class, Extent};
use crate::on_gpu::vectors::Vectors;
use weft_components::{Activation, AdapterSite};
use weft_gpu::shader::{Part, parts};
use weft_gpu::{ActFormat, Count};

/// The kernel part with a gate's formula.
const fn gate_part(activation: Activation) -> Part {
    match activation {
        Activation::Silu => parts::GATE_SILU,
        Activation::Gelu => parts::GATE_GELU,
        Activation::GeluErf => parts::GATE_GELU_ERF,
        Activation::ReluSquared => parts::GATE_RELU2,
    }
}

impl Lowering<'_> {
    pub(super) fn gate(&self) -> Part {
        gate_part(self.config.activation)
    }

    /// A layer's feed-forward network, from the hidden state into the residual.
    pub(super) fn ffn(&self, index: usize, weights: &LayerWeights, class: Class) -> Vec<UnboundStep> {
        let norm = weights.ffn_norm.as_ref();
        match &weights.ffn {
            Ffn::Dense(dense) => {
                let (mut steps, input) = self.input(norm, &[self.kind(&dense.gate_up, class)], class);
                let adapted = |site| Adapted { layer: Some(index), site };
                steps.extend(self.gated(input, dense, class, Some(adapted(AdapterSite::GateUp))));
                let (residual, input) = (weights.ffn_residual.as_ref(), In::Act(&self.scratch.gated));
                let adapted = adapted(AdapterSite::Down);
                steps.extend(self.add_to_residual("down", &dense.down, class, input, residual, adapted));
                steps
            }
            Ffn::Experts(experts) => self.experts(norm, experts, weights.ffn_residual.as_ref(), class),
        }
    }

    /// Gate and up, as the down projection reads them. `adapted` is set if adapters may add to them.
    pub(super) fn gated(
        &self,
        input: In<'_>,
        dense: &Dense,
        class: Class,
        adapted: Option<Adapted>,
    ) -> Vec<UnboundStep> {
        let scratch = self.scratch;
        let down = self.kind(&dense.down, class);
        let plain = dense.gated.is_none() && dense.ungated.is_none();
        let stored = self.adapters.is_some() && adapted.is_some();
        if matches!(class, Class::Few(_)) && !stored && dense.gate_up.is_whole() && plain {
            let gate = Out::Gate(&scratch.gated, down, dense.down.columns());
            return self.product("gate_up", &dense.gate_up, class, input, &gate, Count::Rows);
        }
        let store = Out::Store(&scratch.gate_up, dense.gate_up.rows);
        let mut steps = self.product("gate_up", &dense.gate_up, class, input, &store, Count::Rows);
        if let Some(adapted) = adapted {
            let x = &self.read(input, ActFormat::F32)[0];
            let x = (x, dense.gate_up.columns());
            steps.extend(self.adapt(adapted, x, (&scratch.gate_up, dense.gate_up.rows), Count::Rows));
        }
        steps.push(match &dense.ungated {
            Some(bias) => self.activate(dense, bias, down),
            None => self.gate_rows(dense, down),
        });
        steps
    }

    /// The nonlinearity of a network without a gate.
    fn activate(&self, dense: &Dense, bias: &Vectors, kind: ActFormat) -> UnboundStep {
        let scratch = self.scratch;
        let width = dense.gate_up.rows as u32;
        let spec = self
            .spec("activate", &[kind.part(), self.gate(), parts::ACTIVATE])
            .with("WIDTH", width)
            .with("ACT_WIDTH", dense.down.columns() as u32);
        let mut buffers =
            vec![(0, scratch.wave.clone()), (1, scratch.gate_up.clone()), (2, bias.buffer.clone())];
        buffers.extend(Self::act_buffers(&scratch.gated, kind));
        let across = Extent::Fixed((width / 4).div_ceil(WG));
        UnboundStep { spec, buffers, grid: [across, Extent::Rows, Extent::Fixed(1)] }
    }

    /// Gate times up, from rows that hold both.
    fn gate_rows(&self, dense: &Dense, kind: ActFormat) -> UnboundStep {
        let scratch = self.scratch;
        let width = dense.gate_up.rows as u32 / 2;
        let (name, part) = match &dense.gated {
            Some(_) => ("gate_norm", parts::GATE_NORM),
            None => ("gate_mul", parts::GATE_MUL),
        };
        let spec = self
            .spec(name, &[kind.part(), self.gate(), part])
            .with("WIDTH", width)
            .with("ACT_WIDTH", dense.down.columns() as u32);
        let mut buffers = vec![(0, scratch.wave.clone()), (1, scratch.gate_up.clone())];
        buffers.extend(Self::act_buffers(&scratch.gated, kind));
        match &dense.gated {
            Some(Gated { extra, norm, bias }) => {
                buffers.push((2, extra.buffer.clone()));
                let spec = spec
                    .with("NORM", u32::from(*norm))
                    .with("BIAS", u32::from(*bias))
                    .with("EPSILON", self.config.norm_epsilon);
                UnboundStep { spec, buffers, grid: super::a_row(Extent::Rows) }
            }
            None => UnboundStep {
                spec,
                buffers,
                grid: [Extent::Fixed((width / 4).div_ceil(WG)), Extent::Rows, Extent::Fixed(1)],
            },
        }
    }
}
