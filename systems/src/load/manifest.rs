//! From a tensor table to the shards of a model, in the order in which a wave needs them.

use super::architecture::{Architecture, TensorPattern};
use super::error::LoadError;
use super::gguf::{Gguf, TensorInfo};
use std::collections::HashSet;
use weft_components::formats::FORMATS;
use weft_components::{ModelConfig, TensorRole as Role, WeightShard};

/// Whose weights a shard holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShardOwner {
    /// The model as a whole.
    Model,
    /// One layer.
    Layer(usize),
}

impl ShardOwner {
    /// The layer's index.
    pub fn layer(self) -> Option<usize> {
        match self {
            Self::Model => None,
            Self::Layer(index) => Some(index),
        }
    }
}

/// A shard to be spawned.
#[derive(Clone, Debug)]
pub struct ShardSpec {
    /// Whose it is.
    pub owner: ShardOwner,
    /// The shard.
    pub shard: WeightShard,
}

/// Lists a model's shards: what comes before the layers, each layer, what comes after.
///
/// Every tensor of the file must have a place, and every place that the architecture requires a tensor of the right
/// shape in a format that can be computed with.
pub(super) fn manifest(
    gguf: &Gguf,
    arch: &Architecture,
    config: &ModelConfig,
    file: &str,
) -> Result<Vec<ShardSpec>, LoadError> {
    let mut shards = Vec::with_capacity(gguf.tensors.len());
    let mut used = HashSet::with_capacity(gguf.tensors.len());
    for (owner, pattern, name) in places(arch, config.layers) {
        match gguf.tensor(&name) {
            Some(tensor) => {
                shards.push(ShardSpec { owner, shard: shard(tensor, pattern, config, file)? });
                used.insert(name);
            }
            None if pattern.optional => {}
            None => {
                return Err(LoadError::MissingTensor { file: file.to_owned(), name });
            }
        }
    }
    if let Some(tensor) = gguf.tensors.iter().find(|tensor| !used.contains(&tensor.name)) {
        return Err(LoadError::UnusedTensor {
            file: file.to_owned(),
            name: tensor.name.clone(),
            architecture: arch.name.to_owned(),
        });
    }
    Ok(shards)
}

/// Every place that a model of `layers` layers has for a tensor, with the tensor's name.
pub(super) fn places(
    arch: &Architecture,
    layers: usize,
) -> impl Iterator<Item = (ShardOwner, &'static TensorPattern, String)> + use<> {
    let groups = core::iter::once((ShardOwner::Model, arch.before));
    let layer = arch.layer;
    let groups = groups.chain((0..layers).map(move |index| (ShardOwner::Layer(index), layer)));
    let groups = groups.chain(core::iter::once((ShardOwner::Model, arch.after)));
    groups.flat_map(|(owner, patterns)| {
        patterns.iter().map(move |pattern| {
            let name = match owner {
                ShardOwner::Layer(layer) => pattern.name.replace("{}", &layer.to_string()),
                ShardOwner::Model => pattern.name.to_owned(),
            };
            (owner, pattern, name)
        })
    })
}

/// Outer and inner dimension that the metadata asks of a role; `None` for a vector.
pub(super) fn dimensions(role: Role, config: &ModelConfig) -> (Option<usize>, usize) {
    let queries = config.heads.saturating_mul(config.key_length);
    let keys = config.kv_heads.saturating_mul(config.key_length);
    let values = config.kv_heads.saturating_mul(config.value_length);
    match role {
        Role::TokenEmbedding | Role::Output => (Some(config.vocabulary), config.embedding),
        Role::RopeFactors | Role::RopeFactorsLong => (None, config.ropes[0].dimensions / 2),
        Role::AttentionNorm | Role::FfnNorm | Role::OutputNorm => (None, config.embedding),
        Role::Query => (Some(queries), config.embedding),
        Role::Key => (Some(keys), config.embedding),
        Role::Value => (Some(values), config.embedding),
        Role::AttentionOutput => (Some(config.embedding), config.heads.saturating_mul(config.value_length)),
        Role::FfnGate | Role::FfnUp => (Some(config.feed_forward), config.embedding),
        Role::FfnDown => (Some(config.embedding), config.feed_forward),
        _ => (None, 0),
    }
}

fn shard(
    tensor: &TensorInfo,
    pattern: &TensorPattern,
    config: &ModelConfig,
    file: &str,
) -> Result<WeightShard, LoadError> {
    let (rows, cols) = dimensions(pattern.role, config);
    let wanted: Vec<u64> = core::iter::once(cols).chain(rows).map(|n| n as u64).collect();
    // Some writers keep trailing dimensions of 1.
    let significant = tensor.shape.iter().rposition(|n| *n != 1).map_or(1, |last| last + 1);
    let found = &tensor.shape[..significant.max(wanted.len()).min(tensor.shape.len())];
    if found != wanted {
        return Err(LoadError::BadShape {
            file: file.to_owned(),
            name: tensor.name.clone(),
            found: tensor.shape.clone(),
            wanted,
        });
    }
    // Norms and factors are read as floats; only matrices have tiles of codes.
    let computable =
        tensor.format.codec().is_some_and(|codec| rows.is_some() || !codec.layout.is_quantized());
    if !computable {
        let known = FORMATS.iter().filter(|format| format.codec.is_some()).map(|format| format.name);
        return Err(LoadError::UnsupportedFormat {
            file: file.to_owned(),
            name: tensor.name.clone(),
            format: tensor.format.to_string(),
            known: known.collect::<Vec<_>>().join(", "),
        });
    }
    Ok(WeightShard {
        name: tensor.name.clone(),
        role: pattern.role,
        expert: 0,
        format: tensor.format,
        rows: rows.unwrap_or(1),
        cols,
        part: tensor.source,
        range: tensor.range.clone(),
    })
}
