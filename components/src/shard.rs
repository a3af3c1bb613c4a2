//! Weight shards: one tensor of a file each, and how far it has come.

use crate::format::TensorFormat;
use bevy_ecs::prelude::*;
use core::ops::Range;

/// What a tensor is for. Architectures map tensor names to roles; systems ask for roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TensorRole {
    /// Rows of the vocabulary, `[vocabulary, embedding]`.
    TokenEmbedding,
    /// Divisors of the rotary frequencies, `[rope dimensions / 2]`.
    RopeFactors,
    /// Norm before attention, `[embedding]`.
    AttentionNorm,
    /// Query projection, `[heads * key_length, embedding]`.
    Query,
    /// Key projection, `[kv_heads * key_length, embedding]`.
    Key,
    /// Value projection, `[kv_heads * value_length, embedding]`.
    Value,
    /// Attention output projection, `[embedding, heads * value_length]`.
    AttentionOutput,
    /// Norm before the feed-forward network, `[embedding]`.
    FfnNorm,
    /// Gate projection, `[feed_forward, embedding]`.
    FfnGate,
    /// Up projection, `[feed_forward, embedding]`.
    FfnUp,
    /// Down projection, `[embedding, feed_forward]`.
    FfnDown,
    /// Norm before the head, `[embedding]`.
    OutputNorm,
    /// Head, `[vocabulary, embedding]`; where a model ties it, the embedding serves.
    Output,
}

impl TensorRole {
    /// Number of roles: the length of a table indexed by `role as usize`.
    pub const COUNT: usize = Self::Output as usize + 1;
}

/// One tensor of a model file.
#[derive(Component, Clone, Debug)]
pub struct WeightShard {
    /// Name in the file.
    pub name: String,
    /// What it is for.
    pub role: TensorRole,
    /// How its numbers are stored.
    pub format: TensorFormat,
    /// Outer dimension; 1 for a vector.
    pub rows: usize,
    /// Inner dimension.
    pub cols: usize,
    /// Which file of the set holds it.
    pub part: usize,
    /// Its bytes in that file.
    pub range: Range<u64>,
}

/// The shards of a layer or of a model.
#[derive(Component, Debug, Default)]
#[relationship_target(relationship = ShardOf, linked_spawn)]
pub struct Shards(Vec<Entity>);

impl Shards {
    /// Shard entities in file order.
    pub fn entities(&self) -> &[Entity] {
        &self.0
    }
}

/// A shard belongs to this layer or model.
#[derive(Component, Debug)]
#[relationship(relationship_target = Shards)]
pub struct ShardOf(pub Entity);

/// Waiting for the loader, or being read by it; then it becomes [`crate::model::Resident`].
#[derive(Component, Debug)]
#[component(storage = "SparseSet")]
pub struct Queued;

/// May be dropped under a memory budget and read again.
#[derive(Component, Debug)]
#[component(storage = "SparseSet")]
pub struct Evictable;
