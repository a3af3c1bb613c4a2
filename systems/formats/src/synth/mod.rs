//! Synthetic models: files with random weights, in any supported architecture, shape and format. They serve for
//! measuring where no real model is available.
//!
//! The architecture's table lists the tensors, and the metadata reader determines their shapes, so every architecture
//! that can be loaded can be generated. Matrices have a standard deviation of `1 / sqrt(inputs)`, so hidden states and
//! logits neither vanish nor overflow. Norms are near 1 and stored in F32.
//!
//! Invariant: a file depends only on the architecture, the shape, the format and the seed, not on the number of
//! threads. Memory does not grow with the weights.

mod blocks;
mod error;
mod random;
mod shape;
mod vocabulary;
mod weights;

use std::io::Write;
use std::ops::ControlFlow;

use super::architecture::{ARCHITECTURES, Architecture, TensorPattern, model_config};
use super::error::ModelError;
use super::gguf::{Gguf, GgufHeader, GgufWriter, Metadata};
use super::manifest::{groups, name_of, shape_of};
use super::mix::{Mix, MixedModel, MixedTensor};
use random::SplitMix64;
use weft_components::formats::F32;
use weft_components::{BlockFormat, ModelConfig, RopeFactors, TensorFormat, TensorRole};
use weft_platform::{Kernels, Pool};
use weights::RandomWeights;

pub use error::SynthError;
pub use shape::{PRESETS, SynthExperts, SynthShape};

/// Elements of a chunk, the part of a tensor with its own random stream: a whole number of blocks in every format.
/// Changing it changes the file that a seed generates.
const CHUNK: usize = 1 << 16;

/// Bytes that are generated and written at once.
const BATCH: usize = 32 << 20;

/// Standard deviation of norms and biases.
const VECTOR_DEVIATION: f32 = 0.03;

/// A planned synthetic model: the header, and the distributions of its weights. [`Synth::write`] writes its file.
#[derive(Clone, Debug)]
pub struct Synth {
    header: GgufHeader,
    /// Mean and standard deviation of each tensor's weights.
    distributions: Vec<(f32, f32)>,
    seed: u64,
}

impl Synth {
    /// Plans a model. `file` is its name in error messages.
    ///
    /// # Errors
    /// A [`SynthError`] for an unsupported architecture or format, invalid hyperparameters, rows that are not whole
    /// blocks, or a file size that exceeds 64 bits.
    pub fn new(
        file: &str,
        architecture: &str,
        shape: &SynthShape,
        mix: Mix,
        seed: u64,
    ) -> Result<Self, SynthError> {
        let arch = find(architecture)?;
        let metadata = Metadata::new(file, shape.metadata(arch)?)?;
        // The tensors must fit the hyperparameters that a reader derives from the metadata.
        let gguf = Gguf::planned(metadata)?;
        let read = model_config(&gguf, arch, file).map_err(|error| match error {
            ModelError::BadMetadata { key, value, wanted, .. } => {
                SynthError::BadNumber { field: key, value, wanted: wanted.to_owned() }
            }
            error => error.into(),
        })?;
        let may_be_untied = arch.after.iter().any(|pattern| pattern.roles.contains(&TensorRole::Output));
        let config = ModelConfig { tied: shape.tied || !may_be_untied, ..read };
        let mut entries: Vec<_> =
            gguf.metadata.iter().map(|(key, value)| (key.to_owned(), value.clone())).collect();
        entries.extend(vocabulary::metadata(config.vocabulary));
        let mut header = GgufHeader::new(&Metadata::new(file, entries)?)?;
        let mut distributions = Vec::new();
        let float = TensorFormat::from_ggml(F32::GGML_TYPE).unwrap_or(mix.base());
        let experts = config.experts.map_or(0, |experts| experts.count);
        let model =
            MixedModel::new(arch.name, config.layers, config.heads, config.kv_heads, experts, config.tied);
        for (owner, patterns) in groups(arch, &config) {
            for pattern in patterns.into_iter().filter(|pattern| is_there(pattern, &config)) {
                let (name, shape) = (name_of(pattern, owner, 0), shape_of(pattern, &config));
                let inputs = shape.first().copied().unwrap_or(1);
                if pattern.roles.iter().any(is_router) {
                    // Converters and quantizers store routers in F32.
                    header.tensor(&name, float, &shape)?;
                    distributions.push((0.0, (inputs as f32).sqrt().recip()));
                } else if pattern.roles.iter().any(|role| role.is_vector()) {
                    header.tensor(&name, float, &shape)?;
                    distributions.push((if name.ends_with(".bias") { 0.0 } else { 1.0 }, VECTOR_DEVIATION));
                } else {
                    let format = mix.format(&MixedTensor {
                        model,
                        role: pattern.roles[0],
                        layer: owner.layer().unwrap_or(0),
                        cols: inputs as usize,
                        stack: pattern.roles[0].is_expert(),
                    });
                    if RandomWeights::new(format, 0.0, 1.0).is_none() {
                        return Err(unsupported(format.name()));
                    }
                    header.tensor(&name, format, &shape)?;
                    distributions.push((0.0, (inputs as f32).sqrt().recip()));
                }
            }
        }
        Ok(Self { header, distributions, seed })
    }

    /// Returns the format or mix called `name`, if random weights can be generated in it.
    ///
    /// # Errors
    /// [`SynthError::UnsupportedFormat`].
    pub fn format(name: &str) -> Result<Mix, SynthError> {
        let found = Mix::from_name(name);
        found
            .filter(|mix| RandomWeights::new(mix.base(), 0.0, 1.0).is_some())
            .ok_or_else(|| unsupported(name))
    }

    /// Returns the size of the file in bytes.
    pub fn bytes(&self) -> u64 {
        self.header.file_bytes()
    }

    /// Returns the number of tensors in the file.
    pub fn tensors(&self) -> usize {
        self.header.tensors().len()
    }

    /// Generates the weights on `threads` threads, or one for each core if 0, and writes the file to `out`. `progress`
    /// is called every few megabytes with the bytes written so far and may stop the work.
    ///
    /// # Errors
    /// [`SynthError::Write`] if `out` fails, [`SynthError::Stopped`], [`SynthError::Threads`].
    pub fn write<W: Write>(
        &self,
        out: W,
        threads: usize,
        mut progress: impl FnMut(u64) -> ControlFlow<()>,
    ) -> Result<W, SynthError> {
        let pool = Pool::new(threads)?;
        let cpu = pool.cpu(Kernels::detect());
        let mut writer = GgufWriter::new(out, &self.header)?;
        let mut buffer = vec![0; BATCH.min(usize::try_from(self.header.file_bytes()).unwrap_or(BATCH))];
        let start = self.header.data_start();
        for (index, (tensor, (mean, deviation))) in
            (0u64..).zip(self.header.tensors().iter().zip(&self.distributions))
        {
            let weights = RandomWeights::new(tensor.format, *mean, *deviation)
                .ok_or_else(|| unsupported(tensor.format.name()))?;
            let fill = |chunk: u64, bytes: &mut [u8]| {
                weights.fill(SplitMix64::new(self.seed, index, chunk), bytes);
            };
            let chunk_bytes = CHUNK / tensor.format.block() * tensor.format.block_bytes();
            let (mut written, mut chunk) = (0, 0);
            while written < tensor.bytes {
                // A batch of whole chunks, or the rest of the tensor if that is smaller, which always fits the buffer.
                let most = (BATCH / chunk_bytes).max(1) * chunk_bytes;
                let len = usize::try_from(tensor.bytes - written).unwrap_or(most).min(most).min(buffer.len());
                let batch = &mut buffer[..len];
                pool.install(|| {
                    cpu.for_each_part(batch, chunk_bytes, 1, |part, bytes| fill(chunk + part as u64, bytes));
                });
                let parts = batch.chunks_exact_mut(chunk_bytes);
                chunk += parts.len() as u64;
                fill(chunk, parts.into_remainder());
                writer.data(batch)?;
                written += batch.len() as u64;
                if progress(start + tensor.offset + written).is_break() {
                    return Err(SynthError::Stopped { file: self.header.file().to_owned() });
                }
            }
        }
        Ok(writer.finish()?)
    }
}

fn find(name: &str) -> Result<&'static Architecture, SynthError> {
    ARCHITECTURES.iter().find(|arch| arch.name == name).ok_or_else(|| SynthError::UnsupportedArchitecture {
        name: name.to_owned(),
        supported: ARCHITECTURES.iter().map(|arch| arch.name).collect::<Vec<_>>().join(", "),
    })
}

fn unsupported(format: &str) -> SynthError {
    let supported = weights::format_names().chain(Mix::names()).collect::<Vec<_>>().join(", ");
    SynthError::UnsupportedFormat { format: format.to_owned(), supported }
}

/// Returns true for the roles of routers.
fn is_router(role: &TensorRole) -> bool {
    matches!(role, TensorRole::Router | TensorRole::SharedRouter)
}

/// Returns true if the model has the tensor. Optional tensors are left out, except an untied head and needed rotary
/// factors.
fn is_there(pattern: &TensorPattern, config: &ModelConfig) -> bool {
    let wanted = |role: &TensorRole| match role {
        TensorRole::Output => !config.tied,
        TensorRole::RopeFactors => config.ropes[0].factors != RopeFactors::None,
        _ => false,
    };
    !pattern.optional || pattern.roles.iter().any(wanted)
}
