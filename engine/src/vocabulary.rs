//! Reads the vocabulary of a file without its weights.

use crate::error::Error;
use crate::options::ModelSource;
use weft_formats::gguf::Gguf;
#[cfg(not(target_family = "wasm"))]
use weft_formats::hugging_face::{folder_of, folder_vocabulary};
#[cfg(not(target_family = "wasm"))]
use weft_formats::vocabulary_parts;
use weft_formats::{ModelError, OpenModel, text_parts};
#[cfg(not(target_family = "wasm"))]
use weft_text::Vocabulary;
use weft_text::{ChatTemplate, CivilTime, TemplateVars, Tokenizer};

/// A tokenizer and a chat template, read from a file without its weights. The file may have no tensors, and a folder
/// may have no model.
pub struct VocabularyFile {
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// The chat template, if the file has one.
    pub template: Option<ChatTemplate>,
}

impl VocabularyFile {
    /// Reads a file's vocabulary.
    ///
    /// # Errors
    /// The file is missing or damaged, has no vocabulary, or has one of an unsupported kind.
    pub fn read(source: impl Into<ModelSource>) -> Result<Self, Error> {
        let source = source.into();
        #[cfg(not(target_family = "wasm"))]
        if let Some(vocabulary) = alone(&source)? {
            let (tokenizer, template) = vocabulary_parts(vocabulary)?;
            return Ok(Self { tokenizer, template });
        }
        let OpenModel { sources, vocabulary, .. } = source.open()?;
        let gguf = Gguf::read(&sources).map_err(ModelError::from)?;
        let (tokenizer, template) = text_parts(&gguf, vocabulary)?;
        Ok(Self { tokenizer: tokenizer.ok_or(Error::NoTokenizer)?, template })
    }

    /// Returns the template's variables other than messages: special tokens and the time.
    pub fn template_vars(&self, generation_prompt: bool) -> TemplateVars {
        TemplateVars { now: wall_clock(), ..TemplateVars::for_tokenizer(&self.tokenizer, generation_prompt) }
    }
}

/// Returns the vocabulary of a folder without a model: `tokenizer.json` and its companion files, without `config.json`
/// or without weights. `None` for other sources.
#[cfg(not(target_family = "wasm"))]
fn alone(source: &ModelSource) -> Result<Option<Vocabulary>, Error> {
    let ModelSource::Path(path) = source else { return Ok(None) };
    let Some(folder) = folder_of(path).filter(|folder| folder == path) else { return Ok(None) };
    let is_weights = |entry: std::fs::DirEntry| {
        entry.path().extension().is_some_and(|extension| extension == "safetensors")
    };
    let mut entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
    if folder.join("config.json").is_file() && entries.any(is_weights) {
        return Ok(None);
    }
    Ok(folder_vocabulary(&folder).map_err(ModelError::from)?)
}

/// Returns the UTC time, for templates that contain the date. `None` in a browser, where the standard library has no
/// clock.
pub fn wall_clock() -> Option<CivilTime> {
    #[cfg(target_family = "wasm")]
    return None;
    #[cfg(not(target_family = "wasm"))]
    {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?;
        Some(CivilTime::from_unix(i64::try_from(since.as_secs()).ok()?, 0))
    }
}

impl ModelSource {
    /// Opens the model's files: the parts of a GGUF, or the files of a folder, which are presented as a GGUF.
    ///
    /// # Errors
    /// A file, or a part of a split file, is missing or cannot be read.
    pub fn open(self) -> Result<OpenModel, Error> {
        match self {
            #[cfg(not(target_family = "wasm"))]
            Self::Path(path) => Ok(OpenModel::open(&path)?),
            Self::Parts(parts) => Ok(parts.into()),
            Self::Open(model) => Ok(model),
        }
    }
}
