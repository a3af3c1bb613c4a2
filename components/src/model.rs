//! A model and its layers as entities.
//!
//! `Model` owns its `Layer`s, its `WeightShard`s and its `Session`s through relationships. Despawning the model
//! despawns them all, and each page despawned that way still returns its slot (see [`crate::kv`]).

use crate::kv::KvClass;
use crate::shard::TensorRole;
use bevy_ecs::entity::EntityHashSet;
use bevy_ecs::prelude::*;

/// A loaded or loading model. Carries [`ModelConfig`], and the tokenizer and chat template as further components.
#[derive(Component, Debug, Default)]
pub struct Model;

/// How rotary position embedding pairs the dimensions of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeStyle {
    /// Dimensions 2i and 2i+1 are rotated together.
    Adjacent,
    /// Dimensions i and i + n/2 are rotated together.
    Half,
}

/// Which tensor has the divisors of the rotary frequencies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RopeFactors {
    /// There are no divisors.
    #[default]
    None,
    /// [`TensorRole::RopeFactors`]: Llama 3's, or longrope's for short contexts.
    One,
    /// [`TensorRole::RopeFactorsLong`]: longrope's for long contexts.
    Long,
    /// Longrope, before the length of contexts is known: [`RopeFactors::One`] if they hold at most this many positions,
    /// else [`RopeFactors::Long`]. See [`ModelConfig::settle_context`].
    ShortUpTo(usize),
}

impl RopeFactors {
    /// The tensor that holds the divisors. `None` if there are none.
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
    /// Number of leading dimensions of a head that are rotated.
    pub dimensions: usize,
    /// Factor of the positions (linear scaling; 1 for none).
    pub position_scale: f32,
    /// Divisors of the frequencies.
    pub factors: RopeFactors,
    /// Blend of frequencies.
    pub yarn: Option<Yarn>,
    /// Factor of cosines and sines. 1 for most models.
    pub magnitude: f32,
}

/// The nonlinearity of a feed-forward network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    /// `x * sigmoid(x)`.
    #[default]
    Silu,
    /// GELU with the tanh approximation (arXiv 1606.08415).
    Gelu,
    /// `max(x, 0)²`.
    ReluSquared,
    /// GELU with the error function: `x/2 (1 + erf(x / √2))`.
    GeluErf,
}

/// How the final hidden states of a text's tokens become its embedding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// No pooling: one vector for each token.
    None,
    /// Their mean.
    Mean,
    /// The hidden state of the first token, which BERT calls CLS.
    Cls,
    /// The hidden state of the last token.
    Last,
}

/// How a feed-forward network chooses among experts: softmax over the router's logits, the best `used`, their weighted
/// sum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExpertConfig {
    /// Number of experts in a layer.
    pub count: usize,
    /// Number of experts that a row uses.
    pub used: usize,
    /// Width of an expert.
    pub feed_forward: usize,
    /// Width of the shared expert, which every row uses. 0 if there is none.
    pub shared_feed_forward: usize,
    /// True if the weights of the chosen experts are divided by their sum.
    pub normalise: bool,
    /// Factor of the weights, applied after that.
    pub weight_scale: f32,
}

/// What the model's makers specify about texts before they are embedded, and about steps that the engine does not
/// compute. Folders of `sentence-transformers` contain it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SentenceConfig {
    /// Largest number of tokens of a text, including the ones that the vocabulary puts around it. `None` for no limit.
    pub max_tokens: Option<usize>,
    /// Prefix of each text.
    pub prompt: String,
    /// True if texts are converted to lower case.
    pub lower_case: bool,
    /// Why the engine cannot compute the vectors that the makers specify: names the file and the step that it does not
    /// compute.
    pub unsupported: Option<String>,
}

/// Configuration of one layer, where layers of a model differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LayerConfig {
    /// Number of tokens that a query attends to, including its own. `None` for all.
    pub window: Option<usize>,
    /// Index in [`ModelConfig::ropes`] of its rotary embedding. `None` if it has none.
    pub rope: Option<usize>,
    /// Index in [`ModelConfig::kv_classes`] of its class.
    pub kv_class: usize,
    /// Index among the layers of its class.
    pub kv_index: usize,
    /// The class that keeps its newest tokens, if another does. The layer's index there is the same.
    pub recent: Option<RecentTokens>,
}

/// A class of layers that keeps only the newest tokens of another class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecentTokens {
    /// Index in [`ModelConfig::kv_classes`].
    pub class: usize,
    /// A query sees the pages of this many tokens, itself included, there, and the pages before in the layer's own class.
    pub tokens: usize,
}

/// The hyperparameters of a model, read from its metadata and checked.
#[derive(Component, Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// `general.architecture`.
    pub architecture: String,
    /// `general.name`, or the file's name.
    pub name: String,
    /// Number of transformer blocks.
    pub layers: usize,
    /// Width of the hidden state.
    pub embedding: usize,
    /// Number of query heads.
    pub heads: usize,
    /// Number of key and value heads. Query head `h` reads `h / (heads / kv_heads)`.
    pub kv_heads: usize,
    /// Dimensions of a query or key head.
    pub key_length: usize,
    /// Dimensions of a value head.
    pub value_length: usize,
    /// Width of the feed-forward network. If layers have experts, width of the dense network.
    pub feed_forward: usize,
    /// The experts of the feed-forward networks. `None` if there are none.
    pub experts: Option<ExpertConfig>,
    /// Nonlinearity of the feed-forward network.
    pub activation: Activation,
    /// Number of rows of the embedding.
    pub vocabulary: usize,
    /// Number of positions the model was trained on.
    pub context: usize,
    /// Epsilon of the norms.
    pub norm_epsilon: f32,
    /// True if a token attends only to the tokens before it. If false, it attends to its whole text: the model is an
    /// encoder, which computes embeddings and generates nothing.
    pub causal: bool,
    /// How the model's makers turn hidden states into an embedding, if the file says so.
    pub pooling: Option<Pooling>,
    /// How the model's makers prepare a text for embedding.
    pub sentence: SentenceConfig,
    /// True if a row of [`TensorRole::PositionEmbedding`] is added to each embedding.
    pub learned_positions: bool,
    /// Number of rows of [`TensorRole::TokenTypes`], the first of which is added to each embedding. 0 if there are
    /// none.
    pub token_types: usize,
    /// True if [`TensorRole::EmbeddingNorm`] is applied to embeddings.
    pub embedding_norm: bool,
    /// Rotary position embeddings: one, or one for global and one for local layers.
    pub ropes: Vec<RopeConfig>,
    /// The configuration of each layer.
    pub layer: Vec<LayerConfig>,
    /// Layers with equal needs of the KV cache. At least one, also if there are no layers.
    pub kv_classes: Vec<KvClass>,
    /// Factor of query · key.
    pub attention_scale: f32,
    /// Scores become `cap * tanh(score / cap)`.
    pub attention_cap: Option<f32>,
    /// Logits become `cap * tanh(logit / cap)`.
    pub logit_cap: Option<f32>,
    /// Factor of embeddings.
    pub embedding_scale: f32,
    /// Factor of each block's output before it is added to the residual.
    pub residual_scale: f32,
    /// Factor of logits, applied before they are capped.
    pub logit_scale: f32,
    /// True if the embedding's matrix is also the head.
    pub tied: bool,
    /// True if the model was saved without its head: it computes embeddings and generates nothing.
    pub headless: bool,
}

impl ModelConfig {
    /// Settles the factors of the rotary frequencies, once it is known that contexts hold at most `tokens` positions.
    ///
    /// The choice is made once for each model, as in other engines: keys rotated with one set of factors would not
    /// match queries rotated with the other when a session grows past the bound.
    pub fn settle_context(&mut self, tokens: usize) {
        let tokens = tokens.min(self.context);
        for rope in &mut self.ropes {
            if let RopeFactors::ShortUpTo(bound) = rope.factors {
                rope.factors = if tokens > bound { RopeFactors::Long } else { RopeFactors::One };
            }
        }
    }

    /// Gives each class of layers that sees more than `tokens` tokens a class of its own for its newest ones. For a KV cache
    /// whose pages are converted to another format when they are complete.
    pub fn keep_recent(&mut self, tokens: usize, page: usize) {
        for index in 0..self.kv_classes.len() {
            let KvClass { window, layers, .. } = &self.kv_classes[index];
            if window.is_some_and(|window| window <= tokens) {
                continue;
            }
            // The newest tokens of a query begin at a page bound.
            let window = Some(tokens + page - 1);
            let layers = layers.clone();
            let class = self.kv_classes.len();
            for layer in &layers {
                if let Some(layer) = self.layer.get_mut(*layer) {
                    layer.recent = Some(RecentTokens { class, tokens });
                }
            }
            self.kv_classes.push(KvClass { window, layers, recent_of: Some(index) });
        }
    }

    /// Returns true if the class's pages are made from those of a class of its newest tokens.
    pub fn has_recent(&self, class: usize) -> bool {
        self.kv_classes.iter().any(|other| other.recent_of == Some(class))
    }

    /// The pooling if the caller asks for none: as the model's makers specify, else the last token for a decoder,
    /// because it attends to all the others, and the mean for an encoder.
    pub fn default_pooling(&self) -> Pooling {
        self.pooling.unwrap_or(if self.causal { Pooling::Last } else { Pooling::Mean })
    }

    /// Returns true if the model computes with tensors of a role. It uses only one tensor of factors of the rotary
    /// frequencies.
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

/// Names the model that a layer belongs to.
#[derive(Component, Debug)]
#[relationship(relationship_target = Layers)]
pub struct LayerOf(pub Entity);

/// Position of a layer in its model, from 0.
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerIndex(pub usize);

/// All shards of this layer or model have arrived, and its weights can be used.
#[derive(Component, Debug)]
#[component(storage = "SparseSet")]
pub struct Resident;

/// A place where layers and ends of models are computed: the id that a backend received when it was registered. Valid
/// as long as the `World`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place(u32);

impl Place {
    /// The place with this id. The registry of backends assigns ids.
    pub const fn new(id: u32) -> Self {
        Self(id)
    }

    /// The id.
    pub const fn id(self) -> u32 {
        self.0
    }
}

/// Where a layer is to be computed. A component of the layer and an *input*: inserting another place moves the layer.
/// Its weights are loaded there, waves wait for it meanwhile, and the sessions' contexts are computed again.
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq)]
#[component(immutable)]
pub struct PlacedOn(pub Place);

/// Where a layer's weights and its KV cache are, or are being loaded to. A component of the layer that follows
/// [`PlacedOn`].
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq)]
#[component(immutable)]
pub struct HeldBy(pub Place);

/// Where the ends of a model are to be computed. A component of the model and an input, as [`PlacedOn`] is of a layer.
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq)]
#[component(immutable)]
pub struct Ends {
    /// The embedding.
    pub embed: Place,
    /// The head, and with it the choice of tokens if its backend supports it.
    pub head: Place,
}

/// Where the weights of a model's ends are, or are being loaded to. A component of the model that follows [`Ends`].
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq)]
#[component(immutable)]
pub struct EndsHeldBy(pub Ends);

/// How many steps of a session may be in flight whose tokens have not been read back: 0 if a step needs the token of
/// the one before on the host. A component of the model.
#[derive(Component, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepsAhead(pub usize);

/// Shards of this layer, or of the model itself, that have not arrived.
#[derive(Component, Debug, Default)]
pub struct MissingShards(pub EntityHashSet);
