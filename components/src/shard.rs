//! Weight shards: a tensor of a file, or whole rows of one, and the state of its load.

use crate::format::TensorFormat;
use bevy_ecs::prelude::*;
use core::ops::Range;

/// The role of a tensor. Architectures map tensor names to roles, and systems look tensors up by role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TensorRole {
    /// Rows of the vocabulary, `[vocabulary, embedding]`.
    TokenEmbedding,
    /// Added to a token's embedding by its position, `[context, embedding]`.
    PositionEmbedding,
    /// Added to a token's embedding by its token type, `[types, embedding]`.
    TokenTypes,
    /// LayerNorm of embeddings, `[embedding]`.
    EmbeddingNorm,
    /// Added after that norm, `[embedding]`.
    EmbeddingNormBias,
    /// Divisors of the rotary frequencies, `[rope dimensions / 2]`. If there are two sets, those for short contexts.
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
    /// Norm of queries before rotary embedding: `[key_length]` of each head, or `[heads * key_length]` of all together.
    QueryNorm,
    /// Norm of keys: `[key_length]`, or `[kv_heads * key_length]`.
    KeyNorm,
    /// Norm of the attended values before their projection, `[heads * value_length]`.
    AttentionSubNorm,
    /// Attention output projection, `[embedding, heads * value_length]`.
    AttentionOutput,
    /// Added to the projection, `[embedding]`.
    AttentionOutputBias,
    /// Norm of attention's output before it is added to the residual, `[embedding]`.
    AttentionPostNorm,
    /// LayerNorm of the residual after attention, `[embedding]`.
    AttentionResidualNorm,
    /// Added after that norm, `[embedding]`.
    AttentionResidualNormBias,
    /// Norm before the feed-forward network, `[embedding]`.
    FfnNorm,
    /// Gate projection, `[feed_forward, embedding]`.
    FfnGate,
    /// Up projection, `[feed_forward, embedding]`. In a network without a gate, the nonlinearity is applied to it.
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
    /// Norm of the feed-forward network's output before it is added to the residual, `[embedding]`.
    FfnPostNorm,
    /// LayerNorm of the residual after the feed-forward network, `[embedding]`.
    FfnResidualNorm,
    /// Added after that norm, `[embedding]`.
    FfnResidualNormBias,
    /// Factor of the query projection's outputs, `[1]`.
    QueryScale,
    /// Factor of the key projection's outputs, `[1]`.
    KeyScale,
    /// Factor of the value projection's outputs, `[1]`.
    ValueScale,
    /// Factor of the attention output projection's outputs, `[1]`.
    AttentionOutputScale,
    /// Factor of the gate projection's outputs, `[1]`.
    FfnGateScale,
    /// Factor of the up projection's outputs, `[1]`.
    FfnUpScale,
    /// Factor of the down projection's outputs, `[1]`.
    FfnDownScale,
    /// Scores of experts, `[experts, embedding]`.
    Router,
    /// Gate projection of one expert, `[expert feed_forward, embedding]`.
    ExpertGate,
    /// Up projection of one expert, `[expert feed_forward, embedding]`.
    ExpertUp,
    /// Down projection of one expert, `[embedding, expert feed_forward]`.
    ExpertDown,
    /// Projection whose sigmoid weights the shared expert, `[1, embedding]`.
    SharedRouter,
    /// Gate projection of the shared expert.
    SharedGate,
    /// Up projection of the shared expert.
    SharedUp,
    /// Down projection of the shared expert.
    SharedDown,
    /// Norm before the head, `[embedding]`.
    OutputNorm,
    /// Head, `[vocabulary, embedding]`. Models with a tied head use the embedding instead.
    Output,
}

impl TensorRole {
    /// Number of roles: the length of a table indexed by `role as usize`.
    pub const COUNT: usize = Self::Output as usize + 1;

    /// Returns true if the tensor is a vector of floats, whatever its shape in the file, and not a matrix.
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

    /// Returns true if each expert has its own tensor of this role.
    pub fn is_expert(self) -> bool {
        matches!(self, Self::ExpertGate | Self::ExpertUp | Self::ExpertDown)
    }
}

/// One tensor of a model file, or whole rows of one. A tensor that fuses projections or stacks experts is several
/// shards.
#[derive(Component, Clone, Debug)]
pub struct WeightShard {
    /// Name in the file.
    pub name: String,
    /// Its role.
    pub role: TensorRole,
    /// Index of its expert. 0 if its role belongs to no expert.
    pub expert: usize,
    /// The format of its numbers.
    pub format: TensorFormat,
    /// Outer dimension; 1 for a vector.
    pub rows: usize,
    /// Inner dimension.
    pub cols: usize,
    /// Index of its file in the file set.
    pub part: usize,
    /// Its byte range in that file.
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

/// Names the layer or model that a shard belongs to.
#[derive(Component, Debug)]
#[relationship(relationship_target = Shards)]
pub struct ShardOf(pub Entity);

/// Waits in the load queue of its model. Then it becomes [`Fetching`], then [`Resident`](crate::model::Resident).
#[derive(Component, Debug)]
#[component(storage = "SparseSet")]
pub struct Queued;

/// The loader is reading it.
#[derive(Component, Debug)]
#[component(storage = "SparseSet")]
pub struct Fetching;

/// May be dropped while it is resident, and read again when a wave needs it.
#[derive(Component, Debug)]
#[component(storage = "SparseSet")]
pub struct Evictable;
