//! Sampling: chooses a token from a row of logits.
//!
//! A [`Sampler`] belongs to one session: it holds the settings, the random numbers and the tokens that penalties look
//! back at. It reads one row of logits, `[vocab]` f32, and returns one token. The steps and their order are llama.cpp's
//! sampler chain: logit bias, penalties, top-k, typical, top-p, min-p, temperature, then a draw.
//!
//! Invariants: no input makes it panic. A NaN logit counts as `-inf` and is never chosen while another token can be.
//! The same seed, settings and logits give the same token on every machine, whatever other sessions do. From logits to
//! a token there are only additions, multiplications and comparisons of f32 and f64, except for two logarithms of
//! settings and sums.

mod chain;
mod choose;
mod embedding;
mod error;
mod exp;
mod largest;
mod logprobs;
mod mask;
mod penalties;
mod request;
mod select;
mod system;
#[cfg(test)]
mod tests;
mod together;
mod truncate;

pub use chain::{Choice, SampleScratch, Sampler};
pub use choose::argmax;
pub use embedding::vectors;
pub(crate) use embedding::wanted_positions;
pub use error::SampleError;
pub use logprobs::token_logprob;
pub use mask::mask_logits;
pub use request::{Ending, RequestError, SessionSampler, end_request};
pub use system::{LogitRows, SampledSession, replay_answer, sample};
pub use together::SampleBuffers;
pub use weft_components::TokenLogprob;
