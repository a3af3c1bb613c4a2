//! `gemma3`: Gemma 2 without soft caps, but with norms of queries and keys. Five of six layers have a sliding window
//! and a smaller rotary base.

use super::{Architecture, LocalRope, Windows, gemma::GEMMA, keys, parts};

pub(super) const GEMMA3: Architecture = Architecture {
    name: "gemma3",
    layer: &[
        parts::PRE_NORMS,
        parts::ATTENTION,
        parts::SOME_BIASES,
        parts::QK_NORMS,
        parts::FFN,
        parts::POST_NORMS,
    ],
    after: parts::AFTER,
    keys: &[keys::COMMON, keys::WINDOW, keys::LOCAL_ROPE, keys::LOGIT_CAP, keys::VISION],
    windows: Some(Windows { default: None, global_every: 6, rope: LocalRope::Plain(Some(10_000.0)) }),
    // The 27B model.
    scales_by_width: Some(62),
    ..GEMMA
};
