//! What the public API can refuse.

use std::sync::Arc;
use weft_components::FinishReason;
use weft_formats::ModelError;
use weft_formats::adapter::AdapterError;
use weft_systems::place::LoadError;
use weft_systems::sample::SampleError;
use weft_text::{TemplateError, TokenizeError};

/// An error of the engine.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The model file cannot be used.
    #[error("{0}")]
    Model(Arc<ModelError>),
    /// The model could not be placed, or its weights not be loaded.
    #[error("{0}")]
    Load(Arc<LoadError>),
    /// Text could not be turned into tokens, or tokens into text.
    #[error("{0}")]
    Tokenize(Arc<TokenizeError>),
    /// The chat template refused the messages.
    #[error("{0}")]
    Template(Arc<TemplateError>),
    /// Sampler settings make no sense.
    #[error("{0}")]
    Sample(Arc<SampleError>),
    /// The adapter could not be loaded.
    #[error("{0}")]
    Adapter(Arc<AdapterError>),
    /// The adapter is gone.
    #[error("the adapter has been removed; load it again")]
    NoAdapter,
    /// The adapter belongs to another model than the session.
    #[error("the adapter was loaded beside another model than the session's; load it beside that one")]
    ForeignAdapter,
    /// A scale that is no number.
    #[error("the adapter's scale is {scale}, not a number")]
    AdapterScale {
        /// The scale.
        scale: f32,
    },
    /// No such instruction set here.
    #[error("instruction set `{name}` is not available on this machine; available: {available}")]
    UnknownIsa {
        /// What was asked for.
        name: String,
        /// What there is.
        available: String,
    },
    /// Threads could not be started.
    #[error("could not start {threads} threads: {reason}; ask for fewer")]
    Threads {
        /// How many.
        threads: usize,
        /// The system's word.
        reason: String,
    },
    /// A GPU could not be opened.
    #[error(transparent)]
    Gpu(#[from] weft_gpu::GpuError),
    /// The model is gone.
    #[error("the model has been unloaded; load it again")]
    NoModel,
    /// The session is gone.
    #[error("the session has been closed; open another")]
    NoSession,
    /// The model has no vocabulary.
    #[error("the model's file has no vocabulary; give tokens instead of text")]
    NoTokenizer,
    /// The model has no chat template that can be used.
    #[error("the model's chat template cannot be used; choose a built-in one, or give a raw prompt")]
    NoTemplate,
    /// A token id outside the vocabulary.
    #[error("token {token} does not exist; the vocabulary has {vocabulary} tokens, ids start at 0")]
    UnknownToken {
        /// The id.
        token: u32,
        /// Tokens there are.
        vocabulary: usize,
    },
    /// More tokens than the context takes.
    #[error(
        "{tokens} tokens do not fit into the session's context of {limit}; shorten the prompt or open a session with a larger context"
    )]
    ContextOverflow {
        /// Tokens there would be.
        tokens: usize,
        /// What the session takes.
        limit: usize,
    },
    /// Nothing to continue from.
    #[error("the session holds no token; give it a prompt first")]
    EmptyPrompt,
    /// A position without a token.
    #[error(
        "position {position} holds no token; the session holds {tokens}, positions start at 0 and ascend"
    )]
    BadPosition {
        /// The position.
        position: usize,
        /// Tokens the session holds.
        tokens: usize,
    },
    /// The session is in the middle of something.
    #[error("the session is still answering; cancel it or wait until it has finished")]
    Busy,
    /// The model has no head.
    #[error(
        "`{architecture}` is an encoder: it gives embeddings and generates nothing; ask it for an embedding"
    )]
    Encoder {
        /// `general.architecture`.
        architecture: String,
    },
    /// The model was saved without its head.
    #[error(
        "the model has no head (`lm_head.weight`), and `tie_word_embeddings` is false: it gives embeddings and generates nothing; ask it for an embedding, or fetch all files of the model again"
    )]
    NoHead,
    /// Embeddings that the engine does not make as the model's makers mean them.
    #[error(
        "{reason}, which this engine does not compute; name a pooling to have the hidden states pooled by it"
    )]
    EmbeddingModules {
        /// The file, and what of it.
        reason: String,
    },
    /// The model's numbers are no numbers.
    #[error("the embedding holds numbers that are none; the model's file is damaged, fetch it again")]
    InvalidEmbedding,
    /// A text did not pass the model.
    #[error(
        "the text ended early ({reason:?}) after {positions} of {tokens} tokens; free the KV cache and ask again"
    )]
    EmbeddingEndedEarly {
        /// Why.
        reason: FinishReason,
        /// Tokens that passed.
        positions: usize,
        /// Tokens of the text.
        tokens: usize,
    },
    /// Nothing was asked of the session.
    #[error("nothing was asked of the session; call generate first")]
    NothingAsked,
}

macro_rules! from_shared {
    ($($variant:ident $source:ty),*) => {$(
        impl From<$source> for Error {
            fn from(error: $source) -> Self {
                Self::$variant(Arc::new(error))
            }
        }
    )*};
}
impl From<weft_systems::sample::RequestError> for Error {
    fn from(error: weft_systems::sample::RequestError) -> Self {
        use weft_systems::sample::RequestError;
        match error {
            RequestError::Sample(error) => error.into(),
            RequestError::Stop(error) => error.into(),
        }
    }
}

from_shared!(Model ModelError, Load LoadError, Adapter AdapterError, Tokenize TokenizeError, Template TemplateError, Sample SampleError);
