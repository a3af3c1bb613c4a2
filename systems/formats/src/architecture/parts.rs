//! Groups of tensors that architectures share.

use super::{TensorPattern, optional, required};
use weft_components::TensorRole as Role;

/// Before the layers. If a tensor of rotary factors is present, frequencies are divided by them.
pub(super) const BEFORE: &[TensorPattern] = &[
    required("token_embd.weight", &[Role::TokenEmbedding]),
    optional("rope_freqs.weight", &[Role::RopeFactors]),
    optional("rope_factors_short.weight", &[Role::RopeFactors]),
    optional("rope_factors_long.weight", &[Role::RopeFactorsLong]),
];

/// After the layers. A model without a head tensor uses the embedding as its head.
pub(super) const AFTER: &[TensorPattern] =
    &[required("output_norm.weight", &[Role::OutputNorm]), optional("output.weight", &[Role::Output])];

/// After the layers, for architectures whose head is always the embedding.
pub(super) const AFTER_TIED: &[TensorPattern] = &[required("output_norm.weight", &[Role::OutputNorm])];

/// Norms before attention and before the feed-forward network.
pub(super) const PRE_NORMS: &[TensorPattern] = &[
    required("blk.{}.attn_norm.weight", &[Role::AttentionNorm]),
    required("blk.{}.ffn_norm.weight", &[Role::FfnNorm]),
];

/// Norms of the outputs of attention and feed-forward network, before they are added to the residual.
pub(super) const POST_NORMS: &[TensorPattern] = &[
    required("blk.{}.post_attention_norm.weight", &[Role::AttentionPostNorm]),
    required("blk.{}.post_ffw_norm.weight", &[Role::FfnPostNorm]),
];

/// Norms of the residual after attention and after the feed-forward network.
pub(super) const RESIDUAL_NORMS: &[TensorPattern] = &[
    required("blk.{}.attn_output_norm.weight", &[Role::AttentionResidualNorm]),
    required("blk.{}.attn_output_norm.bias", &[Role::AttentionResidualNormBias]),
    required("blk.{}.layer_output_norm.weight", &[Role::FfnResidualNorm]),
    required("blk.{}.layer_output_norm.bias", &[Role::FfnResidualNormBias]),
];

/// Attention with three projections, which some converters fuse into one tensor.
pub(super) const ATTENTION: &[TensorPattern] = &[
    required("blk.{}.attn_q.weight", &[Role::Query]),
    required("blk.{}.attn_k.weight", &[Role::Key]),
    required("blk.{}.attn_v.weight", &[Role::Value]),
    optional("blk.{}.attn_qkv.weight", &[Role::Query, Role::Key, Role::Value]),
    required("blk.{}.attn_output.weight", &[Role::AttentionOutput]),
    optional("blk.{}.attn_output.bias", &[Role::AttentionOutputBias]),
];

/// Biases of the projections.
pub(super) const BIASES: &[TensorPattern] = &[
    required("blk.{}.attn_q.bias", &[Role::QueryBias]),
    required("blk.{}.attn_k.bias", &[Role::KeyBias]),
    required("blk.{}.attn_v.bias", &[Role::ValueBias]),
    optional("blk.{}.attn_qkv.bias", &[Role::QueryBias, Role::KeyBias, Role::ValueBias]),
];

/// The same biases, for architectures of which only some models have them.
pub(super) const SOME_BIASES: &[TensorPattern] = &[
    optional("blk.{}.attn_q.bias", &[Role::QueryBias]),
    optional("blk.{}.attn_k.bias", &[Role::KeyBias]),
    optional("blk.{}.attn_v.bias", &[Role::ValueBias]),
    optional("blk.{}.attn_qkv.bias", &[Role::QueryBias, Role::KeyBias, Role::ValueBias]),
];

/// Norms of queries and keys.
pub(super) const QK_NORMS: &[TensorPattern] = &[
    required("blk.{}.attn_q_norm.weight", &[Role::QueryNorm]),
    required("blk.{}.attn_k_norm.weight", &[Role::KeyNorm]),
];

/// A gated feed-forward network.
pub(super) const FFN: &[TensorPattern] = &[
    required("blk.{}.ffn_gate.weight", &[Role::FfnGate]),
    required("blk.{}.ffn_up.weight", &[Role::FfnUp]),
    required("blk.{}.ffn_down.weight", &[Role::FfnDown]),
];

/// Biases of a gated feed-forward network, for architectures of which only some models have them.
pub(super) const FFN_BIASES: &[TensorPattern] = &[
    optional("blk.{}.ffn_gate.bias", &[Role::FfnGateBias]),
    optional("blk.{}.ffn_up.bias", &[Role::FfnUpBias]),
    optional("blk.{}.ffn_down.bias", &[Role::FfnDownBias]),
];

/// Experts, stacked in one tensor or, in early files, in a tensor each.
pub(super) const EXPERTS: &[TensorPattern] = &[
    required("blk.{}.ffn_gate_inp.weight", &[Role::Router]),
    required("blk.{}.ffn_gate_exps.weight", &[Role::ExpertGate]),
    required("blk.{}.ffn_up_exps.weight", &[Role::ExpertUp]),
    required("blk.{}.ffn_down_exps.weight", &[Role::ExpertDown]),
    optional("blk.{}.ffn_gate_up_exps.weight", &[Role::ExpertGate, Role::ExpertUp]),
    optional("blk.{}.ffn_gate.{e}.weight", &[Role::ExpertGate]),
    optional("blk.{}.ffn_up.{e}.weight", &[Role::ExpertUp]),
    optional("blk.{}.ffn_down.{e}.weight", &[Role::ExpertDown]),
];

/// The shared expert that every row uses.
pub(super) const SHARED_EXPERT: &[TensorPattern] = &[
    required("blk.{}.ffn_gate_shexp.weight", &[Role::SharedGate]),
    required("blk.{}.ffn_up_shexp.weight", &[Role::SharedUp]),
    required("blk.{}.ffn_down_shexp.weight", &[Role::SharedDown]),
];
