//! Errors of generating a synthetic model.

use crate::ModelError;
use crate::gguf::{GgufError, GgufWriteError};
use weft_platform::PoolError;

/// A synthetic model could not be generated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SynthError {
    /// There is no architecture of this name.
    #[error("architecture `{name}` is not supported; supported: {supported}")]
    UnsupportedArchitecture {
        /// The name.
        name: String,
        /// Supported names.
        supported: String,
    },
    /// There is no preset of this name.
    #[error("there is no preset `{name}`; choose one of: {known}")]
    UnknownPreset {
        /// The name.
        name: String,
        /// Known presets.
        known: String,
    },
    /// Random weights cannot be generated in this format.
    #[error("random weights cannot be generated in format `{format}`; supported: {supported}")]
    UnsupportedFormat {
        /// Name of the format.
        format: String,
        /// Names of supported formats.
        supported: String,
    },
    /// A hyperparameter has an invalid value.
    #[error("`{field}` is {value}, not {wanted}; choose another")]
    BadNumber {
        /// Metadata key of the hyperparameter.
        field: String,
        /// Its value.
        value: String,
        /// What it should be.
        wanted: String,
    },
    /// The metadata or tensors of the architecture contradict each other.
    #[error(transparent)]
    Load(#[from] ModelError),
    /// The metadata are invalid.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// The file cannot be planned or written.
    #[error(transparent)]
    Write(#[from] GgufWriteError),
    /// Threads could not be started.
    #[error(transparent)]
    Threads(#[from] PoolError),
    /// The progress callback stopped the work.
    #[error("{file}: stopped before the file was complete")]
    Stopped {
        /// Name of the output file.
        file: String,
    },
}
