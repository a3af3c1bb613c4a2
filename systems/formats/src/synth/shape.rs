//! The hyperparameters of a synthetic model, and the metadata that state them.

use super::error::SynthError;
use super::vocabulary;
use crate::architecture::{ARCHITECTURE, Architecture};
use crate::gguf::Value;
use weft_components::TensorRole;

/// Hyperparameters of a synthetic model, named as in [`weft_components::ModelConfig`].
#[derive(Clone, Debug, PartialEq)]
pub struct SynthShape {
    /// Number of layers.
    pub layers: usize,
    /// Width of the hidden state.
    pub embedding: usize,
    /// Width of the feed-forward network.
    pub feed_forward: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads, a divisor of `heads`.
    pub kv_heads: usize,
    /// Width of a query or key head; `None` means `embedding / heads`.
    pub key_length: Option<usize>,
    /// Width of a value head; `None` means the width of a key head.
    pub value_length: Option<usize>,
    /// Number of tokens in the vocabulary.
    pub vocabulary: usize,
    /// Context length in tokens, as stated in the metadata.
    pub context: usize,
    /// True if the embedding is also the head.
    pub tied: bool,
    /// Base of the rotary frequencies.
    pub rope_base: f32,
    /// Sliding window in tokens; `None` means the architecture's default.
    pub window: Option<usize>,
    /// Experts. `None` means a dense network, or [`SynthExperts::default`] if the architecture requires experts.
    pub experts: Option<SynthExperts>,
}

/// Experts of a synthetic model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SynthExperts {
    /// Experts of a layer.
    pub count: usize,
    /// Experts that a row uses.
    pub used: usize,
    /// Width of an expert.
    pub feed_forward: usize,
    /// Width of the shared expert, if the architecture has one; 0 for none.
    pub shared_feed_forward: usize,
}

impl Default for SynthExperts {
    /// Experts for tests.
    fn default() -> Self {
        Self { count: 4, used: 2, feed_forward: 256, shared_feed_forward: 512 }
    }
}

/// Shapes of models that are often measured, by name.
pub const PRESETS: &[(&str, SynthShape)] = &[
    // Llama 3.2 1B.
    ("1b", SynthShape { layers: 16, embedding: 2048, feed_forward: 8192, tied: true, ..LLAMA_3 }),
    // Llama 3 8B.
    ("8b", SynthShape { layers: 32, embedding: 4096, feed_forward: 14_336, tied: false, ..LLAMA_3 }),
];

/// The hyperparameters that the presets share.
const LLAMA_3: SynthShape = SynthShape {
    layers: 0,
    embedding: 0,
    feed_forward: 0,
    heads: 32,
    kv_heads: 8,
    key_length: None,
    value_length: None,
    vocabulary: 128_256,
    context: 131_072,
    tied: true,
    rope_base: 500_000.0,
    window: None,
    experts: None,
};

/// Largest number of layers. The deepest models have a few hundred. The tensor table of a million layers would not fit
/// in memory.
const MAX_LAYERS: usize = 10_000;

/// Epsilon of the norms.
const NORM_EPSILON: f32 = 1e-5;

impl Default for SynthShape {
    /// A model for tests: 1.3 million weights, with rows that are whole blocks in every format.
    fn default() -> Self {
        Self {
            layers: 2,
            embedding: 256,
            feed_forward: 512,
            heads: 8,
            kv_heads: 2,
            key_length: None,
            value_length: None,
            vocabulary: 512,
            context: 2048,
            tied: true,
            rope_base: 10_000.0,
            window: None,
            experts: None,
        }
    }
}

impl SynthShape {
    /// Returns the shape called `name`.
    ///
    /// # Errors
    /// [`SynthError::UnknownPreset`].
    pub fn preset(name: &str) -> Result<Self, SynthError> {
        let found = PRESETS.iter().find(|(preset, _)| *preset == name);
        found.map(|(_, shape)| shape.clone()).ok_or_else(|| SynthError::UnknownPreset {
            name: name.to_owned(),
            known: PRESETS.iter().map(|(preset, _)| *preset).collect::<Vec<_>>().join(", "),
        })
    }

    /// Returns the metadata of a model of this shape, including the size of its vocabulary. Keys that the architecture
    /// does not have are left out.
    ///
    /// # Errors
    /// [`SynthError::BadNumber`] for values that the metadata reader could not detect. The reader checks all others.
    pub(super) fn metadata(&self, arch: &Architecture) -> Result<Vec<(String, Value)>, SynthError> {
        let refuse = |field: &str, value: String, wanted: &str| {
            Err(SynthError::BadNumber { field: field.to_owned(), value, wanted: wanted.to_owned() })
        };
        if self.layers > MAX_LAYERS {
            return refuse("block_count", self.layers.to_string(), &format!("at most {MAX_LAYERS}"));
        }
        let key_length = match self.key_length {
            Some(length) => length,
            None if self.heads > 0 && self.embedding.is_multiple_of(self.heads) => {
                self.embedding / self.heads
            }
            None => {
                let wanted = format!("a multiple of the {} heads, unless a key length is given", self.heads);
                return refuse("embedding_length", self.embedding.to_string(), &wanted);
            }
        };
        if self.vocabulary < vocabulary::LEAST {
            let wanted = format!("at least {}: the bytes and a few special tokens", vocabulary::LEAST);
            return refuse("vocab_size", self.vocabulary.to_string(), &wanted);
        }
        if !(self.rope_base.is_finite() && self.rope_base > 0.0) {
            return refuse("rope.freq_base", self.rope_base.to_string(), "a positive number");
        }
        let text = |key: &str, text: String| (key.to_owned(), Value::String(text));
        let mut entries = vec![
            text(ARCHITECTURE, arch.name.to_owned()),
            text("general.name", format!("random {} {}x{}", arch.name, self.layers, self.embedding)),
        ];
        let numbers = [
            ("block_count", count(self.layers)),
            ("context_length", count(self.context)),
            ("embedding_length", count(self.embedding)),
            ("feed_forward_length", count(self.feed_forward)),
            ("attention.head_count", count(self.heads)),
            ("attention.head_count_kv", count(self.kv_heads)),
            ("attention.key_length", count(key_length)),
            ("attention.value_length", count(self.value_length.unwrap_or(key_length))),
            ("attention.layer_norm_rms_epsilon", Value::F32(NORM_EPSILON)),
            ("attention.layer_norm_epsilon", Value::F32(NORM_EPSILON)),
            ("rope.dimension_count", count(key_length)),
            ("rope.freq_base", Value::F32(self.rope_base)),
            ("vocab_size", count(self.vocabulary)),
        ];
        let numbers = numbers.into_iter().chain(self.optional_numbers(arch)?);
        let known = numbers.filter(|(key, _)| arch.knows_key(key));
        entries.extend(known.map(|(key, value)| (format!("{}.{key}", arch.name), value)));
        Ok(entries)
    }

    /// Returns the hyperparameters that only some models have. A value that the architecture does not support is
    /// refused, because leaving it out would change the model.
    fn optional_numbers(
        &self,
        arch: &Architecture,
    ) -> Result<impl Iterator<Item = (&'static str, Value)> + use<>, SynthError> {
        let dense = arch.layer_may_have(TensorRole::FfnDown);
        let experts = self.experts.or((!dense).then(SynthExperts::default));
        let shared = |experts: SynthExperts| match arch.layer_may_have(TensorRole::SharedDown) {
            true => experts.shared_feed_forward,
            false => 0,
        };
        let window = self.window.map(|window| ("attention.sliding_window", window));
        let experts = experts.map(|experts| {
            [
                ("expert_count", experts.count),
                ("expert_used_count", experts.used),
                ("expert_feed_forward_length", experts.feed_forward),
                ("expert_shared_feed_forward_length", shared(experts)),
            ]
        });
        let numbers: Vec<_> = window
            .into_iter()
            .chain(experts.into_iter().flatten())
            .filter(|(key, value)| *value > 0 || !key.contains("shared"))
            .collect();
        match numbers.iter().find(|(key, _)| !arch.knows_key(key)) {
            Some((key, value)) => Err(SynthError::BadNumber {
                field: (*key).to_owned(),
                value: value.to_string(),
                wanted: format!("left out: {} has none", arch.name),
            }),
            None => Ok(numbers.into_iter().map(|(key, value)| (key, count(value)))),
        }
    }
}

/// Returns a count in the type that converters write. Larger counts stay 64-bit, and the metadata reader refuses them.
fn count(count: usize) -> Value {
    u32::try_from(count).map_or(Value::U64(count as u64), Value::U32)
}
