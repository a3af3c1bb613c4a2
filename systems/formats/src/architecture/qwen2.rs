//! `qwen2`: Qwen 1.5 to 2.5. The projections of queries, keys and values have biases.

use super::{Architecture, PLAIN, parts};

pub(super) const QWEN2: Architecture = Architecture {
    name: "qwen2",
    layer: &[parts::PRE_NORMS, parts::ATTENTION, parts::BIASES, parts::FFN],
    ..PLAIN
};
