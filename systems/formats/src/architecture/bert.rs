//! `bert`: BERT (arXiv 1810.04805) and models converted under that name: BGE, E5, MiniLM, GTE, RoBERTa, DistilBERT. An
//! encoder: every token attends to the whole text. It has learned position embeddings and a bias on every projection.
//! The residual is normed after attention and after the feed-forward network, which has no gate. It has no output norm
//! and no head.

use super::{Architecture, PLAIN, TensorPattern, WithoutRope, keys, optional, parts, required};
use weft_components::{Activation, TensorRole as Role};

const BEFORE: &[TensorPattern] = &[
    required("token_embd.weight", &[Role::TokenEmbedding]),
    required("position_embd.weight", &[Role::PositionEmbedding]),
    // DistilBERT has none.
    optional("token_types.weight", &[Role::TokenTypes]),
    required("token_embd_norm.weight", &[Role::EmbeddingNorm]),
    required("token_embd_norm.bias", &[Role::EmbeddingNormBias]),
];

const OUTPUT_BIAS: &[TensorPattern] = &[required("blk.{}.attn_output.bias", &[Role::AttentionOutputBias])];

const FFN: &[TensorPattern] = &[
    required("blk.{}.ffn_up.weight", &[Role::FfnUp]),
    required("blk.{}.ffn_up.bias", &[Role::FfnUpBias]),
    required("blk.{}.ffn_down.weight", &[Role::FfnDown]),
    required("blk.{}.ffn_down.bias", &[Role::FfnDownBias]),
];

pub(super) const BERT: Architecture = Architecture {
    name: "bert",
    before: BEFORE,
    layer: &[parts::ATTENTION, parts::BIASES, OUTPUT_BIAS, parts::RESIDUAL_NORMS, FFN],
    after: &[],
    keys: &[keys::COMMON, keys::LAYER_NORM],
    activation: Activation::GeluErf,
    without_rope: WithoutRope::Every(1),
    causal: false,
    ..PLAIN
};
