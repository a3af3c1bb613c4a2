//! `phi3`: Phi 3, 3.5 and 4. Queries, keys and values are one tensor, and so are gate and up. Contexts longer than the
//! training's use other rotary factors (longrope, arXiv 2402.13753).

use super::{Architecture, LocalRope, PLAIN, TensorPattern, Windows, keys, optional, parts, required};
use weft_components::TensorRole as Role;

/// Gate and up are stacked in the tensor named `ffn_up`.
const FFN: &[TensorPattern] = &[
    required("blk.{}.ffn_up.weight", &[Role::FfnGate, Role::FfnUp]),
    required("blk.{}.ffn_down.weight", &[Role::FfnDown]),
];

const ATTENTION: &[TensorPattern] = &[
    required("blk.{}.attn_qkv.weight", &[Role::Query, Role::Key, Role::Value]),
    optional("blk.{}.attn_q.weight", &[Role::Query]),
    optional("blk.{}.attn_k.weight", &[Role::Key]),
    optional("blk.{}.attn_v.weight", &[Role::Value]),
    required("blk.{}.attn_output.weight", &[Role::AttentionOutput]),
];

pub(super) const PHI3: Architecture = Architecture {
    name: "phi3",
    layer: &[parts::PRE_NORMS, ATTENTION, FFN],
    keys: &[keys::COMMON, keys::WINDOW],
    windows: Some(Windows { default: None, global_every: 0, rope: LocalRope::Same }),
    ..PLAIN
};
