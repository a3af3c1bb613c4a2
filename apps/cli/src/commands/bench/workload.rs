//! The requests that `weft bench` times: a loaded model, the token ids of its prompts, and the requests on its
//! sessions.

use crate::args::BenchArgs;
use crate::commands::logits::ended_early;
use crate::error::CliError;
use crate::host::{Host, HostOptions};
use std::time::Instant;
use weft::{FinishReason, GenerateOptions, Prompt, SessionId, SessionOptions};

/// Timed steps of a batch of sessions.
const BATCH_STEPS: usize = 32;
/// Tokens of KV cache per session of a batch, as in `peer_bench.py`.
const BATCH_ROOM: usize = 128;
/// Minimum tokens of KV cache, as in `peer_bench.py`.
const LEAST_ROOM: usize = 2048;

/// An engine whose model is loaded completely, and the token ids of the prompts.
pub(super) struct Bench {
    pub(super) host: Host,
    pub(super) ids: Vec<u32>,
    depth: usize,
    /// True if the model was placed on GPUs when it was opened.
    placed: bool,
}

impl Bench {
    /// Loads the model with enough KV cache for all runs that `args` asks for.
    pub(super) fn open(args: &BenchArgs, isa: Option<&str>) -> Result<Self, CliError> {
        let most_sessions = args.sessions().iter().copied().max().unwrap_or(1).max(1) as usize;
        let longest = args.prompt.max(args.generate);
        let alone = args.prompt.saturating_add(args.generate).saturating_add(8).saturating_add(args.depth);
        let room = if args.profile { BATCH_ROOM.max(args.generate.saturating_add(8)) } else { BATCH_ROOM };
        let batch = most_sessions.saturating_mul(room.saturating_add(args.depth));
        let kv_tokens = args.context.unwrap_or_else(|| alone.max(batch).max(LEAST_ROOM));
        let options = HostOptions { kv_tokens: Some(kv_tokens), ..HostOptions::default() };
        let mut host = Host::open(&args.model, isa, options)?;
        let placed = !host.engine.gpu_shards(host.model).is_empty();
        host.wait_loaded()?;
        let vocabulary = host.engine.config(host.model)?.vocabulary;
        let ids = token_ids(args.depth.saturating_add(longest).saturating_add(1), vocabulary);
        let bench = Self { host, ids, depth: args.depth, placed };
        bench.check_place()?;
        Ok(bench)
    }

    /// Fails if the model has left its GPUs. Other commands continue on the CPU then; a measurement must not.
    pub(super) fn check_place(&self) -> Result<(), CliError> {
        if self.placed && self.host.engine.gpu_shards(self.host.model).is_empty() {
            return Err(CliError::LeftGpu { model: self.host.file_name.clone() });
        }
        Ok(())
    }

    /// Opens a session whose context already holds `depth` computed tokens.
    fn session(&mut self) -> Result<SessionId, CliError> {
        // Nothing may be found in the cache: everything is computed, each time.
        let session =
            self.host.open_session(SessionOptions { private: true, ..SessionOptions::default() })?;
        if self.depth > 0 {
            let before = self.slice(0, self.depth);
            self.tell(session, before)?;
            self.start(session, 0)?;
            self.finish(session, 0)?;
        }
        Ok(session)
    }

    /// Opens a session with a prompt of this many tokens that are not computed yet.
    pub(super) fn prompted(&mut self, length: usize) -> Result<SessionId, CliError> {
        let session = self.session()?;
        let prompt = self.slice(self.depth, self.depth + length);
        self.tell(session, prompt)?;
        Ok(session)
    }

    fn tell(&mut self, session: SessionId, tokens: Vec<u32>) -> Result<(), CliError> {
        self.host.engine.append(session, Prompt::Tokens(tokens)).map_err(|error| self.host.explain(error))
    }

    /// Ticks until no GPU has a step in flight.
    pub(super) fn settle(&mut self) -> Result<(), CliError> {
        while self.host.engine.gpu_shards(self.host.model).iter().any(|part| part.under_way() > 0) {
            self.host.step()?;
        }
        Ok(())
    }

    fn slice(&self, start: usize, end: usize) -> Vec<u32> {
        self.ids.get(start..end).unwrap_or_default().to_vec()
    }

    /// Starts a request of this many tokens. End-of-generation tokens do not end it.
    pub(super) fn start(&mut self, session: SessionId, tokens: usize) -> Result<(), CliError> {
        let options =
            GenerateOptions { max_tokens: Some(tokens), ignore_end: true, ..GenerateOptions::default() };
        Ok(self.host.engine.generate(session, &options)?)
    }

    /// Ticks until the request has produced all of its tokens.
    fn finish(&mut self, session: SessionId, tokens: usize) -> Result<(), CliError> {
        let reason = self.host.finish(session)?;
        let said = self.said(session)?;
        if reason == FinishReason::MaxTokens && said == tokens {
            Ok(())
        } else {
            Err(ended_early(reason, said))
        }
    }

    fn said(&self, session: SessionId) -> Result<usize, CliError> {
        Ok(self.host.engine.output(session)?.tokens.len())
    }

    /// Times a prompt; returns its tokens per second.
    pub(super) fn time_prompt(&mut self, length: usize) -> Result<f64, CliError> {
        let session = self.prompted(length)?;
        let start = Instant::now();
        self.start(session, 1)?;
        self.finish(session, 1)?;
        let seconds = start.elapsed().as_secs_f64();
        self.host.engine.close(session);
        Ok(length as f64 / seconds)
    }

    /// Times tokens decoded one by one; returns tokens per second.
    pub(super) fn time_generate(&mut self, tokens: usize) -> Result<f64, CliError> {
        let session = self.begin_generate(tokens)?;
        let start = Instant::now();
        self.finish(session, tokens)?;
        let seconds = start.elapsed().as_secs_f64();
        self.host.engine.close(session);
        Ok((tokens - 1) as f64 / seconds)
    }

    /// Starts a request of `tokens` tokens and ticks until its first token is there.
    pub(super) fn begin_generate(&mut self, tokens: usize) -> Result<SessionId, CliError> {
        let session = self.prompted(1)?;
        self.start(session, tokens)?;
        while self.said(session)? == 0 && self.host.engine.phase(session)?.is_active() {
            self.host.step()?;
        }
        Ok(session)
    }

    /// Starts requests of `tokens` tokens each in `count` sessions that decode together, and ticks until there are as many
    /// tokens as sessions.
    pub(super) fn begin_batch(&mut self, count: usize, tokens: usize) -> Result<Vec<SessionId>, CliError> {
        let mut sessions = Vec::with_capacity(count);
        for nth in 0..count {
            let session = self.session()?;
            let first = self.ids.get(nth % self.ids.len().max(1)).copied().unwrap_or_default();
            self.tell(session, vec![first])?;
            sessions.push(session);
        }
        for session in &sessions {
            self.start(*session, tokens)?;
        }
        while self.total(&sessions)? < count && self.any_active(&sessions)? {
            self.host.step()?;
        }
        Ok(sessions)
    }

    /// Ticks until the requests of `tokens` tokens have ended.
    pub(super) fn finish_batch(&mut self, sessions: &[SessionId], tokens: usize) -> Result<(), CliError> {
        sessions.iter().try_for_each(|session| self.finish(*session, tokens))
    }

    pub(super) fn close(&mut self, sessions: Vec<SessionId>) {
        sessions.into_iter().for_each(|session| self.host.engine.close(session));
    }

    /// Times `count` sessions that decode together; returns tokens per second over all of them.
    pub(super) fn time_batch(&mut self, count: usize) -> Result<f64, CliError> {
        let sessions = self.begin_batch(count, BATCH_STEPS + 1)?;
        let (before, start) = (self.total(&sessions)?, Instant::now());
        self.finish_batch(&sessions, BATCH_STEPS + 1)?;
        let seconds = start.elapsed().as_secs_f64();
        let timed = self.total(&sessions)? - before;
        self.close(sessions);
        Ok(timed as f64 / seconds)
    }

    fn total(&self, sessions: &[SessionId]) -> Result<usize, CliError> {
        sessions.iter().map(|session| self.said(*session)).sum()
    }

    fn any_active(&self, sessions: &[SessionId]) -> Result<bool, CliError> {
        let phases = sessions.iter().map(|session| self.host.engine.phase(*session));
        Ok(phases.collect::<Result<Vec<_>, _>>()?.into_iter().any(weft::Phase::is_active))
    }
}

/// The number of threads that compute; 0 means one per core.
pub(super) fn threads(asked: usize) -> usize {
    if asked > 0 { asked } else { std::thread::available_parallelism().map_or(1, usize::from) }
}

/// The token ids of `peer_bench.py`.
pub(super) fn token_ids(count: usize, vocabulary: usize) -> Vec<u32> {
    const MOST: u64 = 20_000;
    let modulus = (vocabulary as u64).clamp(1, MOST);
    // The value is below the modulus, which is below 2^32.
    (0..count as u64).map(|i| ((i.wrapping_mul(7919).wrapping_add(13)) % modulus) as u32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_the_peers_script() {
        assert_eq!(token_ids(4, 49_152), [13, 7932, 15_851, 3770]);
        assert_eq!(token_ids(3, 320), [13, 252, 171]);
        assert_eq!(token_ids(2, 0), [0, 0]);
    }
}
