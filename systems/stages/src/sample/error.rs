//! Errors of sampler settings.

use thiserror::Error;

/// Why sampler settings were refused. Each error names the setting, its value and the allowed values.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum SampleError {
    /// A setting lies outside its range, or is NaN.
    #[error("sampler setting `{field}` is {value}; it must be {allowed}")]
    OutOfRange {
        /// Name of the setting, as in `SamplerSettings`.
        field: &'static str,
        /// The value that was given.
        value: f32,
        /// The allowed values, in words.
        allowed: &'static str,
    },
    /// A logit bias is NaN.
    #[error("the logit bias of token {token} is NaN; give a number, or -inf to forbid the token")]
    BiasNotANumber {
        /// The token of the bias.
        token: u32,
    },
    /// A logit bias names a token that the model does not have.
    #[error("logit bias for token {token}, but the vocabulary has only ids 0 to {}", vocab.saturating_sub(1))]
    BiasToken {
        /// The token of the bias.
        token: u32,
        /// Tokens in the vocabulary.
        vocab: usize,
    },
    /// The vocabulary is empty, or larger than token ids can count.
    #[error("a vocabulary of {vocab} tokens cannot be sampled from; it must have between 1 and 2^32 - 1")]
    Vocabulary {
        /// Tokens in the vocabulary.
        vocab: usize,
    },
}
