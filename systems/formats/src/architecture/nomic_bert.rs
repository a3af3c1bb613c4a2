//! `nomic-bert`: Nomic Embed 1 and 1.5 (arXiv 2402.01613). BERT with rotary embedding instead of position embeddings, a
//! gated feed-forward network, and no biases except those of the norms.

use super::{Architecture, PLAIN, TensorPattern, keys, parts, required};
use weft_components::TensorRole as Role;

const BEFORE: &[TensorPattern] = &[
    required("token_embd.weight", &[Role::TokenEmbedding]),
    required("token_types.weight", &[Role::TokenTypes]),
    required("token_embd_norm.weight", &[Role::EmbeddingNorm]),
    required("token_embd_norm.bias", &[Role::EmbeddingNormBias]),
];

pub(super) const NOMIC_BERT: Architecture = Architecture {
    name: "nomic-bert",
    before: BEFORE,
    layer: &[parts::ATTENTION, parts::RESIDUAL_NORMS, parts::FFN],
    after: &[],
    keys: &[keys::COMMON, keys::LAYER_NORM],
    causal: false,
    ..PLAIN
};
