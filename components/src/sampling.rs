//! What a session asks of the sampler. Plain settings; the arithmetic is in `weft-systems`.

/// Settings of one session's sampler. Defaults change nothing: temperature 0 picks the most likely token.
///
/// The steps are applied in the order of the fields, which is llama.cpp's: penalties and bias first, then the
/// truncations, the temperature last.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplerSettings {
    /// Added to the logit of a token id before anything else.
    pub logit_bias: Vec<(u32, f32)>,
    /// How many of the latest tokens the three penalties look at; 0 for none.
    pub penalty_last_n: usize,
    /// Divides positive logits and multiplies negative ones of tokens seen; 1 for none.
    pub repetition_penalty: f32,
    /// Subtracted once for a token seen; 0 for none.
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
