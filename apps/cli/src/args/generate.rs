//! Arguments that set how tokens are sampled and when an answer ends.

use super::values::{factor, finite, fraction, logit_bias, positive, seed, temperature, token_limit, window};
use clap::Args;

/// How tokens are sampled and when an answer ends.
#[derive(Debug, Args)]
#[command(next_help_heading = "Generation")]
pub(crate) struct GenerateArgs {
    /// Chat template to use instead of the model's own: a Jinja file, or a built-in one: llama3, chatml, phi3, gemma,
    /// mistral, alpaca, raw
    #[arg(long, value_name = "NAME|FILE", alias = "chat-template-file")]
    pub(crate) chat_template: Option<String>,
    /// Divisor of the logits; 0 always takes the most likely token, so answers are reproducible
    #[arg(long, value_name = "X", alias = "temp", default_value_t = 0.0, value_parser = temperature)]
    pub(crate) temperature: f32,
    /// Keep the K most likely tokens; 0 keeps all
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub(crate) top_k: usize,
    /// Keep the most likely tokens until their probabilities add up to P; 1 keeps all
    #[arg(long, value_name = "P", default_value_t = 1.0, value_parser = fraction)]
    pub(crate) top_p: f32,
    /// Keep tokens at least P times as likely as the most likely one; 0 keeps all
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = fraction)]
    pub(crate) min_p: f32,
    /// Keep the tokens closest to the expected surprise until their probabilities add up to P; 1 keeps all
    #[arg(long, value_name = "P", alias = "typical-p", default_value_t = 1.0, value_parser = fraction)]
    pub(crate) typical: f32,
    /// Make recently seen tokens less likely; 1 for no change
    #[arg(long, value_name = "X", default_value_t = 1.0, value_parser = factor)]
    pub(crate) repeat_penalty: f32,
    /// Number of latest tokens that the penalties consider; -1 for all
    #[arg(long, value_name = "N", default_value = "64", value_parser = window)]
    pub(crate) repeat_last_n: usize,
    /// Subtracted once from the logit of a recently seen token
    #[arg(long, value_name = "X", default_value_t = 0.0, value_parser = finite)]
    pub(crate) presence_penalty: f32,
    /// Subtracted from the logit of a recently seen token, once per occurrence
    #[arg(long, value_name = "X", default_value_t = 0.0, value_parser = finite)]
    pub(crate) frequency_penalty: f32,
    /// Added to the logit of a token; may be given more than once
    #[arg(long, value_name = "ID=X", allow_hyphen_values = true, value_parser = logit_bias)]
    pub(crate) logit_bias: Vec<(u32, f32)>,
    /// Random seed: the same seed and prompt give the same text; -1 draws one, which --stats and --json print
    #[arg(long, short, value_name = "N", default_value = "0", value_parser = seed)]
    pub(crate) seed: u64,
    /// Maximum tokens of an answer; -1 for no limit but the context
    #[arg(
        long,
        short = 'n',
        value_name = "N",
        aliases = ["n-predict", "predict"],
        default_value = "1024",
        value_parser = token_limit
    )]
    pub(crate) max_tokens: u64,
    /// Maximum tokens that are drafted from earlier text and verified together with the next one; 0 for none. The answer is
    /// the same, and on a CPU comes sooner where it repeats what is there already; on a fast GPU it may come later
    #[arg(long, value_name = "N", aliases = ["draft-max", "spec-draft-n-max"], default_value_t = 0)]
    pub(crate) draft: usize,
    /// Text that ends an answer and is left out of it; may be given more than once
    #[arg(
        long,
        short = 'r',
        value_name = "TEXT",
        alias = "reverse-prompt",
        allow_hyphen_values = true,
        value_parser = clap::builder::NonEmptyStringValueParser::new()
    )]
    pub(crate) stop: Vec<String>,
    /// Maximum tokens of prompt and answer together, and size of the KV cache; by default the model's context, up to
    /// 32768
    #[arg(long, short, value_name = "N", alias = "ctx-size", value_parser = positive)]
    pub(crate) context: Option<usize>,
}
