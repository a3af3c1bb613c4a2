//! What can go wrong with a GPU.

/// An error of the GPU backend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GpuError {
    /// There is no adapter.
    #[error("no GPU adapter was found ({wanted}); install a Vulkan, Metal or DX12 driver, or use the CPU")]
    NoAdapter {
        /// What was looked for.
        wanted: String,
    },
    /// The adapter gave no device.
    #[error("the GPU `{adapter}` gave no device: {reason}; update its driver, or use the CPU")]
    NoDevice {
        /// The adapter.
        adapter: String,
        /// The driver's word.
        reason: String,
    },
    /// The device cannot run the engine's kernels.
    #[error("the GPU `{adapter}` offers {limit} = {value}, kernels need {needed}; use the CPU")]
    Limit {
        /// The adapter.
        adapter: String,
        /// The limit's name, as a field of `wgpu::Limits`.
        limit: &'static str,
        /// What it is.
        value: u64,
        /// What is needed.
        needed: u64,
    },
    /// A host's device cannot run the engine's kernels.
    #[error(
        "the host's device on the GPU `{adapter}` was created with {limit} = {value}, kernels need {needed}; create it with the limits that `Gpu::required_limits` lists, or let the engine open a device"
    )]
    HostLimit {
        /// The adapter.
        adapter: String,
        /// The limit's name, as a field of `wgpu::Limits`.
        limit: &'static str,
        /// Its value on the device.
        value: u64,
        /// What is needed.
        needed: u64,
    },
    /// A host's device cannot be opened again by the engine.
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
        "`{what}` takes {bytes} bytes, the device allows {limit} a buffer (max_buffer_size, max_storage_buffer_binding_size); use a smaller KV cache or fewer layers on the GPU"
    )]
    BufferTooLarge {
        /// What it is for.
        what: String,
        /// Its size.
        bytes: u64,
        /// The device's limit.
        limit: u64,
    },
    /// The device's memory is full.
    #[error(
        "the GPU has no memory left for `{what}` ({bytes} bytes); put fewer layers on the GPU (--gpu-layers) or use a smaller KV cache"
    )]
    OutOfMemory {
        /// What it is for.
        what: String,
        /// Its size.
        bytes: u64,
    },
    /// A matrix that kernels cannot read.
    #[error(
        "`{what}` has rows of {columns} weights, kernels read multiples of {multiple}; leave its layer on the CPU"
    )]
    Columns {
        /// The tensor.
        what: String,
        /// Its inner dimension.
        columns: usize,
        /// What it must be a multiple of.
        multiple: usize,
    },
    /// Experts that do not lie in one stack.
    #[error("`{what}` is stored in another format than what lies beside it; leave its layer on the CPU")]
    Experts {
        /// The tensor, or the stack.
        what: String,
    },
    /// A shape that a kernel cannot take.
    #[error("the model's {what} is {value}, kernels take {allowed}; leave its layers on the CPU")]
    Shape {
        /// The number's name.
        what: &'static str,
        /// Its value.
        value: usize,
        /// What is allowed.
        allowed: &'static str,
    },
    /// A KV cache that GPU kernels do not read.
    #[error("a KV cache in {format} is not kept on GPUs; use f16 (--kv f16), or the CPU")]
    KvFormat {
        /// How keys and values are stored.
        format: String,
    },
    /// More layers than fit.
    #[error(
        "{layers} layers take {needed} bytes on the GPU, {budget} may be used, which {fit} layers fit; use --gpu-layers {fit} or auto"
    )]
    DoesNotFit {
        /// Layers asked for.
        layers: usize,
        /// Bytes that they take, with everything that goes with them.
        needed: u64,
        /// Bytes that may be used.
        budget: u64,
        /// Layers that fit.
        fit: usize,
    },
    /// A caller's WGSL does not compile.
    #[error("the WGSL of the kernel `{kernel}` does not compile: {reason}")]
    Shader {
        /// The kernel that it is for.
        kernel: &'static str,
        /// The compiler's message.
        reason: String,
    },
    /// What a submit computed cannot be read.
    #[error("the GPU `{adapter}` did not give back what it had computed")]
    Readback {
        /// The adapter.
        adapter: String,
    },
    /// A wave with more pages of context than its device has room for.
    #[error(
        "a wave has block tables of {pages} pages, its GPU has room for {limit}: an error of the engine's"
    )]
    BlockTables {
        /// Pages of the wave's sessions.
        pages: usize,
        /// Pages that there is room for.
        limit: usize,
    },
    /// The device is lost, or refused what it was given.
    #[error("the GPU `{adapter}` failed: {reason}")]
    Lost {
        /// The adapter.
        adapter: String,
        /// The driver's word.
        reason: String,
    },
}

impl GpuError {
    /// Whether it is about what a model is made of: no GPU would take it.
    pub const fn is_of_model(&self) -> bool {
        matches!(self, Self::Columns { .. } | Self::Shape { .. } | Self::Experts { .. })
    }
}
