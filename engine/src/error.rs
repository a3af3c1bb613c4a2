//! Errors of the public API.

use crate::snapshot::SnapshotError;
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
    /// The chat template failed or rejected the messages.
    #[error("{0}")]
    Template(Arc<TemplateError>),
    /// Sampler settings are not valid.
    #[error("{0}")]
    Sample(Arc<SampleError>),
    /// The adapter could not be loaded.
    #[error("{0}")]
    Adapter(Arc<AdapterError>),
    /// A snapshot cannot be restored.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// Prefixes cannot be saved or loaded.
    #[cfg(not(target_family = "wasm"))]
    #[error("{0}")]
    PrefixFolder(Arc<crate::prefix_files::PrefixFolderError>),
    /// The draft model has another vocabulary, or is the model itself.
    #[error(
        "a draft model needs the vocabulary of the model that it drafts for, {vocabulary} tokens; this one has {draft}, or is \
         that model itself"
    )]
    DraftModel {
        /// Tokens of the model's vocabulary.
        vocabulary: usize,
        /// Tokens of the draft model's vocabulary.
        draft: usize,
    },
    /// The adapter has been removed.
    #[error("the adapter has been removed; load it again")]
    NoAdapter,
    /// The adapter was loaded for another model than the session's.
    #[error("the adapter was loaded for another model than the session's; load it for the session's model")]
    ForeignAdapter,
    /// The scale is NaN or infinite.
    #[error("the adapter's scale is {scale}, not a finite number")]
    AdapterScale {
        /// The scale.
        scale: f32,
    },
    /// The machine does not have the instruction set.
    #[error("instruction set `{name}` is not available on this machine; available: {available}")]
    UnknownIsa {
        /// The requested name.
        name: String,
        /// Names of the instruction sets that the machine has, separated by commas.
        available: String,
    },
    /// Threads could not be started.
    #[error("could not start {threads} threads: {reason}; ask for fewer")]
    Threads {
        /// Requested threads.
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
    /// The model has no usable chat template.
    #[error("the model's chat template cannot be used; choose a built-in one, or give a raw prompt")]
    NoTemplate,
    /// A token id is outside the vocabulary.
    #[error("token {token} does not exist; the vocabulary has {vocabulary} tokens, ids start at 0")]
    UnknownToken {
        /// The id.
        token: u32,
        /// Number of tokens in the vocabulary.
        vocabulary: usize,
    },
    /// The session's context is smaller than its prompt.
    #[error(
        "{tokens} tokens do not fit into the session's context of {limit}; shorten the prompt or open a session with a larger context"
    )]
    ContextOverflow {
        /// Tokens that the context would need to hold.
        tokens: usize,
        /// Tokens that it can hold.
        limit: usize,
    },
    /// The session's context is empty.
    #[error("the session holds no token; give it a prompt first")]
    EmptyPrompt,
    /// A position holds no token, or the positions do not ascend.
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
    /// The model is an encoder, which cannot generate.
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
    /// The model's files name embedding modules that are not supported.
    #[error("{reason}, which this engine does not support; name a pooling to use instead")]
    EmbeddingModules {
        /// The file, and what in it is not supported.
        reason: String,
    },
    /// The embedding contains NaN or infinity.
    #[error("the embedding contains NaN or infinity; the model's file is damaged, fetch it again")]
    InvalidEmbedding,
    /// The request of an embedding ended before all of its text had been computed.
    #[error(
        "the text ended early ({reason:?}) after {positions} of {tokens} tokens; free the KV cache and ask again"
    )]
    EmbeddingEndedEarly {
        /// Why the request ended.
        reason: FinishReason,
        /// Number of tokens that were computed.
        positions: usize,
        /// Number of tokens in the text.
        tokens: usize,
    },
    /// The session has no request.
    #[error("the session has no request; call generate first")]
    NothingAsked,
    /// The session's answer already has a reader.
    #[error("the session's answer already has a reader; drop that reader first")]
    Subscribed,
    /// A command of an engine's handle panicked. The engine continues.
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
    #[error("a command waits for its own engine's thread; use the `Engine` passed to the command")]
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
