//! Settings of a session's sampler, and the settings that a model's file recommends. The arithmetic is in
//! `weft-systems`.

use bevy_ecs::prelude::*;

/// Settings of one session's sampler. With the defaults no step changes the logits, and temperature 0 picks the most
/// likely token.
///
/// The steps are applied in the order of the fields, which is llama.cpp's: penalties and bias first, then the
/// truncations, the temperature last.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplerSettings {
    /// Added to the logit of a token id before anything else.
    pub logit_bias: Vec<(u32, f32)>,
    /// Number of latest tokens that the three penalties consider; 0 for none.
    pub penalty_last_n: usize,
    /// Divides positive logits and multiplies negative ones of seen tokens; 1 for none.
    pub repetition_penalty: f32,
    /// Subtracted once from the logit of a seen token; 0 for none.
    pub presence_penalty: f32,
    /// Subtracted for each time a token was seen; 0 for none.
    pub frequency_penalty: f32,
    /// Keep the `k` most likely tokens; 0 for all.
    pub top_k: usize,
    /// Keep the tokens nearest to the expected surprise until their probability reaches this; 1 for all.
    pub typical_p: f32,
    /// Keep the most likely tokens until their probability reaches this; 1 for all.
    pub top_p: f32,
    /// Keep tokens at least this fraction as likely as the most likely; 0 for all.
    pub min_p: f32,
    /// Divides the logits; 0 picks the most likely token.
    pub temperature: f32,
    /// Seed of the session's random numbers: the same seed and prompt give the same text.
    pub seed: u64,
    /// How many alternatives to report with each token's log-probability; `None` for no report.
    pub logprobs: Option<usize>,
}

impl Default for SamplerSettings {
    fn default() -> Self {
        Self {
            logit_bias: Vec::new(),
            penalty_last_n: 64,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            top_k: 0,
            typical_p: 1.0,
            top_p: 1.0,
            min_p: 0.0,
            temperature: 0.0,
            seed: 0,
            logprobs: None,
        }
    }
}

/// What a model's file recommends for sampling. A component of the model; each value is within its range.
#[derive(Component, Clone, Debug, Default, PartialEq)]
pub struct SamplingDefaults {
    /// [`SamplerSettings::temperature`].
    pub temperature: Option<f32>,
    /// [`SamplerSettings::top_k`].
    pub top_k: Option<usize>,
    /// [`SamplerSettings::top_p`].
    pub top_p: Option<f32>,
    /// [`SamplerSettings::min_p`].
    pub min_p: Option<f32>,
    /// [`SamplerSettings::repetition_penalty`].
    pub repetition_penalty: Option<f32>,
    /// [`SamplerSettings::penalty_last_n`].
    pub penalty_last_n: Option<usize>,
    /// Recommendations of the file that are not followed.
    pub ignored: Vec<IgnoredDefault>,
}

impl SamplingDefaults {
    /// Returns `settings`, with the file's recommendations in place of theirs.
    #[must_use]
    pub fn over(&self, settings: SamplerSettings) -> SamplerSettings {
        SamplerSettings {
            temperature: self.temperature.unwrap_or(settings.temperature),
            top_k: self.top_k.unwrap_or(settings.top_k),
            top_p: self.top_p.unwrap_or(settings.top_p),
            min_p: self.min_p.unwrap_or(settings.min_p),
            repetition_penalty: self.repetition_penalty.unwrap_or(settings.repetition_penalty),
            penalty_last_n: self.penalty_last_n.unwrap_or(settings.penalty_last_n),
            ..settings
        }
    }
}

/// A recommendation that is not followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IgnoredDefault {
    /// Its key in the file's metadata.
    pub key: String,
    /// The recommended value.
    pub value: String,
    /// Why it is not followed.
    pub reason: &'static str,
}

impl core::fmt::Display for IgnoredDefault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "the model's file recommends {} = {}, which is ignored: {}",
            self.key, self.value, self.reason
        )
    }
}
