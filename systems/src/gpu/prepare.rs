//! Shards become GPU weights: laid out for kernels and copied to the device, on the loader's thread.

use super::weights::Target;
use crate::load::{Install, LoadError, Prepare};
use std::sync::Arc;
use weft_components::WeightShard;
use weft_gpu::{Gpu, pack};
use weft_platform::storage::Bytes;

/// Copies one shard to a GPU.
pub struct GpuPrepare {
    pub(super) gpu: Arc<Gpu>,
    pub(super) target: Target,
}

/// Bytes that are laid out and copied at a time.
const PIECE: usize = 32 << 20;

/// Rows of `narrow` bytes as rows of `wide`, with zeros behind them.
fn filled(rows: &[u8], narrow: usize, wide: usize) -> Vec<u8> {
    let mut filled = vec![0; rows.len() / narrow * wide];
    for (to, from) in filled.chunks_exact_mut(wide).zip(rows.chunks_exact(narrow)) {
        to[..narrow].copy_from_slice(from);
    }
    filled
}

impl Prepare for GpuPrepare {
    fn prepare(&self, shard: &WeightShard, bytes: &Bytes, file: &str) -> Result<Install, LoadError> {
        let gpu = &*self.gpu;
        // A device that is lost is no fault of the file: the model is placed anew, and its weights come again.
        if gpu.failure().is_some() {
            return Ok(Box::new(|_| {}));
        }
        match &self.target {
            Target::Matrix(matrix, first) => {
                let row_bytes = shard.format.row_bytes(shard.cols).unwrap_or(bytes.len()).max(1);
                let wide = shard.format.row_bytes(matrix.columns).unwrap_or(row_bytes);
                let rows = (PIECE / row_bytes).max(2) / 2 * 2;
                for (piece, bytes) in bytes.chunks(rows * row_bytes).enumerate() {
                    let filled = (wide > row_bytes).then(|| filled(bytes, row_bytes, wide));
                    let bytes = filled.as_deref().unwrap_or(bytes);
                    matrix.write(gpu, first + piece * rows, &pack(shard.format, bytes));
                    // What is written waits in host memory for a submit.
                    gpu.queue.submit([]);
                }
            }
            Target::Vector(buffer, at) => {
                let mut values = vec![0.0; shard.cols];
                if !shard.format.dequantize(bytes, &mut values) {
                    return Err(LoadError::UnsupportedFormat {
                        file: file.to_owned(),
                        name: shard.name.clone(),
                        format: shard.format.to_string(),
                        known: "F32, F16, BF16 for vectors".to_owned(),
                    });
                }
                gpu.queue.write_buffer(buffer, 4 * *at as u64, bytemuck::cast_slice(&values));
            }
        }
        Ok(Box::new(|_| {}))
    }
}

/// Prepares a shard for several places.
pub struct PrepareAll(pub Vec<Arc<dyn Prepare>>);

impl Prepare for PrepareAll {
    fn prepare(&self, shard: &WeightShard, bytes: &Bytes, file: &str) -> Result<Install, LoadError> {
        let installs =
            self.0.iter().map(|place| place.prepare(shard, bytes, file)).collect::<Result<Vec<_>, _>>()?;
        Ok(Box::new(move |entity| installs.into_iter().for_each(|install| install(entity))))
    }
}
