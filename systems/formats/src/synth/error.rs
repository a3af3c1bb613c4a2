//! Why a model cannot be made up.

use crate::ModelError;
use crate::gguf::{GgufError, GgufWriteError};
use weft_platform::PoolError;

/// An error of making a model up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SynthError {
    /// No architecture of this name.
    #[error("architecture `{name}` is not supported; supported: {supported}")]
    UnsupportedArchitecture {
        /// The name.
        name: String,
        /// Supported names.
        supported: String,
    },
    /// No shape of this name.
    #[error("there is no preset `{name}`; there are: {known}")]
    UnknownPreset {
        /// The name.
        name: String,
        /// Names there are.
        known: String,
    },
    /// A format that weights cannot be drawn in.
    #[error("random weights cannot be made in format `{format}`; they can in: {supported}")]
    UnsupportedFormat {
        /// The format's name.
        format: String,
        /// Names of those that can.
        supported: String,
    },
    /// A number that no model has.
    #[error("`{field}` is {value}, not {wanted}; choose another")]
    BadNumber {
        /// Metadata key.
        field: String,
        /// Its value.
        value: String,
        /// What it should be.
        wanted: String,
    },
    /// The architecture's own keys and tensors contradict each other.
    #[error(transparent)]
    Load(#[from] ModelError),
    /// The metadata cannot be.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// The file cannot be planned or written.
    #[error(transparent)]
    Write(#[from] GgufWriteError),
    /// Threads could not be started.
    #[error(transparent)]
    Threads(#[from] PoolError),
    /// Whoever watched the progress asked for an end.
    #[error("{file}: stopped before the file was whole")]
    Stopped {
        /// The file.
        file: String,
    },
}
