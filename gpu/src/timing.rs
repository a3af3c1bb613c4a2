//! Measures the time of kernels on the device, by kernel name.
//!
//! Timing is off by default. If the device can write timestamps within a pass, consecutive dispatches of one kernel are
//! timed within the pass that all kernels share. Otherwise they get a pass of their own, which takes longer than the
//! kernel itself if the kernel is short. A timestamp is written when all earlier work is done, so a kernel's time
//! includes its launch and the wait for its inputs. The times of a step add up to the time of the step.
//!
//! Results are collected when they arrive, and nothing waits for them. If too many are outstanding, a step is not
//! timed.

use crate::command::Command;
use crate::device::Gpu;
use crate::work::{StepShape, Work};
use core::ops::Range;
use std::collections::VecDeque;
use wgpu_profiler::{GpuProfiler, GpuProfilerSettings};

/// Most timed steps whose results are outstanding.
const MOST_FLYING: usize = 16;

/// Time of one kernel, summed over all timed steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KernelTime {
    /// The kernel.
    pub name: &'static str,
    /// Dispatches.
    pub calls: u64,
    /// Seconds on the device.
    pub seconds: f64,
    /// Bytes that it read and operations that it computed; zeros if they are not counted.
    pub work: Work,
}

/// Times of the timed steps. A step is one submit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepTimes {
    /// Timed steps.
    pub steps: u64,
    /// Steps that were not timed because too many results were outstanding.
    pub missed: u64,
    /// Seconds from the first kernel of a step to the end of its last, summed over steps.
    pub busy: f64,
    /// Seconds from the first kernel of the first step to the end of the last step.
    pub elapsed: f64,
    /// Kernels in the order in which they first ran.
    pub kernels: Vec<KernelTime>,
}

/// Consecutive dispatches of one kernel.
struct Run {
    name: &'static str,
    calls: u64,
    work: Work,
}

/// Times the steps of one command list.
pub(crate) struct Timing {
    profiler: GpuProfiler,
    inside: bool,
    period: f32,
    flying: VecDeque<Vec<Run>>,
    times: StepTimes,
    first: f64,
}

impl core::fmt::Debug for Timing {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Timing").field("times", &self.times).finish_non_exhaustive()
    }
}

impl Timing {
    /// Creates the timing of a device; `None` if the device has no timestamps.
    pub(crate) fn new(gpu: &Gpu) -> Option<Self> {
        if !gpu.capabilities.timestamps {
            return None;
        }
        let settings = GpuProfilerSettings {
            enable_timer_queries: true,
            enable_debug_groups: false,
            max_num_pending_frames: MOST_FLYING,
        };
        Some(Self {
            profiler: gpu.watch(|| GpuProfiler::new(&gpu.device, settings)).ok()?,
            inside: gpu.capabilities.timestamps_inside,
            period: gpu.queue.get_timestamp_period(),
            flying: VecDeque::new(),
            times: StepTimes::default(),
            first: f64::INFINITY,
        })
    }

    /// Returns true if one more step can be timed. Otherwise the step counts as missed.
    pub(crate) fn has_room(&mut self) -> bool {
        self.collect();
        let room = self.flying.len() < MOST_FLYING;
        self.times.missed += u64::from(!room);
        room
    }

    /// Encodes the commands of a step, with its kernels timed.
    pub(crate) fn encode(
        &mut self,
        steps: &[Command],
        shape: &StepShape,
        encoder: &mut wgpu::CommandEncoder,
    ) {
        let mut runs = Vec::new();
        let mut rest = steps;
        while let Some(first) = rest.first() {
            if first.copy(encoder) {
                rest = &rest[1..];
                continue;
            }
            let (pass, after) = rest.split_at(rest.iter().take_while(|step| step.kernel().is_some()).count());
            rest = after;
            let pass = pass.chunk_by(|a, b| a.kernel() == b.kernel());
            if self.inside {
                let mut recorder = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
                for run in pass {
                    let query = self.profiler.begin_query(run[0].kernel().unwrap_or_default(), &mut recorder);
                    run.iter().for_each(|step| step.dispatch(&mut recorder));
                    self.profiler.end_query(&mut recorder, query);
                    runs.push(Run::of(run, shape));
                }
            } else {
                for run in pass {
                    let query = self.profiler.begin_pass_query(run[0].kernel().unwrap_or_default(), encoder);
                    let mut recorder = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                        label: None,
                        timestamp_writes: query.compute_pass_timestamp_writes(),
                    });
                    run.iter().for_each(|step| step.dispatch(&mut recorder));
                    drop(recorder);
                    self.profiler.end_query(encoder, query);
                    runs.push(Run::of(run, shape));
                }
            }
        }
        self.profiler.resolve_queries(encoder);
        self.flying.push_back(runs);
    }

    /// Must be called after the step that was encoded last has been submitted.
    pub(crate) fn submitted(&mut self) {
        if self.profiler.end_frame().is_err() {
            // All queries are closed and resolved above. If one were not, its step would not be timed.
            self.flying.pop_back();
            self.times.missed += 1;
        }
    }

    /// Collects the results that have arrived.
    pub(crate) fn collect(&mut self) {
        while let Some(results) = self.profiler.process_finished_frame(self.period) {
            let runs = self.flying.pop_front().unwrap_or_default();
            let times = results.into_iter().map(|result| result.time);
            let timed: Vec<(Run, Range<f64>)> =
                runs.into_iter().zip(times).filter_map(|(run, time)| Some((run, time?))).collect();
            self.add(timed);
        }
    }

    fn add(&mut self, timed: Vec<(Run, Range<f64>)>) {
        let (Some((_, first)), Some((_, last))) = (timed.first(), timed.last()) else { return };
        let times = &mut self.times;
        self.first = self.first.min(first.start);
        times.elapsed = times.elapsed.max(last.end - self.first);
        times.busy += last.end - first.start;
        times.steps += 1;
        for (run, time) in timed {
            let seconds = time.end - time.start;
            match times.kernels.iter_mut().find(|kernel| kernel.name == run.name) {
                Some(kernel) => {
                    kernel.calls += run.calls;
                    kernel.seconds += seconds;
                    kernel.work += run.work;
                }
                None => {
                    let Run { name, calls, work } = run;
                    times.kernels.push(KernelTime { name, calls, seconds, work });
                }
            }
        }
    }

    /// Takes the times so far and starts counting anew.
    pub(crate) fn take(&mut self) -> StepTimes {
        self.collect();
        self.first = f64::INFINITY;
        core::mem::take(&mut self.times)
    }
}

impl Run {
    fn of(run: &[Command], shape: &StepShape) -> Self {
        let mut work = Work::default();
        run.iter().for_each(|step| work += step.work(shape));
        Self { name: run[0].kernel().unwrap_or_default(), calls: run.len() as u64, work }
    }
}
