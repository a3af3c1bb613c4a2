//! `granitemoe`: Granite with experts. Some models also have a shared expert that every row uses.

use super::{Architecture, Experts, granite::GRANITE, keys, parts};

pub(super) const GRANITEMOE: Architecture = Architecture {
    name: "granitemoe",
    layer: &[parts::PRE_NORMS, parts::ATTENTION, parts::SOME_BIASES, parts::EXPERTS, parts::SHARED_EXPERT],
    keys: &[keys::COMMON, keys::SCALES, keys::EXPERTS, keys::SHARED_EXPERT],
    experts: Some(Experts { normalise: true, share_width: false, shared: false }),
    ..GRANITE
};
