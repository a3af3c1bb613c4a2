//! `smollm3`: Llama without rotary embedding in every fourth layer. Its converter permutes Q and K as Llama's does.

use super::{Architecture, PLAIN, WithoutRope, parts};
use weft_components::RopeStyle;

pub(super) const SMOLLM3: Architecture = Architecture {
    name: "smollm3",
    rope: RopeStyle::Adjacent,
    layer: &[parts::PRE_NORMS, parts::ATTENTION, parts::SOME_BIASES, parts::FFN, parts::FFN_BIASES],
    without_rope: WithoutRope::Every(4),
    ..PLAIN
};
