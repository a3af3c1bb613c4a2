//! Embeddings: vectors pooled from the final hidden states of a text, for any model.

use super::models::{ModelId, config, progress, tokenizer};
use super::requests::start;
use super::sessions::{SessionId, append, close_session, history, model_of, open_session, phase, truncate};
use crate::error::Error;
use crate::options::{EmbedOptions, GenerateOptions, Prompt, SessionOptions};
use bevy_ecs::prelude::*;
use std::collections::VecDeque;
use weft_components::{EmbeddingKept, EmbeddingWanted, FinishReason, Phase, Pooling, SentenceConfig};
use weft_systems::sample::vectors;

/// The embedding of a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding {
    /// `[1, width]` with the model's width, or `[tokens, width]` without pooling ([`Pooling::None`]).
    pub vectors: Vec<Vec<f32>>,
    /// Number of tokens that the embedding was computed from.
    pub tokens: usize,
    /// Number of tokens cut from the text's end because the text is longer than [`SentenceConfig::max_tokens`].
    ///
    /// [`SentenceConfig::max_tokens`]: weft_components::SentenceConfig::max_tokens
    pub left_out: usize,
}

/// Returns a model's default pooling: the one in its file, else the last token for a decoder and the mean for an
/// encoder.
///
/// # Errors
/// The model has been unloaded, or its files name unsupported modules ([`Error::EmbeddingModules`]).
pub fn pooling(world: &World, model: ModelId) -> Result<Pooling, Error> {
    let config = config(world, model)?;
    match &config.sentence.unsupported {
        Some(reason) => Err(Error::EmbeddingModules { reason: reason.clone() }),
        None => Ok(config.default_pooling()),
    }
}

/// Prepares a text as the model's file says: adds the model's prompt before it, changes it to lower case, and cuts it
/// to [`SentenceConfig::max_tokens`]. Also returns the number of tokens cut. Prompts of tokens are returned unchanged.
///
/// # Errors
/// The model has been unloaded or has no vocabulary, or the text cannot be tokenized.
pub fn embedding_prompt(world: &World, model: ModelId, prompt: &Prompt) -> Result<(Prompt, usize), Error> {
    let SentenceConfig { max_tokens, prompt: before, lower_case, .. } = &config(world, model)?.sentence;
    let Prompt::Text { text, special } = prompt else { return Ok((prompt.clone(), 0)) };
    let special = *special;
    let mut text = format!("{before}{text}");
    if *lower_case {
        text = text.chars().flat_map(char::to_lowercase).collect();
    }
    let Some(most) = *max_tokens else { return Ok((Prompt::Text { text, special }, 0)) };
    let tokenizer = tokenizer(world, model)?;
    let mut tokens = tokenizer.encode(&text, special, true)?;
    let left_out = tokens.len().saturating_sub(most);
    if left_out > 0 {
        // The tokens that the tokenizer appends to a text are kept after the cut text.
        let plain = tokenizer.encode(&text, special, false)?;
        let marks = tokens.len().saturating_sub(plain.len());
        let before = (0..=marks).find(|at| tokens.get(*at..).is_some_and(|rest| rest.starts_with(&plain)));
        let behind = before.map_or(0, |before| marks - before).min(most);
        let end = tokens.len() - behind;
        tokens.drain(end - left_out.min(end)..end);
    }
    Ok((Prompt::Tokens(tokens), left_out))
}

/// Requests the embedding of the session's context. The context is recomputed from its beginning. When the session has
/// finished, [`take_embedding`] returns the embedding.
///
/// # Errors
/// The session is closed, busy or empty; or, if `options` name no pooling, as [`pooling`].
pub fn ask_embedding(world: &mut World, session: SessionId, options: &EmbedOptions) -> Result<(), Error> {
    let pooling = match options.pooling {
        Some(pooling) => pooling,
        None => pooling(world, model_of(world, session)?)?,
    };
    let prefill_chunk = options.prefill_chunk;
    let request = GenerateOptions { max_tokens: Some(0), prefill_chunk, ..GenerateOptions::default() };
    start(world, session, &request)?;
    truncate(world, session, 0);
    let tokens = history(world, session)?.len();
    let wanted = EmbeddingWanted { tokens, pooling, normalize: options.normalize };
    world.entity_mut(session.0).insert((wanted, EmbeddingKept::default()));
    Ok(())
}

/// Takes the embedding requested by [`ask_embedding`]. Returns `None` while it is being computed.
///
/// # Errors
/// The session is closed or has no such request, the request ended before the whole text had been computed, the model's
/// load failed, or the embedding contains NaN or infinity.
pub fn take_embedding(world: &mut World, session: SessionId) -> Result<Option<Embedding>, Error> {
    let Phase::Finished(reason) = phase(world, session)? else {
        return match world.get::<EmbeddingWanted>(session.0) {
            Some(_) => Ok(None),
            None => Err(Error::NothingAsked),
        };
    };
    let mut entity = world.get_entity_mut(session.0).map_err(|_| Error::NoSession)?;
    let (Some(wanted), Some(kept)) = (entity.take::<EmbeddingWanted>(), entity.take::<EmbeddingKept>())
    else {
        return Err(Error::NothingAsked);
    };
    if reason == FinishReason::ModelFailed {
        progress(world, model_of(world, session)?)?;
        return Err(Error::NoModel);
    }
    let (positions, tokens) = (kept.positions, wanted.tokens);
    if positions < tokens {
        return Err(Error::EmbeddingEndedEarly { reason, positions, tokens });
    }
    let vectors = vectors(&wanted, kept);
    if vectors.iter().flatten().any(|x| !x.is_finite()) {
        return Err(Error::InvalidEmbedding);
    }
    Ok(Some(Embedding { vectors, tokens, left_out: 0 }))
}

/// Maximum number of texts computed at the same time: enough to fill waves with short texts.
const TOGETHER: usize = 64;

/// Computes the embeddings of many texts, for a loop that ticks the world. [`embed`](super::embed) is such a loop.
pub struct EmbeddingBatch {
    model: ModelId,
    texts: std::vec::IntoIter<Prompt>,
    options: EmbedOptions,
    /// Texts that are being computed, in order: the session of each and the number of tokens cut, or the text's error.
    asked: VecDeque<Result<(SessionId, usize), Error>>,
    embeddings: Vec<Result<Embedding, Error>>,
}

impl EmbeddingBatch {
    /// Creates a batch of texts. [`EmbeddingBatch::poll`] starts the computation.
    pub fn new(model: ModelId, texts: Vec<Prompt>, options: EmbedOptions) -> Self {
        let embeddings = Vec::with_capacity(texts.len());
        Self { model, texts: texts.into_iter(), options, asked: VecDeque::new(), embeddings }
    }

    /// Takes finished embeddings and requests the next ones. Call it after every tick until it returns the embeddings
    /// of all texts, in the order of the texts. It opens one session per text and closes it. An empty or too long text
    /// gets its own error.
    ///
    /// # Errors
    /// The model has been unloaded, or its load failed.
    pub fn poll(&mut self, world: &mut World) -> Option<Result<Vec<Result<Embedding, Error>>, Error>> {
        loop {
            while self.asked.len() < TOGETHER
                && let Some(text) = self.texts.next()
            {
                self.asked.push_back(ask_for(world, self.model, &text, &self.options));
            }
            let embedding = match self.asked.front() {
                None => return Some(Ok(core::mem::take(&mut self.embeddings))),
                Some(Ok((session, left_out))) => {
                    let embedding = take_embedding(world, *session).transpose()?;
                    let embedding = embedding.map(|found| Embedding { left_out: *left_out, ..found });
                    close_session(world, *session);
                    embedding
                }
                Some(Err(error)) => Err(error.clone()),
            };
            // All following texts would fail the same way.
            if let Err(error) = progress(world, self.model) {
                self.close(world);
                return Some(Err(error));
            }
            self.asked.pop_front();
            self.embeddings.push(embedding);
        }
    }

    /// Closes the sessions of texts that are being computed, to abandon the batch.
    pub fn close(&mut self, world: &mut World) {
        for (session, _) in self.asked.drain(..).flatten() {
            close_session(world, session);
        }
    }
}

/// Opens a session for a text and requests its embedding. Also returns the number of tokens cut from the text.
fn ask_for(
    world: &mut World,
    model: ModelId,
    text: &Prompt,
    options: &EmbedOptions,
) -> Result<(SessionId, usize), Error> {
    let (text, left_out) = embedding_prompt(world, model, text)?;
    let session = open_session(world, model, &SessionOptions::default())?;
    let asked = append(world, session, text).and_then(|()| ask_embedding(world, session, options));
    if asked.is_err() {
        close_session(world, session);
    }
    asked.map(|()| (session, left_out))
}
