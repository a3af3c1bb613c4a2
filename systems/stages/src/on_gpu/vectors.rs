//! Vectors that one kernel reads: one behind the other in one buffer, since a kernel may bind only so many.

use weft_components::TensorRole;
use weft_gpu::{Gpu, GpuError, wgpu};

/// A vector's place.
pub(super) struct Slot {
    /// What it is for; `None` where the file has none and what it is filled with serves.
    pub(super) role: Option<TensorRole>,
    /// Floats.
    pub(super) count: usize,
    /// What they are until a shard arrives: what changes nothing.
    pub(super) fill: f32,
}

impl Slot {
    pub(super) fn new(role: TensorRole, count: usize, fill: f32) -> Self {
        Self { role: Some(role), count, fill }
    }
}

/// Some vectors in a buffer.
pub(super) struct Vectors {
    pub(super) buffer: wgpu::Buffer,
    places: Vec<(TensorRole, usize)>,
}

impl Vectors {
    /// Takes memory for vectors in this order, and zeros up to whole vectors of four.
    pub(super) fn new(gpu: &Gpu, what: &str, slots: &[Slot]) -> Result<Self, GpuError> {
        let mut floats = Vec::new();
        let mut places = Vec::new();
        for slot in slots {
            places.extend(slot.role.map(|role| (role, floats.len())));
            floats.resize(floats.len() + slot.count, slot.fill);
        }
        floats.resize(floats.len().next_multiple_of(4), 0.0);
        let buffer = gpu.storage(what, 4 * floats.len() as u64)?;
        gpu.write(&buffer, 0, bytemuck::cast_slice(&floats));
        Ok(Self { buffer, places })
    }

    /// The buffer of a role's vector, and its first float there.
    pub(super) fn target(&self, role: TensorRole) -> Option<(wgpu::Buffer, usize)> {
        let (_, at) = self.places.iter().find(|(found, _)| *found == role)?;
        Some((self.buffer.clone(), *at))
    }
}
