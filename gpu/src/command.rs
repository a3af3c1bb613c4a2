//! One recorded command: a dispatch of a kernel that is bound to its buffers, or a copy.

use crate::device::Gpu;
use crate::pipeline::Kernel;
use crate::planes::PLANE_BINDINGS;
use crate::work::{StepShape, Work};
use std::sync::Arc;

/// A kernel with the buffers that it is bound to.
#[derive(Clone, Debug)]
pub struct Bound {
    kernel: Arc<Kernel>,
    group: wgpu::BindGroup,
    /// Bytes of the bound planes of weights.
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

/// Bytes of a bound resource.
fn bytes_of(resource: &wgpu::BindingResource<'_>) -> u64 {
    match resource {
        wgpu::BindingResource::Buffer(binding) => {
            binding.size.map_or(binding.buffer.size() - binding.offset, u64::from)
        }
        _ => 0,
    }
}

/// One recorded command.
#[derive(Clone, Debug)]
pub enum Command {
    /// A dispatch of a kernel.
    Dispatch {
        /// The kernel.
        bound: Bound,
        /// Workgroups in x, y and z.
        grid: [u32; 3],
    },
    /// A copy from one buffer to another.
    Copy {
        /// Source.
        from: wgpu::Buffer,
        /// Byte offset in the source.
        from_at: u64,
        /// Destination.
        to: wgpu::Buffer,
        /// Byte offset in the destination.
        to_at: u64,
        /// Number of bytes.
        bytes: u64,
    },
}

impl Command {
    /// Name of the kernel; `None` for a copy.
    pub(crate) fn kernel(&self) -> Option<&'static str> {
        match self {
            Self::Dispatch { bound, .. } => Some(bound.name()),
            Self::Copy { .. } => None,
        }
    }

    /// Bytes that it reads and operations that it computes in a step.
    pub(crate) fn work(&self, shape: &StepShape) -> Work {
        match self {
            Self::Dispatch { bound, .. } => bound.kernel.work.in_step(shape, bound.matrix_bytes),
            Self::Copy { .. } => Work::default(),
        }
    }

    /// Encodes a copy. Returns false if the command is not a copy.
    pub(crate) fn copy(&self, encoder: &mut wgpu::CommandEncoder) -> bool {
        let Self::Copy { from, from_at, to, to_at, bytes } = self else { return false };
        encoder.copy_buffer_to_buffer(from, *from_at, to, *to_at, *bytes);
        true
    }

    /// Encodes a dispatch. Does nothing for a copy.
    pub(crate) fn dispatch(&self, pass: &mut wgpu::ComputePass<'_>) {
        if let Self::Dispatch { bound, grid: [x, y, z] } = self {
            pass.set_pipeline(&bound.kernel.pipeline);
            pass.set_bind_group(0, &bound.group, &[]);
            pass.dispatch_workgroups(*x, *y, *z);
        }
    }
}
