//! Turns shards into CPU weights: matrices into tiles, vectors into floats. Runs on the loader's threads.

use crate::place::{Install, LoadError, Prepare, Preparing};
use bevy_ecs::prelude::*;
use bevy_ecs::world::EntityWorldMut;
use std::sync::{Arc, OnceLock};
use weft_components::{TensorFormat, TensorRole, WeightShard};
use weft_formats::ModelError;
use weft_platform::{CpuMatrix, Kernels, PackError, TilePacker};

/// A tensor in the form that the CPU computes with.
pub enum CpuWeight {
    /// Tiles of rows.
    Matrix(CpuMatrix),
    /// Floats.
    Vector(Box<[f32]>),
}

impl CpuWeight {
    /// The floats of a vector. `None` for a matrix.
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

impl CpuWeights {
    /// Bytes of memory that they take.
    pub fn bytes(&self) -> u64 {
        match &*self.0 {
            CpuWeight::Matrix(matrix) => matrix.bytes() as u64,
            CpuWeight::Vector(values) => size_of_val::<[f32]>(values) as u64,
        }
    }
}

/// Returns true for tensors of a model that the host reads wherever its layers and ends are: it computes the angles of
/// rotary embedding, and norms the hidden states that become embeddings.
pub fn is_read_by_host(role: TensorRole) -> bool {
    matches!(role, TensorRole::RopeFactors | TensorRole::RopeFactorsLong | TensorRole::OutputNorm)
}

/// Lays shards out for the CPU.
pub struct CpuPrepare {
    /// The kernels that lay them out.
    pub kernels: &'static Kernels,
}

impl Prepare for CpuPrepare {
    fn begin(&self, shard: &WeightShard, file: &str) -> Result<Box<dyn Preparing>, LoadError> {
        let (file, name, format) = (file.to_owned(), shard.name.clone(), shard.format);
        if shard.role.is_vector() {
            let values = OnceLock::new();
            return Ok(Box::new(Vector { file, name, format, length: shard.cols, values }));
        }
        let bytes = shard.range.end.saturating_sub(shard.range.start);
        match TilePacker::new(self.kernels, format, shard.rows, shard.cols, bytes) {
            Ok(packer) => Ok(Box::new(Matrix { file, name, packer })),
            Err(source) => Err(ModelError::Pack { file, name, source }.into()),
        }
    }
}

/// Puts a weight into the world.
fn install(weight: CpuWeight) -> Install {
    let weights = CpuWeights(Arc::new(weight));
    Box::new(move |entity: &mut EntityWorldMut<'_>| {
        entity.insert(weights);
    })
}

/// A matrix whose rows are arriving.
struct Matrix {
    file: String,
    name: String,
    packer: TilePacker,
}

impl Matrix {
    fn error(file: &str, name: &str, source: PackError) -> LoadError {
        ModelError::Pack { file: file.to_owned(), name: name.to_owned(), source }.into()
    }
}

impl Preparing for Matrix {
    fn rows(&self, first: usize, bytes: &[u8]) -> Result<(), LoadError> {
        self.packer.pack(first, bytes).map_err(|source| Self::error(&self.file, &self.name, source))
    }

    fn finish(self: Box<Self>) -> Result<Install, LoadError> {
        let Self { file, name, packer } = *self;
        let matrix = packer.finish().map_err(|source| Self::error(&file, &name, source))?;
        Ok(install(CpuWeight::Matrix(matrix)))
    }
}

/// A vector that is arriving.
struct Vector {
    file: String,
    name: String,
    format: TensorFormat,
    length: usize,
    values: OnceLock<Box<[f32]>>,
}

impl Preparing for Vector {
    fn rows(&self, _first: usize, bytes: &[u8]) -> Result<(), LoadError> {
        let mut values = vec![0.0; self.length].into_boxed_slice();
        if !self.format.dequantize(bytes, &mut values) {
            return Err(ModelError::UnsupportedFormat {
                file: self.file.clone(),
                name: self.name.clone(),
                format: self.format.to_string(),
                known: "F32, F16, BF16 for vectors".to_owned(),
            }
            .into());
        }
        self.values.get_or_init(|| values);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Install, LoadError> {
        Ok(install(CpuWeight::Vector(self.values.into_inner().unwrap_or_default())))
    }
}
