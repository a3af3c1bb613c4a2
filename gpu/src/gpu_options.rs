//! How a GPU is opened and used.

/// Which adapter to open, and what of it to use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GpuOptions {
    /// Part of the adapter's name, in any case; `None` for any.
    pub adapter: Option<String>,
    /// Leave software devices, such as llvmpipe and SwiftShader, out: a CPU computes faster by itself.
    pub hardware: bool,
    /// Use none of the features that only add speed.
    pub plain: bool,
    /// Round no activations, neither to halves, as cooperative matrices do for prompts and large waves, nor to 8 bits, as a few rows
    /// of quantized weights do: slower, but what a session says does not depend on how many rows share its waves, to within the
    /// order of sums.
    pub exact: bool,
    /// Most GPUs to open; 0 opens one. Software devices are opened only where there is nothing else.
    pub devices: usize,
    /// Bytes of each device's memory that may be used; `None` for what allocation finds.
    pub memory: Option<u64>,
    /// Longest that one submit should keep the device busy, so that others get their turn; `None` for 50 ms.
    pub submit: Option<core::time::Duration>,
    /// Folder for compiled pipelines; `None` keeps none.
    #[cfg(not(target_family = "wasm"))]
    pub cache: Option<std::path::PathBuf>,
}
