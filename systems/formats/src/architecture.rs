//! Architectures as data: the tensor names, the metadata keys and the default hyperparameters of each GGUF
//! architecture.
//!
//! The forward pass is not described here. It follows from the tensors that a layer has (biases, norms, scales,
//! experts) and from the hyperparameters in [`weft_components::ModelConfig`]. To support an architecture that is built
//! from features the engine already has, add a file under `architecture/` and an entry to [`ARCHITECTURES`].

mod bert;
mod bitnet;
mod config;
mod gemma;
mod gemma2;
mod gemma3;
mod granite;
mod granitemoe;
mod keys;
mod llama;
mod nomic_bert;
mod olmo2;
mod parts;
mod phi3;
mod qwen2;
mod qwen2moe;
mod qwen3;
mod qwen3moe;
mod rope;
mod smollm3;

pub(super) use config::{POOLING_TYPE, model_config, pooling_type};

use super::error::ModelError;
use super::gguf::Gguf;
use weft_components::{Activation, RopeStyle, TensorRole};

/// The name of a tensor, what the tensor is for, and whether a file may lack it. In the name, `{}` stands for the
/// layer's index and `{e}` for an expert's index, where each expert has its own tensor.
#[derive(Clone, Copy, Debug)]
pub struct TensorPattern {
    /// Name in the file, with `{}` in place of the layer's index.
    pub name: &'static str,
    /// The projections stacked in its rows, in order. An expert role in a pattern without `{e}` means that one tensor
    /// stacks all experts along the outermost dimension.
    pub roles: &'static [TensorRole],
    /// True if a model without this tensor is complete. If false, other tensors of the same roles may still replace it.
    pub optional: bool,
}

/// Makes a pattern for a tensor that must be present.
const fn required(name: &'static str, roles: &'static [TensorRole]) -> TensorPattern {
    TensorPattern { name, roles, optional: false }
}

/// Makes a pattern for a tensor that may be missing.
const fn optional(name: &'static str, roles: &'static [TensorRole]) -> TensorPattern {
    TensorPattern { name, roles, optional: true }
}

/// Sliding-window attention: which layers attend to the last tokens only.
#[derive(Clone, Copy, Debug)]
pub struct Windows {
    /// Window size in tokens if the metadata give none.
    pub default: Option<usize>,
    /// Every `global_every`-th layer, counted from 1, attends to all tokens if the metadata give no pattern. With 0 no
    /// layer does.
    pub global_every: usize,
    /// Rotary embedding of the layers with a window.
    pub rope: LocalRope,
}

/// Rotary embedding of the layers with a sliding window.
#[derive(Clone, Copy, Debug)]
pub enum LocalRope {
    /// The same as in the other layers.
    Same,
    /// Unscaled frequencies with this base, or with the base of the other layers if `None`. The metadata may state
    /// another base.
    Plain(Option<f32>),
}

/// Which layers have no rotary embedding.
#[derive(Clone, Copy, Debug)]
pub enum WithoutRope {
    /// Every layer has rotary embedding.
    None,
    /// Every n-th layer, counted from 1, has no rotary embedding.
    Every(usize),
    /// No layer has rotary embedding if this metadata key is false.
    Unless(&'static str),
}

/// Properties of mixture-of-experts layers that the metadata may leave out.
#[derive(Clone, Copy, Debug)]
pub struct Experts {
    /// True if the weights of the selected experts are divided by their sum.
    pub normalise: bool,
    /// True if the stated feed-forward width is the total width of the experts that one row uses. If false, it is the
    /// width of each expert.
    pub share_width: bool,
    /// True if there is a shared expert that every row uses. Its width is the stated feed-forward width.
    pub shared: bool,
}

/// Description of an architecture: everything that the engine needs to know to read its files.
#[derive(Clone, Copy, Debug)]
pub struct Architecture {
    /// Value of `general.architecture`, which is also the prefix of its metadata keys.
    pub name: &'static str,
    /// Which dimensions rotary embedding pairs in its GGUF files.
    pub rope: RopeStyle,
    /// Tensors of the whole model that are needed before the layers, in the order in which a forward pass needs them.
    pub before: &'static [TensorPattern],
    /// Tensors of each layer, in groups that architectures share.
    pub layer: &'static [&'static [TensorPattern]],
    /// Tensors of the whole model that are needed after the layers.
    pub after: &'static [TensorPattern],
    /// Metadata keys, without the prefix, that the engine reads or that do not change the result, in groups.
    pub keys: &'static [&'static [&'static str]],
    /// Activation function of the feed-forward network.
    pub activation: Activation,
    /// True if attention is causal. The metadata may override it.
    pub causal: bool,
    /// Sliding windows, if layers may have them.
    pub windows: Option<Windows>,
    /// Which layers have no rotary embedding.
    pub without_rope: WithoutRope,
    /// Expert properties, if layers may have experts.
    pub experts: Option<Experts>,
    /// True if embeddings are multiplied by the square root of their width.
    pub scales_embedding: bool,
    /// Layer count of the model size whose attention is scaled by `embedding / heads` instead of the key length.
    pub scales_by_width: Option<usize>,
    /// Soft cap of attention scores if the metadata give none.
    pub attention_cap: Option<f32>,
    /// Soft cap of logits if the metadata give none.
    pub logit_cap: Option<f32>,
}

/// A decoder with no special features. Most architectures start from it.
const PLAIN: Architecture = Architecture {
    name: "",
    rope: RopeStyle::Half,
    before: parts::BEFORE,
    layer: &[],
    after: parts::AFTER,
    keys: &[keys::COMMON],
    activation: Activation::Silu,
    causal: true,
    windows: None,
    without_rope: WithoutRope::None,
    experts: None,
    scales_embedding: false,
    scales_by_width: None,
    attention_cap: None,
    logit_cap: None,
};

impl Architecture {
    /// Returns true if the key, given without the prefix, is read by the engine or does not change the result.
    pub fn knows_key(&self, name: &str) -> bool {
        self.keys.iter().any(|group| group.contains(&name))
    }

    /// Returns the patterns of a layer's tensors.
    pub(super) fn layer_patterns(&self) -> impl Iterator<Item = &'static TensorPattern> + use<> {
        self.layer.iter().flat_map(|group| group.iter())
    }

    /// Returns true if a model has, or may have, a tensor of this role outside its layers.
    pub(super) fn may_have(&self, role: TensorRole) -> bool {
        self.before.iter().chain(self.after).any(|pattern| pattern.roles.contains(&role))
    }

    /// Returns true if any layer has rotary embedding.
    pub(super) fn turns(&self) -> bool {
        !matches!(self.without_rope, WithoutRope::Every(1))
    }

    /// Returns true if layers have, or may have, a tensor of this role.
    pub(super) fn layer_may_have(&self, role: TensorRole) -> bool {
        self.layer_patterns().any(|pattern| pattern.roles.contains(&role))
    }
}

/// The metadata key of the architecture's name.
pub(super) const ARCHITECTURE: &str = "general.architecture";

/// All supported architectures.
pub const ARCHITECTURES: &[Architecture] = &[
    llama::LLAMA,
    qwen2::QWEN2,
    qwen2moe::QWEN2MOE,
    qwen3::QWEN3,
    qwen3moe::QWEN3MOE,
    phi3::PHI3,
    gemma::GEMMA,
    gemma2::GEMMA2,
    gemma3::GEMMA3,
    smollm3::SMOLLM3,
    granite::GRANITE,
    granitemoe::GRANITEMOE,
    olmo2::OLMO2,
    bitnet::BITNET,
    bitnet::BITNET_2B,
    bert::BERT,
    nomic_bert::NOMIC_BERT,
];

/// Finds the architecture that a file names.
///
/// # Errors
/// [`ModelError::UnknownArchitecture`] if it is not in [`ARCHITECTURES`]; [`ModelError::Gguf`] if the key is missing or
/// no string.
pub(super) fn architecture(gguf: &Gguf, file: &str) -> Result<Architecture, ModelError> {
    let name = gguf.metadata.str(ARCHITECTURE)?;
    ARCHITECTURES.iter().find(|a| a.name == name).copied().ok_or_else(|| ModelError::UnknownArchitecture {
        file: file.to_owned(),
        name: name.to_owned(),
        known: ARCHITECTURES.iter().map(|a| a.name).collect::<Vec<_>>().join(", "),
    })
}
