//! Shards become CPU weights: matrices as tiles, vectors as floats. Runs on the loader's thread.

use crate::load::{Install, LoadError, Prepare};
use bevy_ecs::prelude::*;
use bevy_ecs::world::EntityWorldMut;
use std::sync::Arc;
use weft_components::WeightShard;
use weft_platform::CpuMatrix;
use weft_platform::storage::Bytes;

/// One tensor as the CPU computes with it.
pub enum CpuWeight {
    /// Tiles of rows.
    Matrix(CpuMatrix),
    /// Floats.
    Vector(Box<[f32]>),
}

impl CpuWeight {
    /// The floats of a vector.
    pub fn vector(&self) -> Option<&[f32]> {
        match self {
            Self::Vector(values) => Some(values),
            Self::Matrix(_) => None,
        }
    }
}

/// The weights of a shard that is resident on the CPU. A component of the shard.
#[derive(Component, Clone)]
pub struct CpuWeights(pub Arc<CpuWeight>);

/// Lays shards out for the CPU.
pub struct CpuPrepare;

impl Prepare for CpuPrepare {
    fn prepare(&self, shard: &WeightShard, bytes: &Bytes, file: &str) -> Result<Install, LoadError> {
        let pack_error = |source| LoadError::Pack { file: file.to_owned(), name: shard.name.clone(), source };
        let weight = if shard.role.is_vector() {
            let mut values = vec![0.0; shard.cols].into_boxed_slice();
            if !shard.format.dequantize(bytes, &mut values) {
                return Err(LoadError::UnsupportedFormat {
                    file: file.to_owned(),
                    name: shard.name.clone(),
                    format: shard.format.to_string(),
                    known: "F32, F16, BF16 for vectors".to_owned(),
                });
            }
            CpuWeight::Vector(values)
        } else {
            CpuWeight::Matrix(
                CpuMatrix::pack(shard.format, shard.rows, shard.cols, bytes).map_err(pack_error)?,
            )
        };
        let weights = CpuWeights(Arc::new(weight));
        Ok(Box::new(move |entity: &mut EntityWorldMut<'_>| {
            entity.insert(weights);
        }))
    }
}
