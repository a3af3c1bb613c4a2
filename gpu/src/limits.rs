//! Limits of a device: the lowest that kernels can use, and those that a host should request.

use crate::error::GpuError;

/// A limit that is below what every kernel needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LowLimit {
    limit: &'static str,
    value: u64,
    needed: u64,
}

impl LowLimit {
    /// The limit is the adapter's, so that no device of the adapter can run kernels.
    pub(crate) fn of_adapter(self, info: &wgpu::AdapterInfo) -> GpuError {
        let Self { limit, value, needed } = self;
        GpuError::Limit { adapter: info.name.clone(), limit, value, needed }
    }

    /// The limit is that of the host's device. Another device of the adapter may have a higher one.
    pub(crate) fn of_device(self, info: &wgpu::AdapterInfo) -> GpuError {
        let Self { limit, value, needed } = self;
        GpuError::HostLimit { adapter: info.name.clone(), limit, value, needed }
    }
}

/// Returns the first limit that is below what every kernel needs, which is WebGPU's default.
pub(crate) fn check(limits: &wgpu::Limits) -> Option<LowLimit> {
    /// Exceeds the largest binding number in `shaders/`.
    const BINDINGS: u32 = 64;
    let found = [
        ("max_compute_invocations_per_workgroup", limits.max_compute_invocations_per_workgroup, 256),
        ("max_compute_workgroup_size_x", limits.max_compute_workgroup_size_x, 256),
        ("max_compute_workgroup_storage_size", limits.max_compute_workgroup_storage_size, 16 << 10),
        ("max_compute_workgroups_per_dimension", limits.max_compute_workgroups_per_dimension, 65_535),
        ("max_storage_buffers_per_shader_stage", limits.max_storage_buffers_per_shader_stage, 8),
        ("max_bindings_per_bind_group", limits.max_bindings_per_bind_group, BINDINGS),
    ];
    found.into_iter().find(|(_, value, needed)| value < needed).map(|(limit, value, needed)| LowLimit {
        limit,
        value: value.into(),
        needed: needed.into(),
    })
}

/// Limits that let kernels be as large and as fused as the adapter allows.
pub(crate) fn required(adapter: &wgpu::Limits) -> wgpu::Limits {
    wgpu::Limits {
        max_storage_buffer_binding_size: adapter.max_storage_buffer_binding_size,
        max_buffer_size: adapter.max_buffer_size,
        max_storage_buffers_per_shader_stage: adapter.max_storage_buffers_per_shader_stage,
        max_compute_workgroup_storage_size: adapter.max_compute_workgroup_storage_size,
        ..wgpu::Limits::default().or_worse_values_from(adapter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn webgpus_defaults_are_enough_and_less_is_named() {
        let defaults = wgpu::Limits::default();
        assert_eq!(check(&defaults), None);
        let low = wgpu::Limits { max_storage_buffers_per_shader_stage: 4, ..defaults.clone() };
        let found = LowLimit { limit: "max_storage_buffers_per_shader_stage", value: 4, needed: 8 };
        assert_eq!(check(&low), Some(found));
        let low = wgpu::Limits { max_compute_workgroup_storage_size: 8 << 10, ..defaults };
        assert_eq!(check(&low).map(|low| low.value), Some(8 << 10));
    }

    #[test]
    fn required_limits_are_no_more_than_the_adapters() {
        let adapter = wgpu::Limits {
            max_texture_dimension_2d: 4096,
            max_buffer_size: 1 << 40,
            ..wgpu::Limits::default()
        };
        let found = required(&adapter);
        assert_eq!((found.max_texture_dimension_2d, found.max_buffer_size), (4096, 1 << 40));
        assert!(found.check_limits(&adapter));
    }
}
