//! Which tensors of a file are quantized, and to what: by their names, whatever the architecture, as llama.cpp's quantizer does.

use super::QuantizeError;
use crate::gguf::{Gguf, GgufError, Metadata, TensorInfo};
use crate::{Mix, MixedModel, MixedTensor};
use weft_components::formats::F16;
use weft_components::{BlockFormat, TensorFormat, TensorRole as Role};

/// What is to become of a model's matrices.
#[derive(Clone, Copy, Debug)]
pub struct QuantizeOptions {
    /// The formats.
    pub mix: Mix,
    /// Whether all matrices take the mix's base.
    pub pure: bool,
    /// The format of the head, in place of the mix's.
    pub output: Option<TensorFormat>,
    /// The format of the token embedding, in place of the mix's.
    pub embedding: Option<TensorFormat>,
}

impl QuantizeOptions {
    /// What llama.cpp's quantizer makes under this name, and [`super::quantize_rows`] can.
    ///
    /// # Errors
    /// [`QuantizeError::UnsupportedType`].
    pub fn new(name: &str) -> Result<Self, QuantizeError> {
        let mix = Mix::quantizer(name).ok_or_else(|| QuantizeError::UnsupportedType {
            name: name.to_owned(),
            supported: Mix::quantizer_names().collect::<Vec<_>>().join(", "),
        })?;
        Ok(Self { mix, pure: false, output: None, embedding: None })
    }
}

/// Parts of the names of matrices that stay as they are: norms, routers, tables of positions and token types, and small matrices of
/// other kinds of models.
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

/// Names of matrices that stay as they are.
const KEPT_WHOLE: [&str; 2] = ["position_embd.weight", "token_types.weight"];

/// Whether a tensor is a matrix, or a stack of some, that is quantized.
fn is_quantized(tensor: &TensorInfo) -> bool {
    let matrix = tensor.shape.iter().skip(1).any(|dimension| *dimension > 1);
    let name = tensor.name.as_str();
    matrix
        && name.ends_with("weight")
        && !KEPT.iter().any(|part| name.contains(part))
        && !KEPT_WHOLE.contains(&name)
}

/// What parts of names say that rules ask for; the first that a name holds counts.
const ROLES: [(&str, Role); 5] = [
    ("attn_qkv.weight", Role::Value),
    ("attn_v.weight", Role::Value),
    ("attn_k.weight", Role::Key),
    ("attn_output.weight", Role::AttentionOutput),
    ("ffn_down", Role::FfnDown),
];

/// The name of the head.
const OUTPUT: &str = "output.weight";

/// What rules ask for; `Query`, for which there are none, where they do not ask.
fn role(name: &str) -> Role {
    match name {
        OUTPUT => Role::Output,
        "token_embd.weight" | "per_layer_token_embd.weight" => Role::TokenEmbedding,
        name => ROLES.iter().find(|(part, _)| name.contains(part)).map_or(Role::Query, |(_, role)| *role),
    }
}

/// The layer that a name such as `blk.3.attn_q.weight` states; 0 where it states none.
fn layer(name: &str) -> usize {
    let number = name.strip_prefix("blk.").and_then(|rest| rest.split('.').next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Formats of a model's tensors.
pub(super) struct Choice<'a> {
    options: &'a QuantizeOptions,
    model: MixedModel,
}

impl<'a> Choice<'a> {
    /// Reads what rules ask of the model.
    ///
    /// # Errors
    /// Where a number is none.
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

    /// The format of a tensor.
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
        // Rows of odd lengths are no blocks of any kind.
        let half = TensorFormat::from_ggml(F16::GGML_TYPE).unwrap_or(format);
        if cols.is_multiple_of(format.block()) { format } else { half }
    }
}

/// The number at `key`, or the first of those there.
fn first(metadata: &Metadata, key: &str) -> Result<Option<usize>, GgufError> {
    let number = match metadata.get(key) {
        Some(crate::gguf::Value::Array(_)) => {
            metadata.opt_u32s(key)?.and_then(|numbers| numbers.first().copied())
        }
        _ => metadata.opt_u32(key)?,
    };
    Ok(number.and_then(|number| usize::try_from(number).ok()))
}
