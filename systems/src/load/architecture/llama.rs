//! `llama`: Llama 1 to 3, Mistral, SmolLM and everything else converted under that name.
//!
//! Its converter permutes Q and K so that rotary embedding turns adjacent pairs.

use super::{Architecture, TensorPattern, optional, required};
use weft_components::{RopeStyle, TensorRole as Role};

const BEFORE: &[TensorPattern] =
    &[required("token_embd.weight", Role::TokenEmbedding), optional("rope_freqs.weight", Role::RopeFactors)];

const LAYER: &[TensorPattern] = &[
    required("blk.{}.attn_norm.weight", Role::AttentionNorm),
    required("blk.{}.attn_q.weight", Role::Query),
    required("blk.{}.attn_k.weight", Role::Key),
    required("blk.{}.attn_v.weight", Role::Value),
    required("blk.{}.attn_output.weight", Role::AttentionOutput),
    required("blk.{}.ffn_norm.weight", Role::FfnNorm),
    required("blk.{}.ffn_gate.weight", Role::FfnGate),
    required("blk.{}.ffn_up.weight", Role::FfnUp),
    required("blk.{}.ffn_down.weight", Role::FfnDown),
];

const AFTER: &[TensorPattern] =
    &[required("output_norm.weight", Role::OutputNorm), optional("output.weight", Role::Output)];

pub(super) const LLAMA: Architecture = Architecture {
    name: "llama",
    rope: RopeStyle::Adjacent,
    before: BEFORE,
    layer: LAYER,
    after: AFTER,
    keys: &[
        "block_count",
        "context_length",
        "embedding_length",
        "feed_forward_length",
        "attention.head_count",
        "attention.head_count_kv",
        "attention.key_length",
        "attention.value_length",
        "attention.layer_norm_rms_epsilon",
        "attention.scale",
        "rope.dimension_count",
        "rope.freq_base",
        "rope.scaling.type",
        "rope.scaling.factor",
        "rope.scaling.original_context_length",
        "rope.scaling.finetuned",
        "rope.scale_linear",
        "vocab_size",
        "tensor_data_layout",
    ],
};
