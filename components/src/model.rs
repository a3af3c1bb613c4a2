//! A model and its layers as entities.
//!
//! `Model` owns its `Layer`s, its `WeightShard`s and its `Session`s through relationships: despawning the model
//! despawns them all, and a page despawned that way still returns its slot (see [`crate::kv`]).

use crate::shard::TensorRole;
use bevy_ecs::entity::EntityHashSet;
use bevy_ecs::prelude::*;

/// A loaded or loading model. Carries [`ModelConfig`], and the tokenizer and chat template as further components.
#[derive(Component, Debug, Default)]
pub struct Model;

/// How rotary position embedding pairs the dimensions of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeStyle {
    /// Dimensions 2i and 2i+1 turn together.
    Adjacent,
    /// Dimensions i and i + n/2 turn together.
    Half,
}

/// Where the divisors of the rotary frequencies are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RopeFactors {
    /// There are none.
    #[default]
    None,
    /// Those of [`TensorRole::RopeFactors`]: Llama 3's, or longrope's for short contexts.
    One,
    /// Those of [`TensorRole::RopeFactorsLong`]: longrope's for long contexts.
    Long,
    /// Longrope before it is known how long contexts may become: [`RopeFactors::One`] where they hold at most so many
    /// positions, else [`RopeFactors::Long`]. See [`ModelConfig::settle_context`].
    ShortUpTo(usize),
}

impl RopeFactors {
    /// The tensor that holds them.
    pub fn role(self) -> Option<TensorRole> {
        match self {
            Self::None => None,
            Self::One | Self::ShortUpTo(_) => Some(TensorRole::RopeFactors),
            Self::Long => Some(TensorRole::RopeFactorsLong),
        }
    }
}

/// YaRN's blend of scaled and plain frequencies (arXiv 2309.00071).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Yarn {
    /// Positions of the original training.
    pub original_context: f32,
    /// How much of the plain frequency the fast pairs keep: 1 for YaRN, 0 for linear scaling alone.
    pub extrapolation: f32,
    /// Rotations above which a pair keeps its frequency.
    pub beta_fast: f32,
    /// Rotations below which a pair is scaled.
    pub beta_slow: f32,
}

/// Rotary position embedding: one table of angles.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeConfig {
    /// Pairing.
    pub style: RopeStyle,
    /// Base of the frequencies.
    pub base: f32,
    /// Leading dimensions of a head that turn.
    pub dimensions: usize,
    /// Positions are multiplied by this (linear scaling; 1 for none).
    pub position_scale: f32,
    /// Divisors of the frequencies.
    pub factors: RopeFactors,
    /// Blend of frequencies.
    pub yarn: Option<Yarn>,
    /// What cosines and sines are multiplied by; 1 for most.
    pub magnitude: f32,
}

/// The nonlinearity of a feed-forward network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    /// `x * sigmoid(x)`.
    #[default]
    Silu,
    /// GELU with the tangent's approximation (arXiv 1606.08415).
    Gelu,
    /// `max(x, 0)²`.
    ReluSquared,
    /// GELU with the error function: `x/2 (1 + erf(x / √2))`.
    GeluErf,
}

/// How the final hidden states of a text's tokens become its embedding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// They do not: a vector a token.
    None,
    /// Their mean.
    Mean,
    /// That of the first token, which BERT calls CLS.
    Cls,
    /// That of the last token.
    Last,
}

/// How a feed-forward network chooses among experts: softmax over the router's logits, the best `used`, their weighted sum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExpertConfig {
    /// Experts of a layer.
    pub count: usize,
    /// Experts that a row uses.
    pub used: usize,
    /// Width of an expert.
    pub feed_forward: usize,
    /// Width of the expert that every row uses; 0 where there is none.
    pub shared_feed_forward: usize,
    /// Whether the weights of the chosen are divided by their sum.
    pub normalise: bool,
    /// What the weights are multiplied by then.
    pub weight_scale: f32,
}

/// How a text becomes tokens before it is embedded, where the model's makers say it, and what they say that the engine does not do.
/// The folders of `sentence-transformers` do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SentenceConfig {
    /// Tokens of a text that count, those that the vocabulary puts around it included; all where `None`.
    pub max_tokens: Option<usize>,
    /// What goes before each text.
    pub prompt: String,
    /// Whether letters become small.
    pub lower_case: bool,
    /// Why the engine cannot make the vectors that the makers mean: the file and the part that it does not compute.
    pub unsupported: Option<String>,
}

/// What differs between the layers of one model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LayerConfig {
    /// How many tokens, itself included, a query sees; all where `None`.
    pub window: Option<usize>,
    /// Which of [`ModelConfig::ropes`] turns its heads; none where `None`.
    pub rope: Option<usize>,
}

/// The numbers of a model, read from its metadata and checked.
#[derive(Component, Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// `general.architecture`.
    pub architecture: String,
    /// `general.name`, or the file's name.
    pub name: String,
    /// Transformer blocks.
    pub layers: usize,
    /// Width of the hidden state.
    pub embedding: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; query head `h` reads `h / (heads / kv_heads)`.
    pub kv_heads: usize,
    /// Dimensions of a query or key head.
    pub key_length: usize,
    /// Dimensions of a value head.
    pub value_length: usize,
    /// Width of the feed-forward network; of the dense one, where layers have experts.
    pub feed_forward: usize,
    /// Experts, where the feed-forward networks have some.
    pub experts: Option<ExpertConfig>,
    /// Nonlinearity of the feed-forward network.
    pub activation: Activation,
    /// Rows of the embedding.
    pub vocabulary: usize,
    /// Positions the model was trained on.
    pub context: usize,
    /// Epsilon of the norms.
    pub norm_epsilon: f32,
    /// Whether a token sees only those before it. Where it does not, it sees its whole text: the model is an encoder, which gives
    /// embeddings and generates nothing.
    pub causal: bool,
    /// How the model's makers turn hidden states into an embedding, where the file says it.
    pub pooling: Option<Pooling>,
    /// What the model's makers do to a text that is embedded.
    pub sentence: SentenceConfig,
    /// Whether a row of [`TensorRole::PositionEmbedding`] is added to each embedding.
    pub learned_positions: bool,
    /// Rows of [`TensorRole::TokenTypes`], the first of which is added to each embedding; 0 where there is none.
    pub token_types: usize,
    /// Whether [`TensorRole::EmbeddingNorm`] norms embeddings.
    pub embedding_norm: bool,
    /// Rotary position embeddings: one, or one for global and one for local layers.
    pub ropes: Vec<RopeConfig>,
    /// Each layer's own.
    pub layer: Vec<LayerConfig>,
    /// What query · key is multiplied by.
    pub attention_scale: f32,
    /// Scores become `cap * tanh(score / cap)`.
    pub attention_cap: Option<f32>,
    /// Logits become `cap * tanh(logit / cap)`.
    pub logit_cap: Option<f32>,
    /// What embeddings are multiplied by.
    pub embedding_scale: f32,
    /// What each block's output is multiplied by before it is added to the residual.
    pub residual_scale: f32,
    /// What logits are multiplied by, before they are capped.
    pub logit_scale: f32,
    /// Whether the embedding also serves as the head.
    pub tied: bool,
    /// Whether the model was saved without the head that it has: it gives embeddings and generates nothing.
    pub headless: bool,
}

impl ModelConfig {
    /// Chooses among factors of the rotary frequencies, once it is known that contexts hold at most `tokens` positions.
    ///
    /// It is one choice a model, as other engines have it: keys that were turned one way could not meet queries that are
    /// turned the other when a session grows past the bound.
    pub fn settle_context(&mut self, tokens: usize) {
        let tokens = tokens.min(self.context);
        for rope in &mut self.ropes {
            if let RopeFactors::ShortUpTo(bound) = rope.factors {
                rope.factors = if tokens > bound { RopeFactors::Long } else { RopeFactors::One };
            }
        }
    }

    /// How hidden states become an embedding where nobody says it: as the model's makers do, else the last token's of a decoder,
    /// which has seen the others, and the mean of an encoder.
    pub fn default_pooling(&self) -> Pooling {
        self.pooling.unwrap_or(if self.causal { Pooling::Last } else { Pooling::Mean })
    }

    /// Whether the model computes with tensors of a role. Of factors of the rotary frequencies it uses one tensor.
    pub fn reads(&self, role: TensorRole) -> bool {
        let factors = matches!(role, TensorRole::RopeFactors | TensorRole::RopeFactorsLong);
        !factors || self.ropes.iter().any(|rope| rope.factors.role() == Some(role))
    }
}

/// The layers of a model, first to last.
#[derive(Component, Debug, Default)]
#[relationship_target(relationship = LayerOf, linked_spawn)]
pub struct Layers(Vec<Entity>);

impl Layers {
    /// Layer entities, first to last.
    pub fn entities(&self) -> &[Entity] {
        &self.0
    }
}

/// A layer belongs to this model.
#[derive(Component, Debug)]
#[relationship(relationship_target = Layers)]
pub struct LayerOf(pub Entity);

/// Position of a layer in its model, from 0.
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerIndex(pub usize);

/// All shards of this layer or model have arrived and its weights can be used.
#[derive(Component, Debug)]
#[component(storage = "SparseSet")]
pub struct Resident;

/// A place where layers and ends of models are computed: an id that a backend was given when it was registered. Valid as
/// long as the `World`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place(u32);

impl Place {
    /// The place with this id. Ids are given out by the registry of backends.
    pub const fn new(id: u32) -> Self {
        Self(id)
    }

    /// The id.
    pub const fn id(self) -> u32 {
        self.0
    }
}

/// Where a layer is to be computed. A component of the layer and an *input*: inserting another place moves the layer. Its
/// weights are loaded there, waves wait for it meanwhile, and the sessions' contexts are computed again.
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq)]
#[component(immutable)]
pub struct PlacedOn(pub Place);

/// Where a layer's weights and its KV cache are, or are being loaded to. A component of the layer that follows [`PlacedOn`].
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq)]
#[component(immutable)]
pub struct HeldBy(pub Place);

/// Where the ends of a model are to be computed. A component of the model and an input, as [`PlacedOn`] is of a layer.
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq)]
#[component(immutable)]
pub struct Ends {
    /// The embedding.
    pub embed: Place,
    /// The head, and with it the choice of tokens where its backend can make it.
    pub head: Place,
}

/// Where the weights of a model's ends are, or are being loaded to. A component of the model that follows [`Ends`].
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq)]
#[component(immutable)]
pub struct EndsHeldBy(pub Ends);

/// How many steps of a session may be in flight whose tokens have not been read back: 0 if a step needs the token of the
/// one before on the host. A component of the model.
#[derive(Component, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepsAhead(pub usize);

/// Shards of this layer, or of the model itself, that have not arrived.
#[derive(Component, Debug, Default)]
pub struct MissingShards(pub EntityHashSet);
