//! `olmo2`: OLMo 2, and OLMo 3 with sliding windows. It has no norms before attention and feed-forward network, but one
//! after each, and one norm over all query heads together and one over all key heads.

use super::{Architecture, LocalRope, PLAIN, Windows, keys, parts};

pub(super) const OLMO2: Architecture = Architecture {
    name: "olmo2",
    layer: &[parts::ATTENTION, parts::QK_NORMS, parts::FFN, parts::POST_NORMS],
    keys: &[keys::COMMON, keys::WINDOW, keys::LOCAL_ROPE],
    windows: Some(Windows { default: None, global_every: 4, rope: LocalRope::Plain(None) }),
    ..PLAIN
};
