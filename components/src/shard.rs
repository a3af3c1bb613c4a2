//! Weight shards: a tensor of a file each, or whole rows of one, and how far they have come.

use crate::format::TensorFormat;
use bevy_ecs::prelude::*;
use core::ops::Range;

/// What a tensor is for. Architectures map tensor names to roles; systems ask for roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TensorRole {
    /// Rows of the vocabulary, `[vocabulary, embedding]`.
    TokenEmbedding,
    /// Added to a token's embedding by its position, `[context, embedding]`.
    PositionEmbedding,
    /// Added to a token's embedding by the sentence that it is of, `[types, embedding]`.
    TokenTypes,
    /// LayerNorm of embeddings, `[embedding]`.
    EmbeddingNorm,
    /// Added behind that norm, `[embedding]`.
    EmbeddingNormBias,
    /// Divisors of the rotary frequencies, `[rope dimensions / 2]`; for short contexts where there are two.
    RopeFactors,
    /// Divisors for long contexts, `[rope dimensions / 2]`.
    RopeFactorsLong,
    /// Norm before attention, `[embedding]`.
    AttentionNorm,
    /// Query projection, `[heads * key_length, embedding]`.
    Query,
    /// Key projection, `[kv_heads * key_length, embedding]`.
    Key,
    /// Value projection, `[kv_heads * value_length, embedding]`.
    Value,
    /// Added to queries, `[heads * key_length]`.
    QueryBias,
    /// Added to keys, `[kv_heads * key_length]`.
    KeyBias,
    /// Added to values, `[kv_heads * value_length]`.
    ValueBias,
    /// Norm of queries before they turn: `[key_length]` of each head, or `[heads * key_length]` of all together.
    QueryNorm,
    /// Norm of keys: `[key_length]`, or `[kv_heads * key_length]`.
    KeyNorm,
    /// Norm of the attended values before their projection, `[heads * value_length]`.
    AttentionSubNorm,
    /// Attention output projection, `[embedding, heads * value_length]`.
    AttentionOutput,
    /// Added to the projection, `[embedding]`.
    AttentionOutputBias,
    /// Norm of what attention adds to the residual, `[embedding]`.
    AttentionPostNorm,
    /// LayerNorm of the residual behind attention, `[embedding]`.
    AttentionResidualNorm,
    /// Added behind that norm, `[embedding]`.
    AttentionResidualNormBias,
    /// Norm before the feed-forward network, `[embedding]`.
    FfnNorm,
    /// Gate projection, `[feed_forward, embedding]`.
    FfnGate,
    /// Up projection, `[feed_forward, embedding]`. Without a gate the nonlinearity is its own.
    FfnUp,
    /// Added to the gate projection, `[feed_forward]`.
    FfnGateBias,
    /// Added to the up projection, `[feed_forward]`.
    FfnUpBias,
    /// Norm of the gated values before the down projection, `[feed_forward]`.
    FfnSubNorm,
    /// Down projection, `[embedding, feed_forward]`.
    FfnDown,
    /// Added to the down projection, `[embedding]`.
    FfnDownBias,
    /// Norm of what the feed-forward network adds to the residual, `[embedding]`.
    FfnPostNorm,
    /// LayerNorm of the residual behind the feed-forward network, `[embedding]`.
    FfnResidualNorm,
    /// Added behind that norm, `[embedding]`.
    FfnResidualNormBias,
    /// What outputs of the query projection are multiplied by, `[1]`.
    QueryScale,
    /// The same of keys.
    KeyScale,
    /// The same of values.
    ValueScale,
    /// The same of the attention output.
    AttentionOutputScale,
    /// The same of the gate projection.
    FfnGateScale,
    /// The same of the up projection.
    FfnUpScale,
    /// The same of the down projection.
    FfnDownScale,
    /// Scores of experts, `[experts, embedding]`.
    Router,
    /// Gate projection of one expert, `[expert feed_forward, embedding]`.
    ExpertGate,
    /// Up projection of one expert, `[expert feed_forward, embedding]`.
    ExpertUp,
    /// Down projection of one expert, `[embedding, expert feed_forward]`.
    ExpertDown,
    /// What the sigmoid of which the shared expert is weighted by, `[1, embedding]`.
    SharedRouter,
    /// Gate projection of the shared expert.
    SharedGate,
    /// Up projection of the shared expert.
    SharedUp,
    /// Down projection of the shared expert.
    SharedDown,
    /// Norm before the head, `[embedding]`.
    OutputNorm,
    /// Head, `[vocabulary, embedding]`; where a model ties it, the embedding serves.
    Output,
}

impl TensorRole {
    /// Number of roles: the length of a table indexed by `role as usize`.
    pub const COUNT: usize = Self::Output as usize + 1;

    /// Whether it is a vector of floats, whatever its shape, and no matrix.
    pub fn is_vector(self) -> bool {
        use TensorRole as R;
        matches!(
            self,
            R::EmbeddingNorm
                | R::EmbeddingNormBias
                | R::RopeFactors
                | R::RopeFactorsLong
                | R::AttentionNorm
                | R::QueryBias
                | R::KeyBias
                | R::ValueBias
                | R::QueryNorm
                | R::KeyNorm
                | R::AttentionSubNorm
                | R::AttentionOutputBias
                | R::AttentionPostNorm
                | R::AttentionResidualNorm
                | R::AttentionResidualNormBias
                | R::FfnNorm
                | R::FfnGateBias
                | R::FfnUpBias
                | R::FfnSubNorm
                | R::FfnDownBias
                | R::FfnPostNorm
                | R::FfnResidualNorm
                | R::FfnResidualNormBias
                | R::QueryScale
                | R::KeyScale
                | R::ValueScale
                | R::AttentionOutputScale
                | R::FfnGateScale
                | R::FfnUpScale
                | R::FfnDownScale
                | R::OutputNorm
        )
    }

    /// Whether each expert has one of its own.
    pub fn is_expert(self) -> bool {
        matches!(self, Self::ExpertGate | Self::ExpertUp | Self::ExpertDown)
    }
}

/// One tensor of a model file, or whole rows of one: a tensor that fuses projections or stacks experts is several shards.
#[derive(Component, Clone, Debug)]
pub struct WeightShard {
    /// Name in the file.
    pub name: String,
    /// What it is for.
    pub role: TensorRole,
    /// Which expert's it is; 0 where its role is of no expert.
    pub expert: usize,
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

/// Waits in the load queue of its model. Then it is [`Fetching`], then [`Resident`](crate::model::Resident).
#[derive(Component, Debug)]
#[component(storage = "SparseSet")]
pub struct Queued;

/// The loader reads it.
#[derive(Component, Debug)]
#[component(storage = "SparseSet")]
pub struct Fetching;

/// May be dropped while it is resident, and read again when a wave needs it.
#[derive(Component, Debug)]
#[component(storage = "SparseSet")]
pub struct Evictable;
