//! The latest tokens of a session, and the penalties for repeating them.
//!
//! Memory grows with the window, not with the vocabulary, because many sessions share a large vocabulary.

use std::collections::VecDeque;

use weft_components::SamplerSettings;

/// Windows up to this many tokens are allocated at the start. Larger ones grow with the text.
const RESERVED: usize = 4096;

/// The last `n` tokens and their counts.
#[derive(Clone, Debug)]
pub(super) struct Penalties {
    last_n: usize,
    repetition: f32,
    presence: f32,
    frequency: f32,
    /// Oldest first. Empty if no penalty is set.
    window: VecDeque<u32>,
    /// Tokens in the window with their counts, at least 1, sorted by token.
    counts: Vec<(u32, u32)>,
}

impl Penalties {
    pub(super) fn new(settings: &SamplerSettings) -> Self {
        let mut penalties = Self {
            last_n: settings.penalty_last_n,
            repetition: settings.repetition_penalty,
            presence: settings.presence_penalty,
            frequency: settings.frequency_penalty,
            window: VecDeque::new(),
            counts: Vec::new(),
        };
        if penalties.set() {
            penalties.window.reserve(penalties.last_n.min(RESERVED));
            penalties.counts.reserve(penalties.last_n.min(RESERVED));
        }
        penalties
    }

    /// Returns true if any penalty is set.
    fn set(&self) -> bool {
        self.last_n > 0 && (self.repetition != 1.0 || self.presence != 0.0 || self.frequency != 0.0)
    }

    /// Returns true if [`apply`](Self::apply) would change a logit now.
    pub(super) fn active(&self) -> bool {
        !self.counts.is_empty()
    }

    /// Tokens in the window, ascending, with their counts.
    pub(super) fn window(&self) -> &[(u32, u32)] {
        &self.counts
    }

    /// Adds a token to the window. The oldest leaves a full window.
    pub(super) fn accept(&mut self, token: u32) {
        if !self.set() {
            return;
        }
        if self.window.len() >= self.last_n
            && let Some(oldest) = self.window.pop_front()
            && let Ok(at) = self.counts.binary_search_by_key(&oldest, |&(token, _)| token)
            && let Some((_, count)) = self.counts.get_mut(at)
        {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(at);
            }
        }
        self.window.push_back(token);
        match self.counts.binary_search_by_key(&token, |&(token, _)| token) {
            Ok(at) => {
                if let Some((_, count)) = self.counts.get_mut(at) {
                    *count = count.saturating_add(1);
                }
            }
            Err(at) => self.counts.insert(at, (token, 1)),
        }
    }

    /// Changes the logits of the tokens in the window, as llama.cpp's penalties do: a positive logit is divided by the
    /// repetition penalty and others are multiplied by it; then the frequency penalty is subtracted once for each
    /// occurrence, and the presence penalty once. Tokens outside the row are skipped.
    pub(super) fn apply(&self, logits: &mut [f32]) {
        for &(token, count) in &self.counts {
            let Some(logit) = usize::try_from(token).ok().and_then(|token| logits.get_mut(token)) else {
                continue;
            };
            if *logit <= 0.0 {
                *logit *= self.repetition;
            } else {
                *logit /= self.repetition;
            }
            *logit -= count as f32 * self.frequency + self.presence;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(last_n: usize) -> SamplerSettings {
        SamplerSettings {
            penalty_last_n: last_n,
            repetition_penalty: 2.0,
            presence_penalty: 0.25,
            frequency_penalty: 0.5,
            ..SamplerSettings::default()
        }
    }

    #[test]
    fn window_forgets_the_oldest() {
        let mut penalties = Penalties::new(&settings(3));
        for token in [1, 1, 2, 3, 9] {
            penalties.accept(token);
        }
        let mut logits = [4.0; 5];
        penalties.apply(&mut logits);
        assert_eq!(logits, [4.0, 4.0, 1.25, 1.25, 4.0]);
    }

    #[test]
    fn counts_and_signs() {
        let mut penalties = Penalties::new(&settings(usize::MAX));
        for token in [0, 0, 1] {
            penalties.accept(token);
        }
        let mut logits = [4.0, -4.0, f32::NEG_INFINITY];
        penalties.apply(&mut logits);
        assert_eq!(logits, [2.0 - 1.25, -8.0 - 0.75, f32::NEG_INFINITY]);
    }

    #[test]
    fn nothing_is_kept_without_penalties() {
        let mut penalties = Penalties::new(&SamplerSettings::default());
        penalties.accept(3);
        assert!(!penalties.active() && penalties.window.is_empty());
        let mut none = Penalties::new(&settings(0));
        none.accept(3);
        assert!(!none.active());
    }
}
