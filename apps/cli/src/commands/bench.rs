//! `weft bench`: speed and memory, measured as `peer_bench.py` measures the peer.
//!
//! - `prompt_tok_s`: the prompt's tokens by the time from giving them to the first token chosen after them: the
//!   prompt passes in waves of the engine's rows (512 by default), the head and one greedy choice included.
//! - `generate_tok_s`: tokens decoded one by one, the first excluded; the head and the greedy choice are timed. The
//!   engine decodes what it chose rather than ids given to it, which is the same work; end-of-generation tokens do
//!   not end it.
//! - `batch_tok_s`: tokens over all of N sessions that decode together, 32 steps, the first token of each excluded.
//! - `load_s`: from opening the file to the last weight.
//! - `first_token_process_s`: from the start of a process to its first token after a prompt of 32; `peak_rss_mb`: that
//!   process's peak, with `weights_mb` and `kv_mb`, what of it are weights and tokens' keys and values. See `bench_start`.
//!
//! - `gpu`, with `--backend gpu`: see `bench_gpu`.
//!
//! Each is the median of the timed runs after one that is not; the load is timed once. Token ids are the script's.

use super::bench_gpu::{self, GpuFigures};
use super::logits::ended_early;
use super::{bench_profile, bench_start, bench_table};
use crate::args::BenchArgs;
use crate::host::{Host, HostOptions};
use crate::output;
use crate::report::CliError;
use serde::Serialize;
use serde_json::{Map, Value};
use std::time::Instant;
use weft::{FinishReason, GenerateOptions, Prompt, SessionId};

/// Timed steps of sessions that decode together.
const BATCH_STEPS: usize = 32;
/// Tokens of KV cache that a session of a batch may take, as in the peer's script.
const BATCH_ROOM: usize = 128;
/// Fewest tokens of KV cache, as in the peer's script.
const LEAST_ROOM: usize = 2048;

/// The figures, under the names of `peer_bench.py`.
#[derive(Serialize)]
pub(super) struct Figures {
    pub(super) engine: &'static str,
    pub(super) model: String,
    pub(super) threads: usize,
    pub(super) prompt_tok_s: f64,
    pub(super) generate_tok_s: f64,
    pub(super) batch_tok_s: Map<String, Value>,
    pub(super) load_s: f64,
    pub(super) first_token_process_s: f64,
    pub(super) peak_rss_mb: Option<f64>,
    pub(super) weights_mb: f64,
    pub(super) kv_mb: f64,
    /// With `--backend gpu`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) gpu: Option<GpuFigures>,
}

/// An engine with its model whole, and the ids that are fed to it.
pub(super) struct Bench {
    pub(super) host: Host,
    pub(super) ids: Vec<u32>,
    depth: usize,
    /// Whether the model was placed on GPUs.
    placed: bool,
}

/// Runs the command.
pub(super) fn run(args: &BenchArgs, isa: Option<&str>) -> Result<(), CliError> {
    if args.first_token {
        return bench_start::first_token(args, isa);
    }
    if args.profile {
        return bench_profile::run(args, isa);
    }
    let peer = args.peer_json.as_deref().map(bench_table::read_peer).transpose()?;
    if args.sessions.0.contains(&0) {
        return Err(CliError::usage("--sessions counts sessions; 0 cannot decode"));
    }
    // Before this process takes memory and threads of its own.
    let start = bench_start::measure()?;
    let mut bench = Bench::open(args, isa)?;
    let load_s = bench.host.load_time().map_or(0.0, |time| time.as_secs_f64());
    let prompt_tok_s = median(args.repeat, || bench.time_prompt(args.prompt))?;
    let generate_tok_s = median(args.repeat, || bench.time_generate(args.generate))?;
    let mut batch_tok_s = Map::new();
    for sessions in &args.sessions.0 {
        let rate = median(args.repeat, || bench.time_batch(*sessions as usize))?;
        batch_tok_s.insert(sessions.to_string(), rounded(rate, 2).into());
    }
    bench.check_place()?;
    let gpu = bench_gpu::measure(&mut bench, (args.prompt, prompt_tok_s), (args.generate, generate_tok_s))?;
    let figures = Figures {
        engine: "weft",
        model: bench.host.file_name.clone(),
        threads: threads(args.model.threads),
        prompt_tok_s: rounded(prompt_tok_s, 2),
        generate_tok_s: rounded(generate_tok_s, 2),
        batch_tok_s,
        load_s: rounded(load_s, 4),
        first_token_process_s: rounded(start.first_token_process_s, 4),
        peak_rss_mb: start.peak_rss_mb,
        weights_mb: start.weights_mb,
        kv_mb: start.kv_mb,
        gpu,
    };
    if args.json {
        output::json(&figures)
    } else {
        output::text(&bench_table::render(&figures, peer.as_ref()))
    }
}

/// Threads that compute.
pub(super) fn threads(asked: usize) -> usize {
    if asked > 0 { asked } else { std::thread::available_parallelism().map_or(1, usize::from) }
}

pub(super) fn rounded(value: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}

/// The median of `repeat` runs after one to warm up.
fn median(repeat: usize, mut run: impl FnMut() -> Result<f64, CliError>) -> Result<f64, CliError> {
    run()?;
    let mut runs = (0..repeat).map(|_| run()).collect::<Result<Vec<_>, _>>()?;
    runs.sort_by(f64::total_cmp);
    let middle = |at: usize| runs.get(at).copied().unwrap_or(0.0);
    Ok((middle((repeat - 1) / 2) + middle(repeat / 2)) / 2.0)
}

impl Bench {
    /// Loads the model with room for everything that `args` asks for.
    pub(super) fn open(args: &BenchArgs, isa: Option<&str>) -> Result<Self, CliError> {
        let most_sessions = args.sessions.0.iter().copied().max().unwrap_or(1).max(1) as usize;
        let longest = args.prompt.max(args.generate);
        let alone = args.prompt.saturating_add(args.generate).saturating_add(8).saturating_add(args.depth);
        let batch = most_sessions.saturating_mul(BATCH_ROOM.saturating_add(args.depth));
        let kv_tokens = args.context.unwrap_or_else(|| alone.max(batch).max(LEAST_ROOM));
        let options = HostOptions { kv_tokens: Some(kv_tokens), ..HostOptions::default() };
        let mut host = Host::open(&args.model, isa, options)?;
        let placed = !host.engine.gpu_parts(host.model).is_empty();
        host.wait_loaded()?;
        let vocabulary = host.engine.config(host.model)?.vocabulary;
        let ids = token_ids(args.depth.saturating_add(longest).saturating_add(1), vocabulary);
        let bench = Self { host, ids, depth: args.depth, placed };
        bench.check_place()?;
        Ok(bench)
    }

    /// Fails where the model has left its GPUs, which a program that only answers goes on without.
    pub(super) fn check_place(&self) -> Result<(), CliError> {
        if self.placed && self.host.engine.gpu_parts(self.host.model).is_empty() {
            return Err(CliError::LeftGpu { model: self.host.file_name.clone() });
        }
        Ok(())
    }

    /// Opens a session that holds the depth's tokens, computed.
    fn session(&mut self) -> Result<SessionId, CliError> {
        let session = self.host.session(None)?;
        if self.depth > 0 {
            let before = self.slice(0, self.depth);
            self.tell(session, before)?;
            self.start(session, 0)?;
            self.finish(session, 0)?;
        }
        Ok(session)
    }

    /// Opens a session with so many tokens that are not computed.
    pub(super) fn prompted(&mut self, length: usize) -> Result<SessionId, CliError> {
        let session = self.session()?;
        let prompt = self.slice(self.depth, self.depth + length);
        self.tell(session, prompt)?;
        Ok(session)
    }

    fn tell(&mut self, session: SessionId, tokens: Vec<u32>) -> Result<(), CliError> {
        self.host.engine.append(session, Prompt::Tokens(tokens)).map_err(|error| self.host.explain(error))
    }

    /// Ticks until nothing is under way on GPUs.
    pub(super) fn settle(&mut self) -> Result<(), CliError> {
        while self.host.engine.gpu_parts(self.host.model).iter().any(|part| part.under_way() > 0) {
            self.host.step()?;
        }
        Ok(())
    }

    fn slice(&self, start: usize, end: usize) -> Vec<u32> {
        self.ids.get(start..end).unwrap_or_default().to_vec()
    }

    pub(super) fn start(&mut self, session: SessionId, tokens: usize) -> Result<(), CliError> {
        let options =
            GenerateOptions { max_tokens: Some(tokens), ignore_end: true, ..GenerateOptions::default() };
        Ok(self.host.engine.generate(session, &options)?)
    }

    /// Ticks until the session has all of its tokens.
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

    fn time_prompt(&mut self, length: usize) -> Result<f64, CliError> {
        let session = self.prompted(length)?;
        let start = Instant::now();
        self.start(session, 1)?;
        self.finish(session, 1)?;
        let seconds = start.elapsed().as_secs_f64();
        self.host.engine.close(session);
        Ok(length as f64 / seconds)
    }

    /// Tokens a second, decoded one by one.
    pub(super) fn time_generate(&mut self, tokens: usize) -> Result<f64, CliError> {
        let session = self.begin_generate(tokens)?;
        let start = Instant::now();
        self.finish(session, tokens)?;
        let seconds = start.elapsed().as_secs_f64();
        self.host.engine.close(session);
        Ok((tokens - 1) as f64 / seconds)
    }

    /// A session that is to say `tokens` tokens and has said the first.
    pub(super) fn begin_generate(&mut self, tokens: usize) -> Result<SessionId, CliError> {
        let session = self.prompted(1)?;
        self.start(session, tokens)?;
        while self.said(session)? == 0 && self.host.engine.phase(session)?.is_active() {
            self.host.step()?;
        }
        Ok(session)
    }

    /// Ticks until the session's request has ended.
    pub(super) fn end_generate(&mut self, session: SessionId, tokens: usize) -> Result<(), CliError> {
        self.finish(session, tokens)?;
        self.host.engine.close(session);
        Ok(())
    }

    fn time_batch(&mut self, count: usize) -> Result<f64, CliError> {
        let mut sessions = Vec::with_capacity(count);
        for nth in 0..count {
            let session = self.session()?;
            let first = self.ids.get(nth % self.ids.len().max(1)).copied().unwrap_or_default();
            self.tell(session, vec![first])?;
            sessions.push(session);
        }
        for session in &sessions {
            self.start(*session, BATCH_STEPS + 1)?;
        }
        while self.total(&sessions)? < count && self.any_active(&sessions)? {
            self.host.step()?;
        }
        let (before, start) = (self.total(&sessions)?, Instant::now());
        for session in &sessions {
            self.finish(*session, BATCH_STEPS + 1)?;
        }
        let seconds = start.elapsed().as_secs_f64();
        let timed = self.total(&sessions)? - before;
        sessions.into_iter().for_each(|session| self.host.engine.close(session));
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

/// The ids of `peer_bench.py`.
pub(super) fn token_ids(count: usize, vocabulary: usize) -> Vec<u32> {
    const MOST: u64 = 20_000;
    let modulus = (vocabulary as u64).clamp(1, MOST);
    // Below the modulus, which is below 2^32.
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

    #[test]
    fn medians_leave_out_the_first_run() {
        let mut runs = [100.0, 3.0, 1.0, 2.0].into_iter();
        assert_eq!(median(3, || Ok(runs.next().unwrap_or(0.0))).ok(), Some(2.0));
        let mut runs = [100.0, 3.0, 1.0].into_iter();
        assert_eq!(median(2, || Ok(runs.next().unwrap_or(0.0))).ok(), Some(2.0));
    }
}
