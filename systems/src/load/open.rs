//! Opening a model by its path, whatever holds it.

use super::error::LoadError;
use super::gguf::open_files;
use super::hugging_face::{HuggingFaceFolder, folder_of};
use std::path::Path;
use std::sync::Arc;
use weft_platform::storage::Source;

/// Opens the model at `path` and gives the parts of a GGUF: those of a GGUF file, of which `path` may be any part, or one that
/// presents a Hugging Face folder, which `path` names itself or by its weights or their index.
///
/// # Errors
/// A file that is missing or cannot be read, or a folder whose files are damaged or of a model that is not supported.
pub fn open_model(path: &Path) -> Result<Vec<Arc<dyn Source>>, LoadError> {
    match folder_of(path) {
        Some(folder) => Ok(vec![HuggingFaceFolder::open(&folder)?.source()]),
        None => Ok(open_files(path)?),
    }
}
