//! Logits processing on the device: kernels that change rows of logits, `[rows, vocabulary]`, in place. They run after
//! the model's head and before the first step of [sampling](crate::sampling).
//!
//! [`LogitsKernel`] calls a WGSL function of the caller on each logit. [`LogitsMask`] forbids the tokens whose bits are
//! 0 in a mask. The logit of a forbidden token is `-inf`, which sampling never chooses.

use crate::command::Bound;
use crate::device::Gpu;
use crate::error::GpuError;
use crate::pipeline::Kernel;
use crate::shader::{KernelSpec, Part, parts};
use std::sync::Arc;

// These are not in `parts`, because no model's plan contains them.
const PROCESS: Part = include_str!("shaders/logits_process.wgsl");
const MASK: Part = include_str!("shaders/logits_mask.wgsl");

/// Invocations of a workgroup, one per logit.
const LANES: u32 = 256;

/// Workgroups for `rows` rows of `vocabulary` logits.
fn grid(vocabulary: u32, rows: u32) -> [u32; 3] {
    [vocabulary.div_ceil(LANES), rows, 1]
}

/// A logits processor in WGSL.
///
/// `wgsl` defines `fn process(row: u32, token: u32, logit: f32) -> f32`, which returns the new logit of `token` in row `row`
/// of the step's logits. It may define more functions, constants and structs, and begin with `enable` directives for features
/// that the device has. It can call:
///
/// | function | value |
/// |---|---|
/// | `row_data(row: u32, index: u32) -> u32` | word `index` of the row's `row_words` words; 0 past their end |
/// | `row_data_f32(row: u32, index: u32) -> f32` | the same word as a float |
/// | `data(index: u32) -> u32` | word `index` of the words for all rows; 0 past their end |
/// | `data_f32(index: u32) -> f32` | the same word as a float |
///
/// It returns the constant `FORBIDDEN` to forbid a token. `process` is not called for tokens that are forbidden already. A
/// logit that becomes NaN is never chosen either.
///
/// The order of invocations is undefined, so `process` must not depend on other logits. Names that the kernel itself defines
/// cannot be defined again: those above, `main`, `logits`, `row_words`, `data_words`, `WG`, `VOCABULARY`, `ROW_WORDS`,
/// `NEGATIVE_INFINITY_BITS`, and those that begin with `wave` or `row_`. The text declares no bindings and no `override`; its
/// variables take 16 KiB at most. Indices out of bounds are safe. A loop that does not end hangs the device until the driver resets it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LogitsShader {
    /// The WGSL text.
    pub wgsl: String,
    /// Number of words of data that each row has.
    pub row_words: u32,
}

/// Buffers that a [`LogitsKernel`] uses. Words are `u32`s or the bits of `f32`s.
#[derive(Clone, Copy, Debug)]
pub struct LogitsBuffers<'a> {
    /// The wave, which contains the number of rows of logits.
    pub wave: &'a wgpu::Buffer,
    /// Logits, f32, `[rows, vocabulary]`.
    pub logits: &'a wgpu::Buffer,
    /// Words of each row, `[rows, row_words]`; `None` reads as zeros.
    pub row_data: Option<&'a wgpu::Buffer>,
    /// Words for all rows; `None` reads as zeros.
    pub data: Option<&'a wgpu::Buffer>,
}

/// A compiled [`LogitsShader`]. It is valid on the GPU that compiled it.
#[derive(Clone, Debug)]
pub struct LogitsKernel {
    kernel: Arc<Kernel>,
    vocabulary: u32,
    /// Zeros, bound if the caller has no data.
    none: wgpu::Buffer,
}

impl LogitsKernel {
    /// Compiles a shader for rows of `vocabulary` logits. Natively the future is ready when it is first polled.
    ///
    /// # Errors
    /// [`GpuError::Shader`] with the compiler's message, whose line numbers refer to the caller's text. The device
    /// keeps working. [`GpuError::OutOfMemory`].
    pub async fn compile(gpu: &Gpu, vocabulary: u32, shader: &LogitsShader) -> Result<Self, GpuError> {
        let spec = KernelSpec::new("logits_process", [parts::WAVE, PROCESS])
            .with("WG", LANES)
            .with("VOCABULARY", vocabulary)
            .with("ROW_WORDS", shader.row_words)
            .with_snippet(&shader.wgsl);
        #[cfg(not(target_family = "wasm"))]
        crate::snippet::check(&spec)?;
        let kernel = gpu.pipelines.try_get(&spec).await?;
        Ok(Self { kernel, vocabulary, none: gpu.storage("logits_process", 4)? })
    }

    /// Binds the kernel to its buffers.
    pub fn bind(&self, gpu: &Gpu, buffers: &LogitsBuffers<'_>) -> Bound {
        let LogitsBuffers { wave, logits, row_data, data } = *buffers;
        let bound = [wave, logits, row_data.unwrap_or(&self.none), data.unwrap_or(&self.none)];
        let numbered: Vec<_> = (0..).zip(bound.map(wgpu::Buffer::as_entire_binding)).collect();
        Bound::new(gpu, Arc::clone(&self.kernel), &numbered)
    }

    /// Workgroups for up to `rows` rows of logits. Rows beyond those of the wave are not changed.
    pub fn grid(&self, rows: u32) -> [u32; 3] {
        grid(self.vocabulary, rows)
    }
}

/// The kernel that forbids tokens by a mask of bits, `[rows, row_words]` `u32`s. Token `t` is allowed where bit `t %
/// 32` of word `t / 32` of its row is 1.
///
/// | binding | buffer | |
/// |---|---|---|
/// | 0 | the wave | contains the number of rows of logits |
/// | 1 | logits | f32, `[rows, vocabulary]`; those of forbidden tokens become `-inf` |
/// | 2 | the mask | |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogitsMask {
    /// Logits of a row.
    pub vocabulary: u32,
}

impl LogitsMask {
    /// Words of a row of the mask.
    pub fn row_words(&self) -> u32 {
        self.vocabulary.div_ceil(32)
    }

    /// Bytes of the mask for up to `rows` rows of logits.
    pub fn bytes(&self, rows: u32) -> u64 {
        4 * u64::from(self.row_words()) * u64::from(rows)
    }

    /// The kernel.
    pub fn spec(&self) -> KernelSpec {
        KernelSpec::new("logits_mask", [parts::WAVE, MASK])
            .with("WG", LANES)
            .with("VOCABULARY", self.vocabulary)
            .with("MASK_WORDS", self.row_words())
    }

    /// Workgroups for up to `rows` rows of logits. Rows beyond those of the wave are not changed.
    pub fn grid(&self, rows: u32) -> [u32; 3] {
        grid(self.vocabulary, rows)
    }
}
