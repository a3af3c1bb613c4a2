//! Reads and checks everything in a model file except its weights.

use super::architecture::{architecture, model_config};
use super::error::ModelError;
use super::gguf::Gguf;
use super::manifest::{ShardSpec, manifest};
use super::open::OpenModel;
use super::sampling::sampling_defaults;
use super::vocabulary::vocabulary_of;
use std::sync::Arc;
use weft_components::{ModelConfig, SamplingDefaults};
use weft_platform::storage::Source;
use weft_text::{BuiltinTemplate, ChatTemplate, TemplateError, Tokenizer, Vocabulary};

/// A model file that has been read and checked, except for its weights. A world spawns the model from it.
pub struct ModelFile {
    /// The parts of the file.
    pub sources: Vec<Arc<dyn Source>>,
    /// The model's hyperparameters.
    pub config: ModelConfig,
    /// The tokenizer, if the file has a vocabulary.
    pub tokenizer: Option<Tokenizer>,
    /// The chat template, if there is one that compiles.
    pub template: Option<ChatTemplate>,
    /// The sampling settings that the file recommends.
    pub sampling: SamplingDefaults,
    /// The weights, in the order in which a forward pass needs them.
    pub shards: Vec<ShardSpec>,
}

impl ModelFile {
    /// Reads the header and checks that the engine supports the model.
    ///
    /// # Errors
    /// A damaged file, an unsupported architecture or tensor format, or metadata that contradict the tensors.
    pub fn read(model: impl Into<OpenModel>) -> Result<Self, ModelError> {
        let OpenModel { sources, vocabulary, .. } = model.into();
        let gguf = Gguf::read(&sources)?;
        Self::of_header(&gguf, sources, vocabulary)
    }

    /// The same for a header that has been read from `sources`.
    pub(crate) fn of_header(
        gguf: &Gguf,
        sources: Vec<Arc<dyn Source>>,
        vocabulary: Option<Arc<Vocabulary>>,
    ) -> Result<Self, ModelError> {
        let file = sources.first().map_or("", |source| source.name());
        let arch = architecture(gguf, file)?;
        let config = model_config(gguf, &arch, file)?;
        let shards = manifest(gguf, &arch, &config, file)?;
        let (tokenizer, template) = text_parts(gguf, vocabulary)?;
        if let Some(tokens) = tokenizer.as_ref().map(Tokenizer::vocab_size).filter(|n| *n > config.vocabulary)
        {
            return Err(ModelError::VocabularySize {
                file: file.to_owned(),
                tokens,
                rows: config.vocabulary,
            });
        }
        let sampling = sampling_defaults(&gguf.metadata);
        Ok(Self { config, tokenizer, template, sampling, shards, sources })
    }
}

/// Returns the tokenizer and the chat template of a file, which may have no tensors. If `vocabulary` is given, it is
/// used instead of the file's.
///
/// # Errors
/// A vocabulary that is damaged or of an unsupported kind. A template that does not parse is left out with a warning,
/// because raw prompts work without it. If the file has no template, a built-in one is used.
pub fn text_parts(
    gguf: &Gguf,
    vocabulary: Option<Arc<Vocabulary>>,
) -> Result<(Option<Tokenizer>, Option<ChatTemplate>), ModelError> {
    let vocabulary = match vocabulary {
        Some(vocabulary) => Arc::unwrap_or_clone(vocabulary),
        None => match vocabulary_of(gguf)? {
            Some(vocabulary) => vocabulary,
            None => return Ok((None, None)),
        },
    };
    vocabulary_parts(vocabulary).map(|(tokenizer, template)| (Some(tokenizer), template))
}

/// Returns the tokenizer and the chat template of a vocabulary.
///
/// # Errors
/// As [`text_parts`].
pub fn vocabulary_parts(mut vocabulary: Vocabulary) -> Result<(Tokenizer, Option<ChatTemplate>), ModelError> {
    let shipped = vocabulary.chat_template.take();
    let named = std::mem::take(&mut vocabulary.chat_templates);
    let tokenizer = Tokenizer::new(vocabulary)?;
    let template = match shipped {
        Some(source) => ChatTemplate::new(&source),
        None => {
            let builtin = BuiltinTemplate::of(&tokenizer);
            tracing::info!("the file has no chat template: {:?} is taken", builtin.name);
            builtin.compile()
        }
    };
    let usable = |template: Result<ChatTemplate, TemplateError>| {
        template.inspect_err(|error| tracing::warn!(%error, "chat template left out")).ok()
    };
    let named = named
        .into_iter()
        .filter_map(|(name, source)| Some((name, usable(ChatTemplate::new(&source))?)))
        .collect();
    Ok((tokenizer, usable(template).map(|template| template.with_named(named))))
}
