//! The feed-forward network: norm, gate and up, the gate's product (arXiv 2002.05202), down, residual. Without a gate:
//! up, a nonlinearity and down. Or experts instead.
//!
//! The layer's tensors decide which norms and factors there are, and whether there are experts.

mod experts;
use crate::host::HostCpu;
use crate::on_cpu::{self as cpu, Adapting, Block, CpuLayer, CpuPlace, CpuPlan, CpuScratch, Weights, sized};
use bevy_ecs::prelude::*;
use weft_components::{AdapterSite, CurrentLayer, Model, ModelConfig, TensorRole as Role, Wave};
use weft_platform::{Activations, Cpu, CpuMatrix, Need};

/// Runs the feed-forward network of the current layer if it is placed on the CPU and its attention has run.
pub fn ffn_cpu(
    mut current: ResMut<'_, CurrentLayer>,
    host: Res<'_, HostCpu>,
    here: Res<'_, CpuPlace>,
    models: Query<'_, '_, (&ModelConfig, &CpuPlan), With<Model>>,
    mut waves: Query<'_, '_, (&mut Wave, &mut CpuScratch)>,
) {
    if current.place != here.0 || !current.attended {
        return;
    }
    let Ok((config, plan)) = models.get(current.model) else {
        return;
    };
    let Ok((mut wave, mut scratch)) = waves.get_mut(current.wave) else {
        return;
    };
    let Some(layer) = plan.layer(&host.0, config, current.index) else {
        return;
    };
    let _span = tracing::trace_span!("ffn", layer = current.index).entered();
    current.computed = layer.feed_forward(&mut wave, &mut scratch);
}

impl CpuLayer<'_> {
    /// Norm, feed-forward network and residual over the rows of a wave, whose hidden state is on the host. Returns false, and
    /// leaves the hidden state as it is, if a weight is missing.
    pub fn feed_forward(&self, wave: &mut Wave, scratch: &mut CpuScratch) -> bool {
        let Self { cpu, config, weights, .. } = *self;
        let (rows, width, epsilon) = (wave.rows(), config.embedding, config.norm_epsilon);
        let CpuScratch { normed, activations, gate_up, gated, experts, adapters, .. } = scratch;
        let adapting = Adapting::layer(cpu, &wave.adapters, self.adapters, self.index, adapters);
        let hidden = sized(&mut wave.hidden, rows * width);
        let normed = sized(normed, rows * width);
        match weights.vector(Role::FfnNorm) {
            Some(norm) => cpu::norm_rows(cpu, hidden, norm, epsilon, normed),
            None => normed.copy_from_slice(hidden),
        }
        let mut gates = Gates { cpu, config, activations, gate_up, gated };
        let there = match config.experts {
            Some(numbers) => experts::mix(&mut gates, &numbers, weights, normed, experts),
            None => dense(&mut gates, weights, adapting, normed),
        };
        let block = Block {
            factor: weights.factor(Role::FfnDownScale),
            bias: weights.vector(Role::FfnDownBias),
            norm: weights.vector(Role::FfnPostNorm),
            epsilon,
            residual_scale: config.residual_scale,
            residual_norm: weights
                .vector(Role::FfnResidualNorm)
                .zip(weights.vector(Role::FfnResidualNormBias)),
        };
        if there {
            block.add(cpu, hidden, normed, width);
        }
        there
    }
}

/// Passes rows through one network. Returns false if a weight is missing.
fn dense(gates: &mut Gates<'_>, weights: &Weights, adapting: Option<Adapting<'_>>, rows: &mut [f32]) -> bool {
    let (Some(up), Some(down)) = (weights.matrix(Role::FfnUp), weights.matrix(Role::FfnDown)) else {
        return false;
    };
    let network = Network {
        gate: weights.matrix(Role::FfnGate),
        up,
        down,
        gate_factor: weights.factor(Role::FfnGateScale),
        up_factor: weights.factor(Role::FfnUpScale),
        gate_bias: weights.vector(Role::FfnGateBias),
        up_bias: weights.vector(Role::FfnUpBias),
        norm: weights.vector(Role::FfnSubNorm),
    };
    gates.load(rows, network.need());
    gates.run(&network, adapting, rows);
    true
}

/// One network: of a layer, of an expert, or the shared expert.
struct Network<'a> {
    /// `[inner, embedding]`. `None` if the network has no gate.
    gate: Option<&'a CpuMatrix>,
    /// `[inner, embedding]`.
    up: &'a CpuMatrix,
    /// `[embedding, inner]`.
    down: &'a CpuMatrix,
    /// Factor of the gate projection's outputs.
    gate_factor: f32,
    /// Factor of the up projection's outputs.
    up_factor: f32,
    /// Bias of the gate projection.
    gate_bias: Option<&'a [f32]>,
    /// Bias of the up projection.
    up_bias: Option<&'a [f32]>,
    /// Norm before the down projection.
    norm: Option<&'a [f32]>,
}

impl<'a> Network<'a> {
    /// A network without factors, biases and norm.
    fn plain([gate, up, down]: [&'a CpuMatrix; 3]) -> Self {
        Self {
            gate: Some(gate),
            up,
            down,
            gate_factor: 1.0,
            up_factor: 1.0,
            gate_bias: None,
            up_bias: None,
            norm: None,
        }
    }

    /// The forms in which its first products read their input.
    fn need(&self) -> Need {
        match self.gate {
            Some(gate) => Need::of(&[gate, self.up]),
            None => Need::of(&[self.up]),
        }
    }
}

/// What all networks of a wave share: kernels, configuration and scratch memory.
struct Gates<'a> {
    cpu: &'a Cpu,
    config: &'a ModelConfig,
    activations: &'a mut Activations,
    gate_up: &'a mut Vec<f32>,
    gated: &'a mut Vec<f32>,
}

impl Gates<'_> {
    /// Loads rows of hidden state as inputs of the next products.
    fn load(&mut self, rows: &[f32], need: Need) {
        cpu::load(self.cpu, self.activations, rows, self.config.embedding, need);
    }

    /// Reserves memory for `rows` rows, so that memory does not depend on how many rows an expert happens to get in a
    /// step.
    fn reserve(&mut self, network: &Network<'_>, rows: usize) {
        let Network { up, down, .. } = network;
        sized(self.gate_up, rows * 2 * up.rows());
        sized(self.gated, rows * up.rows());
        self.activations.reserve(rows, up.cols(), network.need());
        self.activations.reserve(rows, down.cols(), Need::of(&[down]));
    }

    /// Passes the loaded rows through a network. `out` receives `[rows, embedding]`. If adapters add to the network's
    /// products, `out` must hold the loaded rows.
    fn run(&mut self, network: &Network<'_>, mut adapting: Option<Adapting<'_>>, out: &mut [f32]) {
        let Self { cpu, config, activations, gate_up, gated } = self;
        let Network { gate, up, down, gate_factor, up_factor, gate_bias, up_bias, norm } = network;
        let (rows, inner, width) = (activations.rows(), up.rows(), config.embedding);
        let gated = sized(gated, rows * inner);
        if let Some(gate) = gate {
            let gate_up = sized(gate_up, rows * 2 * inner);
            cpu::product(cpu, &[gate, up], activations, gate_up, 2 * inner);
            if let Some(adapting) = &mut adapting {
                adapting.add(AdapterSite::GateUp, (&*out, width), activations, (&mut *gate_up, 2 * inner));
            }
            if (*gate_factor, *up_factor) != (1.0, 1.0) {
                cpu::by_rows(cpu, gate_up, 2 * inner, |_, row| {
                    let (gate, up) = row.split_at_mut(inner);
                    cpu.kernels.scale(gate, *gate_factor);
                    cpu.kernels.scale(up, *up_factor);
                });
            }
            if gate_bias.is_some() || up_bias.is_some() {
                for row in gate_up.chunks_exact_mut(2 * inner) {
                    let (gate, up) = row.split_at_mut(inner);
                    gate_bias.iter().for_each(|bias| cpu.kernels.add(gate, bias));
                    up_bias.iter().for_each(|bias| cpu.kernels.add(up, bias));
                }
            }
            cpu::gate_rows(cpu, config.activation, gate_up, gated, inner);
        } else {
            let raised = sized(gate_up, rows * inner);
            cpu::product(cpu, &[up], activations, raised, inner);
            cpu::activate_rows(cpu, config.activation, raised, *up_bias, gated, inner);
        }
        if let Some(norm) = norm {
            cpu::norm_in_place(cpu, gated, norm, config.norm_epsilon);
        }
        cpu::load(cpu, activations, gated, inner, Need::of(&[down]));
        cpu::product(cpu, &[down], activations, out, width);
        if let Some(adapting) = &mut adapting {
            adapting.add(AdapterSite::Down, (&*gated, inner), activations, (out, width));
        }
    }
}
