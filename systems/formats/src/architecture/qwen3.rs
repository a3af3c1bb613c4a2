//! `qwen3`: each query and key head is normed before rotary embedding.

use super::{Architecture, PLAIN, parts};

pub(super) const QWEN3: Architecture = Architecture {
    name: "qwen3",
    layer: &[parts::PRE_NORMS, parts::ATTENTION, parts::SOME_BIASES, parts::QK_NORMS, parts::FFN],
    ..PLAIN
};
