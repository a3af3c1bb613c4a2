//! Features and limits that kernels depend on.
//!
//! Features only add speed. Without any of them every kernel still runs, on its plain path.

use crate::gpu_options::GpuOptions;

/// Features and limits of a device. They decide which kernels run and how kernels are specialised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Lanes of a subgroup, if subgroup operations work and all subgroups have the same size.
    pub subgroup: Option<u32>,
    /// True if shaders can compute with 16-bit floats.
    pub f16: bool,
    /// True if packed 4×8-bit integer dot products run at full speed.
    pub packed_dot: bool,
    /// True if 16×16×16 cooperative matrices with f16 inputs and f32 sums work.
    pub cooperative: bool,
    /// True if passes can be timed on the device.
    pub timestamps: bool,
    /// True if dispatches can be timed within a pass.
    pub timestamps_inside: bool,
    /// True if the driver's compiled pipelines can be saved.
    pub pipeline_cache: bool,
    /// Most bytes of a storage binding.
    pub max_binding: u64,
    /// Most bytes of a buffer.
    pub max_buffer: u64,
    /// Most bytes of workgroup memory.
    pub workgroup_memory: u32,
    /// Most invocations of a workgroup.
    pub workgroup_size: u32,
    /// Most storage buffers that a kernel can bind.
    pub storage_buffers: u32,
}

/// Lanes of a subgroup, if all subgroups have the same number of lanes and kernels support that number.
pub(crate) fn subgroup_lanes(info: &wgpu::AdapterInfo) -> Option<u32> {
    let lanes = info.subgroup_min_size;
    (lanes == info.subgroup_max_size && [8, 16, 32, 64].contains(&lanes)).then_some(lanes)
}

impl Capabilities {
    /// Capabilities of `adapter`.
    pub fn of(adapter: &wgpu::Adapter) -> Self {
        Self::new(adapter, adapter.features(), &adapter.limits())
    }

    /// Capabilities that a device of `adapter` was created with.
    pub fn of_device(adapter: &wgpu::Adapter, device: &wgpu::Device) -> Self {
        Self::new(adapter, device.features(), &device.limits())
    }

    /// Removes the capabilities that the options disable.
    pub(crate) fn with(self, options: &GpuOptions) -> Self {
        let allowed = if options.plain { self.plain() } else { self };
        Self {
            cooperative: allowed.cooperative && !options.exact,
            packed_dot: allowed.packed_dot && !options.exact,
            ..allowed
        }
    }

    fn new(adapter: &wgpu::Adapter, features: wgpu::Features, limits: &wgpu::Limits) -> Self {
        let info = adapter.get_info();
        let subgroup = if features.contains(wgpu::Features::SUBGROUP) { subgroup_lanes(&info) } else { None };
        let f16 = features.contains(wgpu::Features::SHADER_F16);
        let cooperative = f16
            && subgroup == Some(32)
            && features.contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX)
            && adapter.cooperative_matrix_properties().iter().any(|shape| {
                (shape.m_size, shape.n_size, shape.k_size) == (16, 16, 16)
                    && shape.ab_type == wgpu::CooperativeScalarType::F16
                    && shape.cr_type == wgpu::CooperativeScalarType::F32
            });
        Self {
            subgroup,
            f16,
            packed_dot: true,
            cooperative,
            timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
            timestamps_inside: features
                .contains(wgpu::Features::TIMESTAMP_QUERY | wgpu::Features::TIMESTAMP_QUERY_INSIDE_PASSES),
            pipeline_cache: features.contains(wgpu::Features::PIPELINE_CACHE),
            max_binding: limits.max_storage_buffer_binding_size,
            max_buffer: limits.max_buffer_size,
            workgroup_memory: limits.max_compute_workgroup_storage_size,
            workgroup_size: limits.max_compute_invocations_per_workgroup,
            storage_buffers: limits.max_storage_buffers_per_shader_stage,
        }
    }

    /// Returns the same capabilities without the features that only add speed: the plain path.
    pub fn plain(self) -> Self {
        Self { subgroup: None, f16: false, packed_dot: false, cooperative: false, ..self }
    }

    /// Features to request when the device is created.
    pub(crate) fn features(&self) -> wgpu::Features {
        let when =
            |wanted: bool, feature: wgpu::Features| if wanted { feature } else { wgpu::Features::empty() };
        when(self.subgroup.is_some(), wgpu::Features::SUBGROUP)
            | when(self.f16, wgpu::Features::SHADER_F16)
            | when(self.cooperative, wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX)
            | when(self.timestamps, wgpu::Features::TIMESTAMP_QUERY)
            | when(self.timestamps_inside, wgpu::Features::TIMESTAMP_QUERY_INSIDE_PASSES)
            | when(self.pipeline_cache, wgpu::Features::PIPELINE_CACHE)
    }
}
