//! `gemma`: embeddings are scaled, the gate uses GELU, the head is the embedding. Its converter adds 1 to norm weights.

use super::{Architecture, PLAIN, parts};
use weft_components::Activation;

pub(super) const GEMMA: Architecture = Architecture {
    name: "gemma",
    layer: &[parts::PRE_NORMS, parts::ATTENTION, parts::SOME_BIASES, parts::FFN],
    after: parts::AFTER_TIED,
    activation: Activation::Gelu,
    scales_embedding: true,
    ..PLAIN
};
