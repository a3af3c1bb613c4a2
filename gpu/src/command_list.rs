//! The commands of one submit: dispatches of bound kernels, then copies. Recording does not run anything, so that tests
//! can count dispatches without a GPU.

use crate::command::{Bound, Command};
use crate::device::Gpu;
use crate::timing::{StepTimes, Timing};
use crate::work::{StepShape, Work};

/// Totals of everything submitted since the list was created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Submits.
    pub submits: u64,
    /// Dispatches in those submits.
    pub dispatches: u64,
    /// Copies in those submits.
    pub copies: u64,
    /// Bytes that the dispatches read and operations that they computed.
    pub work: Work,
}

impl Counters {
    /// Returns the difference to an earlier reading.
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

/// Recorded commands, in order.
#[derive(Debug, Default)]
pub struct Commands {
    steps: Vec<Command>,
    shape: StepShape,
    counters: Counters,
    timing: Option<Box<Timing>>,
}

impl Commands {
    /// Records a dispatch. Records nothing if a dimension of the grid is 0.
    pub fn dispatch(&mut self, bound: &Bound, grid: [u32; 3]) {
        if !grid.contains(&0) {
            self.steps.push(Command::Dispatch { bound: bound.clone(), grid });
        }
    }

    /// Records a copy.
    pub fn copy(&mut self, from: &wgpu::Buffer, from_at: u64, to: &wgpu::Buffer, to_at: u64, bytes: u64) {
        self.steps.push(Command::Copy { from: from.clone(), from_at, to: to.clone(), to_at, bytes });
    }

    /// Returns true if nothing is recorded.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Names of the recorded kernels, in order.
    pub fn kernels(&self) -> impl Iterator<Item = &'static str> {
        self.steps.iter().filter_map(Command::kernel)
    }

    /// Sets the shape of the step, from which its work is counted.
    pub fn describe(&mut self, shape: StepShape) {
        self.shape = shape;
    }

    /// Totals of what has been submitted so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Starts or stops timing the kernels of later steps. Returns false if the device cannot time kernels.
    pub fn time(&mut self, gpu: &Gpu, on: bool) -> bool {
        self.timing = if on { Timing::new(gpu).map(Box::new) } else { None };
        self.timing.is_some() == on
    }

    /// Takes the timing results that have arrived, and starts counting anew. Returns `None` if timing is off.
    pub fn take_times(&mut self) -> Option<StepTimes> {
        self.timing.as_mut().map(|timing| timing.take())
    }

    /// Encodes all commands into one command buffer, consecutive dispatches in one pass, and submits it. The list is
    /// empty afterwards and keeps its memory.
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
