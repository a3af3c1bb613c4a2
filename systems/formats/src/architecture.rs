//! Architectures as data: what a GGUF architecture calls its tensors, which metadata it is made of, and what its
//! metadata leave unsaid.
//!
//! What a layer computes is not here: the forward pass reads it off the layer's tensors (biases, norms, scales,
//! experts) and off the numbers of [`weft_components::ModelConfig`]. Supporting an architecture whose parts the engine
//! already has means adding a file under `architecture/` and a row to [`ARCHITECTURES`].

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

/// A tensor name with `{}` for the layer's index, and `{e}` for an expert's where each has a tensor of its own; what it is
/// for, and whether a file may lack it.
#[derive(Clone, Copy, Debug)]
pub struct TensorPattern {
    /// Name, `{}` standing for the layer.
    pub name: &'static str,
    /// What its rows are for, one part after another. A role of experts under a name without `{e}` is a stack of all
    /// experts, the outermost dimension.
    pub roles: &'static [TensorRole],
    /// Whether a model without it is whole. Where it may not be missing, other tensors of the same roles may stand in.
    pub optional: bool,
}

/// Shorthand for a tensor that must be there.
const fn required(name: &'static str, roles: &'static [TensorRole]) -> TensorPattern {
    TensorPattern { name, roles, optional: false }
}

/// Shorthand for a tensor that may be missing.
const fn optional(name: &'static str, roles: &'static [TensorRole]) -> TensorPattern {
    TensorPattern { name, roles, optional: true }
}

/// Which layers see only the last tokens.
#[derive(Clone, Copy, Debug)]
pub struct Windows {
    /// Tokens that they see where the metadata name no number.
    pub default: Option<usize>,
    /// Every how manyth layer sees everything, counted from 1, where the metadata name no pattern; 0 where none does.
    pub global_every: usize,
    /// The base of their rotary frequencies where it is another, which then are not scaled either.
    pub rope: LocalRope,
}

/// Rotary embedding of the layers with a window.
#[derive(Clone, Copy, Debug)]
pub enum LocalRope {
    /// That of the other layers.
    Same,
    /// Frequencies that are not scaled, of this base, or of the other layers' where it is `None`; the metadata may name
    /// another.
    Plain(Option<f32>),
}

/// Which layers have no rotary embedding.
#[derive(Clone, Copy, Debug)]
pub enum WithoutRope {
    /// Each has one.
    None,
    /// Every so manyth layer, counted from 1, has none.
    Every(usize),
    /// None has one where this key is false.
    Unless(&'static str),
}

/// What metadata leave unsaid about experts.
#[derive(Clone, Copy, Debug)]
pub struct Experts {
    /// Whether the weights of the chosen experts are divided by their sum.
    pub normalise: bool,
    /// Whether the width that is stated for the layer is that of all experts that a row uses; else it is each one's.
    pub share_width: bool,
    /// Whether there is an expert that every row uses, as wide as is stated for the layer.
    pub shared: bool,
}

/// What the engine has to know of an architecture.
#[derive(Clone, Copy, Debug)]
pub struct Architecture {
    /// `general.architecture`; also the prefix of its metadata keys.
    pub name: &'static str,
    /// How rotary embedding pairs dimensions in its GGUF files.
    pub rope: RopeStyle,
    /// Tensors of the model as a whole, in the order in which a wave needs them: those before the layers.
    pub before: &'static [TensorPattern],
    /// Tensors of each layer, in groups that architectures share.
    pub layer: &'static [&'static [TensorPattern]],
    /// Tensors needed after the layers.
    pub after: &'static [TensorPattern],
    /// Metadata keys, without the prefix, that are understood or known to change nothing, in groups.
    pub keys: &'static [&'static [&'static str]],
    /// Nonlinearity of the feed-forward network.
    pub activation: Activation,
    /// Whether a token sees only those before it, where the metadata do not say it.
    pub causal: bool,
    /// Windows, where layers may have some.
    pub windows: Option<Windows>,
    /// Layers without rotary embedding.
    pub without_rope: WithoutRope,
    /// Experts, where layers may have some.
    pub experts: Option<Experts>,
    /// Whether embeddings are multiplied by the square root of their width.
    pub scales_embedding: bool,
    /// The number of layers of the size whose attention is scaled by `embedding / heads` in place of the length of a key.
    pub scales_by_width: Option<usize>,
    /// Cap of attention scores where the metadata name none.
    pub attention_cap: Option<f32>,
    /// Cap of logits where the metadata name none.
    pub logit_cap: Option<f32>,
}

/// A decoder with nothing special: what most architectures start from.
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
    /// Whether a key, without the prefix, is understood or known to change nothing.
    pub fn knows_key(&self, name: &str) -> bool {
        self.keys.iter().any(|group| group.contains(&name))
    }

    /// Patterns of a layer's tensors.
    pub(super) fn layer_patterns(&self) -> impl Iterator<Item = &'static TensorPattern> + use<> {
        self.layer.iter().flat_map(|group| group.iter())
    }

    /// Whether a model as a whole has the tensor of a role, or may have it.
    pub(super) fn may_have(&self, role: TensorRole) -> bool {
        self.before.iter().chain(self.after).any(|pattern| pattern.roles.contains(&role))
    }

    /// Whether any layer has rotary embedding.
    pub(super) fn turns(&self) -> bool {
        !matches!(self.without_rope, WithoutRope::Every(1))
    }

    /// Whether its layers may have the tensor of a role.
    pub(super) fn layer_may_have(&self, role: TensorRole) -> bool {
        self.layer_patterns().any(|pattern| pattern.roles.contains(&role))
    }
}

/// The key of an architecture's name.
pub(super) const ARCHITECTURE: &str = "general.architecture";

/// Every architecture.
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

/// Finds the architecture of a file.
pub(super) fn architecture(gguf: &Gguf, file: &str) -> Result<Architecture, ModelError> {
    let name = gguf.metadata.str(ARCHITECTURE)?;
    ARCHITECTURES.iter().find(|a| a.name == name).copied().ok_or_else(|| ModelError::UnknownArchitecture {
        file: file.to_owned(),
        name: name.to_owned(),
        known: ARCHITECTURES.iter().map(|a| a.name).collect::<Vec<_>>().join(", "),
    })
}
