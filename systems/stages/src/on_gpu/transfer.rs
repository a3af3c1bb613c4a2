//! What goes to a device at the ends of a tick: plans that are ready, angles, the submit.

use super::part::{GpuModel, GpuPart};
use super::scratch::angle_rows;
use crate::on_cpu::{AdapterWeights, CpuWeights, RopeTable};
use bevy_ecs::prelude::*;
use std::sync::Arc;
use weft_components::{
    Adapters, AtLayer, Model, ModelConfig, RopeConfig, ShardOf, TensorRole, TickWork, Wave, WaveOf,
    WeightShard,
};
use weft_gpu::GpuError;

/// A GPU of a model failed; [`recover_gpu`](super::recover_gpu) acts on it. A component of the model.
#[derive(Component, Clone, Debug)]
pub struct GpuFailed(pub GpuError);

/// Takes plans from the threads that made them and writes the angles of rotary embedding. Runs in the set `Load`.
pub fn plan_gpu(
    mut commands: Commands<'_, '_>,
    mut models: Query<'_, '_, (Entity, &ModelConfig, &mut GpuModel), With<Model>>,
    shards: Query<'_, '_, (&WeightShard, &CpuWeights, &ShardOf)>,
    mut work: ResMut<'_, TickWork>,
) {
    for (entity, config, mut model) in &mut models {
        for part in &mut model.0 {
            let ready = part.plan().is_some();
            let polled = part.poll_plan().and_then(|()| part.poll_growth());
            if let Err(error) = polled.and_then(|()| part.gpu.failure().map_or(Ok(()), Err)) {
                part.failed = true;
                commands.entity(entity).insert(GpuFailed(error));
                continue;
            }
            if !part.angles {
                let vector = |role: TensorRole| {
                    let found = shards.iter().find(|(shard, _, of)| shard.role == role && of.0 == entity);
                    found.and_then(|(_, weights, _)| weights.0.vector())
                };
                let table = |rope: &RopeConfig| match rope.factors.role() {
                    Some(role) => Some(RopeTable::new(rope, Some(vector(role)?))),
                    None => Some(RopeTable::new(rope, None)),
                };
                if let Some(tables) = config.ropes.iter().map(table).collect::<Option<Vec<_>>>() {
                    write_angles(part, &tables, config);
                }
            }
            work.0 += u64::from(part.plan().is_some() && !ready);
        }
    }
}

/// Brings the adapters of models to the GPUs that have layers of theirs. Runs in the set `Load`.
pub fn plan_gpu_adapters(
    mut models: Query<'_, '_, (&mut GpuModel, Option<&Adapters>), With<Model>>,
    weights: Query<'_, '_, &AdapterWeights>,
) {
    for (mut model, adapters) in &mut models {
        let there = adapters.map_or(&[][..], Adapters::entities);
        for part in &mut model.0 {
            if part.holds_adapters(there) {
                continue;
            }
            let listed = |adapter: &Entity| Some((*adapter, Arc::clone(&weights.get(*adapter).ok()?.0)));
            part.take_adapters(there.iter().filter_map(listed).collect());
        }
    }
}

/// Cosines and sines of positions 0 to 255, then of the multiples of 256: `[rows, pairs]` of (cosine, sine). Kernels multiply
/// one of each as complex numbers, so what they are magnified by is in the lower ones only.
fn write_angles(part: &mut GpuPart, tables: &[RopeTable], config: &ModelConfig) {
    let tokens = part.scratch.table_words / 2 * weft_platform::PAGE;
    let upper = angle_rows(tokens.min(config.context)) - 256;
    let positions: Vec<u32> = (0..256).chain((0..upper as u32).map(|i| i * 256)).collect();
    for ((table, rope), buffer) in tables.iter().zip(&config.ropes).zip(&part.scratch.angles) {
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
        part.gpu.queue.write_buffer(buffer, 0, bytemuck::cast_slice(&angles));
    }
    part.angles = true;
}

/// Submits what the tick has recorded, and starts to bring back the rows of waves whose head has been recorded. Runs in the set
/// `Sample`.
pub fn submit_gpu(
    mut models: Query<'_, '_, (&ModelConfig, &mut GpuModel), With<Model>>,
    mut waves: Query<'_, '_, (Entity, &mut Wave, &WaveOf)>,
    mut work: ResMut<'_, TickWork>,
) {
    for (entity, mut wave, of) in &mut waves {
        let (AtLayer::OnDevice, Some(place)) = (wave.at, wave.place) else { continue };
        let Ok((config, mut model)) = models.get_mut(of.0) else { continue };
        let Some(part) = model.on(place) else { continue };
        if part.occupied == Some(entity) {
            part.send_rows(&mut wave, config);
            work.0 += 1;
        }
    }
    for (_, mut model) in &mut models {
        for part in model.0.iter_mut().filter(|part| !part.commands.is_empty()) {
            part.commands.submit(&part.gpu);
        }
    }
}
