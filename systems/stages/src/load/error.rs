//! Errors between a model that has been read and one whose weights are resident.

use weft_formats::ModelError;
use weft_platform::KvError;
use weft_platform::storage::StorageError;

/// A model could not be placed, or its weights not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The model file is damaged or not supported.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Bytes could not be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// It cannot run on the GPU, or does not fit there.
    #[error("{file}: {source}")]
    Gpu {
        /// File.
        file: String,
        /// What the GPU lacks.
        source: weft_gpu::GpuError,
    },
    /// Memory for the KV cache could not be had.
    #[error(transparent)]
    Kv(#[from] KvError),
    /// The loader stopped without an error.
    #[error("{file}: the loader thread ended before the model was whole; load it again")]
    LoaderGone {
        /// File.
        file: String,
    },
    /// A thread could not be started.
    #[error("{file}: no thread for the loader: {reason}")]
    NoThread {
        /// File.
        file: String,
        /// The operating system's message.
        reason: String,
    },
}
