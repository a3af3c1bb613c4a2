//! Embeddings: what a text's hidden states say of it, of any model.

use crate::engine::{Engine, ModelId};
use crate::error::Error;
#[cfg(not(target_family = "wasm"))]
use crate::options::SessionOptions;
use crate::options::{EmbedOptions, GenerateOptions, Prompt};
use crate::session::SessionId;
use weft_components::{EmbeddingKept, EmbeddingWanted, FinishReason, Phase, Pooling, SentenceConfig};
use weft_systems::sample::vectors;

/// The embedding of a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding {
    /// One vector of the model's width, or one a token where there is no pooling ([`Pooling::None`]).
    pub vectors: Vec<Vec<f32>>,
    /// Tokens of the text that the embedding is made of.
    pub tokens: usize,
    /// Tokens at the text's end that are beyond what the model's makers have counted ([`SentenceConfig::max_tokens`]).
    ///
    /// [`SentenceConfig::max_tokens`]: weft_components::SentenceConfig::max_tokens
    pub left_out: usize,
}

/// Texts that are under way together in [`Engine::embed`]: enough to fill waves with short ones.
#[cfg(not(target_family = "wasm"))]
const TOGETHER: usize = 64;

impl Engine {
    /// How hidden states become an embedding where nobody says it: as the model's file does, else the last token's of a decoder
    /// and the mean of an encoder.
    ///
    /// # Errors
    /// The model is gone, or its makers mean something that the engine does not compute ([`Error::EmbeddingModules`]).
    pub fn pooling(&self, model: ModelId) -> Result<Pooling, Error> {
        let config = self.config(model)?;
        match &config.sentence.unsupported {
            Some(reason) => Err(Error::EmbeddingModules { reason: reason.clone() }),
            None => Ok(config.default_pooling()),
        }
    }

    /// A text as the model's makers embed it: behind their prompt, in small letters, cut to the tokens that they count, as far as its
    /// file says so; and how many tokens are left out. Tokens are taken as they are.
    ///
    /// # Errors
    /// The model is gone or has no vocabulary, or the text cannot be tokenized.
    pub fn embedding_prompt(&self, model: ModelId, prompt: &Prompt) -> Result<(Prompt, usize), Error> {
        let SentenceConfig { max_tokens, prompt: before, lower_case, .. } = &self.config(model)?.sentence;
        let Prompt::Text { text, special } = prompt else { return Ok((prompt.clone(), 0)) };
        let special = *special;
        let mut text = format!("{before}{text}");
        if *lower_case {
            text = text.chars().flat_map(char::to_lowercase).collect();
        }
        let Some(most) = *max_tokens else { return Ok((Prompt::Text { text, special }, 0)) };
        let tokenizer = self.tokenizer(model)?;
        let mut tokens = tokenizer.encode(&text, special, true)?;
        let left_out = tokens.len().saturating_sub(most);
        if left_out > 0 {
            // What the vocabulary puts behind a text stays behind it.
            let plain = tokenizer.encode(&text, special, false)?;
            let marks = tokens.len().saturating_sub(plain.len());
            let before =
                (0..=marks).find(|at| tokens.get(*at..).is_some_and(|rest| rest.starts_with(&plain)));
            let behind = before.map_or(0, |before| marks - before).min(most);
            let end = tokens.len() - behind;
            tokens.drain(end - left_out.min(end)..end);
        }
        Ok((Prompt::Tokens(tokens), left_out))
    }

    /// Asks for the embedding of what the session was told, and starts it on its way from the beginning. When the session has
    /// finished, [`Engine::take_embedding`] has it.
    ///
    /// # Errors
    /// The session is gone, busy or empty.
    pub fn ask_embedding(&mut self, session: SessionId, options: &EmbedOptions) -> Result<(), Error> {
        let pooling = match options.pooling {
            Some(pooling) => pooling,
            None => self.pooling(self.model_of(session)?)?,
        };
        let prefill_chunk = options.prefill_chunk;
        self.start(
            session,
            &GenerateOptions { max_tokens: Some(0), prefill_chunk, ..GenerateOptions::default() },
        )?;
        self.truncate(session, 0);
        let tokens = self.history(session)?.len();
        let wanted = EmbeddingWanted { tokens, pooling, normalize: options.normalize };
        self.world.entity_mut(session.0).insert((wanted, EmbeddingKept::default()));
        Ok(())
    }

    /// What [`Engine::ask_embedding`] asked for, once the session has finished, and forgets the question; `None` while it is
    /// under way.
    ///
    /// # Errors
    /// The session is gone or was never asked, its request ended before all of the text had passed, or the model's numbers are
    /// none.
    pub fn take_embedding(&mut self, session: SessionId) -> Result<Option<Embedding>, Error> {
        let Phase::Finished(reason) = self.phase(session)? else {
            return match self.world.get::<EmbeddingWanted>(session.0) {
                Some(_) => Ok(None),
                None => Err(Error::NothingAsked),
            };
        };
        let mut entity = self.world.get_entity_mut(session.0).map_err(|_| Error::NoSession)?;
        let (Some(wanted), Some(kept)) = (entity.take::<EmbeddingWanted>(), entity.take::<EmbeddingKept>())
        else {
            return Err(Error::NothingAsked);
        };
        if reason == FinishReason::ModelFailed {
            self.progress(self.model_of(session)?)?;
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

    /// The embeddings of texts, in their order, in sessions of their own that travel together, each as
    /// [`Engine::embedding_prompt`] has it. Waits for them.
    ///
    /// # Errors
    /// As [`Engine::embedding_prompt`], [`Engine::open_session`], [`Engine::append`], [`Engine::ask_embedding`] and [`Engine::take_embedding`].
    #[cfg(not(target_family = "wasm"))]
    pub fn embed(
        &mut self,
        model: ModelId,
        texts: &[Prompt],
        options: &EmbedOptions,
    ) -> Result<Vec<Embedding>, Error> {
        self.embed_each(model, texts, options)?.into_iter().collect()
    }

    /// As [`Engine::embed`], but a text that has no embedding, because it is empty or too long, does not keep the others from
    /// theirs: each has its own result.
    ///
    /// # Errors
    /// The model is gone, or its load failed.
    #[cfg(not(target_family = "wasm"))]
    pub fn embed_each(
        &mut self,
        model: ModelId,
        texts: &[Prompt],
        options: &EmbedOptions,
    ) -> Result<Vec<Result<Embedding, Error>>, Error> {
        let mut embeddings = Vec::with_capacity(texts.len());
        for texts in texts.chunks(TOGETHER) {
            let asked: Vec<_> = texts.iter().map(|text| self.ask_for(model, text, options)).collect();
            for session in asked {
                embeddings.push(session.and_then(|(session, left_out)| {
                    let embedding = self.wait_for(session);
                    self.close(session);
                    Ok(Embedding { left_out, ..embedding? })
                }));
            }
            self.progress(model)?;
        }
        Ok(embeddings)
    }

    /// Opens a session for a text and asks for its embedding. Gives how many tokens are left out of it as well.
    #[cfg(not(target_family = "wasm"))]
    fn ask_for(
        &mut self,
        model: ModelId,
        text: &Prompt,
        options: &EmbedOptions,
    ) -> Result<(SessionId, usize), Error> {
        let (text, left_out) = self.embedding_prompt(model, text)?;
        let session = self.open_session(model, &SessionOptions::default())?;
        let asked = self.append(session, text).and_then(|()| self.ask_embedding(session, options));
        if asked.is_err() {
            self.close(session);
        }
        asked.map(|()| (session, left_out))
    }

    #[cfg(not(target_family = "wasm"))]
    fn wait_for(&mut self, session: SessionId) -> Result<Embedding, Error> {
        loop {
            match self.take_embedding(session)? {
                Some(embedding) => return Ok(embedding),
                None => self.tick_or_rest(),
            }
        }
    }
}
