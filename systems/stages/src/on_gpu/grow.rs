//! Buffers that grow with the waves: a model that is only used for chat never takes the memory that prompts of
//! thousands of tokens need.
//!
//! A wave that does not fit its device's buffers waits while larger ones are allocated, together with a plan bound to
//! them, on a thread of their own. Sizes at least double, so a model grows only a few times. Buffers never shrink. If
//! the device has no memory for larger buffers, waves stay as small as the present ones: the waiting wave is dropped,
//! and its rows are scheduled again in smaller waves.

use super::gpu_shard::{GpuShard, GpuShards};
use super::plan_builder::{Grown, Pending};
use super::scratch::{Scratch, ScratchSize};
use crate::kv::truncate_session;
use crate::load::abandon_waves;
use crate::place::{Backends, PlaceLimits};
use bevy_ecs::prelude::*;
use std::collections::BTreeMap;
use weft_components::{Model, TickWork, Wave, WaveLimits, WaveOf};
use weft_gpu::GpuError;

impl GpuShard {
    /// Returns true if the buffers hold a wave of `rows`. If not, asks for larger ones.
    pub(super) fn holds(&mut self, rows: usize) -> bool {
        if rows > self.scratch.rows && rows > self.wanted_rows {
            // The next tick starts to make larger buffers.
            self.plan_builder.wake.notify();
            self.wanted_rows = rows;
        }
        rows <= self.scratch.rows
    }

    /// Starts to make larger buffers if they were asked for. Takes them once they are ready and no wave is on the
    /// device. Never waits.
    pub(super) fn poll_growth(&mut self) -> Result<(), GpuError> {
        if self.growing.is_none() && self.wanted_rows > self.scratch.rows && !self.out_of_memory {
            let size = self.most.next(self.scratch.rows, self.wanted_rows);
            self.growing =
                Some(self.plan_builder.grow(&self.gpu, &self.layers, &self.ends, &self.scratch, size));
        }
        let Some(growing) = &mut self.growing else { return Ok(()) };
        match growing.poll(&self.gpu) {
            Err(error @ GpuError::OutOfMemory { .. } | error @ GpuError::BufferTooLarge { .. }) => {
                tracing::warn!(%error, rows = self.scratch.rows, "waves stay small");
                self.growing = None;
                self.out_of_memory = true;
            }
            Err(error) => {
                self.growing = None;
                return Err(error);
            }
            Ok(()) => {}
        }
        if self.occupied.is_none()
            && let Some(Pending::Ready(grown)) =
                self.growing.take_if(|slot| matches!(slot, Pending::Ready(_)))
        {
            let Grown { scratch, plan } = *grown;
            tracing::debug!(rows = scratch.rows, "larger buffers for waves");
            self.take_grown(scratch, plan);
        }
        Ok(())
    }
}

/// Drops waves that a device has no memory for, and limits later waves to a size that fits. Runs in the set `Load`.
pub fn shrink_waves(
    world: &mut World,
    models: &mut QueryState<(Entity, &mut GpuShards, &mut PlaceLimits, &mut WaveLimits), With<Model>>,
    waves: &mut QueryState<(Entity, &Wave, &WaveOf)>,
) {
    let mut out_of_memory = Vec::new();
    for (model, mut gpu_shards, mut places, mut limits) in models.iter_mut(world) {
        for gpu_shard in gpu_shards
            .0
            .iter_mut()
            .filter(|gpu_shard| gpu_shard.out_of_memory && gpu_shard.wanted_rows > gpu_shard.scratch.rows)
        {
            gpu_shard.wanted_rows = 0;
            gpu_shard.most.rows = gpu_shard.scratch.rows;
            places.set_rows(gpu_shard.place, gpu_shard.scratch.rows);
            *limits = places.narrowest();
            out_of_memory.push((model, limits.rows));
        }
    }
    if out_of_memory.is_empty() {
        return;
    }
    let mut sessions = Vec::new();
    let mut large = BTreeMap::<Entity, Vec<Entity>>::new();
    for (entity, wave, of) in waves.iter(world) {
        let too_large = |(model, rows): &(Entity, usize)| of.0 == *model && wave.rows() > *rows;
        if wave.at.travels() && out_of_memory.iter().any(too_large) {
            sessions.extend(wave.spans.iter().map(|span| span.session));
            large.entry(of.0).or_default().push(entity);
        }
    }
    let backends = Backends::of(world);
    for (model, waves) in large {
        abandon_waves(world, &backends, model, &waves);
    }
    for session in sessions {
        // Computed tokens stay; rows in flight are scheduled again.
        truncate_session(world, session, usize::MAX);
        world.resource_mut::<TickWork>().0 += 1;
    }
}

impl GpuShard {
    /// Rows of the largest wave that fits the present buffers.
    pub fn rows(&self) -> usize {
        self.scratch.rows
    }

    /// Bytes of the present buffers.
    pub fn wave_bytes(&self) -> u64 {
        let size = ScratchSize { rows: self.scratch.rows, ..self.most };
        // The buffers exist, so their size could be computed.
        Scratch::bytes(&self.gpu.capabilities, size.of(&self.plan_builder.config)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::on_gpu::scratch::FIRST_ROWS;
    use crate::on_gpu::testing::world;
    use bevy_ecs::system::RunSystemOnce;
    use weft_components::{
        AtLayer, BlockTable, ContextCursor, KvRun, LeafRun, Place, RunIn, SessionOf, WaveSpan,
    };

    #[test]
    fn sizes_double_up_to_the_most() {
        let most = ScratchSize { rows: 2048, logit_rows: 256, tokens: 4096, partials: 64 };
        assert_eq!(most.first().rows, 128);
        assert_eq!(ScratchSize { rows: 32, ..most }.first().rows, 32);
        for (held, rows, wanted) in [(128, 129, 256), (128, 300, 512), (512, 513, 1024), (1024, 2000, 2048)] {
            assert_eq!(most.next(held, rows).rows, wanted, "{held} {rows}");
        }
        assert_eq!(ScratchSize { rows: 1500, ..most }.next(1024, 1500).rows, 1500);
    }

    #[test]
    fn a_wave_that_is_too_large_wakes_the_host_once() {
        let (mut world, model) = world();
        let mut gpu_shards = world.get_mut::<GpuShards>(model).unwrap();
        let gpu_shard = gpu_shards.0.first_mut().unwrap();
        // The thread that makes the first plan wakes the host as well, through the signal that it was given.
        gpu_shard.plan_builder.wake = weft_platform::Signal::new();
        let rows = gpu_shard.scratch.rows;
        for (wave, wakes) in [(rows, false), (rows + 1, true), (rows + 1, false), (rows + 2, true)] {
            assert_eq!(gpu_shard.holds(wave), wave == rows);
            assert_eq!(gpu_shard.plan_builder.wake.take(), wakes, "{wave} rows");
        }
    }

    #[test]
    fn a_wave_that_there_is_no_memory_for_is_taken_apart() {
        let (mut world, model) = world();
        let mut run = KvRun { tokens: vec![1; 340], ..KvRun::default() };
        run.pages = vec![(0..2).map(|_| Some(world.spawn_empty().id())).collect()];
        let run = world.spawn((run, RunIn(model))).id();
        let cursor = ContextCursor { computed: 40, scheduled: 340, limit: 1000, ..ContextCursor::default() };
        let table = BlockTable(vec![vec![3, 5, 7]]);
        let session = world.spawn((SessionOf(model), LeafRun(run), table, cursor)).id();
        world.get_mut::<KvRun>(run).unwrap().owner = Some(session);
        let span = WaveSpan {
            session,
            rows: 0..300,
            start: 40,
            table: 0..0,
            logits: 0..0,
            states: 0..0,
            epoch: 0,
            complete: false,
            drafts: 0,
            adapter: None,
        };
        let mut waves = world.query::<&mut Wave>();
        let mut wave = waves.single_mut(&mut world).unwrap();
        // Its attention ran on another place.
        wave.at = AtLayer::Ffn(1);
        wave.place = Some(Place::new(0));
        wave.tokens = vec![1; 300];
        wave.spans = vec![span];
        let mut gpu_shards = world.get_mut::<GpuShards>(model).unwrap();
        let gpu_shard = &mut gpu_shards.0[0];
        assert!(gpu_shard.holds(FIRST_ROWS) && !gpu_shard.holds(300));
        let bytes = 1 << 40;
        gpu_shard.growing = Some(Pending::Failed(GpuError::OutOfMemory { what: "hidden".to_owned(), bytes }));
        assert_eq!(gpu_shard.poll_growth(), Ok(()));
        world.run_system_once(shrink_waves).unwrap();

        let limits = *world.get::<WaveLimits>(model).unwrap();
        assert_eq!(limits.rows, FIRST_ROWS);
        assert!(limits.logit_rows <= FIRST_ROWS);
        let wave = waves.single(&world).unwrap();
        assert_eq!((wave.at, wave.place, wave.rows(), wave.spans.len()), (AtLayer::Idle, None, 0, 0));
        // Computed tokens stay, tokens in flight are scheduled again.
        let cursor = world.get::<ContextCursor>(session).unwrap();
        assert_eq!((cursor.computed, cursor.scheduled, cursor.epoch), (40, 40, 1));
        assert_eq!(world.get::<BlockTable>(session).unwrap().0, [[3, 5]]);
        let gpu_shard = &world.get::<GpuShards>(model).unwrap().0[0];
        assert_eq!((gpu_shard.rows(), gpu_shard.gpu.failure()), (FIRST_ROWS, None));
    }
}
