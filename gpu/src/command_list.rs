//! What is recorded for a submit: dispatches of bound kernels, then copies. Recording needs no device's answer, so that
//! counts of dispatches are tested without one.

use crate::command::{Bound, Command};
use crate::device::Gpu;
use crate::timing::{StepTimes, Timing};
use crate::work::{StepShape, Work};

/// What was given to a device, counted from the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Submits.
    pub submits: u64,
    /// Dispatches in them.
    pub dispatches: u64,
    /// Copies in them.
    pub copies: u64,
    /// What the dispatches read and computed.
    pub work: Work,
}

impl Counters {
    /// What was added since an earlier reading.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            submits: self.submits - before.submits,
            dispatches: self.dispatches - before.dispatches,
            copies: self.copies - before.copies,
            work: self.work.since(&before.work),
        }
    }
}

impl core::ops::AddAssign for Counters {
    fn add_assign(&mut self, more: Self) {
        self.submits += more.submits;
        self.dispatches += more.dispatches;
        self.copies += more.copies;
        self.work += more.work;
    }
}

/// Steps in order.
#[derive(Debug, Default)]
pub struct Commands {
    steps: Vec<Command>,
    shape: StepShape,
    counters: Counters,
    timing: Option<Box<Timing>>,
}

impl Commands {
    /// Records a kernel. A grid with a zero is nothing to do.
    pub fn dispatch(&mut self, bound: &Bound, grid: [u32; 3]) {
        if !grid.contains(&0) {
            self.steps.push(Command::Dispatch { bound: bound.clone(), grid });
        }
    }

    /// Records a copy.
    pub fn copy(&mut self, from: &wgpu::Buffer, from_at: u64, to: &wgpu::Buffer, to_at: u64, bytes: u64) {
        self.steps.push(Command::Copy { from: from.clone(), from_at, to: to.clone(), to_at, bytes });
    }

    /// Whether nothing is recorded.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Names of the kernels recorded, in order.
    pub fn kernels(&self) -> impl Iterator<Item = &'static str> {
        self.steps.iter().filter_map(Command::kernel)
    }

    /// Says what the step is of, for its figures.
    pub fn describe(&mut self, shape: StepShape) {
        self.shape = shape;
    }

    /// What has been submitted so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Times the kernels of steps from here on, or of none. `false` where the device cannot.
    pub fn time(&mut self, gpu: &Gpu, on: bool) -> bool {
        self.timing = if on { Timing::new(gpu).map(Box::new) } else { None };
        self.timing.is_some() == on
    }

    /// Takes what has been timed and has come back; `None` where nothing is timed. Counting starts anew.
    pub fn take_times(&mut self) -> Option<StepTimes> {
        self.timing.as_mut().map(|timing| timing.take())
    }

    /// Encodes everything into one command buffer, consecutive dispatches in one pass, and submits it. Keeps its memory.
    pub fn submit(&mut self, gpu: &Gpu) -> wgpu::SubmissionIndex {
        let index = gpu.watch(|| {
            let mut encoder =
                gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("wave") });
            let mut timing = self.timing.as_mut().and_then(|timing| timing.has_room().then_some(timing));
            match &mut timing {
                Some(timing) => timing.encode(&self.steps, &self.shape, &mut encoder),
                None => encode(&self.steps, &mut encoder),
            }
            let index = gpu.queue.submit([encoder.finish()]);
            if let Some(timing) = timing {
                timing.submitted();
            }
            index
        });
        self.count();
        self.steps.clear();
        index
    }

    fn count(&mut self) {
        let Self { steps, shape, counters, .. } = self;
        counters.submits += 1;
        for step in steps.iter() {
            counters.work += step.work(shape);
            match step {
                Command::Dispatch { .. } => counters.dispatches += 1,
                Command::Copy { .. } => counters.copies += 1,
            }
        }
    }
}

fn encode(steps: &[Command], encoder: &mut wgpu::CommandEncoder) {
    let mut rest = steps;
    while let Some(first) = rest.first() {
        if first.copy(encoder) {
            rest = &rest[1..];
            continue;
        }
        let count = rest.iter().take_while(|step| step.kernel().is_some()).count();
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        rest[..count].iter().for_each(|step| step.dispatch(&mut pass));
        rest = &rest[count..];
    }
}
