//! The vocabulary of a file, without its weights.

use crate::error::Error;
use crate::options::ModelSource;
use weft_systems::load::gguf::Gguf;
use weft_systems::load::{LoadError, text_parts};
use weft_systems::tokenize::{ChatTemplate, CivilTime, TemplateVars, Tokenizer};

/// A tokenizer and a chat template, read from a file that need not hold a single tensor.
pub struct VocabularyFile {
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// The chat template, where the file has one.
    pub template: Option<ChatTemplate>,
}

impl VocabularyFile {
    /// Reads a file's vocabulary.
    ///
    /// # Errors
    /// A file that is missing or damaged, or has no vocabulary or one of a kind that is not supported.
    pub fn read(source: impl Into<ModelSource>) -> Result<Self, Error> {
        let gguf = read_gguf(source)?;
        let (tokenizer, template) = text_parts(&gguf)?;
        Ok(Self { tokenizer: tokenizer.ok_or(Error::NoTokenizer)?, template })
    }

    /// What the template is told besides messages: special tokens and the time.
    pub fn template_vars(&self, generation_prompt: bool) -> TemplateVars {
        TemplateVars { now: wall_clock(), ..TemplateVars::for_tokenizer(&self.tokenizer, generation_prompt) }
    }
}

/// The time of UTC for templates that write the date; a browser has to tell it another way.
pub fn wall_clock() -> Option<CivilTime> {
    #[cfg(target_family = "wasm")]
    return None;
    #[cfg(not(target_family = "wasm"))]
    {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?;
        Some(CivilTime::from_unix(i64::try_from(since.as_secs()).ok()?, 0))
    }
}

/// Opens a source's parts and reads their headers.
pub(crate) fn read_gguf(source: impl Into<ModelSource>) -> Result<Gguf, Error> {
    let sources = source.into().open()?;
    Ok(Gguf::read(&sources).map_err(LoadError::from)?)
}

impl ModelSource {
    /// The parts of the file, opened.
    ///
    /// # Errors
    /// A file that is missing or cannot be read, or a split one whose parts are not all there.
    pub fn open(self) -> Result<Vec<std::sync::Arc<dyn weft_platform::storage::Source>>, Error> {
        match self {
            #[cfg(not(target_family = "wasm"))]
            Self::Path(path) => Ok(weft_systems::load::open_model(&path)?),
            Self::Parts(parts) => Ok(parts),
        }
    }
}
