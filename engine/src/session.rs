//! Sessions: opening, telling, generating, reading.

use crate::engine::{Engine, ModelId};
use crate::error::Error;
use crate::options::{GenerateOptions, Prompt, SessionOptions};
use bevy_ecs::prelude::*;
use weft_components::{
    BlockTable, ContextCursor, EmbeddingWanted, FinishReason, KeepLogits, KvPool, KvRun, LeafRun, LogitsKept,
    LogitsWanted, Output, Phase, Request, SessionOf, TokenHistory, WaveLimits,
};
use weft_platform::PAGE;
use weft_systems::admit::{AdmitOptions, truncate_session};
use weft_systems::sample::{SessionSampler, end_request};
use weft_systems::text::ModelTemplate;

/// A session of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId(pub Entity);

/// How much of a session's output has been read by [`Engine::read`].
#[derive(Component, Clone, Copy, Debug, Default)]
pub(crate) struct ReadCursor {
    text: usize,
}

/// Tokens of an answer that memory is put by for; longer ones grow their buffers as they come.
const ROOM: usize = 4096;

impl Engine {
    /// Opens a session on a model, which may still be loading.
    ///
    /// # Errors
    /// The model is gone.
    pub fn open_session(&mut self, model: ModelId, options: &SessionOptions) -> Result<SessionId, Error> {
        let config = self.config(model)?;
        let context = config.context;
        // A text of an encoder travels whole.
        let wave = if config.causal { usize::MAX } else { self.wave_rows(model) };
        let arena = self.world.get::<KvPool>(model.0).map_or(0, |pool| pool.capacity().saturating_mul(PAGE));
        let limit = options.context.unwrap_or(context).min(context).min(arena).min(wave);
        let run = self.world.spawn(KvRun).id();
        let session = self.world.spawn((
            SessionOf(model.0),
            TokenHistory::default(),
            ContextCursor { limit, ..ContextCursor::default() },
            Phase::default(),
            BlockTable::default(),
            LeafRun(run),
            Request::default(),
            Output::default(),
            ReadCursor::default(),
        ));
        Ok(SessionId(session.id()))
    }

    /// Most rows of a wave of a model.
    fn wave_rows(&self, model: ModelId) -> usize {
        let limits = self.world.get::<WaveLimits>(model.0).map_or(1, |limits| limits.rows);
        self.world.get_resource::<AdmitOptions>().copied().unwrap_or_default().max_rows.min(limits)
    }

    /// Closes a session, whatever it is doing, and returns its pages.
    pub fn close(&mut self, session: SessionId) {
        if self.world.get::<SessionOf>(session.0).is_some() {
            self.world.despawn(session.0);
            self.note_closed();
        }
    }

    /// The model of a session.
    ///
    /// # Errors
    /// The session is gone.
    pub fn model_of(&self, session: SessionId) -> Result<ModelId, Error> {
        self.world.get::<SessionOf>(session.0).map(|of| ModelId(of.0)).ok_or(Error::NoSession)
    }

    /// Everything the session was told and said.
    ///
    /// # Errors
    /// The session is gone.
    pub fn history(&self, session: SessionId) -> Result<&[u32], Error> {
        self.world.get::<TokenHistory>(session.0).map(|history| &history.0[..]).ok_or(Error::NoSession)
    }

    /// What the session is doing.
    ///
    /// # Errors
    /// The session is gone.
    pub fn phase(&self, session: SessionId) -> Result<Phase, Error> {
        self.world.get::<Phase>(session.0).copied().ok_or(Error::NoSession)
    }

    /// What the current request has produced.
    ///
    /// # Errors
    /// The session is gone.
    pub fn output(&self, session: SessionId) -> Result<&Output, Error> {
        self.world.get::<Output>(session.0).ok_or(Error::NoSession)
    }

    fn ensure_at_rest(&self, session: SessionId) -> Result<(), Error> {
        match self.phase(session)? {
            Phase::Idle | Phase::Finished(_) => Ok(()),
            Phase::Waiting | Phase::Prefilling | Phase::Decoding | Phase::Paused => Err(Error::Busy),
        }
    }

    /// Adds to what the session was told.
    ///
    /// # Errors
    /// The session is gone or busy, the text cannot be tokenized, a token does not exist, or the context overflows:
    /// then the session is as it was.
    pub fn append(&mut self, session: SessionId, prompt: Prompt) -> Result<(), Error> {
        self.ensure_at_rest(session)?;
        let empty = self.history(session)?.is_empty();
        let tokens = self.tokens_of(session, prompt, empty)?;
        let mut whole = self.history(session)?.to_vec();
        whole.extend_from_slice(&tokens);
        self.set_context(session, whole)
    }

    fn tokens_of(&self, session: SessionId, prompt: Prompt, bos: bool) -> Result<Vec<u32>, Error> {
        match prompt {
            Prompt::Tokens(tokens) => Ok(tokens),
            Prompt::Text { text, special } => {
                Ok(self.tokenizer(self.model_of(session)?)?.encode(&text, special, bos)?)
            }
        }
    }

    /// Makes `tokens` the whole context of the session. What agrees with the cached context is kept.
    ///
    /// # Errors
    /// As [`Engine::append`].
    pub fn set_context(&mut self, session: SessionId, tokens: Vec<u32>) -> Result<(), Error> {
        self.ensure_at_rest(session)?;
        let vocabulary = self.config(self.model_of(session)?)?.vocabulary;
        if let Some(token) = tokens.iter().copied().find(|token| *token as usize >= vocabulary) {
            return Err(Error::UnknownToken { token, vocabulary });
        }
        let limit = self.world.get::<ContextCursor>(session.0).ok_or(Error::NoSession)?.limit;
        if tokens.len() > limit {
            return Err(Error::ContextOverflow { tokens: tokens.len(), limit });
        }
        let history = self.history(session)?;
        let common = history.iter().zip(&tokens).take_while(|(old, new)| old == new).count();
        // The last token always passes through the model: its logits choose the next.
        self.truncate(session, common.min(tokens.len().saturating_sub(1)));
        if let Some(mut history) = self.world.get_mut::<TokenHistory>(session.0) {
            history.0 = tokens;
        }
        Ok(())
    }

    pub(crate) fn truncate(&mut self, session: SessionId, keep: usize) {
        // The system is ours and takes any entity: it cannot be refused.
        let _ = self.world.run_system_cached_with(truncate_session, (session.0, keep));
    }

    /// Starts to generate from what the session was told. Ticks do the work.
    ///
    /// # Errors
    /// The session is gone, busy or empty, the model is an encoder or has no head, or the sampler's settings make no sense.
    pub fn generate(&mut self, session: SessionId, options: &GenerateOptions) -> Result<(), Error> {
        let config = self.config(self.model_of(session)?)?;
        if !config.causal {
            return Err(Error::Encoder { architecture: config.architecture.clone() });
        }
        if config.headless {
            return Err(Error::NoHead);
        }
        self.start(session, options)
    }

    /// Starts a request: what the session was told on its way through the model, and then tokens.
    pub(crate) fn start(&mut self, session: SessionId, options: &GenerateOptions) -> Result<(), Error> {
        self.ensure_at_rest(session)?;
        let model = self.model_of(session)?;
        let vocabulary = self.config(model)?.vocabulary;
        let history = self.history(session)?;
        if history.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        let tokenizer = self.tokenizer(model).ok();
        let sampler = SessionSampler::new(&options.sampler, vocabulary, history, &options.stop, tokenizer)?;
        // A turn that follows an answer without new words goes on from the answer's last token.
        let keep = history.len() - 1;
        self.truncate(session, keep);
        let request = Request {
            max_tokens: options.max_tokens.unwrap_or(usize::MAX),
            stop: options.stop.clone(),
            ignore_end: options.ignore_end,
            sampler: options.sampler.clone(),
            prefill_chunk: options.prefill_chunk,
        };
        self.make_room(session, request.max_tokens);
        self.world.entity_mut(session.0).remove::<(LogitsWanted, EmbeddingWanted)>();
        let output = Output::with_capacity(request.max_tokens.min(ROOM));
        self.world.entity_mut(session.0).insert((
            request,
            sampler,
            output,
            ReadCursor::default(),
            Phase::Waiting,
        ));
        Ok(())
    }

    /// Room for what will be said, so that a tick that decodes need not ask for memory.
    fn make_room(&mut self, session: SessionId, tokens: usize) {
        if let Some(mut history) = self.world.get_mut::<TokenHistory>(session.0) {
            history.0.reserve(tokens.min(ROOM));
        }
    }

    /// Stops the session's request. Its context stays.
    ///
    /// # Errors
    /// The session is gone.
    pub fn cancel(&mut self, session: SessionId) -> Result<(), Error> {
        self.phase(session)?;
        // The system is ours and takes any entity: it cannot be refused.
        let _ = self.world.run_system_cached_with(end_request, (session.0, FinishReason::Cancelled));
        Ok(())
    }

    /// The text that has come since the last call; empty where none has.
    ///
    /// # Errors
    /// The session is gone.
    pub fn read(&mut self, session: SessionId) -> Result<String, Error> {
        let mut readers = self.readers.query_mut(&mut self.world);
        let (output, mut cursor) = readers.get_mut(session.0).map_err(|_| Error::NoSession)?;
        let piece = output.text.get(cursor.text..).unwrap_or_default().to_owned();
        cursor.text = output.text.len();
        Ok(piece)
    }

    /// Waits for more text; `None` when the request has ended.
    ///
    /// # Errors
    /// The session is gone, or its model could not be loaded.
    #[cfg(not(target_family = "wasm"))]
    pub fn next_piece(&mut self, session: SessionId) -> Result<Option<String>, Error> {
        loop {
            let piece = self.read(session)?;
            if !piece.is_empty() {
                return Ok(Some(piece));
            }
            match self.phase(session)? {
                Phase::Finished(FinishReason::ModelFailed) => {
                    self.progress(self.model_of(session)?)?;
                    return Err(Error::NoModel);
                }
                Phase::Idle | Phase::Paused | Phase::Finished(_) => return Ok(None),
                Phase::Waiting | Phase::Prefilling | Phase::Decoding => self.tick_or_rest(),
            }
        }
    }

    /// Waits until the request has ended and says why it did.
    ///
    /// # Errors
    /// The session is gone or was never asked, or its model could not be loaded.
    #[cfg(not(target_family = "wasm"))]
    pub fn wait(&mut self, session: SessionId) -> Result<FinishReason, Error> {
        loop {
            match self.phase(session)? {
                Phase::Finished(FinishReason::ModelFailed) => {
                    self.progress(self.model_of(session)?)?;
                    return Err(Error::NoModel);
                }
                Phase::Finished(reason) => return Ok(reason),
                Phase::Idle | Phase::Paused => return Err(Error::NothingAsked),
                Phase::Waiting | Phase::Prefilling | Phase::Decoding => self.tick_or_rest(),
            }
        }
    }

    /// Asks for logits, or losses, at positions of what the session was told, and starts the prompt on its way from
    /// the beginning. When the session has finished, [`Engine::take_logits`] has them.
    ///
    /// # Errors
    /// The session is gone, busy or empty, or a position holds no token or does not ascend.
    pub fn ask_logits(
        &mut self,
        session: SessionId,
        positions: Vec<usize>,
        keep: KeepLogits,
        prefill_chunk: usize,
    ) -> Result<(), Error> {
        self.ensure_at_rest(session)?;
        let tokens = self.history(session)?.len();
        // A loss needs the token that follows.
        let end = tokens - usize::from(keep == KeepLogits::NextTokenLoss && tokens > 0);
        let unordered = positions.windows(2).find(|pair| pair[0] >= pair[1]).map(|pair| pair[1]);
        let beyond = positions.last().copied().filter(|position| *position >= end);
        if let Some(position) = unordered.or(beyond) {
            return Err(Error::BadPosition { position, tokens });
        }
        self.generate(
            session,
            &GenerateOptions { max_tokens: Some(0), prefill_chunk, ..GenerateOptions::default() },
        )?;
        self.truncate(session, 0);
        self.world.entity_mut(session.0).insert((LogitsWanted { positions, keep }, LogitsKept::default()));
        Ok(())
    }

    /// What [`Engine::ask_logits`] asked for, as far as it has come; forgets the question.
    ///
    /// # Errors
    /// The session is gone.
    pub fn take_logits(&mut self, session: SessionId) -> Result<LogitsKept, Error> {
        self.phase(session)?;
        let mut entity = self.world.get_entity_mut(session.0).map_err(|_| Error::NoSession)?;
        entity.remove::<LogitsWanted>();
        Ok(entity.take::<LogitsKept>().unwrap_or_default())
    }

    /// Whether a model can be given messages.
    pub fn has_template(&self, model: ModelId) -> bool {
        self.world.get::<ModelTemplate>(model.0).is_some()
    }
}
