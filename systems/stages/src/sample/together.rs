//! Chooses the tokens of many sessions at once, on several threads.
//!
//! A job is a session's sampler and the row of logits that it chooses from. While threads use the samplers,
//! placeholders are swapped into their sessions; the samplers are swapped back, in the same order, when their choices
//! are taken. Memory is kept: nothing is allocated once there have been as many jobs.
//!
//! Invariant: a choice depends only on the sampler and its row, not on how jobs are distributed.

use super::chain::{Choice, SampleScratch, Sampler};
use super::system::LogitRows;
use bevy_ecs::prelude::*;
use core::mem;
use weft_platform::Cpu;

/// A sampler in use by a thread.
struct Job {
    sampler: Sampler,
    /// Its row of the logits.
    row: usize,
    choice: Option<Choice>,
}

/// The jobs of one thread.
#[derive(Default)]
struct Lane {
    scratch: SampleScratch,
    /// The first `used` jobs are running. The others are kept for their memory.
    jobs: Vec<Job>,
    used: usize,
}

/// Buffers of the stage, shared by all sessions.
#[derive(Resource, Default)]
pub struct SampleBuffers {
    lanes: Vec<Lane>,
    /// Lanes that jobs are distributed over, in turn.
    shared: usize,
    added: usize,
    taken: usize,
    /// Spans of a wave whose drafted tokens have been right so far.
    pub(super) verified: Vec<usize>,
}

/// Number of logits below which another thread does not pay.
const GRAIN: usize = 32 * 1024;

impl SampleBuffers {
    /// Starts a new round, for at most `rows` rows of `vocabulary` logits.
    pub(super) fn start(&mut self, cpu: &Cpu, rows: usize, vocabulary: usize) {
        self.shared = cpu.threads.min(rows).min(rows.saturating_mul(vocabulary) / GRAIN).max(1);
        if self.lanes.len() < self.shared {
            self.lanes.resize_with(self.shared, Lane::default);
        }
        self.lanes.iter_mut().for_each(|lane| lane.used = 0);
        (self.added, self.taken) = (0, 0);
    }

    /// Adds a job. The session has a placeholder for `sampler` until its choice is taken.
    pub(super) fn add(&mut self, sampler: &mut Sampler, row: usize) {
        let Some(lane) = self.lanes.get_mut(self.added % self.shared.max(1)) else { return };
        if lane.used == lane.jobs.len() {
            lane.jobs.push(Job { sampler: Sampler::stand_in(), row, choice: None });
        }
        let job = &mut lane.jobs[lane.used];
        mem::swap(&mut job.sampler, sampler);
        job.row = row;
        lane.used += 1;
        self.added += 1;
    }

    /// Runs the jobs, on all threads if there are many.
    pub(super) fn run(&mut self, cpu: &Cpu, rows: LogitRows<'_>) {
        if self.added == 0 {
            return;
        }
        let _kernel = tracing::trace_span!(target: "weft::kernel", "choose").entered();
        let lanes = &mut self.lanes[..self.shared];
        cpu.for_each_part(lanes, 1, 1, |_, lane| {
            for Lane { scratch, jobs, used } in lane {
                for job in &mut jobs[..*used] {
                    job.choice = Some(job.sampler.sample(rows.row(job.row), scratch));
                }
            }
        });
    }

    /// Takes the next choice, in the order in which jobs were added, and puts its sampler back into `sampler`.
    pub(super) fn take(&mut self, sampler: &mut Sampler) -> Option<Choice> {
        let lane = self.lanes.get_mut(self.taken % self.shared.max(1))?;
        let job = lane.jobs.get_mut(self.taken / self.shared.max(1))?;
        mem::swap(&mut job.sampler, sampler);
        self.taken += 1;
        job.choice.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_components::SamplerSettings;
    use weft_platform::{Kernels, Pool};

    const VOCABULARY: usize = 20_000;

    fn samplers(count: usize) -> Vec<Sampler> {
        let ways = [
            SamplerSettings::default(),
            SamplerSettings { temperature: 0.8, ..SamplerSettings::default() },
            SamplerSettings { temperature: 0.8, top_k: 40, top_p: 0.9, ..SamplerSettings::default() },
            SamplerSettings { temperature: 1.1, repetition_penalty: 1.3, ..SamplerSettings::default() },
        ];
        let sampler = |i: usize| {
            let settings = SamplerSettings { seed: i as u64, ..ways[i % ways.len()].clone() };
            Sampler::new(settings, VOCABULARY).unwrap()
        };
        (0..count).map(sampler).collect()
    }

    #[test]
    fn threads_choose_what_each_would_choose_alone() {
        const ROWS: usize = 23;
        let logits: Vec<f32> = (0..ROWS * VOCABULARY).map(|i| (i as f32 * 0.618).sin() * 6.0).collect();
        let numbers: Vec<u32> = (0..ROWS as u32).collect();
        let rows = LogitRows { logits: &logits, rows: &numbers, vocabulary: VOCABULARY };
        let alone = samplers(ROWS);
        let mut scratch = SampleScratch::default();
        for threads in [1, 2, 3] {
            let pool = Pool::new(threads).unwrap();
            let cpu = pool.cpu(Kernels::detect());
            let mut buffers = SampleBuffers::default();
            let (mut alone, mut together) = (alone.clone(), samplers(ROWS));
            for count in [ROWS, 1, 5, ROWS] {
                let wanted: Vec<Choice> = (0..count)
                    .map(|i| {
                        let choice = alone[i].sample(rows.row(i), &mut scratch);
                        alone[i].accept(choice.token);
                        choice
                    })
                    .collect();
                pool.install(|| {
                    buffers.start(&cpu, count, VOCABULARY);
                    (0..count).for_each(|i| buffers.add(&mut together[i], i));
                    buffers.run(&cpu, rows);
                });
                if count == ROWS {
                    let used: Vec<usize> = buffers.lanes.iter().map(|lane| lane.used).collect();
                    assert_eq!(used.len(), threads, "rows are shared out over the threads");
                    assert!(used.iter().all(|used| *used >= ROWS / threads), "{used:?}");
                }
                for (sampler, wanted) in together.iter_mut().zip(wanted) {
                    let choice = buffers.take(sampler).unwrap();
                    sampler.accept(choice.token);
                    assert_eq!(choice, wanted);
                }
                assert!(together.iter().zip(&alone).all(|(a, b)| a.draws() == b.draws()));
            }
        }
    }
}
