//! What is recorded for a submit: dispatches of bound kernels, then copies. Recording needs no device's answer, so that
//! counts of dispatches are tested without one.

use crate::device::Gpu;
use crate::pipeline::Kernel;
use std::sync::Arc;

/// A kernel, bound to its buffers.
#[derive(Clone, Debug)]
pub struct Bound {
    kernel: Arc<Kernel>,
    group: wgpu::BindGroup,
}

impl Bound {
    /// Binds `buffers` to `kernel`.
    pub fn new(gpu: &Gpu, kernel: Arc<Kernel>, buffers: &[(u32, wgpu::BindingResource<'_>)]) -> Self {
        let group = kernel.bind(&gpu.device, buffers);
        Self { kernel, group }
    }

    /// Name of the kernel.
    pub fn name(&self) -> &'static str {
        self.kernel.name
    }
}

/// One recorded step.
#[derive(Clone, Debug)]
pub enum Command {
    /// Workgroups of a kernel.
    Dispatch {
        /// The kernel.
        bound: Bound,
        /// Workgroups in x, y and z.
        grid: [u32; 3],
    },
    /// Bytes from one buffer to another.
    Copy {
        /// From where.
        from: wgpu::Buffer,
        /// Offset there.
        from_at: u64,
        /// To where.
        to: wgpu::Buffer,
        /// Offset there.
        to_at: u64,
        /// How many.
        bytes: u64,
    },
}

/// Steps in order.
#[derive(Debug, Default)]
pub struct Commands {
    steps: Vec<Command>,
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
        self.steps.iter().filter_map(|step| match step {
            Command::Dispatch { bound, .. } => Some(bound.name()),
            Command::Copy { .. } => None,
        })
    }

    /// Encodes everything into one command buffer, consecutive dispatches in one pass, and submits it. Keeps its memory.
    pub fn submit(&mut self, gpu: &Gpu) -> wgpu::SubmissionIndex {
        let mut encoder =
            gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("wave") });
        let mut steps = self.steps.iter().peekable();
        while let Some(step) = steps.peek() {
            match step {
                Command::Copy { from, from_at, to, to_at, bytes } => {
                    encoder.copy_buffer_to_buffer(from, *from_at, to, *to_at, *bytes);
                    steps.next();
                }
                Command::Dispatch { .. } => {
                    let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
                    while let Some(Command::Dispatch { bound, grid: [x, y, z] }) = steps.peek() {
                        pass.set_pipeline(&bound.kernel.pipeline);
                        pass.set_bind_group(0, &bound.group, &[]);
                        pass.dispatch_workgroups(*x, *y, *z);
                        steps.next();
                    }
                }
            }
        }
        let commands = encoder.finish();
        self.steps.clear();
        gpu.queue.submit([commands])
    }
}
