//! How tokens are chosen and when an answer ends.

use super::values::{factor, finite, fraction, logit_bias, positive, seed, temperature, token_limit, window};
use clap::Args;

/// How tokens are chosen and when they end.
#[derive(Debug, Args)]
#[command(next_help_heading = "Generation")]
pub(crate) struct GenerateArgs {
    /// Chat template instead of the model's own: a file in Jinja, or a built-in one: llama3, chatml, phi3,
    /// gemma, mistral, alpaca, raw
    #[arg(long, value_name = "NAME|FILE", alias = "chat-template-file")]
    pub(crate) chat_template: Option<String>,
    /// Divides the logits; 0 always takes the most likely token, so that answers can be repeated
    #[arg(long, value_name = "X", alias = "temp", default_value_t = 0.0, value_parser = temperature)]
    pub(crate) temperature: f32,
    /// Keep the K most likely tokens; 0 for all
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub(crate) top_k: usize,
    /// Keep the most likely tokens until their probability reaches P; 1 for all
    #[arg(long, value_name = "P", default_value_t = 1.0, value_parser = fraction)]
    pub(crate) top_p: f32,
    /// Keep tokens at least P times as likely as the most likely; 0 for all
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = fraction)]
    pub(crate) min_p: f32,
    /// Keep the tokens nearest to the expected surprise until their probability reaches P; 1 for all
    #[arg(long, value_name = "P", alias = "typical-p", default_value_t = 1.0, value_parser = fraction)]
    pub(crate) typical: f32,
    /// Makes tokens seen lately less likely; 1 for no change
    #[arg(long, value_name = "X", default_value_t = 1.0, value_parser = factor)]
    pub(crate) repeat_penalty: f32,
    /// How many of the latest tokens the penalties look at; -1 for all
    #[arg(long, value_name = "N", default_value = "64", value_parser = window)]
    pub(crate) repeat_last_n: usize,
    /// Subtracted once from the logit of a token seen lately
    #[arg(long, value_name = "X", default_value_t = 0.0, value_parser = finite)]
    pub(crate) presence_penalty: f32,
    /// Subtracted from the logit of a token for each time it was seen lately
    #[arg(long, value_name = "X", default_value_t = 0.0, value_parser = finite)]
    pub(crate) frequency_penalty: f32,
    /// Added to the logit of a token; may be given more than once
    #[arg(long, value_name = "ID=X", allow_hyphen_values = true, value_parser = logit_bias)]
    pub(crate) logit_bias: Vec<(u32, f32)>,
    /// Seed of the random numbers: the same seed and prompt give the same text; -1 draws one, which
    /// --stats and --json tell
    #[arg(long, short, value_name = "N", default_value = "0", value_parser = seed)]
    pub(crate) seed: u64,
    /// Most tokens of an answer; -1 for no limit but the context
    #[arg(
        long,
        short = 'n',
        value_name = "N",
        aliases = ["n-predict", "predict"],
        default_value = "1024",
        value_parser = token_limit
    )]
    pub(crate) max_tokens: u64,
    /// Text that ends an answer and is not part of it; may be given more than once
    #[arg(
        long,
        short = 'r',
        value_name = "TEXT",
        alias = "reverse-prompt",
        allow_hyphen_values = true,
        value_parser = clap::builder::NonEmptyStringValueParser::new()
    )]
    pub(crate) stop: Vec<String>,
    /// Most tokens of prompt and answer together, and the size of the KV cache; without it, what the model
    /// was made for, up to 32768
    #[arg(long, short, value_name = "N", alias = "ctx-size", value_parser = positive)]
    pub(crate) context: Option<usize>,
}
