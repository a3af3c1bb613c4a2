//! One session's sampler: runs the sampling steps in order.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use weft_components::{SamplerSettings, TokenLogprob};

use super::choose::{argmax, draw, draw_row};
use super::error::SampleError;
use super::largest::max;
use super::logprobs::report;
use super::penalties::Penalties;
use super::select::{Candidate, gather, likeliest_first, top_k};
use super::truncate::{floor, min_p, nucleus, top_p, typical};

/// A chosen token.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// Its id.
    pub token: u32,
    /// Its log-probability and alternatives, if the settings ask for them.
    pub logprob: Option<TokenLogprob>,
    /// True if no logit was above `-inf`: all were masked, or the row was NaN. `token` is then 0 and has no meaning.
    pub degenerate: bool,
}

/// Buffers that samplers share, one for each thread that samples. If made with [`SampleScratch::new`], they need no
/// further allocation for rows of up to that vocabulary.
#[derive(Clone, Debug, Default)]
pub struct SampleScratch {
    /// The row after bias and penalties. Unused if there are none.
    logits: Vec<f32>,
    candidates: Vec<Candidate>,
    sums: Vec<f64>,
}

impl SampleScratch {
    /// Scratch for rows of `vocab` logits: 12 bytes for each token.
    #[must_use]
    pub fn new(vocab: usize) -> Self {
        Self {
            logits: Vec::with_capacity(vocab),
            candidates: Vec::with_capacity(vocab),
            sums: Vec::with_capacity(vocab.div_ceil(super::exp::BLOCK)),
        }
    }
}

/// The tokens to draw from after truncation.
enum Survivors {
    /// Every token of the row: no truncation is set.
    Row,
    /// The candidates in the scratch buffers.
    Candidates,
}

/// Chooses the tokens of one session. A clone continues exactly as the original would.
#[derive(Clone, Debug)]
pub struct Sampler {
    settings: SamplerSettings,
    vocab: usize,
    /// Logarithm of `min_p`. `-inf` if min-p is off.
    log_min_p: f32,
    penalties: Penalties,
    rng: ChaCha8Rng,
    draws: u64,
}

impl Sampler {
    /// A sampler over ids `0..vocab`.
    ///
    /// # Errors
    /// [`SampleError`] if a setting is NaN or outside its range, a bias names a token outside the vocabulary, or the
    /// vocabulary is empty.
    pub fn new(settings: SamplerSettings, vocab: usize) -> Result<Self, SampleError> {
        validate(&settings, vocab)?;
        Ok(Self {
            vocab,
            log_min_p: if settings.min_p > 0.0 { settings.min_p.ln() } else { f32::NEG_INFINITY },
            penalties: Penalties::new(&settings),
            rng: ChaCha8Rng::seed_from_u64(settings.seed),
            draws: 0,
            settings,
        })
    }

    /// A placeholder that chooses the likeliest token, for a session whose sampler is in use elsewhere.
    pub(super) fn stand_in() -> Self {
        let settings = SamplerSettings::default();
        Self {
            vocab: 1,
            log_min_p: f32::NEG_INFINITY,
            penalties: Penalties::new(&settings),
            rng: ChaCha8Rng::seed_from_u64(0),
            draws: 0,
            settings,
        }
    }

    /// The settings that it was created with.
    #[must_use]
    pub fn settings(&self) -> &SamplerSettings {
        &self.settings
    }

    /// Number of random numbers drawn. Together with the seed and the accepted tokens this is its whole state.
    #[must_use]
    pub fn draws(&self) -> u64 {
        self.draws
    }

    /// Sets the random numbers to the state after `draws` draws: to restore a session, or to take back speculated
    /// tokens.
    pub fn set_draws(&mut self, draws: u64) {
        self.draws = draws;
        // A draw is one u64, which is two words of the stream.
        self.rng.set_word_pos(u128::from(draws) * 2);
    }

    /// Tokens in the window of the penalties, each once, with their counts. Empty if no penalty is set.
    #[must_use]
    pub fn window(&self) -> &[(u32, u32)] {
        self.penalties.window()
    }

    /// Number of ids that can be chosen: `0..vocabulary`.
    #[must_use]
    pub fn vocabulary(&self) -> usize {
        self.vocab
    }

    /// Adds a token of the prompt or of the answer to the window of the penalties.
    pub fn accept(&mut self, token: u32) {
        self.penalties.accept(token);
    }

    /// Chooses a token from raw logits `[vocab]`. Logits beyond the vocabulary are padding and never chosen.
    ///
    /// The token is not added to the penalties' window: call [`accept`](Self::accept). Allocates only for a report with
    /// alternatives.
    pub fn sample(&mut self, logits: &[f32], scratch: &mut SampleScratch) -> Choice {
        let raw = self.row(logits);
        let SampleScratch { logits: buffer, candidates, sums } = scratch;
        let row = self.adjust(raw, buffer);
        let found = if self.greedy() { argmax(row) } else { self.pick(row, candidates, sums) };
        let token = found.unwrap_or(0);
        let logprob = self.settings.logprobs.map(|count| report(raw, token, count, candidates));
        Choice { token, logprob, degenerate: found.is_none() }
    }

    /// The distribution that [`sample`](Self::sample) would draw from now: tokens and probabilities that sum to 1, in
    /// no particular order, without those whose logit is `-inf` or NaN. Temperature 0 gives one token.
    #[cfg(test)]
    pub(super) fn distribution(&self, logits: &[f32], scratch: &mut SampleScratch) -> Vec<(u32, f32)> {
        let raw = self.row(logits);
        let SampleScratch { logits: buffer, candidates, .. } = scratch;
        let row = self.adjust(raw, buffer);
        if self.greedy() {
            return argmax(row).map(|token| vec![(token, 1.0)]).unwrap_or_default();
        }
        if matches!(self.truncate(row, candidates), Survivors::Row) {
            gather(row, f32::NEG_INFINITY, candidates);
        }
        if self.settings.temperature == 0.0 {
            return likeliest(candidates).map(|token| vec![(token, 1.0)]).unwrap_or_default();
        }
        super::truncate::probabilities(candidates, self.settings.temperature)
    }

    fn row<'a>(&self, logits: &'a [f32]) -> &'a [f32] {
        logits.get(..self.vocab).unwrap_or(logits)
    }

    /// Returns true if the token with the largest adjusted logit is chosen. Only typical sampling may remove that one.
    fn greedy(&self) -> bool {
        self.settings.temperature == 0.0 && self.settings.typical_p >= 1.0
    }

    /// Applies bias and penalties. Returns the row itself if there are none, otherwise a changed copy.
    fn adjust<'a>(&self, raw: &'a [f32], buffer: &'a mut Vec<f32>) -> &'a [f32] {
        if self.settings.logit_bias.is_empty() && !self.penalties.active() {
            return raw;
        }
        buffer.clear();
        buffer.extend_from_slice(raw);
        for &(token, bias) in &self.settings.logit_bias {
            if let Some(logit) = usize::try_from(token).ok().and_then(|token| buffer.get_mut(token)) {
                *logit += bias;
            }
        }
        self.penalties.apply(buffer);
        buffer
    }

    /// Truncates by top-k, typical, top-p, min-p.
    fn truncate(&self, row: &[f32], candidates: &mut Vec<Candidate>) -> Survivors {
        let SamplerSettings { top_k: k, typical_p, top_p: p, .. } = self.settings;
        let cut_k = k > 0 && k < row.len();
        let cut_p = p < 1.0;
        if cut_k {
            top_k(row, k, candidates);
        } else if typical_p < 1.0 {
            gather(row, f32::NEG_INFINITY, candidates);
        } else if cut_p {
            nucleus(row, p, self.log_min_p, candidates);
            return Survivors::Candidates;
        } else if self.log_min_p > f32::NEG_INFINITY {
            gather(row, floor(max(row), self.log_min_p), candidates);
            return Survivors::Candidates;
        } else {
            return Survivors::Row;
        }
        if typical_p < 1.0 {
            typical(candidates, typical_p);
        }
        if cut_p {
            top_p(candidates, p);
        }
        min_p(candidates, self.log_min_p);
        Survivors::Candidates
    }

    fn pick(&mut self, row: &[f32], candidates: &mut Vec<Candidate>, sums: &mut Vec<f64>) -> Option<u32> {
        let temperature = self.settings.temperature;
        let survivors = self.truncate(row, candidates);
        if temperature == 0.0 {
            return likeliest(candidates);
        }
        let uniform = self.uniform();
        match survivors {
            Survivors::Row => {
                let top = max(row);
                (top > f32::NEG_INFINITY).then(|| draw_row(row, top, temperature, uniform, sums)).flatten()
            }
            Survivors::Candidates => {
                let top =
                    candidates.iter().fold(f32::NEG_INFINITY, |top, candidate| top.max(candidate.logit));
                draw(candidates, top, temperature, uniform)
            }
        }
    }

    /// A random number in `[0, 1)`: the upper 53 bits of a u64.
    pub fn uniform(&mut self) -> f64 {
        self.draws += 1;
        (self.rng.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }
}

fn likeliest(candidates: &[Candidate]) -> Option<u32> {
    candidates.iter().min_by(|a, b| likeliest_first(a, b)).map(|candidate| candidate.token)
}

fn validate(settings: &SamplerSettings, vocab: usize) -> Result<(), SampleError> {
    if vocab == 0 || u32::try_from(vocab).is_err() {
        return Err(SampleError::Vocabulary { vocab });
    }
    let fraction = "between 0 and 1";
    let finite = "a finite number";
    let checks = [
        (
            "repetition_penalty",
            settings.repetition_penalty,
            settings.repetition_penalty > 0.0 && settings.repetition_penalty.is_finite(),
            "above 0 and finite (1 for none)",
        ),
        ("presence_penalty", settings.presence_penalty, settings.presence_penalty.is_finite(), finite),
        ("frequency_penalty", settings.frequency_penalty, settings.frequency_penalty.is_finite(), finite),
        ("typical_p", settings.typical_p, (0.0..=1.0).contains(&settings.typical_p), fraction),
        ("top_p", settings.top_p, (0.0..=1.0).contains(&settings.top_p), fraction),
        ("min_p", settings.min_p, (0.0..=1.0).contains(&settings.min_p), fraction),
        (
            "temperature",
            settings.temperature,
            settings.temperature >= 0.0 && settings.temperature.is_finite(),
            "0 or above and finite (0 for the most likely token)",
        ),
    ];
    for (field, value, good, allowed) in checks {
        if !good {
            return Err(SampleError::OutOfRange { field, value, allowed });
        }
    }
    for &(token, bias) in &settings.logit_bias {
        if usize::try_from(token).map_or(true, |token| token >= vocab) {
            return Err(SampleError::BiasToken { token, vocab });
        }
        if bias.is_nan() {
            return Err(SampleError::BiasNotANumber { token });
        }
    }
    Ok(())
}
