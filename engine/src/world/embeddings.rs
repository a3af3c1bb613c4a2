//! Embeddings: vectors made of a text's final hidden states, of any model.

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
    /// One vector of the model's width, or one per token without pooling ([`Pooling::None`]).
    pub vectors: Vec<Vec<f32>>,
    /// Tokens of the text that the embedding is made of.
    pub tokens: usize,
    /// Tokens at the text's end that were left out because the model reads no more ([`SentenceConfig::max_tokens`]).
    ///
    /// [`SentenceConfig::max_tokens`]: weft_components::SentenceConfig::max_tokens
    pub left_out: usize,
}

/// Returns how hidden states become an embedding if the caller does not say: as the model's file says, else the last
/// token's for a decoder and the mean for an encoder.
///
/// # Errors
/// The model has been unloaded, or its file asks for modules that are not supported ([`Error::EmbeddingModules`]).
pub fn pooling(world: &World, model: ModelId) -> Result<Pooling, Error> {
    let config = config(world, model)?;
    match &config.sentence.unsupported {
        Some(reason) => Err(Error::EmbeddingModules { reason: reason.clone() }),
        None => Ok(config.default_pooling()),
    }
}

/// Prepares a text as the model's file says: adds the model's prompt before it, changes it to lower case, and cuts it to the
/// model's number of tokens. Returns also how many tokens were left out. Tokens are returned unchanged.
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
        // Tokens that the vocabulary adds behind a text stay behind the cut text.
        let plain = tokenizer.encode(&text, special, false)?;
        let marks = tokens.len().saturating_sub(plain.len());
        let before = (0..=marks).find(|at| tokens.get(*at..).is_some_and(|rest| rest.starts_with(&plain)));
        let behind = before.map_or(0, |before| marks - before).min(most);
        let end = tokens.len() - behind;
        tokens.drain(end - left_out.min(end)..end);
    }
    Ok((Prompt::Tokens(tokens), left_out))
}

/// Asks for the embedding of the session's context, and passes the context through the model from the beginning. When the
/// session has finished, [`take_embedding`] returns it.
///
/// # Errors
/// The session is closed, busy or empty, or the default pooling is not known, as [`pooling`] says.
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

/// Takes the embedding that [`ask_embedding`] asked for, once the session has finished. Returns `None` while it is being
/// computed.
///
/// # Errors
/// The session is closed or was not asked, its request ended before the whole text had passed, or the embedding contains
/// NaN or infinity.
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

/// Texts of which the embeddings are computed together: enough to fill waves with short ones.
const TOGETHER: usize = 64;

/// Texts on their way to embeddings, for a loop that ticks the world itself. [`embed`](super::embed) is such a loop.
pub struct EmbeddingBatch {
    model: ModelId,
    texts: std::vec::IntoIter<Prompt>,
    options: EmbedOptions,
    /// Texts that are passing through the model, in order: the session of each, and how many tokens were left out.
    asked: VecDeque<Result<(SessionId, usize), Error>>,
    embeddings: Vec<Result<Embedding, Error>>,
}

impl EmbeddingBatch {
    /// A batch of texts. Nothing is computed before [`EmbeddingBatch::poll`].
    pub fn new(model: ModelId, texts: Vec<Prompt>, options: EmbedOptions) -> Self {
        let embeddings = Vec::with_capacity(texts.len());
        Self { model, texts: texts.into_iter(), options, asked: VecDeque::new(), embeddings }
    }

    /// Takes what has been computed and asks for more. Call it after every tick, until it returns the embeddings of all texts,
    /// in their order. Each text has a session of its own, which is closed here. A text that is empty or too long has an error
    /// of its own.
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
            // The texts that follow would fail the same way.
            if let Err(error) = progress(world, self.model) {
                self.close(world);
                return Some(Err(error));
            }
            self.asked.pop_front();
            self.embeddings.push(embedding);
        }
    }

    /// Closes the sessions of texts that are passing through the model, for a batch that is not wanted any more.
    pub fn close(&mut self, world: &mut World) {
        for (session, _) in self.asked.drain(..).flatten() {
            close_session(world, session);
        }
    }
}

/// Opens a session for a text and asks for its embedding. Returns also how many tokens of the text are left out.
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
