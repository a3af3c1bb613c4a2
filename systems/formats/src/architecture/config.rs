//! Reads a model's hyperparameters from the metadata, with the architecture's defaults for missing keys.

use super::keys::{Keys, MAX_COUNT, WINDOW_PATTERN};
use super::rope::{local_rope, rope};
use super::{Architecture, Windows, WithoutRope};
use crate::error::ModelError;
use crate::gguf::{Array, Gguf, Value};
use crate::sentence;
use weft_components::{ExpertConfig, KvClass, LayerConfig, ModelConfig, Pooling, TensorRole};

/// Longest context that is accepted.
const MAX_CONTEXT: u64 = 1 << 30;

/// Most experts that are accepted. Each expert needs several entities.
const MAX_EXPERTS: u64 = 1 << 12;

/// Reads and checks a model's hyperparameters.
///
/// # Errors
/// A [`ModelError`] that names the key: missing, of the wrong type, out of range, or unknown to the architecture.
pub(crate) fn model_config(gguf: &Gguf, arch: &Architecture, file: &str) -> Result<ModelConfig, ModelError> {
    refuse_unknown_keys(gguf, arch, file)?;
    let keys = Keys::new(gguf, arch.name, file)?;
    let layers = keys.count("block_count", MAX_COUNT)?;
    let embedding = keys.count("embedding_length", MAX_COUNT)?;
    let heads = keys.count("attention.head_count", MAX_COUNT)?;
    let kv_heads = keys.count_or("attention.head_count_kv", MAX_COUNT, heads)?;
    if !heads.is_multiple_of(kv_heads) {
        return Err(keys.bad("attention.head_count_kv", kv_heads, "a divisor of attention.head_count"));
    }
    let key_length = keys.count_or("attention.key_length", MAX_COUNT, (embedding / heads).max(1))?;
    let value_length = keys.count_or("attention.value_length", MAX_COUNT, (embedding / heads).max(1))?;
    let dimensions = keys.count_or("rope.dimension_count", MAX_COUNT, key_length)?;
    if dimensions > key_length || !dimensions.is_multiple_of(2) {
        return Err(keys.bad(
            "rope.dimension_count",
            dimensions,
            "an even number, at most attention.key_length",
        ));
    }
    let vocabulary = match gguf.tensor("token_embd.weight") {
        Some(tensor) if tensor.shape.len() == 2 => usize::try_from(tensor.shape[1]).unwrap_or(usize::MAX),
        _ => keys.count("vocab_size", MAX_COUNT)?,
    };
    let context = keys.count("context_length", MAX_CONTEXT)?;
    let experts = experts(&keys, arch)?;
    let feed_forward = match experts {
        // If all layers have experts, there need be no other width.
        Some(experts) => keys.count_or("feed_forward_length", MAX_COUNT, experts.feed_forward)?,
        None => keys.count("feed_forward_length", MAX_COUNT)?,
    };
    let mut ropes = vec![rope(&keys, arch, dimensions, context)?];
    let mut layer = vec![LayerConfig { rope: Some(0), ..LayerConfig::default() }; layers];
    if let Some(windows) = arch.windows
        && let Some(window) = window(&keys, &windows)?
    {
        let local = local_rope(&keys, windows.rope, &ropes[0])?;
        let table = if local.is_some() { 1 } else { 0 };
        ropes.extend(local);
        for (index, layer) in layer.iter_mut().enumerate() {
            if is_local(&keys, &windows, index, layers)? {
                *layer = LayerConfig { window: Some(window), rope: Some(table), ..*layer };
            }
        }
    }
    for (index, layer) in layer.iter_mut().enumerate() {
        if !turns(&keys, arch, index)? {
            layer.rope = None;
        }
    }
    let causal = keys.opt_bool("attention.causal")?.unwrap_or(arch.causal);
    if !causal && layer.iter().any(|layer| layer.window.is_some()) {
        return Err(keys.bad("attention.causal", causal, "true where layers have a window"));
    }
    let kv_classes = kv_classes(&mut layer);
    let scaled_by =
        if arch.scales_by_width == Some(layers) { (embedding / heads).max(1) } else { key_length };
    Ok(ModelConfig {
        architecture: arch.name.to_owned(),
        name: gguf.metadata.opt_str("general.name")?.unwrap_or(file).to_owned(),
        layers,
        embedding,
        heads,
        kv_heads,
        key_length,
        value_length,
        feed_forward,
        vocabulary,
        context,
        norm_epsilon: match keys.opt_float("attention.layer_norm_epsilon")? {
            Some(epsilon) => epsilon,
            None => keys.float_or("attention.layer_norm_rms_epsilon", 1e-5)?,
        },
        causal,
        pooling: pooling(&keys)?,
        sentence: sentence::read(&gguf.metadata)?,
        learned_positions: arch.may_have(TensorRole::PositionEmbedding),
        token_types: token_types(&keys, arch)?,
        embedding_norm: arch.may_have(TensorRole::EmbeddingNorm),
        experts,
        activation: arch.activation,
        ropes,
        layer,
        kv_classes,
        attention_cap: keys
            .opt_float("attn_logit_softcapping")?
            .or(arch.attention_cap)
            .filter(|cap| *cap > 0.0),
        logit_cap: keys.opt_float("final_logit_softcapping")?.or(arch.logit_cap).filter(|cap| *cap > 0.0),
        embedding_scale: match keys.positive("embedding_scale")? {
            Some(scale) => scale,
            None if arch.scales_embedding => (embedding as f32).sqrt(),
            None => 1.0,
        },
        residual_scale: keys.positive("residual_scale")?.unwrap_or(1.0),
        // Logits are divided by the key's value.
        logit_scale: keys.positive("logit_scale")?.map_or(1.0, |scale| 1.0 / scale),
        attention_scale: match keys.positive("attention.scale")? {
            Some(scale) => scale,
            None => 1.0 / (scaled_by as f32).sqrt(),
        },
        tied: !keys.has(arch.after, TensorRole::Output),
        headless: gguf.metadata.opt_bool(sentence::NO_HEAD)?.unwrap_or(false),
    })
}

/// Divides layers into classes of equal windows, in the order in which they first occur, and tells each layer its own.
fn kv_classes(layers: &mut [LayerConfig]) -> Vec<KvClass> {
    let mut classes: Vec<KvClass> = Vec::new();
    for (index, layer) in layers.iter_mut().enumerate() {
        let found = classes.iter().position(|class| class.window == layer.window);
        layer.kv_class = found.unwrap_or_else(|| {
            classes.push(KvClass { window: layer.window, ..KvClass::default() });
            classes.len() - 1
        });
        let class = &mut classes[layer.kv_class];
        layer.kv_index = class.layers.len();
        class.layers.push(index);
    }
    if classes.is_empty() {
        classes.push(KvClass::default());
    }
    classes
}

/// The metadata key of the pooling.
pub(crate) const POOLING_TYPE: &str = "pooling_type";

/// Values of [`POOLING_TYPE`].
const POOLINGS: [(u64, Pooling); 4] =
    [(0, Pooling::None), (1, Pooling::Mean), (2, Pooling::Cls), (3, Pooling::Last)];

/// Returns the value of [`POOLING_TYPE`] for a pooling.
pub(crate) fn pooling_type(pooling: Pooling) -> u64 {
    POOLINGS.iter().find(|(_, found)| *found == pooling).map_or(0, |(value, _)| *value)
}

/// Reads how the model pools hidden states into an embedding.
fn pooling(keys: &Keys<'_>) -> Result<Option<Pooling>, ModelError> {
    let Some(value) = keys.opt_u64(POOLING_TYPE)? else { return Ok(None) };
    let found = POOLINGS.iter().find(|(known, _)| *known == value).map(|(_, pooling)| *pooling);
    let wanted = "0 (none), 1 (mean), 2 (CLS) or 3 (last)";
    found.map(Some).ok_or_else(|| keys.bad(POOLING_TYPE, value, wanted))
}

/// Returns the row count of the token-type embedding: that of the tensor, or 2 if it is required. If the tensor is
/// optional and missing, the file must not state more than one token type; DistilBERT states one at most.
fn token_types(keys: &Keys<'_>, arch: &Architecture) -> Result<usize, ModelError> {
    const COUNT: &str = "tokenizer.ggml.token_type_count";
    let pattern = arch.before.iter().find(|pattern| pattern.roles.contains(&TensorRole::TokenTypes));
    let Some(pattern) = pattern else { return Ok(0) };
    let rows = match keys.gguf.tensor(pattern.name) {
        Some(tensor) => tensor.shape.get(1).copied().unwrap_or(1),
        None if !pattern.optional => 2,
        None if keys.gguf.metadata.opt_u64(COUNT)?.is_some_and(|count| count > 1) => {
            let (file, name) = (keys.file.to_owned(), pattern.name.to_owned());
            return Err(ModelError::MissingTensor { file, name });
        }
        None => 0,
    };
    Ok(usize::try_from(rows).unwrap_or(usize::MAX))
}

/// Reads the expert hyperparameters; `None` if the file has no experts.
fn experts(keys: &Keys<'_>, arch: &Architecture) -> Result<Option<ExpertConfig>, ModelError> {
    /// The gating function softmax in `expert_gating_func`. The function turns router logits into weights.
    const SOFTMAX: u64 = 1;
    let Some(data) = arch.experts else { return Ok(None) };
    let required = !arch.layer_may_have(TensorRole::FfnDown);
    let count = match keys.opt_count("expert_count", MAX_EXPERTS)? {
        Some(count) => count,
        None if required => keys.count("expert_count", MAX_EXPERTS)?,
        None => return Ok(None),
    };
    let used = keys.count("expert_used_count", MAX_EXPERTS)?;
    if used > count {
        return Err(keys.bad("expert_used_count", used, "at most expert_count"));
    }
    let gate = keys.opt_u64("expert_gating_func")?;
    if let Some(gate) = gate.filter(|gate| ![0, SOFTMAX].contains(gate)) {
        return Err(keys.bad("expert_gating_func", gate, "1 (softmax)"));
    }
    let feed_forward = match keys.opt_count("expert_feed_forward_length", MAX_COUNT)? {
        Some(width) => width,
        None => {
            let width = keys.count("feed_forward_length", MAX_COUNT)?;
            if data.share_width { (width / used).max(1) } else { width }
        }
    };
    const SHARED: &str = "expert_shared_feed_forward_length";
    let shared_feed_forward = match keys.opt_count(SHARED, MAX_COUNT)? {
        Some(width) if !arch.layer_may_have(TensorRole::SharedDown) => {
            return Err(keys.bad(SHARED, width, "0: layers of this architecture have no shared expert"));
        }
        Some(width) => width,
        None if data.shared => keys.count("feed_forward_length", MAX_COUNT)?,
        None => 0,
    };
    Ok(Some(ExpertConfig {
        count,
        used,
        feed_forward,
        shared_feed_forward,
        normalise: keys.opt_bool("expert_weights_norm")?.unwrap_or(data.normalise),
        weight_scale: keys.positive("expert_weights_scale")?.unwrap_or(1.0),
    }))
}

/// Returns the window size in tokens; `None` if the file has no layers with a window.
fn window(keys: &Keys<'_>, windows: &Windows) -> Result<Option<usize>, ModelError> {
    const KEY: &str = "attention.sliding_window";
    Ok(match keys.get(KEY) {
        Some(_) => keys.opt_count(KEY, MAX_CONTEXT)?,
        None => windows.default,
    })
}

/// Returns true if a layer has a window. The file has a flag for each layer, or an interval of layers without one, or
/// the architecture's default applies.
fn is_local(keys: &Keys<'_>, windows: &Windows, layer: usize, layers: usize) -> Result<bool, ModelError> {
    let known = match keys.get(WINDOW_PATTERN) {
        Some(Value::Array(each)) => {
            let wanted = "one boolean for each layer";
            let known = flag(each, layer).filter(|_| each.len() == layers);
            return known
                .ok_or_else(|| keys.bad(WINDOW_PATTERN, format!("{each} for {layers} layers"), wanted));
        }
        _ => keys.opt_u64(WINDOW_PATTERN)?,
    };
    let every = known.unwrap_or(windows.global_every as u64);
    Ok(every == 0 || !(layer as u64 + 1).is_multiple_of(every))
}

/// Returns element `at` of an array of flags, which some converters store as integers.
fn flag(array: &Array, at: usize) -> Option<bool> {
    match array {
        Array::Bool(values) => values.get(at).copied(),
        Array::U8(values) => values.get(at).map(|value| *value != 0),
        Array::I8(values) => values.get(at).map(|value| *value != 0),
        Array::U32(values) => values.get(at).map(|value| *value != 0),
        Array::I32(values) => values.get(at).map(|value| *value != 0),
        _ => None,
    }
}

/// Returns true if a layer has rotary embedding.
fn turns(keys: &Keys<'_>, arch: &Architecture, layer: usize) -> Result<bool, ModelError> {
    Ok(match arch.without_rope {
        WithoutRope::None => true,
        WithoutRope::Every(step) => !(layer + 1).is_multiple_of(step),
        WithoutRope::Unless(key) => keys.opt_bool(key)?.unwrap_or(true),
    })
}

/// Refuses a key under the architecture's prefix that the engine does not know, because it might change the result.
fn refuse_unknown_keys(gguf: &Gguf, arch: &Architecture, file: &str) -> Result<(), ModelError> {
    let unknown = |key: &&str| {
        let name = key.strip_prefix(arch.name).and_then(|rest| rest.strip_prefix('.'));
        name.is_some_and(|name| !arch.knows_key(name))
    };
    match gguf.metadata.iter().map(|(key, _)| key).find(unknown) {
        Some(key) => Err(ModelError::UnknownKey { file: file.to_owned(), key: key.to_owned() }),
        None => Ok(()),
    }
}
