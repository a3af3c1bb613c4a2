//! The plan of a model on the CPU: weight handles in the order of use.

use super::prepare::{CpuWeight, CpuWeights};
use super::rope::RopeTable;
use bevy_ecs::prelude::*;
use std::sync::Arc;
use weft_components::{
    LayerIndex, LayerOf, Model, ModelConfig, OnCpu, Resident, Shards, TensorRole, WeightShard,
};
use weft_platform::CpuMatrix;

/// Weights of a layer, or of the model itself, by role.
pub struct Weights {
    by_role: [Option<Arc<CpuWeight>>; TensorRole::COUNT],
}

impl Default for Weights {
    fn default() -> Self {
        Self { by_role: [const { None }; TensorRole::COUNT] }
    }
}

impl Weights {
    /// The matrix of a role, if it is there.
    pub fn matrix(&self, role: TensorRole) -> Option<&CpuMatrix> {
        match self.by_role[role as usize].as_deref() {
            Some(CpuWeight::Matrix(matrix)) => Some(matrix),
            _ => None,
        }
    }

    /// The vector of a role, if it is there.
    pub fn vector(&self, role: TensorRole) -> Option<&[f32]> {
        self.by_role[role as usize].as_deref().and_then(CpuWeight::vector)
    }

    fn take(&mut self, shard: &WeightShard, weights: &CpuWeights) {
        self.by_role[shard.role as usize] = Some(Arc::clone(&weights.0));
    }
}

/// Handles to everything that a step of the model reads. A component of the model.
#[derive(Component)]
pub struct CpuPlan {
    /// Weights of the model itself: those that have arrived, since the embedding is needed long before the head.
    pub model: Weights,
    /// Weights of each layer; `None` where it is not resident.
    pub layers: Vec<Option<Weights>>,
    /// Rotary frequencies, once the model's factors are there.
    pub rope: Option<RopeTable>,
}

impl CpuPlan {
    pub(super) fn new(config: &ModelConfig) -> Self {
        Self {
            model: Weights::default(),
            layers: (0..config.layers).map(|_| None).collect(),
            rope: (config.ropes[0].factors == weft_components::RopeFactors::None)
                .then(|| RopeTable::new(&config.ropes[0], None)),
        }
    }

    /// The head: a matrix of its own, or the embedding's where the model ties them.
    pub fn head(&self, tied: bool) -> Option<&CpuMatrix> {
        self.model.matrix(if tied { TensorRole::TokenEmbedding } else { TensorRole::Output })
    }
}

/// Brings plans up to date with what has become resident. Runs in the set `Load`.
pub fn plan_cpu(
    mut plans: Query<'_, '_, (&ModelConfig, &mut CpuPlan), With<Model>>,
    shards: Query<'_, '_, (&WeightShard, &CpuWeights, &weft_components::ShardOf), Added<CpuWeights>>,
    held: Query<'_, '_, (&WeightShard, &CpuWeights)>,
    layers: Query<'_, '_, (&LayerIndex, &LayerOf, &Shards), (With<OnCpu>, Added<Resident>)>,
    mut evicted: RemovedComponents<'_, '_, Resident>,
    gone: Query<'_, '_, (&LayerIndex, &LayerOf), Without<Resident>>,
) {
    for (shard, weights, of) in &shards {
        let Ok((config, mut plan)) = plans.get_mut(of.0) else {
            continue;
        };
        plan.model.take(shard, weights);
        if shard.role == TensorRole::RopeFactors {
            plan.rope = Some(RopeTable::new(&config.ropes[0], plan.model.vector(TensorRole::RopeFactors)));
        }
    }
    for entity in evicted.read() {
        let Ok((index, of)) = gone.get(entity) else {
            continue;
        };
        if let Ok((_, mut plan)) = plans.get_mut(of.0) {
            plan.layers[index.0] = None;
        }
    }
    for (index, of, shards) in &layers {
        let Ok((_, mut plan)) = plans.get_mut(of.0) else {
            continue;
        };
        let mut weights = Weights::default();
        for (shard, held) in held.iter_many(shards.entities()).matched() {
            weights.take(shard, held);
        }
        plan.layers[index.0] = Some(weights);
    }
}
