//! Opens a model by its path, from a GGUF file or a Hugging Face folder.

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
    /// The parts of a GGUF, in order.
    pub sources: Vec<Arc<dyn Source>>,
    /// The vocabulary of a folder, which may contain rules that GGUF has no keys for. If `None`, the vocabulary is read
    /// from the GGUF, if that has one.
    pub vocabulary: Option<Arc<Vocabulary>>,
    /// Paths of the files that the model is read from, if they have paths.
    pub files: Vec<PathBuf>,
}

impl OpenModel {
    /// Opens the model at `path`: a GGUF file or any part of a split one, or a Hugging Face folder. A folder may also
    /// be named by its weights or their index; it is presented as a GGUF.
    ///
    /// # Errors
    /// A file that is missing or cannot be read, or a folder that is damaged or contains an unsupported model.
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
