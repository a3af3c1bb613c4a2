//! Errors of the GPU backend.

/// An error of the GPU backend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GpuError {
    /// There is no adapter.
    #[error("no GPU adapter was found ({wanted}); install a Vulkan, Metal or DX12 driver, or use the CPU")]
    NoAdapter {
        /// The name that was searched for.
        wanted: String,
    },
    /// The adapter returned no device.
    #[error("the GPU `{adapter}` returned no device: {reason}; update its driver, or use the CPU")]
    NoDevice {
        /// The adapter.
        adapter: String,
        /// The driver's message.
        reason: String,
    },
    /// The adapter's limits are too low for the engine's kernels.
    #[error("the GPU `{adapter}` has {limit} = {value}, kernels need at least {needed}; use the CPU")]
    Limit {
        /// The adapter.
        adapter: String,
        /// The limit's name, as a field of `wgpu::Limits`.
        limit: &'static str,
        /// Its value on the adapter.
        value: u64,
        /// The smallest value that kernels can use.
        needed: u64,
    },
    /// The host program created the device with limits that are too low for the engine's kernels.
    #[error(
        "the host's device on the GPU `{adapter}` was created with {limit} = {value}, kernels need at least {needed}; create it with the limits that `Gpu::required_limits` lists, or let the engine open a device"
    )]
    HostLimit {
        /// The adapter.
        adapter: String,
        /// The limit's name, as a field of `wgpu::Limits`.
        limit: &'static str,
        /// Its value on the device.
        value: u64,
        /// The smallest value that kernels can use.
        needed: u64,
    },
    /// The device failed, and it belongs to the host program, so that the engine cannot open it again.
    #[error(
        "the GPU `{adapter}` failed: {reason}; its device belongs to the host program, the engine cannot open another"
    )]
    HostDevice {
        /// The adapter.
        adapter: String,
        /// Why it failed.
        reason: String,
    },
    /// A buffer larger than the device allows.
    #[error(
        "`{what}` needs a buffer of {bytes} bytes, the device allows {limit} (max_buffer_size, max_storage_buffer_binding_size); use a smaller KV cache or fewer layers on the GPU"
    )]
    BufferTooLarge {
        /// What the buffer is for.
        what: String,
        /// Its size in bytes.
        bytes: u64,
        /// The device's limit in bytes.
        limit: u64,
    },
    /// The device's memory is full.
    #[error(
        "the GPU's free memory is too small for `{what}` ({bytes} bytes); put fewer layers on the GPU (--gpu-layers) or use a smaller KV cache"
    )]
    OutOfMemory {
        /// What the buffer is for.
        what: String,
        /// Its size in bytes.
        bytes: u64,
    },
    /// A matrix that kernels cannot read.
    #[error(
        "`{what}` has rows of {columns} weights, kernels need a multiple of {multiple}; leave its layer on the CPU"
    )]
    Columns {
        /// The tensor.
        what: String,
        /// Its inner dimension.
        columns: usize,
        /// What it must be a multiple of.
        multiple: usize,
    },
    /// Experts of one stack that are stored in different formats.
    #[error("`{what}` has another format than the tensors of the other experts; leave its layer on the CPU")]
    Experts {
        /// The tensor, or the stack.
        what: String,
    },
    /// A shape that a kernel does not support.
    #[error("the model's {what} is {value}, kernels take {allowed}; leave its layers on the CPU")]
    Shape {
        /// Name of the dimension.
        what: &'static str,
        /// Its value.
        value: usize,
        /// The supported values.
        allowed: &'static str,
    },
    /// More layers than fit into the GPU's memory.
    #[error(
        "{layers} layers need {needed} bytes on the GPU, {budget} may be used, enough for {fit} layers; use --gpu-layers {fit} or auto"
    )]
    DoesNotFit {
        /// Layers that were requested.
        layers: usize,
        /// Bytes of those layers, with the memory that they need to run.
        needed: u64,
        /// Bytes that may be used.
        budget: u64,
        /// Number of layers that fit.
        fit: usize,
    },
    /// A caller's WGSL does not compile.
    #[error("the WGSL of the kernel `{kernel}` does not compile: {reason}")]
    Shader {
        /// The kernel that calls the WGSL.
        kernel: &'static str,
        /// The compiler's message.
        reason: String,
    },
    /// The results of a submit could not be read back.
    #[error("the GPU `{adapter}` did not return its results")]
    Readback {
        /// The adapter.
        adapter: String,
    },
    /// A wave has more pages of context than the device's block tables can hold.
    #[error(
        "a wave has block tables of {pages} pages, its GPU has room for {limit}; this is a bug in the engine"
    )]
    BlockTables {
        /// Pages in the block tables of the wave's sessions.
        pages: usize,
        /// Pages that the device's block tables can hold.
        limit: usize,
    },
    /// The device is lost, or it rejected a command.
    #[error("the GPU `{adapter}` failed: {reason}")]
    Lost {
        /// The adapter.
        adapter: String,
        /// The driver's message.
        reason: String,
    },
}

impl GpuError {
    /// Returns true if the model itself is the reason, so that every GPU would refuse it.
    pub const fn is_of_model(&self) -> bool {
        matches!(self, Self::Columns { .. } | Self::Shape { .. } | Self::Experts { .. })
    }
}
