//! Vectors that one kernel reads. They lie one after another in one buffer, because a kernel may bind only a few
//! buffers.

use weft_components::TensorRole;
use weft_gpu::{Gpu, GpuError, wgpu};

/// One vector of the buffer.
pub(super) struct Slot {
    /// The role of its shard. `None` if the file has none; the fill is used then.
    pub(super) role: Option<TensorRole>,
    /// Number of floats.
    pub(super) count: usize,
    /// Value of the floats until a shard arrives: the neutral one.
    pub(super) fill: f32,
}

impl Slot {
    pub(super) fn new(role: TensorRole, count: usize, fill: f32) -> Self {
        Self { role: Some(role), count, fill }
    }
}

/// Several vectors in one buffer.
pub(super) struct Vectors {
    pub(super) buffer: wgpu::Buffer,
    places: Vec<(TensorRole, usize)>,
}

impl Vectors {
    /// Allocates memory for vectors in this order, filled with zeros up to whole vectors of four.
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

    /// The buffer of a role's vector, and the vector's first float in it.
    pub(super) fn target(&self, role: TensorRole) -> Option<(wgpu::Buffer, usize)> {
        let (_, at) = self.places.iter().find(|(found, _)| *found == role)?;
        Some((self.buffer.clone(), *at))
    }
}
