//! The engine's methods for sessions, requests and embeddings.

use super::Engine;
use crate::error::Error;
use crate::options::{EmbedOptions, GenerateOptions, Prompt, SessionOptions};
use crate::world::{self, ChatOptions, Embedding, ModelId, SessionId};
use serde::Serialize;
#[cfg(not(target_family = "wasm"))]
use weft_components::FinishReason;
use weft_components::{KeepLogits, LogitsKept, Output, Phase, Pooling};
use weft_text::Rendered;

impl Engine {
    /// Opens a session on a model, which may still be loading. See [`world::open_session`].
    ///
    /// # Errors
    /// As [`world::open_session`].
    pub fn open_session(&mut self, model: ModelId, options: &SessionOptions) -> Result<SessionId, Error> {
        world::open_session(&mut self.world, model, options)
    }

    /// Closes a session and frees its KV pages. See [`world::close_session`].
    pub fn close(&mut self, session: SessionId) {
        world::close_session(&mut self.world, session);
    }

    /// Opens a session with the same tokens as another, whose cached context it shares. See [`world::fork`].
    ///
    /// # Errors
    /// As [`world::fork`].
    pub fn fork(&mut self, session: SessionId) -> Result<SessionId, Error> {
        world::fork(&mut self.world, session)
    }

    /// Turns a session into bytes. See [`world::snapshot`].
    ///
    /// # Errors
    /// As [`world::snapshot`].
    pub fn snapshot(&self, session: SessionId, pages: bool) -> Result<Vec<u8>, Error> {
        world::snapshot(&self.world, session, pages)
    }

    /// Opens a session that goes on from a snapshot. See [`world::restore`].
    ///
    /// # Errors
    /// As [`world::restore`].
    pub fn restore(&mut self, model: ModelId, bytes: &[u8]) -> Result<SessionId, Error> {
        world::restore(&mut self.world, model, bytes)
    }

    /// Pauses a session's request. See [`world::pause`].
    ///
    /// # Errors
    /// As [`world::pause`].
    pub fn pause(&mut self, session: SessionId) -> Result<(), Error> {
        world::pause(&mut self.world, session)
    }

    /// Lets a paused session go on. See [`world::resume`].
    ///
    /// # Errors
    /// As [`world::resume`].
    pub fn resume(&mut self, session: SessionId) -> Result<(), Error> {
        world::resume(&mut self.world, session)
    }

    /// Returns the model of a session. See [`world::model_of`].
    ///
    /// # Errors
    /// As [`world::model_of`].
    pub fn model_of(&self, session: SessionId) -> Result<ModelId, Error> {
        world::model_of(&self.world, session)
    }

    /// Returns the tokens of a session: prompts and answers, in order. See [`world::history`].
    ///
    /// # Errors
    /// As [`world::history`].
    pub fn history(&self, session: SessionId) -> Result<&[u32], Error> {
        world::history(&self.world, session)
    }

    /// Returns the session's phase. See [`world::phase`].
    ///
    /// # Errors
    /// As [`world::phase`].
    pub fn phase(&self, session: SessionId) -> Result<Phase, Error> {
        world::phase(&self.world, session)
    }

    /// Returns the output of the latest request so far. See [`world::output`].
    ///
    /// # Errors
    /// As [`world::output`].
    pub fn output(&self, session: SessionId) -> Result<&Output, Error> {
        world::output(&self.world, session)
    }

    /// Appends a prompt to the session's context. See [`world::append`].
    ///
    /// # Errors
    /// As [`world::append`].
    pub fn append(&mut self, session: SessionId, prompt: Prompt) -> Result<(), Error> {
        world::append(&mut self.world, session, prompt)
    }

    /// Replaces the session's context with `tokens`. See [`world::set_context`].
    ///
    /// # Errors
    /// As [`world::set_context`].
    pub fn set_context(&mut self, session: SessionId, tokens: Vec<u32>) -> Result<(), Error> {
        world::set_context(&mut self.world, session, tokens)
    }

    /// Replaces the session's context with messages, rendered with the chat template. See [`world::set_messages`].
    ///
    /// # Errors
    /// As [`world::set_messages`].
    pub fn set_messages<M: Serialize + ?Sized>(
        &mut self,
        session: SessionId,
        messages: &M,
    ) -> Result<(), Error> {
        world::set_messages(&mut self.world, session, messages)
    }

    /// As [`Engine::set_messages`], with tools and other variables of the template. See [`world::set_chat`].
    ///
    /// # Errors
    /// As [`world::set_chat`].
    pub fn set_chat<M: Serialize + ?Sized>(
        &mut self,
        session: SessionId,
        messages: &M,
        options: &ChatOptions,
    ) -> Result<(), Error> {
        world::set_chat(&mut self.world, session, messages, options)
    }

    /// Returns the tokens of messages, rendered with the chat template. See [`world::chat_tokens`].
    ///
    /// # Errors
    /// As [`world::chat_tokens`].
    pub fn chat_tokens<M: Serialize + ?Sized>(
        &self,
        model: ModelId,
        messages: &M,
        options: &ChatOptions,
    ) -> Result<Vec<u32>, Error> {
        world::chat_tokens(&self.world, model, messages, options)
    }

    /// Renders messages with the model's chat template. See [`world::render`].
    ///
    /// # Errors
    /// As [`world::render`].
    pub fn render<M: Serialize + ?Sized>(
        &self,
        model: ModelId,
        messages: &M,
        options: &ChatOptions,
    ) -> Result<Rendered, Error> {
        world::render(&self.world, model, messages, options)
    }

    /// Starts to generate from the session's context. See [`world::generate`].
    ///
    /// # Errors
    /// As [`world::generate`].
    pub fn generate(&mut self, session: SessionId, options: &GenerateOptions) -> Result<(), Error> {
        world::generate(&mut self.world, session, options)
    }

    /// Ends the session's request and keeps its context. See [`world::cancel`].
    ///
    /// # Errors
    /// As [`world::cancel`].
    pub fn cancel(&mut self, session: SessionId) -> Result<(), Error> {
        world::cancel(&mut self.world, session)
    }

    /// Returns the text generated since the last call. See [`world::read`].
    ///
    /// # Errors
    /// As [`world::read`].
    pub fn read(&mut self, session: SessionId) -> Result<String, Error> {
        world::read(&mut self.world, session)
    }

    /// Runs ticks until there is more text; `None` when the request has ended. See [`world::next_piece`].
    ///
    /// # Errors
    /// As [`world::next_piece`].
    #[cfg(not(target_family = "wasm"))]
    pub fn next_piece(&mut self, session: SessionId) -> Result<Option<String>, Error> {
        world::next_piece(&mut self.world, session)
    }

    /// Runs ticks until the request has ended, and returns the reason. See [`world::wait`].
    ///
    /// # Errors
    /// As [`world::wait`].
    #[cfg(not(target_family = "wasm"))]
    pub fn wait(&mut self, session: SessionId) -> Result<FinishReason, Error> {
        world::wait(&mut self.world, session)
    }

    /// Requests logits or losses at positions of the session's context. See [`world::ask_logits`].
    ///
    /// # Errors
    /// As [`world::ask_logits`].
    pub fn ask_logits(
        &mut self,
        session: SessionId,
        positions: Vec<usize>,
        keep: KeepLogits,
        prefill_chunk: usize,
    ) -> Result<(), Error> {
        world::ask_logits(&mut self.world, session, positions, keep, prefill_chunk)
    }

    /// Takes the logits requested by [`Engine::ask_logits`]. See [`world::take_logits`].
    ///
    /// # Errors
    /// As [`world::take_logits`].
    pub fn take_logits(&mut self, session: SessionId) -> Result<LogitsKept, Error> {
        world::take_logits(&mut self.world, session)
    }

    /// Returns the model's default pooling. See [`world::pooling`].
    ///
    /// # Errors
    /// As [`world::pooling`].
    pub fn pooling(&self, model: ModelId) -> Result<Pooling, Error> {
        world::pooling(&self.world, model)
    }

    /// Prepares a text for an embedding as the model's file says. See [`world::embedding_prompt`].
    ///
    /// # Errors
    /// As [`world::embedding_prompt`].
    pub fn embedding_prompt(&self, model: ModelId, prompt: &Prompt) -> Result<(Prompt, usize), Error> {
        world::embedding_prompt(&self.world, model, prompt)
    }

    /// Requests the embedding of the session's context. See [`world::ask_embedding`].
    ///
    /// # Errors
    /// As [`world::ask_embedding`].
    pub fn ask_embedding(&mut self, session: SessionId, options: &EmbedOptions) -> Result<(), Error> {
        world::ask_embedding(&mut self.world, session, options)
    }

    /// Takes the embedding requested by [`Engine::ask_embedding`]. See [`world::take_embedding`].
    ///
    /// # Errors
    /// As [`world::take_embedding`].
    pub fn take_embedding(&mut self, session: SessionId) -> Result<Option<Embedding>, Error> {
        world::take_embedding(&mut self.world, session)
    }

    /// Runs ticks until the embeddings of texts are computed, and returns them. See [`world::embed`].
    ///
    /// # Errors
    /// As [`world::embed`].
    #[cfg(not(target_family = "wasm"))]
    pub fn embed(
        &mut self,
        model: ModelId,
        texts: &[Prompt],
        options: &EmbedOptions,
    ) -> Result<Vec<Embedding>, Error> {
        world::embed(&mut self.world, model, texts, options)
    }

    /// As [`Engine::embed`], with one result per text. See [`world::embed_each`].
    ///
    /// # Errors
    /// As [`world::embed_each`].
    #[cfg(not(target_family = "wasm"))]
    pub fn embed_each(
        &mut self,
        model: ModelId,
        texts: &[Prompt],
        options: &EmbedOptions,
    ) -> Result<Vec<Result<Embedding, Error>>, Error> {
        world::embed_each(&mut self.world, model, texts, options)
    }
}
