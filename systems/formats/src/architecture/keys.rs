//! Metadata keys that architectures share, and the reader of an architecture's metadata.

use super::TensorPattern;
use crate::error::ModelError;
use crate::gguf::{Array, Gguf, Metadata, Value};
use weft_components::TensorRole;

/// The key of the layer count.
const BLOCK_COUNT: &str = "block_count";

/// Keys that a file of any architecture may have.
pub(super) const COMMON: &[&str] = &[
    BLOCK_COUNT,
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_rms_epsilon",
    "attention.scale",
    "attention.causal",
    "pooling_type",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scaling.original_context_length",
    "rope.scaling.attn_factor",
    "rope.scaling.finetuned",
    "rope.scaling.yarn_ext_factor",
    "rope.scaling.yarn_attn_factor",
    "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow",
    "rope.scale_linear",
    "vocab_size",
    "tensor_data_layout",
    // Early converters wrote it for every architecture. It has a meaning for GPT-NeoX only.
    "use_parallel_residual",
];

/// Keys of layers with a window.
pub(super) const WINDOW: &[&str] = &["attention.sliding_window", WINDOW_PATTERN];

/// The key of the rotary base of layers with a window.
pub(super) const LOCAL_ROPE: &[&str] = &["rope.freq_base_swa"];

/// Keys of experts.
pub(super) const EXPERTS: &[&str] = &[
    "expert_count",
    "expert_used_count",
    "expert_feed_forward_length",
    "expert_weights_norm",
    "expert_weights_scale",
    "expert_gating_func",
];

/// The key of the width of the shared expert.
pub(super) const SHARED_EXPERT: &[&str] = &["expert_shared_feed_forward_length"];

/// The key of a LayerNorm's epsilon.
pub(super) const LAYER_NORM: &[&str] = &["attention.layer_norm_epsilon"];

/// Keys of Granite's scale factors.
pub(super) const SCALES: &[&str] = &["embedding_scale", "residual_scale", "logit_scale"];

/// Keys that describe a vision tower stored in another file, and the image tokens in a text.
pub(super) const VISION: &[&str] = &[
    "mm.tokens_per_image",
    "vision.attention.head_count",
    "vision.attention.layer_norm_epsilon",
    "vision.block_count",
    "vision.embedding_length",
    "vision.feed_forward_length",
    "vision.image_size",
    "vision.num_channels",
    "vision.patch_size",
];

/// Keys of the soft caps of attention scores and of logits.
pub(super) const ATTENTION_CAP: &[&str] = &["attn_logit_softcapping"];
pub(super) const LOGIT_CAP: &[&str] = &["final_logit_softcapping"];

/// Largest count of layers, heads and so on that is accepted.
pub(super) const MAX_COUNT: u64 = 1 << 20;

/// The key of which layers have a window. It may be an array with a different value for each layer.
pub(super) const WINDOW_PATTERN: &str = "attention.sliding_window_pattern";

/// The metadata of one architecture. Keys are given without the prefix.
pub(super) struct Keys<'a> {
    pub(super) gguf: &'a Gguf,
    pub(super) file: &'a str,
    prefix: &'static str,
    /// The entries under the prefix. An array with the same value for every layer is stored as that value.
    metadata: Metadata,
}

impl<'a> Keys<'a> {
    /// Reads the metadata under `prefix`.
    ///
    /// # Errors
    /// [`ModelError::BadMetadata`] if an array does not have one value for each layer, or its values differ.
    pub(super) fn new(gguf: &'a Gguf, prefix: &'static str, file: &'a str) -> Result<Self, ModelError> {
        let layers = gguf.metadata.opt_u64(&format!("{prefix}.{BLOCK_COUNT}"))?.unwrap_or(0);
        let mut entries = Vec::new();
        for (key, value) in gguf.metadata.iter() {
            let Some(name) = key.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('.')) else {
                continue;
            };
            let one = match value {
                Value::Array(array) if name != WINDOW_PATTERN => Some(same_in_all(array, layers)),
                _ => None,
            };
            let value = match one {
                None => value.clone(),
                Some(Some(value)) => value,
                Some(None) => {
                    return Err(ModelError::BadMetadata {
                        file: file.to_owned(),
                        key: key.to_owned(),
                        value: value.to_string(),
                        wanted: "one value, or the same value for each layer",
                    });
                }
            };
            entries.push((key.to_owned(), value));
        }
        Ok(Self { gguf, file, prefix, metadata: Metadata::new(file, entries)? })
    }

    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    /// Returns true if the file has a tensor of `role` under one of the names in `patterns`.
    pub(super) fn has(&self, patterns: &[TensorPattern], role: TensorRole) -> bool {
        patterns
            .iter()
            .any(|pattern| pattern.roles.contains(&role) && self.gguf.tensor(pattern.name).is_some())
    }

    /// Returns the value of a key, of any type.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.metadata.get(&self.key(name))
    }

    /// Returns an integer, unchecked; `None` if the key is missing.
    pub(super) fn opt_u64(&self, name: &str) -> Result<Option<u64>, ModelError> {
        Ok(self.metadata.opt_u64(&self.key(name))?)
    }

    /// Returns a number, unchecked; `None` if the key is missing.
    pub(super) fn opt_f32(&self, name: &str) -> Result<Option<f32>, ModelError> {
        Ok(self.metadata.opt_f32(&self.key(name))?)
    }

    pub(super) fn bad(&self, name: &str, value: impl ToString, wanted: &'static str) -> ModelError {
        ModelError::BadMetadata {
            file: self.file.to_owned(),
            key: self.key(name),
            value: value.to_string(),
            wanted,
        }
    }

    /// Returns a count from 1 to `max`. The key must be present.
    pub(super) fn count(&self, name: &str, max: u64) -> Result<usize, ModelError> {
        let value = self.metadata.u64(&self.key(name))?;
        self.checked(name, value, max)
    }

    /// Returns a count from 1 to `max`, or `default` if the key is missing.
    pub(super) fn count_or(&self, name: &str, max: u64, default: usize) -> Result<usize, ModelError> {
        match self.opt_u64(name)? {
            Some(value) => self.checked(name, value, max),
            None => Ok(default),
        }
    }

    /// Returns a count from 1 to `max`; `None` if the key is missing or 0.
    pub(super) fn opt_count(&self, name: &str, max: u64) -> Result<Option<usize>, ModelError> {
        match self.opt_u64(name)? {
            Some(value) if value > 0 => self.checked(name, value, max).map(Some),
            _ => Ok(None),
        }
    }

    fn checked(&self, name: &str, value: u64, max: u64) -> Result<usize, ModelError> {
        if value == 0 || value > max {
            return Err(self.bad(name, value, "a positive count of plausible size"));
        }
        usize::try_from(value).map_err(|_| self.bad(name, value, "a count that this machine can address"))
    }

    /// Returns a finite number that is not negative; `None` if the key is missing.
    pub(super) fn opt_float(&self, name: &str) -> Result<Option<f32>, ModelError> {
        let value = self.opt_f32(name)?;
        match value {
            Some(value) if !value.is_finite() || value < 0.0 => {
                Err(self.bad(name, value, "a finite number that is not negative"))
            }
            value => Ok(value),
        }
    }

    /// Returns a finite number that is not negative, or `default` if the key is missing.
    pub(super) fn float_or(&self, name: &str, default: f32) -> Result<f32, ModelError> {
        Ok(self.opt_float(name)?.unwrap_or(default))
    }

    /// Returns a positive finite number; `None` if the key is missing or 0.
    pub(super) fn positive(&self, name: &str) -> Result<Option<f32>, ModelError> {
        Ok(self.opt_float(name)?.filter(|value| *value > 0.0))
    }

    /// Returns a boolean; `None` if the key is missing.
    pub(super) fn opt_bool(&self, name: &str) -> Result<Option<bool>, ModelError> {
        Ok(self.metadata.opt_bool(&self.key(name))?)
    }

    /// Returns a string; `None` if the key is missing.
    pub(super) fn opt_str(&self, name: &str) -> Result<Option<&str>, ModelError> {
        Ok(self.metadata.opt_str(&self.key(name))?)
    }
}

/// Returns the value that an array repeats for each of `layers` layers; `None` if its length or its values differ.
///
/// llama.cpp reads counts the same way (`get_key_or_arr`): one number for all layers, or an array with one for each.
fn same_in_all(array: &Array, layers: u64) -> Option<Value> {
    fn same<T: PartialEq>(values: &[T]) -> Option<&T> {
        values.first().filter(|first| values.iter().all(|value| value == *first))
    }
    if array.len() as u64 != layers {
        return None;
    }
    Some(match array {
        Array::U8(values) => Value::U8(*same(values)?),
        Array::I8(values) => Value::I8(*same(values)?),
        Array::U16(values) => Value::U16(*same(values)?),
        Array::I16(values) => Value::I16(*same(values)?),
        Array::U32(values) => Value::U32(*same(values)?),
        Array::I32(values) => Value::I32(*same(values)?),
        Array::U64(values) => Value::U64(*same(values)?),
        Array::I64(values) => Value::I64(*same(values)?),
        Array::F32(values) => Value::F32(*same(values)?),
        Array::F64(values) => Value::F64(*same(values)?),
        Array::Bool(values) => Value::Bool(*same(values)?),
        Array::String(values) => Value::String(same(values)?.clone()),
        Array::Array(_) => return None,
    })
}
