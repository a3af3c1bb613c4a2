//! The plan of a model on the CPU: weight handles in the order of use.

use super::adapter_weights::PlannedAdapter;
use super::place::CpuPlace;
use super::rope::RopeTable;
use super::weight_packing::{CpuWeight, CpuWeights};
use bevy_ecs::prelude::*;
use std::sync::Arc;
use weft_components::{
    HeldBy, LayerIndex, LayerOf, Model, ModelConfig, Resident, RopeConfig, Shards, TensorRole, WeightShard,
};
use weft_platform::{Cpu, CpuMatrix};

/// Weights of a layer, or of the model itself, by role.
pub struct Weights {
    by_role: [Option<Arc<CpuWeight>>; TensorRole::COUNT],
    /// Gate, up and down of each expert of this layer.
    experts: Vec<[Option<Arc<CpuWeight>>; 3]>,
}

impl Default for Weights {
    fn default() -> Self {
        Self { by_role: [const { None }; TensorRole::COUNT], experts: Vec::new() }
    }
}

/// The matrix of a weight. `None` if it is a vector or missing.
fn matrix(weight: &Option<Arc<CpuWeight>>) -> Option<&CpuMatrix> {
    match weight.as_deref() {
        Some(CpuWeight::Matrix(matrix)) => Some(matrix),
        _ => None,
    }
}

impl Weights {
    /// The matrix of a role. `None` if it has not arrived.
    pub fn matrix(&self, role: TensorRole) -> Option<&CpuMatrix> {
        matrix(&self.by_role[role as usize])
    }

    /// The vector of a role. `None` if it has not arrived.
    pub fn vector(&self, role: TensorRole) -> Option<&[f32]> {
        self.by_role[role as usize].as_deref().and_then(CpuWeight::vector)
    }

    /// The factor of a role. 1 if the model has none.
    pub fn factor(&self, role: TensorRole) -> f32 {
        self.vector(role).and_then(|values| values.first().copied()).unwrap_or(1.0)
    }

    /// Gate, up and down of an expert. `None` if one has not arrived.
    pub fn expert(&self, expert: usize) -> Option<[&CpuMatrix; 3]> {
        let [gate, up, down] = self.experts.get(expert)?;
        Some([matrix(gate)?, matrix(up)?, matrix(down)?])
    }

    /// Drops the weights of a role of the model itself.
    pub(super) fn drop_role(&mut self, role: TensorRole) {
        self.by_role[role as usize] = None;
    }

    /// Adds the weights of a shard, under its role.
    pub(super) fn take(&mut self, shard: &WeightShard, weights: &CpuWeights) {
        let part = match shard.role {
            TensorRole::ExpertGate => 0,
            TensorRole::ExpertUp => 1,
            TensorRole::ExpertDown => 2,
            role => {
                self.by_role[role as usize] = Some(Arc::clone(&weights.0));
                return;
            }
        };
        if self.experts.len() <= shard.expert {
            self.experts.resize_with(shard.expert + 1, Default::default);
        }
        self.experts[shard.expert][part] = Some(Arc::clone(&weights.0));
    }
}

/// The weights of shards, each under its role.
impl<'a> FromIterator<(&'a WeightShard, &'a CpuWeights)> for Weights {
    fn from_iter<I: IntoIterator<Item = (&'a WeightShard, &'a CpuWeights)>>(shards: I) -> Self {
        let mut weights = Self::default();
        shards.into_iter().for_each(|(shard, held)| weights.take(shard, held));
        weights
    }
}

/// Handles to all weights that a step of the model reads. A component of the model.
#[derive(Component)]
pub struct CpuPlan {
    /// Weights of the model itself that have arrived. The embedding is needed long before the head arrives.
    pub model: Weights,
    /// Weights of each layer. `None` if it is not resident.
    pub layers: Vec<Option<Weights>>,
    /// Rotary frequencies, one table for each of [`ModelConfig::ropes`]; `None` until the model's factors have arrived.
    pub ropes: Option<Vec<RopeTable>>,
    /// The model's adapters.
    pub adapters: Vec<PlannedAdapter>,
}

impl CpuPlan {
    pub(super) fn new(config: &ModelConfig) -> Self {
        let layers = (0..config.layers).map(|_| None).collect();
        let mut plan = Self { model: Weights::default(), layers, ropes: None, adapters: Vec::new() };
        plan.make_ropes(config);
        plan
    }

    /// Computes the tables of rotary frequencies, once all factors have arrived.
    pub(super) fn make_ropes(&mut self, config: &ModelConfig) {
        let table = |rope: &RopeConfig| match rope.factors.role() {
            Some(role) => self.model.vector(role).map(|factors| RopeTable::new(rope, Some(factors))),
            None => Some(RopeTable::new(rope, None)),
        };
        self.ropes = config.ropes.iter().map(table).collect();
    }

    /// A layer with its weights; `None` if the layer is not resident.
    pub(super) fn layer<'a>(
        &'a self,
        cpu: &'a Cpu,
        config: &'a ModelConfig,
        index: usize,
    ) -> Option<CpuLayer<'a>> {
        let weights = self.layers.get(index)?.as_ref()?;
        let ropes = self.ropes.as_deref().unwrap_or_default();
        Some(CpuLayer { cpu, config, weights, ropes, adapters: &self.adapters, index })
    }

    /// The head: a matrix of its own, or the embedding's where the model ties them.
    pub fn head(&self, tied: bool) -> Option<&CpuMatrix> {
        self.model.matrix(if tied { TensorRole::TokenEmbedding } else { TensorRole::Output })
    }
}

/// A layer and what computes it. The systems [`attention_cpu`](super::attention_cpu) and [`ffn_cpu`](super::ffn_cpu) call
/// its methods; so can a backend that computes on the CPU in a way of its own, such as on another thread: they need no `World`.
pub struct CpuLayer<'a> {
    /// Kernels and threads.
    pub cpu: &'a Cpu,
    /// The model's hyperparameters.
    pub config: &'a ModelConfig,
    /// The layer's weights.
    pub weights: &'a Weights,
    /// Rotary frequencies, one table for each of [`ModelConfig::ropes`].
    pub ropes: &'a [RopeTable],
    /// The model's adapters; those that no row uses may be left out.
    pub adapters: &'a [PlannedAdapter],
    /// The layer's index, which is also its layer of the KV arena.
    pub index: usize,
}

/// Updates plans with the layers that have become resident. Runs in the set `Load`.
pub fn plan_cpu(
    mut plans: Query<'_, '_, (&ModelConfig, &mut CpuPlan), With<Model>>,
    shards: Query<'_, '_, (&WeightShard, &CpuWeights, &weft_components::ShardOf), Added<CpuWeights>>,
    held: Query<'_, '_, (&WeightShard, &CpuWeights)>,
    layers: Query<'_, '_, (&LayerIndex, &LayerOf, &Shards, &HeldBy), Added<Resident>>,
    here: Res<'_, CpuPlace>,
) {
    for (shard, weights, of) in &shards {
        let Ok((config, mut plan)) = plans.get_mut(of.0) else {
            continue;
        };
        plan.model.take(shard, weights);
        if matches!(shard.role, TensorRole::RopeFactors | TensorRole::RopeFactorsLong) {
            plan.make_ropes(config);
        }
    }
    for (index, of, shards, _) in layers.iter().filter(|(.., held)| held.0 == here.0) {
        let Ok((_, mut plan)) = plans.get_mut(of.0) else {
            continue;
        };
        plan.layers[index.0] = Some(held.iter_many(shards.entities()).matched().collect());
    }
}

/// Removes a layer that stops being resident from its model's plan at once. An observer, because removals are
/// remembered for a tick or two only.
pub fn unplan_layer(
    removed: On<'_, '_, Remove<Resident>>,
    layers: Query<'_, '_, (&LayerIndex, &LayerOf)>,
    mut plans: Query<'_, '_, &mut CpuPlan, With<Model>>,
) {
    let Ok((index, of)) = layers.get(removed.entity) else { return };
    if let Ok(mut plan) = plans.get_mut(of.0)
        && let Some(layer) = plan.layers.get_mut(index.0)
    {
        *layer = None;
    }
}
