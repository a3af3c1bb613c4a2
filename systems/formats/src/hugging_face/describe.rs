//! Converts `config.json` to the metadata of a GGUF. It writes the keys that llama.cpp's converter writes, so a folder
//! and its conversion give the same model.
//!
//! Where the converter leaves out a key that changes the result, this module writes it nevertheless.

use super::HuggingFaceError;
use super::config::Config;
use super::families::Family;
use super::keys::{CONTEXT, Keys};
use super::rope::{self, Rope};
use crate::architecture::{ARCHITECTURE, Architecture};
use crate::gguf::Value;
use serde_json::json;
use weft_components::{Pooling, TensorRole};

/// The key of a LayerNorm's epsilon.
const LAYER_NORM_EPSILON: &str = "attention.layer_norm_epsilon";

/// Most heads, experts or layers that are accepted.
const MAX_COUNT: u64 = 1 << 16;

/// Hyperparameters that the tensors of the folder are checked against.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hyperparameters {
    /// Query heads.
    pub(super) heads: u64,
    /// Key and value heads.
    pub(super) kv_heads: u64,
    /// Rows of the token embedding.
    pub(super) vocabulary: u64,
    /// Experts of a layer; 0 if there are none.
    pub(super) experts: u64,
    /// True if the embedding is also the head; `None` if the configuration does not say.
    pub(super) tied: Option<bool>,
    /// Row of the position embedding that the first token of a text uses.
    pub(super) first_position: u64,
}

/// The result of reading a configuration: metadata, hyperparameters and rotary factors.
pub(super) struct Described {
    pub(super) entries: Vec<(String, Value)>,
    pub(super) hyperparameters: Hyperparameters,
    pub(super) rope: Rope,
}

/// Reads a configuration. `name` is the model's name, `pooling` is how its embeddings are pooled.
///
/// # Errors
/// A field that is missing, has an unsupported value, or is unknown and changes the result.
pub(super) fn describe(
    config: &Config,
    family: &Family,
    arch: &Architecture,
    name: &str,
    pooling: Option<Pooling>,
) -> Result<Described, HuggingFaceError> {
    let text = |key: &str, text: &str| (key.to_owned(), Value::String(text.to_owned()));
    let entries =
        vec![text(ARCHITECTURE, arch.name), text("general.type", "model"), text("general.name", name)];
    let mut keys = Keys::new(arch.name, entries);
    let hyperparameters = common(config, family, arch, &mut keys)?;
    let layers = config.count("num_hidden_layers")?;
    if arch.experts.is_some() {
        experts(config, family, arch, &mut keys)?;
    }
    windows(config, arch, layers, &mut keys)?;
    let rope = if arch.turns() { rope::describe(config, family, &mut keys)? } else { Rope::default() };
    (family.more)(config, arch, &mut keys)?;
    pooling.iter().for_each(|pooling| keys.pooling(*pooling));
    config.refuse_unread()?;
    Ok(Described { entries: keys.entries, hyperparameters, rope })
}

/// Writes the metadata that every model has and returns the hyperparameters.
fn common(
    config: &Config,
    family: &Family,
    arch: &Architecture,
    keys: &mut Keys,
) -> Result<Hyperparameters, HuggingFaceError> {
    // BitNet's weights are rounded when they are used, so they may be stored unrounded. Other quantization methods
    // store other tensors.
    if !family.ternary && config.quantization().is_some_and(|(_, method)| method == "bitnet") {
        return Err(config.quantized().unwrap_or_else(|| config.missing("quantization_config")));
    }
    for field in ["hidden_act", "hidden_activation", "activation_function"] {
        config.only(field, &family.activations.iter().map(|name| json!(name)).collect::<Vec<_>>())?;
    }
    config.only("is_causal", &[json!(arch.causal)])?;
    if arch.layer_may_have(TensorRole::QueryNorm) {
        // These fields only say that the model has norms, which its tensors show as well.
        for field in ["qk_norm", "use_qk_norm", "qk_layernorm"] {
            config.get(field);
        }
    }
    // These fields only say that the model has biases, which its tensors show as well.
    for field in ["attention_bias", "qkv_bias", "mlp_bias"] {
        config.opt_flag(field)?;
    }
    let bounded = |name| {
        let value = config.count(name)?;
        let believed = (1..=MAX_COUNT).contains(&value);
        let wanted = "a positive count of plausible size";
        if believed { Ok(value) } else { Err(config.bad(name, &json!(value), wanted)) }
    };
    let (layers, heads) = (bounded("num_hidden_layers")?, bounded("num_attention_heads")?);
    let kv_heads = match config.get("num_key_value_heads") {
        Some(_) => bounded("num_key_value_heads")?,
        None => heads,
    };
    let experts = match (config.opt_count("num_local_experts")?, config.opt_count("num_experts")?) {
        (Some(count), _) => ("num_local_experts", count),
        (None, Some(count)) => ("num_experts", count),
        (None, None) => ("num_experts", 0),
    };
    let experts = match experts {
        (name, count) if count > MAX_COUNT => {
            return Err(config.bad(name, &json!(count), "a count of plausible size"));
        }
        (_, count) => count,
    };
    keys.count("block_count", layers);
    let first_position = if family.positions_after_padding {
        const FIELD: &str = "pad_token_id";
        let padding = config.count(FIELD)?;
        let wanted = "the id of a token";
        padding.checked_add(1).ok_or_else(|| config.bad(FIELD, &json!(padding), wanted))?
    } else {
        0
    };
    let positions = config.count("max_position_embeddings")?;
    if first_position >= positions {
        let found = json!(positions);
        return Err(config.bad("max_position_embeddings", &found, "more than `pad_token_id` + 1"));
    }
    keys.count(CONTEXT, positions - first_position);
    keys.count("embedding_length", config.count("hidden_size")?);
    keys.count("feed_forward_length", config.count("intermediate_size")?);
    keys.count("attention.head_count", heads);
    keys.count("attention.head_count_kv", kv_heads);
    if let Some(length) = config.opt_count("head_dim")? {
        keys.count("attention.key_length", length);
        keys.count("attention.value_length", length);
    }
    let (epsilon, key) = match arch.knows_key(LAYER_NORM_EPSILON) {
        true => ("layer_norm_eps", LAYER_NORM_EPSILON),
        false => ("rms_norm_eps", "attention.layer_norm_rms_epsilon"),
    };
    keys.float(key, config.opt_float(epsilon)?.ok_or_else(|| config.missing(epsilon))?);
    let vocabulary = config.count("vocab_size")?;
    keys.count("vocab_size", vocabulary);
    let tied = config.opt_flag("tie_word_embeddings")?.or(family.tied);
    Ok(Hyperparameters { heads, kv_heads, vocabulary, experts, tied, first_position })
}

/// Writes the metadata of experts, if the model has some.
fn experts(
    config: &Config,
    family: &Family,
    arch: &Architecture,
    keys: &mut Keys,
) -> Result<(), HuggingFaceError> {
    let count = config.opt_count("num_local_experts")?.or(config.opt_count("num_experts")?).unwrap_or(0);
    let Some(data) = arch.experts.filter(|_| count > 0) else {
        return Ok(());
    };
    keys.count("expert_count", count);
    keys.count("expert_used_count", config.count("num_experts_per_tok")?);
    if let Some(width) = config.opt_count("moe_intermediate_size")? {
        keys.count("expert_feed_forward_length", width);
    }
    let shared = config.opt_count("shared_expert_intermediate_size")?;
    if let Some(width) = shared.or(config.opt_count("shared_intermediate_size")?).filter(|width| *width > 0) {
        keys.count("expert_shared_feed_forward_length", width);
    }
    // Mixtral's configuration does not have the field. Other families default to false.
    let normalise = config.opt_flag("norm_topk_prob")?.unwrap_or(family.normalises);
    if normalise != data.normalise {
        keys.flag("expert_weights_norm", normalise);
    }
    // A mix of layers with and without experts is not supported.
    config.only("decoder_sparse_step", &[json!(1)])?;
    config.only("mlp_only_layers", &[json!([])])
}

/// Writes which layers have a sliding window.
fn windows(
    config: &Config,
    arch: &Architecture,
    layers: u64,
    keys: &mut Keys,
) -> Result<(), HuggingFaceError> {
    const LOCAL: &str = "sliding_attention";
    const GLOBAL: &str = "full_attention";
    // Gemma 2 states the width in two fields.
    if let Some(width) = config.get("sliding_window") {
        config.only("sliding_window_size", std::slice::from_ref(width))?;
    }
    let used = config.opt_flag("use_sliding_window")?;
    let width = config.opt_count("sliding_window")?.filter(|_| used != Some(false));
    let types = config.opt_list("layer_types")?;
    let each = config.opt_count("sliding_window_pattern")?.or(config.opt_count("_sliding_window_pattern")?);
    if arch.windows.is_none() {
        // The width alone has no effect: configurations contain it because other models use it.
        config.only("use_sliding_window", &[json!(false)])?;
    }
    let (Some(windows), Some(width)) = (arch.windows, width) else {
        if let Some(kind) = types.and_then(|types| types.iter().find(|kind| **kind != json!(GLOBAL))) {
            return Err(config.bad("layer_types", kind, GLOBAL));
        }
        // Without the key, the architecture's default window would apply.
        if arch.windows.is_some_and(|windows| windows.default.is_some()) {
            keys.count("attention.sliding_window", 0);
        }
        return Ok(());
    };
    keys.count("attention.sliding_window", width);
    let usual =
        |layer: u64| windows.global_every == 0 || !(layer + 1).is_multiple_of(windows.global_every as u64);
    let local = match (types, each) {
        (Some(types), _) => {
            if types.len() as u64 != layers {
                let found = json!(types.len());
                return Err(config.bad("layer_types", &found, "one type for each layer"));
            }
            let local = |kind: &serde_json::Value| match kind.as_str() {
                Some(LOCAL) => Ok(true),
                Some(GLOBAL) => Ok(false),
                _ => Err(config.bad("layer_types", kind, "sliding_attention or full_attention")),
            };
            types.iter().map(local).collect::<Result<Vec<bool>, _>>()?
        }
        (None, Some(each)) => {
            (0..layers).map(|layer| each == 0 || !(layer + 1).is_multiple_of(each)).collect()
        }
        (None, None) => return Ok(()),
    };
    if !(0..layers).zip(&local).all(|(layer, local)| usual(layer) == *local) {
        keys.flags("attention.sliding_window_pattern", local);
    }
    Ok(())
}
