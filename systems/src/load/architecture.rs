//! Architectures as data: what a GGUF architecture calls its tensors, and which metadata it is made of.
//!
//! Supporting an architecture whose blocks the engine already has means adding a file under `architecture/` and a
//! row to [`ARCHITECTURES`].

mod llama;

use super::error::LoadError;
use super::gguf::Gguf;
use weft_components::{Activation, LayerConfig, ModelConfig, RopeConfig, RopeFactors, RopeStyle, TensorRole};

/// A tensor name with `{}` for the layer's index, what it is for, and whether a file may lack it.
#[derive(Clone, Copy, Debug)]
pub struct TensorPattern {
    /// Name, `{}` standing for the layer.
    pub name: &'static str,
    /// What it is for.
    pub role: TensorRole,
    /// Whether a model without it is whole.
    pub optional: bool,
}

/// Shorthand for a tensor that must be there.
const fn required(name: &'static str, role: TensorRole) -> TensorPattern {
    TensorPattern { name, role, optional: false }
}

/// Shorthand for a tensor that may be missing.
const fn optional(name: &'static str, role: TensorRole) -> TensorPattern {
    TensorPattern { name, role, optional: true }
}

/// What the engine has to know of an architecture.
#[derive(Clone, Copy, Debug)]
pub struct Architecture {
    /// `general.architecture`; also the prefix of its metadata keys.
    pub name: &'static str,
    /// How rotary embedding pairs dimensions in its GGUF files.
    pub rope: RopeStyle,
    /// Tensors of the model as a whole, in the order in which a wave needs them: those before the layers.
    pub before: &'static [TensorPattern],
    /// Tensors of each layer.
    pub layer: &'static [TensorPattern],
    /// Tensors needed after the layers.
    pub after: &'static [TensorPattern],
    /// Metadata keys, without the prefix, that are understood or known to change nothing.
    pub keys: &'static [&'static str],
}

/// The key of an architecture's name.
pub(super) const ARCHITECTURE: &str = "general.architecture";

/// Every architecture.
pub const ARCHITECTURES: &[Architecture] = &[llama::LLAMA];

/// Finds the architecture of a file.
pub(super) fn architecture(gguf: &Gguf, file: &str) -> Result<Architecture, LoadError> {
    let name = gguf.metadata.str(ARCHITECTURE)?;
    ARCHITECTURES.iter().find(|a| a.name == name).copied().ok_or_else(|| LoadError::UnknownArchitecture {
        file: file.to_owned(),
        name: name.to_owned(),
        known: ARCHITECTURES.iter().map(|a| a.name).collect::<Vec<_>>().join(", "),
    })
}

/// Largest layer count, head count and so on that is believed.
const MAX_COUNT: u64 = 1 << 20;
/// Longest context that is believed.
const MAX_CONTEXT: u64 = 1 << 30;

/// Metadata of one architecture: keys are looked up behind its prefix.
struct Keys<'a> {
    gguf: &'a Gguf,
    file: &'a str,
    prefix: &'static str,
}

impl Keys<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    fn bad(&self, name: &str, value: impl ToString, wanted: &'static str) -> LoadError {
        LoadError::BadMetadata {
            file: self.file.to_owned(),
            key: self.key(name),
            value: value.to_string(),
            wanted,
        }
    }

    fn count(&self, name: &str, max: u64) -> Result<usize, LoadError> {
        let value = self.gguf.metadata.u64(&self.key(name))?;
        self.checked(name, value, max)
    }

    fn count_or(&self, name: &str, max: u64, default: usize) -> Result<usize, LoadError> {
        match self.gguf.metadata.opt_u64(&self.key(name))? {
            Some(value) => self.checked(name, value, max),
            None => Ok(default),
        }
    }

    fn checked(&self, name: &str, value: u64, max: u64) -> Result<usize, LoadError> {
        if value == 0 || value > max {
            return Err(self.bad(name, value, "a positive count of believable size"));
        }
        usize::try_from(value).map_err(|_| self.bad(name, value, "a count that this machine can address"))
    }

    fn float_or(&self, name: &str, default: f32) -> Result<f32, LoadError> {
        let value = self.gguf.metadata.opt_f32(&self.key(name))?.unwrap_or(default);
        if !value.is_finite() || value < 0.0 {
            return Err(self.bad(name, value, "a finite number that is not negative"));
        }
        Ok(value)
    }
}

/// Reads and checks a model's numbers.
pub(super) fn model_config(gguf: &Gguf, arch: &Architecture, file: &str) -> Result<ModelConfig, LoadError> {
    let keys = Keys { gguf, file, prefix: arch.name };
    refuse_unknown_keys(gguf, arch, file)?;
    let layers = keys.count("block_count", MAX_COUNT)?;
    let embedding = keys.count("embedding_length", MAX_COUNT)?;
    let heads = keys.count("attention.head_count", MAX_COUNT)?;
    let kv_heads = keys.count_or("attention.head_count_kv", MAX_COUNT, heads)?;
    if !heads.is_multiple_of(kv_heads) {
        return Err(keys.bad("attention.head_count_kv", kv_heads, "a divisor of attention.head_count"));
    }
    let key_length = keys.count_or("attention.key_length", MAX_COUNT, (embedding / heads).max(1))?;
    let value_length = keys.count_or("attention.value_length", MAX_COUNT, (embedding / heads).max(1))?;
    let dimensions = keys.count_or("rope.dimension_count", MAX_COUNT, key_length)?;
    if dimensions > key_length || !dimensions.is_multiple_of(2) {
        return Err(keys.bad(
            "rope.dimension_count",
            dimensions,
            "an even number, at most attention.key_length",
        ));
    }
    let vocabulary = match gguf.tensor("token_embd.weight") {
        Some(tensor) if tensor.shape.len() == 2 => usize::try_from(tensor.shape[1]).unwrap_or(usize::MAX),
        _ => keys.count("vocab_size", MAX_COUNT)?,
    };
    Ok(ModelConfig {
        architecture: arch.name.to_owned(),
        name: gguf.metadata.opt_str("general.name")?.unwrap_or(file).to_owned(),
        layers,
        embedding,
        heads,
        kv_heads,
        key_length,
        value_length,
        feed_forward: keys.count("feed_forward_length", MAX_COUNT)?,
        vocabulary,
        context: keys.count("context_length", MAX_CONTEXT)?,
        norm_epsilon: keys.float_or("attention.layer_norm_rms_epsilon", 1e-5)?,
        experts: None,
        activation: Activation::Silu,
        ropes: vec![RopeConfig {
            style: arch.rope,
            base: keys.float_or("rope.freq_base", 10_000.0)?,
            dimensions,
            position_scale: position_scale(&keys)?,
            factors: match has(gguf, arch.before, TensorRole::RopeFactors) {
                true => RopeFactors::One,
                false => RopeFactors::None,
            },
            yarn: None,
            magnitude: 1.0,
        }],
        layer: vec![LayerConfig { window: None, rope: Some(0) }; layers],
        attention_cap: None,
        logit_cap: None,
        embedding_scale: 1.0,
        residual_scale: 1.0,
        logit_scale: 1.0,
        attention_scale: match keys.float_or("attention.scale", 0.0)? {
            0.0 => 1.0 / (key_length as f32).sqrt(),
            scale => scale,
        },
        tied: !has(gguf, arch.after, TensorRole::Output),
    })
}

/// Whether the file has the tensor of an optional role.
fn has(gguf: &Gguf, patterns: &[TensorPattern], role: TensorRole) -> bool {
    patterns.iter().any(|pattern| pattern.role == role && gguf.tensor(pattern.name).is_some())
}

/// Linear rope scaling, which a factor without a type means too; other kinds change frequencies in ways that are
/// refused rather than ignored.
fn position_scale(keys: &Keys<'_>) -> Result<f32, LoadError> {
    let kind = keys.gguf.metadata.opt_str(&keys.key("rope.scaling.type"))?.unwrap_or("linear");
    let old = keys.float_or("rope.scale_linear", 1.0)?;
    let factor = keys.float_or("rope.scaling.factor", old)?;
    match kind {
        "none" => Ok(1.0),
        "linear" if factor > 0.0 => Ok(1.0 / factor),
        "linear" => Ok(1.0),
        _ => Err(keys.bad("rope.scaling.type", kind, "none or linear")),
    }
}

/// A key under the architecture's prefix that nobody knows might change the result: say so instead of ignoring it.
fn refuse_unknown_keys(gguf: &Gguf, arch: &Architecture, file: &str) -> Result<(), LoadError> {
    for (key, _) in gguf.metadata.iter() {
        let Some(name) = key.strip_prefix(arch.name).and_then(|rest| rest.strip_prefix('.')) else {
            continue;
        };
        if !arch.keys.contains(&name) {
            return Err(LoadError::UnknownKey { file: file.to_owned(), key: key.to_owned() });
        }
    }
    Ok(())
}
