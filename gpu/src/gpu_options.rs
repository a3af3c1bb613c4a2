//! Options for opening and using GPUs.

/// Chooses adapters and how their devices are used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GpuOptions {
    /// Part of the adapter's name, in upper or lower case; `None` allows any adapter.
    pub adapter: Option<String>,
    /// Leave out software devices such as llvmpipe and SwiftShader. The CPU backend is faster than they are.
    pub hardware: bool,
    /// Use no feature that only adds speed.
    pub plain: bool,
    /// Do not round activations: neither to f16, which cooperative matrices need for prompts and large waves, nor to 8
    /// bits, which a few rows of quantized weights use. This is slower, but a session's text then does not depend on
    /// how many rows share its waves, up to the order of sums.
    pub exact: bool,
    /// Most GPUs to open; 0 opens one. Software devices are opened only if there is no other device.
    pub devices: usize,
    /// Bytes of each device's memory that the weights, KV caches and wave buffers of all models may take together; `None`
    /// allows all that can be allocated.
    pub memory: Option<u64>,
    /// Longest time that one submit should keep the device busy, so that other programs get their turn; `None` means 50
    /// ms.
    pub submit: Option<core::time::Duration>,
    /// Folder for compiled pipelines; `None` saves none.
    #[cfg(not(target_family = "wasm"))]
    pub cache: Option<std::path::PathBuf>,
}
