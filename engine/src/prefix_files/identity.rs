//! What the keys and values of a page depend on, besides the tokens up to it: the model's hyperparameters, all of its
//! weights, the format and the shape of the KV cache.

use super::PrefixFolderError;
use crate::error::Error;
use crate::snapshot::{self, pages};
use crate::world::{ComputePool, ModelId};
use bevy_ecs::prelude::*;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use weft_components::{Layers, ModelConfig, Shards, WeightShard};
use weft_platform::{Kernels, PAGE, Pool, TILE_ROWS};
use weft_systems::on_cpu::{CpuKv, CpuWeight, CpuWeights};

/// A SHA-256.
pub(super) type Hash = [u8; 32];

/// The identity of a model's KV cache.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    /// The model's name, for people.
    pub(super) name: String,
    /// Stands for all that a page depends on but tokens. The key of the beginning of contexts.
    pub(super) root: Hash,
    /// Name of the KV format.
    pub(super) format: String,
    /// Bytes of a page of each class.
    pub(super) page_bytes: Vec<usize>,
    /// For each class, whether it keeps only a window.
    pub(super) windowed: Vec<bool>,
}

/// The SHA-256 of a model's weights, which takes a second for some gigabytes and is computed once. A component of the
/// model.
#[derive(Component, Clone, Copy)]
struct WeightsDigest(Hash);

impl Identity {
    /// The identity of a model that is wholly on the CPU.
    pub(super) fn of(world: &mut World, model: ModelId) -> Result<Self, Error> {
        let mark = snapshot::mark(world, model)?;
        if !pages::is_on_cpu(world, model) {
            return Err(PrefixFolderError::NotOnCpu.into());
        }
        let weights = weights_digest(world, model)?;
        let (Some(config), Some(kv)) = (world.get::<ModelConfig>(model.0), world.get::<CpuKv>(model.0))
        else {
            return Err(PrefixFolderError::NotOnCpu.into());
        };
        let mut hash = Sha256::new();
        // Debug text has every field, so that none is forgotten. If it differs in another version of the program, pages
        // are computed again.
        hash.update(format!("{} {config:?} {PAGE}", mark.fingerprint));
        hash.update(weights);
        for arena in &kv.0 {
            let shape = arena.shape();
            hash.update(format!(
                "{:?} {} {} {} {}\n",
                shape.format, shape.layers, shape.kv_heads, shape.k_dim, shape.v_dim
            ));
        }
        Ok(Self {
            name: mark.name,
            root: hash.finalize().into(),
            format: kv.0.first().map_or_else(String::new, |arena| format!("{:?}", arena.shape().format)),
            page_bytes: kv.0.iter().map(|arena| arena.slot_bytes()).collect(),
            windowed: config.kv_classes.iter().map(|class| class.window.is_some()).collect(),
        })
    }

    /// Bytes of the keys and values of a page of these classes.
    pub(super) fn bytes_of(&self, present: &[bool]) -> u64 {
        let present = self.page_bytes.iter().zip(present).filter(|(_, present)| **present);
        present.map(|(bytes, _)| *bytes as u64).sum()
    }
}

/// The key of a page: of what it depends on, by the key of the page before it and its tokens.
pub(super) fn key(before: &Hash, tokens: &[u32]) -> Hash {
    let mut hash = Sha256::new();
    hash.update(before);
    tokens.iter().for_each(|token| hash.update(token.to_le_bytes()));
    hash.finalize().into()
}

/// The SHA-256 of all weights of a model.
fn weights_digest(world: &mut World, model: ModelId) -> Result<Hash, Error> {
    if let Some(WeightsDigest(digest)) = world.get(model.0) {
        return Ok(*digest);
    }
    let layers = world.get::<Layers>(model.0).map_or(&[][..], Layers::entities);
    let owners = layers.iter().chain(core::iter::once(&model.0));
    let shards = owners.filter_map(|owner| world.get::<Shards>(*owner)).flat_map(Shards::entities);
    let mut weights = Vec::new();
    for shard in shards {
        let (Some(spec), Some(loaded)) = (world.get::<WeightShard>(*shard), world.get::<CpuWeights>(*shard))
        else {
            return Err(PrefixFolderError::NotLoaded.into());
        };
        weights.push((spec.name.clone(), spec.range.start, Arc::clone(&loaded.0)));
    }
    weights.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
    let mut digests = vec![Hash::default(); weights.len()];
    let pool = world.get_resource::<ComputePool>().map(|pool| Arc::clone(&pool.0));
    let threads = pool.as_ref().map_or(1, |pool| pool.threads());
    let mut compute = || {
        let cpu = weft_platform::Cpu { kernels: Kernels::detect(), threads };
        cpu.for_each_part(&mut digests, 1, 1, |shard, digest| digest[0] = weight_digest(&weights[shard].2));
    };
    match pool.as_deref() {
        Some(pool) => Pool::install(pool, compute),
        None => compute(),
    }
    let mut hash = Sha256::new();
    for ((name, start, _), digest) in weights.iter().zip(&digests) {
        hash.update(format!("\n{name} {start} "));
        hash.update(digest);
    }
    let digest = hash.finalize().into();
    world.entity_mut(model.0).insert(WeightsDigest(digest));
    Ok(digest)
}

fn weight_digest(weight: &CpuWeight) -> Hash {
    let mut hash = Sha256::new();
    match weight {
        CpuWeight::Matrix(matrix) => {
            for tile in 0..matrix.rows().div_ceil(TILE_ROWS) {
                hash.update(matrix.tile(tile));
                hash.update(matrix.tile_scales(tile));
            }
        }
        CpuWeight::Vector(values) => values.iter().for_each(|value| hash.update(value.to_le_bytes())),
    }
    hash.finalize().into()
}
