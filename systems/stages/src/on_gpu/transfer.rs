//! Work for a device at the ends of a tick: finished plans, angles of rotary embedding, the submit.

use super::gpu_shard::{GpuShard, GpuShards};
use super::scratch::angle_rows;
use crate::on_cpu::{AdapterWeights, CpuWeights, RopeTable};
use bevy_ecs::prelude::*;
use std::sync::Arc;
use weft_components::{
    Adapters, AtLayer, Model, ModelConfig, RopeConfig, ShardOf, TensorRole, TickWork, Wave, WaveOf,
    WeightShard,
};
use weft_gpu::GpuError;

/// A GPU of a model failed. [`recover_gpu`](super::recover_gpu) acts on it. A component of the model.
#[derive(Component, Clone, Debug)]
pub struct GpuFailed(pub GpuError);

/// Takes finished plans from their threads and writes the angles of rotary embedding. Runs in the set `Load`.
pub fn plan_gpu(
    mut commands: Commands<'_, '_>,
    mut models: Query<'_, '_, (Entity, &ModelConfig, &mut GpuShards), With<Model>>,
    shards: Query<'_, '_, (&WeightShard, &CpuWeights, &ShardOf)>,
    mut work: ResMut<'_, TickWork>,
) {
    for (entity, config, mut model) in &mut models {
        for gpu_shard in &mut model.0 {
            let ready = gpu_shard.plan().is_some();
            let polled = gpu_shard.poll_plan().and_then(|()| gpu_shard.poll_growth());
            if let Err(error) = polled.and_then(|()| gpu_shard.gpu.failure().map_or(Ok(()), Err)) {
                gpu_shard.failed = true;
                commands.entity(entity).insert(GpuFailed(error));
                continue;
            }
            if !gpu_shard.angles {
                let vector = |role: TensorRole| {
                    let found = shards.iter().find(|(shard, _, of)| shard.role == role && of.0 == entity);
                    found.and_then(|(_, weights, _)| weights.0.vector())
                };
                let table = |rope: &RopeConfig| match rope.factors.role() {
                    Some(role) => Some(RopeTable::new(rope, Some(vector(role)?))),
                    None => Some(RopeTable::new(rope, None)),
                };
                if let Some(tables) = config.ropes.iter().map(table).collect::<Option<Vec<_>>>() {
                    write_angles(gpu_shard, &tables, config);
                }
            }
            work.0 += u64::from(gpu_shard.plan().is_some() && !ready);
        }
    }
}

/// Uploads the adapters of models to the GPUs that hold some of their layers. Runs in the set `Load`.
pub fn plan_gpu_adapters(
    mut models: Query<'_, '_, (&mut GpuShards, Option<&Adapters>), With<Model>>,
    weights: Query<'_, '_, &AdapterWeights>,
) {
    for (mut model, adapters) in &mut models {
        let there = adapters.map_or(&[][..], Adapters::entities);
        for gpu_shard in &mut model.0 {
            if gpu_shard.holds_adapters(there) {
                continue;
            }
            let listed = |adapter: &Entity| Some((*adapter, Arc::clone(&weights.get(*adapter).ok()?.0)));
            gpu_shard.take_adapters(there.iter().filter_map(listed).collect());
        }
    }
}

/// Writes cosines and sines of positions 0 to 255, then of the multiples of 256: `[rows, pairs]` of (cosine, sine).
/// Kernels multiply one of each as complex numbers, so the magnitude scale is in the lower ones only.
fn write_angles(gpu_shard: &mut GpuShard, tables: &[RopeTable], config: &ModelConfig) {
    let tokens = gpu_shard.scratch.table_words / 2 * weft_platform::PAGE;
    let upper = angle_rows(tokens.min(config.context)) - 256;
    let positions: Vec<u32> = (0..256).chain((0..upper as u32).map(|i| i * 256)).collect();
    for ((table, rope), buffer) in tables.iter().zip(&config.ropes).zip(&gpu_shard.scratch.angles) {
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        table.fill(&positions, &mut cos, &mut sin);
        let lower = 256 * table.pairs();
        let plain = |i: usize| if i < lower { 1.0 } else { rope.magnitude.recip() };
        let angles: Vec<[f32; 2]> = cos
            .iter()
            .zip(&sin)
            .enumerate()
            .map(|(i, (cos, sin))| [cos * plain(i), sin * plain(i)])
            .collect();
        gpu_shard.gpu.write(buffer, 0, bytemuck::cast_slice(&angles));
    }
    gpu_shard.angles = true;
}

/// Submits what the tick has recorded, and starts to read back the rows of waves whose head has been recorded. Runs in
/// the set `Sample`.
pub fn submit_gpu(
    mut models: Query<'_, '_, (&ModelConfig, &mut GpuShards), With<Model>>,
    mut waves: Query<'_, '_, (Entity, &mut Wave, &WaveOf)>,
    mut work: ResMut<'_, TickWork>,
) {
    for (entity, mut wave, of) in &mut waves {
        let (AtLayer::OnDevice, Some(place)) = (wave.at, wave.place) else { continue };
        let Ok((config, mut model)) = models.get_mut(of.0) else { continue };
        let Some(gpu_shard) = model.on(place) else { continue };
        if gpu_shard.occupied == Some(entity) {
            gpu_shard.send_rows(&mut wave, config);
            work.0 += 1;
        }
    }
    for (_, mut model) in &mut models {
        for gpu_shard in model.0.iter_mut().filter(|gpu_shard| !gpu_shard.commands.is_empty()) {
            gpu_shard.commands.submit(&gpu_shard.gpu);
        }
    }
}
