//! The engine on its own thread, controlled by commands from other threads.
//!
//! An [`EngineHandle`] sends closures to the thread, which runs them between ticks. Their results come back as a future
//! ([`Reply`]) or a stream ([`Answer`]), on which a thread can also block. Without work the thread sleeps on a signal
//! that a command raises. While work waits for a shard or an in-flight GPU step, the thread ticks at least every
//! 100 ms.

mod answer;
mod reply;
mod thread;

pub use answer::Answer;
pub use reply::Reply;

use crate::answer::subscribe;
use crate::engine::Engine;
use crate::error::Error;
use crate::options::{
    EmbedOptions, EngineOptions, GenerateOptions, LoadOptions, ModelSource, Prompt, SessionOptions,
};
use crate::prepare::PreparedModel;
use crate::world::request_layers;
use crate::world::{AdapterId, AdapterSource, ChatOptions, Embedding, EmbeddingBatch, ModelId, SessionId};
use core::future::Future;
use reply::{Stop, pair};
use serde::Serialize;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use thread::Command;
use weft_components::LoadProgress;
use weft_platform::Signal;

/// An engine that runs on its own thread. Clones share the engine, and each may be used on any thread.
///
/// Commands run between ticks, in the order in which they were sent. A tick starts no further layer after 20 ms; while
/// a GPU step is in flight, a command may wait up to 100 ms more.
///
/// When the last handle and the last [`Answer`] are dropped, the engine runs the commands already sent, drops its
/// models and ends its thread. The drop blocks until then, except on that thread.
#[derive(Clone)]
pub struct EngineHandle(Arc<Shared>);

struct Shared {
    /// `None` only in `drop`.
    commands: Option<Sender<Command>>,
    signal: Arc<Signal>,
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Without a sender the thread runs the remaining commands and ends.
        self.commands = None;
        self.signal.notify();
        // A command may drop the last handle on the engine's own thread, which cannot join itself.
        if let Some(thread) = self.thread.take().filter(|thread| !is_current(thread)) {
            // A panic of the thread has already been reported.
            let _ = thread.join();
        }
    }
}

fn is_current(thread: &JoinHandle<()>) -> bool {
    thread.thread().id() == std::thread::current().id()
}

impl Engine {
    /// Moves the engine to its own thread.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn spawn(mut self) -> Result<EngineHandle, Error> {
        let (signal, stop) = (self.signal(), Stop::default());
        let (commands, received) = channel();
        let (waits_for, stopped) = (Arc::clone(&signal), Arc::clone(&stop));
        let thread = std::thread::Builder::new()
            .name("weft-engine".into())
            .spawn(move || {
                let mut unfinished = Vec::new();
                let reason = thread::run(&mut self, &received, &mut unfinished, &waits_for);
                // Set before the engine and its commands are dropped, because that ends answers and replies.
                *stopped.lock().unwrap_or_else(PoisonError::into_inner) = reason;
            })
            .map_err(|error| Error::NoThread { reason: error.to_string() })?;
        Ok(EngineHandle(Arc::new(Shared { commands: Some(commands), signal, stop, thread: Some(thread) })))
    }
}

impl EngineHandle {
    /// Creates an engine and starts its thread.
    ///
    /// # Errors
    /// As [`Engine::new`] and [`Engine::spawn`].
    pub fn new(options: &EngineOptions) -> Result<Self, Error> {
        Engine::new(options)?.spawn()
    }

    /// Runs `command` on the engine's thread between two ticks. The reply is a future on which a thread can also block.
    /// The command runs even if its reply is dropped.
    pub fn submit<R: Send + 'static>(
        &self,
        command: impl FnOnce(&mut Engine) -> R + Send + 'static,
    ) -> Reply<R> {
        let (sender, reply) = pair(Arc::clone(&self.0.stop));
        let mut parts = Some((command, sender));
        self.send(Box::new(move |engine| {
            if let Some((command, sender)) = parts.take() {
                sender.send(thread::run_command(|| command(engine)));
            }
            true
        }));
        reply
    }

    /// Runs `condition` on the engine's thread, once at first and then after every tick, until it returns a value.
    /// Dropping the reply stops it. An idle engine does not tick, so `condition` must depend only on the engine.
    pub fn when<R: Send + 'static>(
        &self,
        mut condition: impl FnMut(&mut Engine) -> Option<R> + Send + 'static,
    ) -> Reply<R> {
        let (sender, reply) = pair(Arc::clone(&self.0.stop));
        let mut sender = Some(sender);
        self.send(Box::new(move |engine| {
            if sender.as_ref().is_none_or(reply::ReplySender::is_abandoned) {
                return true;
            }
            let Some(value) = thread::run_command(|| condition(engine)).transpose() else { return false };
            if let Some(sender) = sender.take() {
                sender.send(value);
            }
            true
        }));
        reply
    }

    /// Runs `command` on the engine's thread and blocks until it returns.
    ///
    /// # Errors
    /// The command panicked, the engine's thread has ended, or this is called on that thread.
    pub fn call<R: Send + 'static>(
        &self,
        command: impl FnOnce(&mut Engine) -> R + Send + 'static,
    ) -> Result<R, Error> {
        self.block_on(self.submit(command))?
    }

    /// Blocks until the engine's thread completes `future`.
    fn block_on<F: Future>(&self, future: F) -> Result<F::Output, Error> {
        if self.0.thread.as_ref().is_some_and(is_current) {
            return Err(Error::OwnThread);
        }
        Ok(pollster::block_on(future))
    }

    fn send(&self, command: Command) {
        // If the thread has ended, the command is dropped, which closes its reply.
        if let Some(commands) = &self.0.commands {
            let _ = commands.send(command);
            self.0.signal.notify();
        }
    }

    /// Starts to load a model. Reads its header and vocabulary on the calling thread, so that the engine keeps ticking.
    ///
    /// # Errors
    /// As [`Engine::load`] and [`EngineHandle::call`].
    pub fn load(&self, source: impl Into<ModelSource>, options: &LoadOptions) -> Result<ModelId, Error> {
        let model = PreparedModel::read(source, options)?;
        self.call(move |engine| engine.load_prepared(model))?
    }

    /// Requests the evicted layers of a model and blocks until all its weights are loaded.
    ///
    /// # Errors
    /// As [`Engine::wait_loaded`] and [`EngineHandle::call`].
    pub fn wait_loaded(&self, model: ModelId) -> Result<(), Error> {
        let mut requested = false;
        let loaded = self.when(move |engine| {
            if !core::mem::replace(&mut requested, true)
                && let Err(error) = request_layers(engine.world_mut(), model)
            {
                return Some(Err(error));
            }
            match engine.progress(model) {
                Ok(progress) => progress.is_complete().then_some(Ok(())),
                Err(error) => Some(Err(error)),
            }
        });
        self.block_on(loaded)??
    }

    /// Returns how much of a model has been loaded.
    ///
    /// # Errors
    /// As [`Engine::progress`] and [`EngineHandle::call`].
    pub fn progress(&self, model: ModelId) -> Result<LoadProgress, Error> {
        self.call(move |engine| engine.progress(model))?
    }

    /// Drops a model with its sessions. See [`Engine::unload`].
    ///
    /// # Errors
    /// As [`EngineHandle::call`].
    pub fn unload(&self, model: ModelId) -> Result<(), Error> {
        self.call(move |engine| engine.unload(model))
    }

    /// Loads a LoRA adapter for a model. Opens its files on the calling thread and reads them on the engine's thread,
    /// which does not tick meanwhile.
    ///
    /// # Errors
    /// As [`Engine::load_adapter`] and [`EngineHandle::call`].
    pub fn load_adapter(&self, model: ModelId, source: impl Into<AdapterSource>) -> Result<AdapterId, Error> {
        let files = source.into().open()?;
        self.call(move |engine| engine.load_adapter(model, files))?
    }

    /// Opens a session on a model, which may still be loading.
    ///
    /// # Errors
    /// As [`Engine::open_session`] and [`EngineHandle::call`].
    pub fn open_session(&self, model: ModelId, options: &SessionOptions) -> Result<SessionId, Error> {
        let options = options.clone();
        self.call(move |engine| engine.open_session(model, &options))?
    }

    /// Closes a session. Its [`Answer`], if its request is active, ends with [`Error::NoSession`].
    ///
    /// # Errors
    /// As [`EngineHandle::call`].
    pub fn close(&self, session: SessionId) -> Result<(), Error> {
        self.call(move |engine| engine.close(session))
    }

    /// Sets the adapter of a session. See [`Engine::set_adapter`].
    ///
    /// # Errors
    /// As [`Engine::set_adapter`] and [`EngineHandle::call`].
    pub fn set_adapter(
        &self,
        session: SessionId,
        adapter: Option<AdapterId>,
        scale: f32,
    ) -> Result<(), Error> {
        self.call(move |engine| engine.set_adapter(session, adapter, scale))?
    }

    /// Appends a prompt to the session's context.
    ///
    /// # Errors
    /// As [`Engine::append`] and [`EngineHandle::call`].
    pub fn append(&self, session: SessionId, prompt: Prompt) -> Result<(), Error> {
        self.call(move |engine| engine.append(session, prompt))?
    }

    /// Replaces the session's context with messages, rendered with the model's chat template. See
    /// [`Engine::set_messages`].
    ///
    /// # Errors
    /// As [`Engine::set_messages`] and [`EngineHandle::call`]; also if the messages cannot be serialized to JSON.
    pub fn set_messages<M: Serialize + ?Sized>(&self, session: SessionId, messages: &M) -> Result<(), Error> {
        self.set_chat(session, messages, &ChatOptions::default())
    }

    /// As [`EngineHandle::set_messages`], with tools and other variables of the template.
    ///
    /// # Errors
    /// As [`EngineHandle::set_messages`].
    pub fn set_chat<M: Serialize + ?Sized>(
        &self,
        session: SessionId,
        messages: &M,
        options: &ChatOptions,
    ) -> Result<(), Error> {
        let messages = serde_json::to_value(messages)
            .map_err(|error| weft_text::TemplateError::Input { reason: error.to_string() })?;
        let options = options.clone();
        self.call(move |engine| engine.set_chat(session, &messages, &options))?
    }

    /// Starts to generate from the session's context. Returns the answer: an iterator and a stream of text.
    ///
    /// # Errors
    /// As [`Engine::generate`] and [`EngineHandle::call`].
    pub fn generate(&self, session: SessionId, options: &GenerateOptions) -> Result<Answer, Error> {
        let options = options.clone();
        let pieces = self.call(move |engine| {
            engine.generate(session, &options)?;
            subscribe(engine.world_mut(), session)
        })??;
        Ok(Answer::new(self.clone(), session, pieces))
    }

    /// Ends the session's request and keeps its context. Its [`Answer`] ends with `Cancelled`.
    ///
    /// # Errors
    /// As [`Engine::cancel`] and [`EngineHandle::call`].
    pub fn cancel(&self, session: SessionId) -> Result<(), Error> {
        self.call(move |engine| engine.cancel(session))?
    }

    /// Computes the embeddings of texts and blocks until they are done, while other sessions continue. See
    /// [`Engine::embed`].
    ///
    /// # Errors
    /// As [`Engine::embed`] and [`EngineHandle::call`].
    pub fn embed(
        &self,
        model: ModelId,
        texts: &[Prompt],
        options: &EmbedOptions,
    ) -> Result<Vec<Embedding>, Error> {
        let mut batch = EmbeddingBatch::new(model, texts.to_vec(), *options);
        let embeddings = self.block_on(self.when(move |engine| batch.poll(engine.world_mut())))???;
        embeddings.into_iter().collect()
    }
}
