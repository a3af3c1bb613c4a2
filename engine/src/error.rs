//! Errors of the public API.

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
    /// The model could not be placed, or its weights could not be loaded.
    #[error("{0}")]
    Load(Arc<LoadError>),
    /// Text could not be turned into tokens, or tokens into text.
    #[error("{0}")]
    Tokenize(Arc<TokenizeError>),
    /// The chat template refused the messages.
    #[error("{0}")]
    Template(Arc<TemplateError>),
    /// Sampler settings are not valid.
    #[error("{0}")]
    Sample(Arc<SampleError>),
    /// The adapter could not be loaded.
    #[error("{0}")]
    Adapter(Arc<AdapterError>),
    /// The adapter has been removed.
    #[error("the adapter has been removed; load it again")]
    NoAdapter,
    /// The adapter belongs to another model than the session.
    #[error("the adapter was loaded beside another model than the session's; load it beside that one")]
    ForeignAdapter,
    /// The scale is NaN or infinite.
    #[error("the adapter's scale is {scale}, not a number")]
    AdapterScale {
        /// The scale.
        scale: f32,
    },
    /// The machine does not have the instruction set.
    #[error("instruction set `{name}` is not available on this machine; available: {available}")]
    UnknownIsa {
        /// The name that was asked for.
        name: String,
        /// Names of those it has.
        available: String,
    },
    /// Threads could not be started.
    #[error("could not start {threads} threads: {reason}; ask for fewer")]
    Threads {
        /// Threads asked for.
        threads: usize,
        /// The operating system's message.
        reason: String,
    },
    /// A GPU could not be opened.
    #[error(transparent)]
    Gpu(#[from] weft_gpu::GpuError),
    /// The model has been unloaded.
    #[error("the model has been unloaded; load it again")]
    NoModel,
    /// The session has been closed.
    #[error("the session has been closed; open another")]
    NoSession,
    /// The model has no vocabulary.
    #[error("the model's file has no vocabulary; give tokens instead of text")]
    NoTokenizer,
    /// The model has no chat template that can be used.
    #[error("the model's chat template cannot be used; choose a built-in one, or give a raw prompt")]
    NoTemplate,
    /// A token id is outside the vocabulary.
    #[error("token {token} does not exist; the vocabulary has {vocabulary} tokens, ids start at 0")]
    UnknownToken {
        /// The id.
        token: u32,
        /// Tokens of the vocabulary.
        vocabulary: usize,
    },
    /// The context holds fewer tokens.
    #[error(
        "{tokens} tokens do not fit into the session's context of {limit}; shorten the prompt or open a session with a larger context"
    )]
    ContextOverflow {
        /// Tokens that the context would hold.
        tokens: usize,
        /// Most tokens that it can hold.
        limit: usize,
    },
    /// The session has no context to continue from.
    #[error("the session holds no token; give it a prompt first")]
    EmptyPrompt,
    /// A position holds no token, or does not ascend.
    #[error(
        "position {position} holds no token; the session holds {tokens}, positions start at 0 and ascend"
    )]
    BadPosition {
        /// The position.
        position: usize,
        /// Tokens the session holds.
        tokens: usize,
    },
    /// A request of the session is in progress.
    #[error("the session is still answering; cancel it or wait until it has finished")]
    Busy,
    /// The model is an encoder, which has no head.
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
    /// The model's file asks for embedding modules that are not supported.
    #[error(
        "{reason}, which this engine does not compute; name a pooling to have the hidden states pooled by it"
    )]
    EmbeddingModules {
        /// The file, and what in it is not supported.
        reason: String,
    },
    /// The embedding contains NaN or infinity.
    #[error("the embedding holds numbers that are none; the model's file is damaged, fetch it again")]
    InvalidEmbedding,
    /// A text did not pass through the model to its end.
    #[error(
        "the text ended early ({reason:?}) after {positions} of {tokens} tokens; free the KV cache and ask again"
    )]
    EmbeddingEndedEarly {
        /// Why its request ended.
        reason: FinishReason,
        /// Tokens that passed.
        positions: usize,
        /// Tokens of the text.
        tokens: usize,
    },
    /// The session has no request.
    #[error("nothing was asked of the session; call generate first")]
    NothingAsked,
    /// The session's answer has a reader already.
    #[error("another reader has the session's answer; drop that one first")]
    Subscribed,
    /// A command of an engine's handle panicked. The engine goes on.
    #[error("a command of the engine's handle panicked: {message}")]
    Panicked {
        /// The panic's message.
        message: String,
    },
    /// The engine's thread has ended.
    #[error("the engine's thread has stopped: {reason}; start another engine")]
    EngineStopped {
        /// Why it stopped.
        reason: String,
    },
    /// A call that waits for the engine's thread was made on that thread.
    #[error("a command waits for its own engine's thread; use the `Engine` that the command was given")]
    OwnThread,
    /// A thread could not be started.
    #[error("could not start a thread: {reason}")]
    NoThread {
        /// The operating system's message.
        reason: String,
    },
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
