//! In-flight steps: submits whose results are not read back yet, what they read back, and taking it once it has
//! arrived.

use super::capacity::AHEAD;
use super::gpu_shard::GpuShards;
use super::scratch::MOST_LOGIT_ROWS;
use crate::host::HostCpu;
use crate::on_cpu::{self, CpuWeights};
use bevy_ecs::prelude::*;
use core::sync::atomic::{AtomicU8, Ordering};
use std::sync::Arc;
use web_time::Instant;
use weft_components::{
    AtLayer, Chosen, Model, ModelConfig, ReadbackOf, Readbacks, ShardOf, TensorRole, TickWork, Wave,
    WaveLimits, WaveSpan, WeightShard,
};
use weft_gpu::sampling::NO_TOKEN;
use weft_gpu::{Gpu, GpuError, wgpu};
use weft_platform::Cpu;

/// A buffer for readbacks that the host maps. Buffers are reused.
pub(super) struct Staging {
    pub(super) buffer: wgpu::Buffer,
    pub(super) bytes: u64,
}

/// What a submit reads back.
pub(super) enum Readback {
    /// One token for each row of logits; then the rows of logits, if they are wanted; then the hidden state of all
    /// rows, if it is wanted.
    Rows {
        /// The wave's turn.
        turn: u64,
        /// For each row of logits, its row of the wave.
        rows: Vec<u32>,
        /// For each span, true if the device chose its token.
        chosen: Vec<bool>,
        /// True if the logits are read back too.
        logits: bool,
        /// Rows whose final hidden state is wanted. The hidden state is read back if there are any.
        states: Vec<u32>,
    },
    /// The hidden state of a wave that continues on another device.
    Hidden {
        /// The wave.
        wave: Entity,
    },
}

const WAITING: u8 = 0;
const MAPPED: u8 = 1;
const FAILED: u8 = 2;

/// A submit whose results are not read back yet.
pub(super) struct InFlight {
    pub(super) readback: Readback,
    pub(super) spans: Vec<WaveSpan>,
    #[cfg_attr(target_family = "wasm", expect(dead_code, reason = "a browser never waits for a submit"))]
    pub(super) index: wgpu::SubmissionIndex,
    /// Rows of the wave, and when the device got the first of them. `None` if the device was busy with an earlier wave.
    started: Option<(usize, Instant)>,
    staging: Staging,
    state: Arc<AtomicU8>,
}

impl InFlight {
    /// Starts to map what a submit wrote into `staging`.
    pub(super) fn new(
        gpu: &Gpu,
        readback: Readback,
        spans: Vec<WaveSpan>,
        index: wgpu::SubmissionIndex,
        staging: Staging,
        started: Option<(usize, Instant)>,
    ) -> Self {
        let state = Arc::new(AtomicU8::new(WAITING));
        let result = Arc::clone(&state);
        gpu.map_read(&staging.buffer, staging.bytes, move |mapped| {
            result.store(if mapped { MAPPED } else { FAILED }, Ordering::Release);
        });
        Self { readback, spans, index, started, staging, state }
    }

    fn is_done(&self) -> bool {
        self.state.load(Ordering::Acquire) != WAITING
    }

    /// The bytes read back. `None` if the mapping failed.
    fn words(&self) -> Option<wgpu::BufferView> {
        (self.state.load(Ordering::Acquire) == MAPPED)
            .then(|| self.staging.buffer.slice(..self.staging.bytes).get_mapped_range().ok())
            .flatten()
    }

    /// The memory of the spans and the staging buffer, for reuse.
    pub(super) fn into_buffers(self) -> (Vec<WaveSpan>, Staging) {
        self.staging.buffer.unmap();
        (self.spans, self.staging)
    }
}

/// Words that the tokens of `rows` rows take in a staging buffer, before the logits.
pub(super) const fn id_words(rows: usize) -> usize {
    rows.next_multiple_of(4)
}

/// Bytes that the tokens of a wave take at most. Token buffers have this one size, and there is one for each step that
/// may be in flight: a decode step allocates nothing, however late the step before it is read.
const TOKEN_BYTES: u64 = 4 * id_words(MOST_LOGIT_ROWS) as u64;

/// Number of free staging buffers larger than [`TOKEN_BYTES`] that are kept.
const LARGE_KEPT: usize = AHEAD + 2;

/// Size in bytes of the buffer allocated for `bytes`. It is rounded up, so that a size that grows row by row does not
/// allocate a buffer each time.
fn rounded(bytes: u64) -> u64 {
    bytes.next_multiple_of((bytes.next_power_of_two() / 8).max(16))
}

/// A staging buffer of at least `bytes`: a free one, or a new one.
pub(super) fn staging(gpu: &Gpu, free: &mut Vec<Staging>, bytes: u64) -> Result<Staging, GpuError> {
    let bytes = bytes.next_multiple_of(16);
    let fits = |staging: &Staging| {
        let size = staging.buffer.size();
        size >= bytes && size <= (4 * bytes).max(TOKEN_BYTES)
    };
    if let Some(at) = free.iter().position(fits) {
        return Ok(Staging { bytes, ..free.remove(at) });
    }
    if bytes > TOKEN_BYTES {
        let size = rounded(bytes).min(gpu.capabilities.max_buffer.max(bytes));
        return Ok(Staging { buffer: gpu.readback("readback", size)?, bytes });
    }
    for _ in 0..AHEAD {
        free.push(Staging { buffer: gpu.readback("readback", TOKEN_BYTES)?, bytes: TOKEN_BYTES });
    }
    Ok(Staging { buffer: gpu.readback("readback", TOKEN_BYTES)?, bytes })
}

/// Takes a buffer back. Only the latest [`LARGE_KEPT`] large ones are kept, so memory does not grow with the number of
/// sizes used.
pub(super) fn return_staging(free: &mut Vec<Staging>, staging: Staging) {
    let large = |staging: &Staging| staging.buffer.size() > TOKEN_BYTES;
    if large(&staging)
        && free.iter().filter(|staging| large(staging)).count() >= LARGE_KEPT
        && let Some(oldest) = free.iter().position(large)
    {
        free.remove(oldest);
    }
    free.push(staging);
}

/// Appends the final hidden state of `rows` to `states`, normed if the model ends with a norm.
fn final_states(
    cpu: &Cpu,
    config: &ModelConfig,
    norm: Option<&[f32]>,
    hidden: &[f32],
    rows: &[u32],
    states: &mut Vec<f32>,
) {
    let width = config.embedding;
    rows.iter().for_each(|row| states.extend_from_slice(&hidden[*row as usize * width..][..width]));
    if let Some(norm) = norm {
        on_cpu::norm_in_place(cpu, states, norm, config.norm_epsilon);
    }
}

/// Collects what GPUs have finished. Rows go into waves of their own, which the stage `Sample` delivers; hidden states
/// go into the waves that continue elsewhere. Runs in the set `Sample` before anything reads logits. Never waits.
pub fn collect_gpu(
    mut commands: Commands<'_, '_>,
    host: Res<'_, HostCpu>,
    mut models: Query<
        '_,
        '_,
        (Entity, &ModelConfig, &mut GpuShards, &mut WaveLimits, Option<&Readbacks>),
        With<Model>,
    >,
    shards: Query<'_, '_, (&WeightShard, &CpuWeights, &ShardOf)>,
    mut waves: Query<'_, '_, &mut Wave>,
    mut work: ResMut<'_, TickWork>,
) {
    for (entity, config, mut model, mut limits, readbacks) in &mut models {
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
                        limits.rows =
                            gpu_shard.submit_budget.rows(gpu_shard.gpu.submit_budget(), gpu_shard.most.rows);
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
                            .give_up(&GpuError::Readback { adapter: gpu_shard.gpu.info.name.clone() });
                    }
                }
                gpu_shard.keep(in_flight_step);
            }
        }
    }
}

impl InFlight {
    /// Moves the rows read back into a wave at the stage `Sample`. Returns `None` if the mapping failed, or if the step
    /// reads back no rows.
    fn rows_into<'a>(
        &mut self,
        wave: &mut Wave,
        cpu: &Cpu,
        config: &ModelConfig,
        norm: impl FnOnce() -> Option<&'a [f32]>,
    ) -> Option<()> {
        let bytes = self.words()?;
        let words: &[u32] = bytemuck::cast_slice(&bytes);
        let Readback::Rows { turn, rows, chosen, logits, states } = &mut self.readback else { return None };
        let (ids, rest) = words.split_at(id_words(rows.len()));
        let count = if *logits { rows.len() * config.vocabulary } else { 0 };
        let (logits, hidden) = rest.split_at(count);
        wave.clear();
        wave.at = AtLayer::Sample;
        wave.turn = *turn;
        wave.logits.clear();
        wave.logits.extend_from_slice(bytemuck::cast_slice(logits));
        wave.states.clear();
        if !states.is_empty() {
            final_states(cpu, config, norm(), bytemuck::cast_slice(hidden), states, &mut wave.states);
        }
        let of_device = |(span, chosen): (&WaveSpan, &bool)| {
            let token = chosen.then(|| ids.get(span.logits.end.checked_sub(1)?)).flatten();
            token.map_or(Chosen::Sampler, |token| Chosen::Device((*token != NO_TOKEN).then_some(*token)))
        };
        wave.chosen.extend(self.spans.iter().zip(chosen.iter()).map(of_device));
        core::mem::swap(&mut wave.spans, &mut self.spans);
        core::mem::swap(&mut wave.logit_rows, rows);
        core::mem::swap(&mut wave.state_rows, states);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
            world.run_system_once(collect_gpu).unwrap();
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
