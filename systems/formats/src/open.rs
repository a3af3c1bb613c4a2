//! Opening a model by its path, whatever holds it.

use super::hugging_face::HuggingFaceFolder;
#[cfg(not(target_family = "wasm"))]
use super::{error::ModelError, gguf::open_files, hugging_face::folder_of};
#[cfg(not(target_family = "wasm"))]
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use weft_platform::storage::Source;
use weft_text::Vocabulary;

/// A model whose files are open.
#[derive(Clone)]
pub struct OpenModel {
    /// Parts of a GGUF, in order.
    pub sources: Vec<Arc<dyn Source>>,
    /// The vocabulary, where another file than the GGUF has it, with rules that a GGUF has no keys for.
    pub vocabulary: Option<Arc<Vocabulary>>,
    /// The files that the model is read from, where they have paths.
    pub files: Vec<PathBuf>,
}

impl OpenModel {
    /// Opens the model at `path`: a GGUF file, of which `path` may be any part, or a Hugging Face folder, which `path` names
    /// itself or by its weights or their index, and which is presented as a GGUF.
    ///
    /// # Errors
    /// A file that is missing or cannot be read, or a folder whose files are damaged or of a model that is not supported.
    #[cfg(not(target_family = "wasm"))]
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        match folder_of(path) {
            Some(folder) => Ok(HuggingFaceFolder::open(&folder)?.into()),
            None => Ok(open_files(path)?.into()),
        }
    }
}

impl From<Vec<Arc<dyn Source>>> for OpenModel {
    fn from(sources: Vec<Arc<dyn Source>>) -> Self {
        let files = sources.iter().map(|source| source.name().into()).collect();
        Self { sources, vocabulary: None, files }
    }
}

impl From<HuggingFaceFolder> for OpenModel {
    fn from(folder: HuggingFaceFolder) -> Self {
        Self {
            sources: vec![folder.source()],
            vocabulary: folder.vocabulary().cloned(),
            files: folder.files().to_vec(),
        }
    }
}
