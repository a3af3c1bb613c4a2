//! `bitnet`: BitNet b1.58 (arXiv 2402.17764). Weight matrices contain -1, 0 and 1; some have a scale tensor. A norm
//! precedes each output projection. The head is the embedding.
//!
//! `bitnet-b1.58`: the same with a squared ReLU (BitNet b1.58 2B4T, arXiv 2504.12285). The name is from the llama.cpp
//! fork that its authors convert with.

use super::{Architecture, PLAIN, TensorPattern, optional, parts, required};
use weft_components::{Activation, TensorRole as Role};

const SUB_NORMS: &[TensorPattern] = &[
    required("blk.{}.attn_sub_norm.weight", &[Role::AttentionSubNorm]),
    required("blk.{}.ffn_sub_norm.weight", &[Role::FfnSubNorm]),
];

const SCALES: &[TensorPattern] = &[
    optional("blk.{}.attn_q.scale", &[Role::QueryScale]),
    optional("blk.{}.attn_k.scale", &[Role::KeyScale]),
    optional("blk.{}.attn_v.scale", &[Role::ValueScale]),
    optional("blk.{}.attn_output.scale", &[Role::AttentionOutputScale]),
    optional("blk.{}.ffn_gate.scale", &[Role::FfnGateScale]),
    optional("blk.{}.ffn_up.scale", &[Role::FfnUpScale]),
    optional("blk.{}.ffn_down.scale", &[Role::FfnDownScale]),
];

pub(super) const BITNET: Architecture = Architecture {
    name: "bitnet",
    layer: &[parts::PRE_NORMS, parts::ATTENTION, parts::FFN, SUB_NORMS, SCALES],
    after: parts::AFTER_TIED,
    ..PLAIN
};

pub(super) const BITNET_2B: Architecture =
    Architecture { name: "bitnet-b1.58", after: parts::AFTER, activation: Activation::ReluSquared, ..BITNET };
