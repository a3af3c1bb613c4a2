//! Errors of placing a model and of loading its weights.

use core::fmt;
use std::error::Error;
use std::sync::Arc;
use weft_formats::ModelError;
use weft_platform::storage::StorageError;

/// The kind of reason why a backend refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaceErrorKind {
    /// There is not enough memory.
    Memory,
    /// The backend does not compute models of this kind. Another backend may.
    Model,
    /// The request is impossible, or the device failed.
    Other,
}

/// A backend refuses layers or ends of a model.
#[derive(Clone)]
pub struct PlaceError {
    /// The kind of reason.
    pub kind: PlaceErrorKind,
    /// The reason, an error of the backend's own type.
    pub source: Arc<dyn Error + Send + Sync>,
}

impl fmt::Debug for PlaceError {
    /// Prints the reason alone: what reads errors by their debug form finds its name and fields.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.source, f)
    }
}

impl fmt::Display for PlaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.source, f)
    }
}

impl Error for PlaceError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.source()
    }
}

impl PlaceError {
    /// An error of this kind.
    pub fn new(kind: PlaceErrorKind, source: impl Error + Send + Sync + 'static) -> Self {
        Self { kind, source: Arc::new(source) }
    }
}

/// A model could not be placed, or its weights could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The model file is damaged or not supported.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Bytes could not be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A backend refuses the model, or the layers and ends asked of it.
    #[error("{file}: {source}")]
    Place {
        /// File.
        file: String,
        /// The backend's name.
        place: String,
        /// The reason.
        source: PlaceError,
    },
    /// There is no backend to place a model on.
    #[error("{file}: no backend is registered; add one to the world first")]
    NoBackend {
        /// File.
        file: String,
    },
    /// A place does not compute the ends of models.
    #[error("{file}: the place computes layers only; leave the embedding and the head where they are")]
    NoEnds {
        /// File.
        file: String,
    },
    /// The model does not fit.
    #[error(
        "{file}: {place} needs {needed} bytes for the weights and a context of {tokens} tokens and has {available}; ask for a smaller context, a smaller KV format, or a model in a smaller format"
    )]
    DoesNotFit {
        /// File.
        file: String,
        /// The backend's name.
        place: String,
        /// Bytes needed at least.
        needed: u64,
        /// Bytes available.
        available: u64,
        /// Tokens of context that were asked for, or the smallest number worth loading.
        tokens: usize,
    },
    /// The loader stopped without an error.
    #[error("{file}: the loader thread ended before the model was complete; load it again")]
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

impl LoadError {
    /// The reason of a backend, if it has this type.
    pub fn place_reason<E: Error + 'static>(&self) -> Option<&E> {
        match self {
            Self::Place { source, .. } => source.source.downcast_ref(),
            _ => None,
        }
    }
}
