//! A model and its layers as entities.
//!
//! `Model` owns its `Layer`s, its `WeightShard`s and its `Session`s through relationships: despawning the model
//! despawns them all, and a page despawned that way still returns its slot (see [`crate::kv`]).

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

/// Rotary position embedding of a model.
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
    /// Whether a tensor of the file divides the frequencies.
    pub factors: bool,
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
    /// Width of the feed-forward network.
    pub feed_forward: usize,
    /// Rows of the embedding.
    pub vocabulary: usize,
    /// Positions the model was trained on.
    pub context: usize,
    /// Epsilon of the RMS norms.
    pub norm_epsilon: f32,
    /// Rotary position embedding.
    pub rope: RopeConfig,
    /// What query · key is multiplied by.
    pub attention_scale: f32,
    /// Whether the embedding also serves as the head.
    pub tied: bool,
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

/// All shards of this entity have arrived and its weights can be used.
#[derive(Component, Debug)]
#[component(storage = "SparseSet")]
pub struct Resident;

/// Computed on the CPU.
#[derive(Component, Debug)]
pub struct OnCpu;

/// Computed on a GPU: its number among the engine's.
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnGpu(pub usize);

/// Computed by a peer.
#[derive(Component, Debug)]
pub struct OnPeer;

/// A place where things are computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Place {
    /// The CPU.
    #[default]
    Cpu,
    /// A GPU: its number among the engine's.
    Gpu(usize),
}

/// Where the ends of a model are computed; its layers carry [`OnCpu`] or [`OnGpu`] of their own. A component of the model.
#[derive(Component, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// The embedding.
    pub embed: Place,
    /// The head, and with it the choice of tokens where a GPU can make it.
    pub head: Place,
}

/// How many steps of a session may be under way whose tokens have not been read: 0 where a step needs the token of the one
/// before on the host. A component of the model.
#[derive(Component, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepsAhead(pub usize);

/// Shards of this layer, or of the model itself, that have not arrived.
#[derive(Component, Debug, Default)]
pub struct MissingShards(pub EntityHashSet);
