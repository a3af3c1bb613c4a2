//! `gemma2`: Gemma with norms after attention and feed-forward network, soft caps on scores and logits, and a sliding
//! window in every other layer.

use super::{Architecture, LocalRope, Windows, gemma::GEMMA, keys, parts};

pub(super) const GEMMA2: Architecture = Architecture {
    name: "gemma2",
    layer: &[parts::PRE_NORMS, parts::ATTENTION, parts::SOME_BIASES, parts::FFN, parts::POST_NORMS],
    keys: &[keys::COMMON, keys::WINDOW, keys::ATTENTION_CAP, keys::LOGIT_CAP],
    windows: Some(Windows { default: Some(4096), global_every: 2, rope: LocalRope::Same }),
    attention_cap: Some(50.0),
    logit_cap: Some(30.0),
    // The 27B model.
    scales_by_width: Some(46),
    ..GEMMA
};
