//! `qwen2moe`: Qwen 1.5 and 2 with experts and a shared expert, which every row uses and which has its own gate. The
//! weights of the selected experts are the router's probabilities, not normalised.

use super::{Architecture, Experts, PLAIN, TensorPattern, keys, parts, required};
use weft_components::TensorRole as Role;

const SHARED_GATE: &[TensorPattern] = &[required("blk.{}.ffn_gate_inp_shexp.weight", &[Role::SharedRouter])];

pub(super) const QWEN2MOE: Architecture = Architecture {
    name: "qwen2moe",
    layer: &[
        parts::PRE_NORMS,
        parts::ATTENTION,
        parts::BIASES,
        parts::EXPERTS,
        parts::SHARED_EXPERT,
        SHARED_GATE,
    ],
    keys: &[keys::COMMON, keys::EXPERTS, keys::SHARED_EXPERT],
    experts: Some(Experts { normalise: false, share_width: true, shared: true }),
    ..PLAIN
};
