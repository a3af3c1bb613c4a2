//! A model file, read and checked up to its weights.

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

/// Everything of a model but its weights: what a world needs to spawn it.
pub struct ModelFile {
    /// Parts of the file.
    pub sources: Vec<Arc<dyn Source>>,
    /// The model's numbers.
    pub config: ModelConfig,
    /// The vocabulary, where the file has one.
    pub tokenizer: Option<Tokenizer>,
    /// The chat template, where the file has one that can be used.
    pub template: Option<ChatTemplate>,
    /// What the file recommends for sampling.
    pub sampling: SamplingDefaults,
    /// Weights in the order in which a wave needs them.
    pub shards: Vec<ShardSpec>,
}

impl ModelFile {
    /// Reads the header and checks that the engine can run the model.
    ///
    /// # Errors
    /// A damaged file, an architecture or a tensor format that is not supported, or metadata that contradicts the
    /// tensors.
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

/// The tokenizer and the chat template of a file, which may hold nothing else; those of `vocabulary`, where it is there.
///
/// # Errors
/// A vocabulary that is damaged or of a kind that is not supported. A template that does not parse is left out with
/// a warning, since raw prompts do without it; where there is none, a built-in one serves.
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

/// The tokenizer and the chat template of a vocabulary.
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
