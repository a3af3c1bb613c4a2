//! One recorded command: a dispatch of a kernel that is bound to its buffers, or a copy.

use crate::device::Gpu;
use crate::pipeline::Kernel;
use crate::planes::PLANE_BINDINGS;
use crate::work::{StepShape, Work};
use std::sync::Arc;

/// A kernel, bound to its buffers.
#[derive(Clone, Debug)]
pub struct Bound {
    kernel: Arc<Kernel>,
    group: wgpu::BindGroup,
    /// Bytes of the planes of weights that are bound.
    matrix_bytes: u64,
}

impl Bound {
    /// Binds `buffers` to `kernel`.
    pub fn new(gpu: &Gpu, kernel: Arc<Kernel>, buffers: &[(u32, wgpu::BindingResource<'_>)]) -> Self {
        let group = gpu.watch(|| kernel.bind(&gpu.device, buffers));
        let planes = buffers.iter().filter(|(binding, _)| PLANE_BINDINGS.contains(binding));
        let matrix_bytes = planes.map(|(_, resource)| bytes_of(resource)).sum();
        Self { kernel, group, matrix_bytes }
    }

    /// Name of the kernel.
    pub fn name(&self) -> &'static str {
        self.kernel.name
    }
}

/// Bytes of what is bound.
fn bytes_of(resource: &wgpu::BindingResource<'_>) -> u64 {
    match resource {
        wgpu::BindingResource::Buffer(binding) => {
            binding.size.map_or(binding.buffer.size() - binding.offset, u64::from)
        }
        _ => 0,
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

impl Command {
    /// Name of the kernel, where it is one.
    pub(crate) fn kernel(&self) -> Option<&'static str> {
        match self {
            Self::Dispatch { bound, .. } => Some(bound.name()),
            Self::Copy { .. } => None,
        }
    }

    /// What it reads and computes in a step.
    pub(crate) fn work(&self, shape: &StepShape) -> Work {
        match self {
            Self::Dispatch { bound, .. } => bound.kernel.work.in_step(shape, bound.matrix_bytes),
            Self::Copy { .. } => Work::default(),
        }
    }

    /// Encodes a copy. `false` where it is none.
    pub(crate) fn copy(&self, encoder: &mut wgpu::CommandEncoder) -> bool {
        let Self::Copy { from, from_at, to, to_at, bytes } = self else { return false };
        encoder.copy_buffer_to_buffer(from, *from_at, to, *to_at, *bytes);
        true
    }

    /// Encodes a dispatch, where it is one.
    pub(crate) fn dispatch(&self, pass: &mut wgpu::ComputePass<'_>) {
        if let Self::Dispatch { bound, grid: [x, y, z] } = self {
            pass.set_pipeline(&bound.kernel.pipeline);
            pass.set_bind_group(0, &bound.group, &[]);
            pass.dispatch_workgroups(*x, *y, *z);
        }
    }
}
