//! `granite`: Llama with scale factors on embeddings, attention scores, residual branches and logits. Its converter
//! permutes Q and K as Llama's does.

use super::{Architecture, PLAIN, WithoutRope, keys, parts};
use weft_components::RopeStyle;

pub(super) const GRANITE: Architecture = Architecture {
    name: "granite",
    rope: RopeStyle::Adjacent,
    layer: &[parts::PRE_NORMS, parts::ATTENTION, parts::SOME_BIASES, parts::FFN, parts::FFN_BIASES],
    keys: &[keys::COMMON, keys::SCALES],
    without_rope: WithoutRope::Unless("rope.scaling.finetuned"),
    ..PLAIN
};
