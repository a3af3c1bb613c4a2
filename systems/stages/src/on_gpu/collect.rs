//! Takes the readbacks of steps that GPUs have finished.

use super::gpu_shard::GpuShards;
use super::in_flight::{InFlight, Readback};
use crate::host::HostCpu;
use crate::on_cpu::CpuWeights;
use crate::place::PlaceLimits;
use bevy_ecs::prelude::*;
use weft_components::{
    AtLayer, Model, ModelConfig, ReadbackOf, Readbacks, ShardOf, TensorRole, TickWork, Wave, WaveLimits,
    WeightShard,
};
use weft_gpu::{GpuError, wgpu};

/// Collects what GPUs have finished. Rows go into waves of their own, which the stage `Sample` delivers; hidden states
/// go into the waves that continue elsewhere. Runs in the set `Sample` before anything reads logits. Never waits.
pub fn collect_gpu(
    mut commands: Commands<'_, '_>,
    host: Res<'_, HostCpu>,
    mut models: Query<
        '_,
        '_,
        (Entity, &ModelConfig, &mut GpuShards, (&mut PlaceLimits, &mut WaveLimits), Option<&Readbacks>),
        With<Model>,
    >,
    shards: Query<'_, '_, (&WeightShard, &CpuWeights, &ShardOf)>,
    mut waves: Query<'_, '_, &mut Wave>,
    mut work: ResMut<'_, TickWork>,
) {
    for (entity, config, mut model, (mut places, mut limits), readbacks) in &mut models {
        for gpu_shard in &mut model.0 {
            if gpu_shard.in_flight.is_empty() {
                continue;
            }
            // A lost device is reported by `plan_gpu`.
            let _ = gpu_shard.gpu.device.poll(wgpu::PollType::Poll);
            while gpu_shard.in_flight.front().is_some_and(InFlight::is_done) {
                let Some(mut in_flight_step) = gpu_shard.in_flight.pop_front() else { break };
                work.0 += 1;
                if let Some((rows, start)) = in_flight_step.started {
                    gpu_shard.submit_budget.learn(rows, gpu_shard.layers.len(), start.elapsed());
                    // Encoders take whole texts in one wave, so their limit must not shrink.
                    if config.causal {
                        let budget = gpu_shard.gpu.submit_budget();
                        let rows = gpu_shard.submit_budget.rows(budget, gpu_shard.most.rows);
                        places.set_rows(gpu_shard.place, rows);
                        limits.rows = places.narrowest().rows;
                    }
                }
                let received = match &in_flight_step.readback {
                    Readback::Hidden { wave } => in_flight_step.words().map(|bytes| {
                        if let Ok(mut wave) = waves.get_mut(*wave) {
                            wave.hidden.clear();
                            wave.hidden.extend_from_slice(bytemuck::cast_slice(&bytes));
                            wave.place = None;
                        }
                    }),
                    Readback::Rows { .. } => {
                        let idle =
                            |wave: &&Entity| waves.get(**wave).is_ok_and(|wave| wave.at == AtLayer::Idle);
                        let free = readbacks.and_then(|all| all.entities().iter().find(idle).copied());
                        let norm = || {
                            let norm = shards.iter().find(|(shard, _, of)| {
                                shard.role == TensorRole::OutputNorm && of.0 == entity
                            });
                            norm.and_then(|(_, weights, _)| weights.0.vector())
                        };
                        match free.and_then(|wave| waves.get_mut(wave).ok()) {
                            Some(mut wave) => in_flight_step.rows_into(&mut wave, &host.0, config, norm),
                            None => {
                                let mut wave = Wave::default();
                                let received = in_flight_step.rows_into(&mut wave, &host.0, config, norm);
                                if received.is_some() {
                                    commands.spawn((wave, ReadbackOf(entity)));
                                }
                                received
                            }
                        }
                    }
                };
                match received {
                    Some(()) => gpu_shard.good_steps = gpu_shard.good_steps.saturating_add(1),
                    // Without a reported failure the sessions would wait for ever. On the reopened device they start
                    // over.
                    None => {
                        gpu_shard
                            .gpu
                            .mark_failed(&GpuError::Readback { adapter: gpu_shard.gpu.info.name.clone() });
                    }
                }
                gpu_shard.keep(in_flight_step);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::on_gpu::in_flight::{AHEAD, LARGE_KEPT, TOKEN_BYTES, return_staging, staging};
    use crate::on_gpu::testing::{noop, world};
    use bevy_ecs::system::RunSystemOnce;

    /// Starts a readback of the first bytes of a hidden state.
    fn send(world: &mut World, model: Entity, bytes: u64) {
        let mut gpu_shards = world.get_mut::<GpuShards>(model).unwrap();
        let gpu_shard = &mut gpu_shards.0[0];
        let hidden = gpu_shard.scratch.hidden.clone();
        gpu_shard.send(Readback::Hidden { wave: Entity::PLACEHOLDER }, Vec::new(), &[(&hidden, bytes)]);
    }

    #[test]
    fn a_readback_that_fails_fails_its_device() {
        let (mut world, model) = world();
        send(&mut world, model, 64);
        let gpu_shard = |world: &World| {
            let gpu_shard = &world.get::<GpuShards>(model).unwrap().0[0];
            (gpu_shard.in_flight.len(), gpu_shard.gpu.failure().is_some(), gpu_shard.good_steps)
        };
        assert_eq!(gpu_shard(&world), (1, false, 0));
        // Unmapping makes the mapping fail.
        world.get::<GpuShards>(model).unwrap().0[0].in_flight[0].staging.buffer.unmap();
        world.run_system_once(collect_gpu).unwrap();
        assert_eq!(gpu_shard(&world), (0, true, 0));
    }

    #[test]
    fn submits_of_many_sizes_leave_nothing_behind() {
        let (mut world, model) = world();
        for step in 0..2000u64 {
            send(&mut world, model, 4 * (1 + step % 600));
            let under_way = |world: &World| world.get::<GpuShards>(model).unwrap().0[0].under_way();
            // Other threads use the device too, so a submit may be noticed a little later.
            for _ in 0..10_000 {
                world.run_system_once(collect_gpu).unwrap();
                if under_way(&world) == 0 {
                    break;
                }
                std::thread::yield_now();
            }
            let gpu_shard = &world.get::<GpuShards>(model).unwrap().0[0];
            assert!(gpu_shard.in_flight.is_empty() && gpu_shard.gpu.failure().is_none(), "{step}");
            assert!(gpu_shard.spares() <= 1 && gpu_shard.staging.len() <= 1 + AHEAD + LARGE_KEPT, "{step}");
        }
        assert_eq!(world.get::<GpuShards>(model).unwrap().0[0].good_steps, 2000);
    }

    #[test]
    fn staging_buffers_are_of_few_sizes() {
        let gpu = noop();
        let mut free = Vec::new();
        for rows in 1..=4000u64 {
            let staging = staging(&gpu, &mut free, TOKEN_BYTES + 1000 * rows).unwrap();
            assert!(staging.buffer.size() >= staging.bytes);
            return_staging(&mut free, staging);
            assert!(free.len() <= LARGE_KEPT);
        }
        assert!(gpu.allocated().buffers < 100, "{:?}", gpu.allocated());
    }
}
