//! Turns shards into GPU weights, on the loader's threads: lays them out for kernels and copies them to the device.

use super::layer_weights::Target;
use crate::place::{Install, LoadError, Prepare, Preparing};
use core::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use weft_components::WeightShard;
use weft_formats::ModelError;
use weft_gpu::{Gpu, pack};

/// Copies one shard to a GPU.
pub struct GpuPrepare {
    pub(super) gpu: Arc<Gpu>,
    pub(super) target: Target,
}

/// Bytes that are written before a submit.
const SUBMIT: usize = 32 << 20;

/// Copies rows of `narrow` bytes to rows of `wide` bytes, filled with zeros at the end.
fn filled(rows: &[u8], narrow: usize, wide: usize) -> Vec<u8> {
    let mut filled = vec![0; rows.len() / narrow * wide];
    for (to, from) in filled.chunks_exact_mut(wide).zip(rows.chunks_exact(narrow)) {
        to[..narrow].copy_from_slice(from);
    }
    filled
}

impl Prepare for GpuPrepare {
    fn begin(&self, shard: &WeightShard, file: &str) -> Result<Box<dyn Preparing>, LoadError> {
        Ok(Box::new(Upload {
            gpu: Arc::clone(&self.gpu),
            target: self.target.clone(),
            file: file.to_owned(),
            shard: shard.clone(),
            written: AtomicUsize::new(0),
        }))
    }
}

/// A shard that is being copied to a GPU.
struct Upload {
    gpu: Arc<Gpu>,
    target: Target,
    file: String,
    shard: WeightShard,
    /// Bytes written since the last submit, or more.
    written: AtomicUsize,
}

impl Preparing for Upload {
    fn rows(&self, first: usize, bytes: &[u8]) -> Result<(), LoadError> {
        let (gpu, shard) = (&*self.gpu, &self.shard);
        // A lost device is not an error of the file: the model is placed again, and its weights are loaded again.
        if gpu.failure().is_some() {
            return Ok(());
        }
        match &self.target {
            Target::Matrix(matrix, start) => {
                let row_bytes = shard.format.row_bytes(shard.cols).unwrap_or(bytes.len()).max(1);
                let wide = shard.format.row_bytes(matrix.columns).unwrap_or(row_bytes);
                let filled = (wide > row_bytes).then(|| filled(bytes, row_bytes, wide));
                let bytes = filled.as_deref().unwrap_or(bytes);
                matrix.write(gpu, start + first, &pack(shard.format, bytes));
                // Written bytes wait in host memory for a submit.
                if self.written.fetch_add(bytes.len(), Ordering::Relaxed) + bytes.len() >= SUBMIT {
                    self.written.store(0, Ordering::Relaxed);
                    gpu.watch(|| gpu.queue.submit([]));
                }
            }
            Target::Vector(buffer, at) => {
                let mut values = vec![0.0; shard.cols];
                if !shard.format.dequantize(bytes, &mut values) {
                    return Err(ModelError::UnsupportedFormat {
                        file: self.file.clone(),
                        name: shard.name.clone(),
                        format: shard.format.to_string(),
                        known: "F32, F16, BF16 for vectors".to_owned(),
                    }
                    .into());
                }
                gpu.write(buffer, 4 * *at as u64, bytemuck::cast_slice(&values));
            }
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Install, LoadError> {
        if matches!(self.target, Target::Matrix(..)) && self.gpu.failure().is_none() {
            self.gpu.watch(|| self.gpu.queue.submit([]));
        }
        Ok(Box::new(|_| {}))
    }
}
