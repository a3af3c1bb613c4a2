//! `qwen3`: each head of queries and keys has a norm before it turns.

use super::{Architecture, PLAIN, parts};

pub(super) const QWEN3: Architecture = Architecture {
    name: "qwen3",
    layer: &[parts::PRE_NORMS, parts::ATTENTION, parts::SOME_BIASES, parts::QK_NORMS, parts::FFN],
    ..PLAIN
};
