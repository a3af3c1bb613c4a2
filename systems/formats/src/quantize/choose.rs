//! Chooses the format of each tensor when a file is quantized. Like llama.cpp's quantizer it decides by tensor names,
//! for every architecture.

use super::QuantizeError;
use crate::gguf::{Gguf, GgufError, Metadata, TensorInfo};
use crate::{Mix, MixedModel, MixedTensor};
use weft_components::formats::F16;
use weft_components::{BlockFormat, TensorFormat, TensorRole as Role};

/// How a model's matrices are quantized.
#[derive(Clone, Copy, Debug)]
pub struct QuantizeOptions {
    /// The mix of formats.
    pub mix: Mix,
    /// True if all matrices get the mix's base format.
    pub pure: bool,
    /// Format of the head, overriding the mix.
    pub output: Option<TensorFormat>,
    /// Format of the token embedding, overriding the mix.
    pub embedding: Option<TensorFormat>,
}

impl QuantizeOptions {
    /// Returns the options for the mix that llama.cpp's quantizer makes under `name`.
    ///
    /// # Errors
    /// [`QuantizeError::UnsupportedType`] if there is no such mix or [`super::quantize_rows`] cannot make its formats.
    pub fn new(name: &str) -> Result<Self, QuantizeError> {
        let mix = Mix::quantizer(name).ok_or_else(|| QuantizeError::UnsupportedType {
            name: name.to_owned(),
            supported: Mix::quantizer_names().collect::<Vec<_>>().join(", "),
        })?;
        Ok(Self { mix, pure: false, output: None, embedding: None })
    }
}

/// Name parts of matrices that are not quantized: norms, routers, tables of positions and token types, and small
/// matrices of other kinds of models.
const KEPT: [&str; 27] = [
    "_norm.weight",
    "ffn_gate_inp.weight",
    "ffn_gate_tid2eid.weight",
    "altup",
    "laurel",
    "per_layer_model_proj",
    "ssm_conv1d",
    "shortconv.conv.weight",
    "indexer.k_proj.weight",
    "indexer.q_proj.weight",
    "time_mix_first.weight",
    "time_mix_w0.weight",
    "time_mix_w1.weight",
    "time_mix_w2.weight",
    "time_mix_v0.weight",
    "time_mix_v1.weight",
    "time_mix_v2.weight",
    "time_mix_a0.weight",
    "time_mix_a1.weight",
    "time_mix_a2.weight",
    "time_mix_g1.weight",
    "time_mix_g2.weight",
    "time_mix_decay_w1.weight",
    "time_mix_decay_w2.weight",
    "time_mix_lerp_fused.weight",
    "attn_rel_b.weight",
    ".position_embd",
];

/// Full names of matrices that are not quantized.
const KEPT_WHOLE: [&str; 2] = ["position_embd.weight", "token_types.weight"];

/// Returns true if a tensor is a matrix, or a stack of matrices, that is quantized.
fn is_quantized(tensor: &TensorInfo) -> bool {
    let matrix = tensor.shape.iter().skip(1).any(|dimension| *dimension > 1);
    let name = tensor.name.as_str();
    matrix
        && name.ends_with("weight")
        && !KEPT.iter().any(|part| name.contains(part))
        && !KEPT_WHOLE.contains(&name)
}

/// Name parts and the role that the mix's rules apply to them. The first match applies.
const ROLES: [(&str, Role); 5] = [
    ("attn_qkv.weight", Role::Value),
    ("attn_v.weight", Role::Value),
    ("attn_k.weight", Role::Key),
    ("attn_output.weight", Role::AttentionOutput),
    ("ffn_down", Role::FfnDown),
];

/// The name of the head.
const OUTPUT: &str = "output.weight";

/// Returns the role for the mix's rules; `Query`, which has no rules, for all other tensors.
fn role(name: &str) -> Role {
    match name {
        OUTPUT => Role::Output,
        "token_embd.weight" | "per_layer_token_embd.weight" => Role::TokenEmbedding,
        name => ROLES.iter().find(|(part, _)| name.contains(part)).map_or(Role::Query, |(_, role)| *role),
    }
}

/// Returns the layer of a name such as `blk.3.attn_q.weight`; 0 if there is none.
fn layer(name: &str) -> usize {
    let number = name.strip_prefix("blk.").and_then(|rest| rest.split('.').next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Chooses the formats of a model's tensors.
pub(super) struct Choice<'a> {
    options: &'a QuantizeOptions,
    model: MixedModel,
}

impl<'a> Choice<'a> {
    /// Reads the hyperparameters that the mix's rules depend on.
    ///
    /// # Errors
    /// A hyperparameter that is not a number.
    pub(super) fn new(gguf: &Gguf, options: &'a QuantizeOptions) -> Result<Self, GgufError> {
        let metadata = &gguf.metadata;
        let architecture = metadata.opt_str("general.architecture")?.unwrap_or_default();
        let number = |key: &str| first(metadata, &format!("{architecture}.{key}"));
        let heads = number("attention.head_count")?.unwrap_or(0);
        let kv_heads = number("attention.head_count_kv")?.unwrap_or(heads);
        let (layers, experts) = (number("block_count")?.unwrap_or(0), number("expert_count")?.unwrap_or(0));
        let tied = gguf.tensor(OUTPUT).is_none();
        Ok(Self { options, model: MixedModel::new(architecture, layers, heads, kv_heads, experts, tied) })
    }

    /// Returns the format of a tensor in the output.
    pub(super) fn format(&self, tensor: &TensorInfo) -> TensorFormat {
        if !is_quantized(tensor) {
            return tensor.format;
        }
        let QuantizeOptions { mix, pure, output, embedding } = self.options;
        let role = role(&tensor.name);
        let by_name = match role {
            Role::TokenEmbedding => *embedding,
            Role::Output => *output,
            _ => None,
        };
        if let Some(format) = by_name {
            return format;
        }
        let is_head = role == Role::TokenEmbedding && self.model.tied;
        let mix = match output.filter(|_| is_head && !pure && mix.base().block() > 1) {
            Some(format) => Mix::uniform(format),
            None if *pure => Mix::uniform(mix.base()),
            None => *mix,
        };
        let cols = tensor.shape.first().and_then(|cols| usize::try_from(*cols).ok()).unwrap_or(usize::MAX);
        let stack = tensor.shape.get(2).is_some_and(|count| *count > 1);
        let layer = layer(&tensor.name);
        let format = mix.format(&MixedTensor { model: self.model, role, layer, cols, stack });
        // If the row length is not a multiple of the block, the tensor is stored as F16.
        let half = TensorFormat::from_ggml(F16::GGML_TYPE).unwrap_or(format);
        if cols.is_multiple_of(format.block()) { format } else { half }
    }
}

/// Returns the number at `key`, or the first element if it is an array.
fn first(metadata: &Metadata, key: &str) -> Result<Option<usize>, GgufError> {
    let number = match metadata.get(key) {
        Some(crate::gguf::Value::Array(_)) => {
            metadata.opt_u32s(key)?.and_then(|numbers| numbers.first().copied())
        }
        _ => metadata.opt_u32(key)?,
    };
    Ok(number.and_then(|number| usize::try_from(number).ok()))
}
