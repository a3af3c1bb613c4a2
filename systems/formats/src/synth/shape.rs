//! The numbers of a model that is made up, and the metadata that state them.

use super::error::SynthError;
use super::vocabulary;
use crate::architecture::{ARCHITECTURE, Architecture};
use crate::gguf::Value;
use weft_components::TensorRole;

/// The numbers of a model that is made up, under the names that [`weft_components::ModelConfig`] has for them.
#[derive(Clone, Debug, PartialEq)]
pub struct SynthShape {
    /// Transformer blocks.
    pub layers: usize,
    /// Width of the hidden state.
    pub embedding: usize,
    /// Width of the feed-forward network.
    pub feed_forward: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads, a divisor of `heads`.
    pub kv_heads: usize,
    /// Dimensions of a query or key head; `None` for `embedding / heads`.
    pub key_length: Option<usize>,
    /// Dimensions of a value head; `None` for as many as a key head has.
    pub value_length: Option<usize>,
    /// Tokens.
    pub vocabulary: usize,
    /// Positions that the model states.
    pub context: usize,
    /// Whether the embedding also serves as the head.
    pub tied: bool,
    /// Base of the rotary frequencies.
    pub rope_base: f32,
    /// Tokens that layers with a window see; `None` for what the architecture says.
    pub window: Option<usize>,
    /// Experts; `None` for a dense network, or for [`SynthExperts::default`] where the architecture knows no other.
    pub experts: Option<SynthExperts>,
}

/// The numbers of a made-up model's experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SynthExperts {
    /// Experts of a layer.
    pub count: usize,
    /// Experts that a row uses.
    pub used: usize,
    /// Width of an expert.
    pub feed_forward: usize,
    /// Width of the expert that every row uses, where the architecture has one; 0 for none.
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

/// What the presets share.
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

/// Most layers. The deepest models have some hundred; the tensor table of a million would not be held in memory.
const MAX_LAYERS: usize = 10_000;

/// Epsilon of the norms.
const NORM_EPSILON: f32 = 1e-5;

impl Default for SynthShape {
    /// A model for tests: 1.3 million weights, rows of whole blocks in every format.
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
    /// The shape called `name`.
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

    /// The metadata of a model of this shape, vocabulary included. Keys that the architecture does not have are left
    /// out.
    ///
    /// # Errors
    /// [`SynthError::BadNumber`] for what the reader of the metadata could not see; the rest is left to it.
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
                let wanted =
                    format!("a multiple of the {} heads, which a key length would make up for", self.heads);
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

    /// Numbers that only some models have. What was asked for and the architecture lacks is refused, since it would change the
    /// model.
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

/// A count as other writers have it; larger ones, which the reader refuses, as they are.
fn count(count: usize) -> Value {
    u32::try_from(count).map_or(Value::U64(count as u64), Value::U32)
}
