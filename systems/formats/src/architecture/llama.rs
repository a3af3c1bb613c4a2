//! `llama`: Llama 1 to 3, Mistral, Mixtral, SmolLM and everything else converted under that name.
//!
//! Its converter permutes Q and K so that rotary embedding pairs adjacent dimensions. If a file states a sliding
//! window, as some of Mistral's do, every layer has it.

use super::{Architecture, Experts, LocalRope, PLAIN, Windows, keys, parts};
use weft_components::RopeStyle;

pub(super) const LLAMA: Architecture = Architecture {
    name: "llama",
    rope: RopeStyle::Adjacent,
    layer: &[
        parts::PRE_NORMS,
        parts::ATTENTION,
        parts::SOME_BIASES,
        parts::FFN,
        parts::FFN_BIASES,
        parts::EXPERTS,
    ],
    keys: &[keys::COMMON, keys::WINDOW, keys::EXPERTS],
    windows: Some(Windows { default: None, global_every: 0, rope: LocalRope::Same }),
    experts: Some(Experts { normalise: true, share_width: false, shared: false }),
    ..PLAIN
};
