//! `qwen3moe`: Qwen 3 with experts.

use super::{Architecture, Experts, PLAIN, keys, parts};

pub(super) const QWEN3MOE: Architecture = Architecture {
    name: "qwen3moe",
    layer: &[parts::PRE_NORMS, parts::ATTENTION, parts::SOME_BIASES, parts::QK_NORMS, parts::EXPERTS],
    // Some files set the shared expert's width to 0 because they have none.
    keys: &[keys::COMMON, keys::EXPERTS, keys::SHARED_EXPERT],
    experts: Some(Experts { normalise: true, share_width: true, shared: false }),
    ..PLAIN
};
