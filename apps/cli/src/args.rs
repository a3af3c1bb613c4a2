//! The command line.

mod chat;
mod embed;
mod lora;
mod make;

pub(crate) use chat::{ChatArgs, ContextPolicy};
pub(crate) use embed::EmbedArgs;
pub(crate) use lora::{LoraArgs, MergeArgs};
pub(crate) use make::{ConvertArgs, QuantizeArgs, ShapeArgs, SynthArgs};

use clap::{Args, Parser, Subcommand};
use std::num::NonZeroU64;
use std::path::PathBuf;
use weft::GpuLayers;

/// Runs large language models on this machine.
///
/// Without --model, the catalogue's default model answers; it is fetched the first time.
#[derive(Debug, Parser)]
#[command(name = "weft", version, max_term_width = 110)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Instruction set to use instead of the best one found.
    #[arg(long, global = true, hide = true, env = "WEFT_ISA")]
    pub(crate) isa: Option<String>,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Talk with a model
    Chat(ChatArgs),
    /// Answer one prompt
    Run(RunArgs),
    /// Show what is in a model file
    Inspect(InspectArgs),
    /// Text from stdin to token ids
    Tokenize(TokenizeArgs),
    /// Token ids to text
    Detokenize(DetokenizeArgs),
    /// Render messages, a JSON array on stdin, with a chat template
    Template(TemplateArgs),
    /// The logits at positions of a prompt
    Logits(LogitsArgs),
    /// The embeddings of texts
    Embed(EmbedArgs),
    /// A tensor's values on stdout, as little-endian 32-bit floats
    Tensor(TensorArgs),
    /// How well a model predicts a text
    Perplexity(PerplexityArgs),
    /// Measure speed and memory
    Bench(BenchArgs),
    /// Make a model up: random weights, for measuring where no model can be had
    Synth(SynthArgs),
    /// Make a GGUF file of a Hugging Face folder
    Convert(ConvertArgs),
    /// Write a model with a LoRA adapter merged into it
    Merge(MergeArgs),
    /// Store a model's weights in other formats
    Quantize(QuantizeArgs),
    /// Fetch a model
    Pull(PullArgs),
    /// List the models of the catalogue
    List(ListArgs),
}

impl Command {
    /// Whether a script reads the answer.
    pub(crate) fn json(&self) -> bool {
        match self {
            Self::Chat(_) | Self::Tensor(_) => false,
            Self::Run(args) => args.json,
            Self::Inspect(args) => args.json,
            Self::Tokenize(args) => args.json,
            Self::Detokenize(args) => args.json,
            Self::Template(args) => args.json,
            Self::Logits(args) => args.json,
            Self::Embed(args) => args.json,
            Self::Perplexity(args) => args.json,
            Self::Bench(args) => args.json,
            Self::Synth(args) => args.json,
            Self::Convert(args) => args.json,
            Self::Merge(args) => args.json,
            Self::Quantize(args) => args.json,
            Self::Pull(args) => args.json,
            Self::List(args) => args.json,
        }
    }

    /// Whether spans are counted instead of logged.
    pub(crate) fn profiles(&self) -> bool {
        matches!(self, Self::Bench(args) if args.profile)
    }
}

/// Which model, and what computes it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct ModelArgs {
    /// A GGUF file, a Hugging Face folder, or a name from `weft list`
    #[arg(long, short)]
    pub(crate) model: Option<String>,
    /// What computes: cpu, gpu
    #[arg(long, default_value = "cpu")]
    pub(crate) backend: String,
    /// Layers on the GPU, the last ones: a number, or auto for as many as fit
    #[arg(long, default_value = "auto", value_parser = gpu_layers)]
    pub(crate) gpu_layers: GpuLayers,
    /// GPU to use: a part of its name
    #[arg(long)]
    pub(crate) gpu: Option<String>,
    /// Most GPUs to split the layers over
    #[arg(long, default_value_t = 1)]
    pub(crate) gpus: usize,
    /// Memory of each GPU that may be used, in MiB; all that there is without it
    #[arg(long, value_name = "MIB")]
    pub(crate) gpu_memory: Option<u64>,
    /// Longest that one submit should keep the GPU busy, in milliseconds
    #[arg(long, value_name = "MS", hide = true)]
    pub(crate) gpu_submit_ms: Option<u64>,
    /// Use none of the GPU features that only add speed
    #[arg(long, hide = true)]
    pub(crate) gpu_plain: bool,
    /// Round no activations on the GPU: slower, but an answer does not depend on what is computed beside it
    #[arg(long)]
    pub(crate) gpu_exact: bool,
    /// Most rows that pass through the model together
    #[arg(long, hide = true)]
    pub(crate) wave_rows: Option<std::num::NonZeroUsize>,
    /// Threads that compute; 0 for one per core
    #[arg(long, default_value_t = 0)]
    pub(crate) threads: usize,
    /// How the KV cache is stored: f16, f32, q8_0
    #[arg(long, default_value = "f16")]
    pub(crate) kv: String,
    #[command(flatten)]
    pub(crate) lora: LoraArgs,
}

/// How tokens are chosen and when they end.
#[derive(Debug, Args)]
#[command(next_help_heading = "Generation")]
pub(crate) struct GenerateArgs {
    /// Chat template instead of the model's own: a file in Jinja, or a built-in one: llama3, chatml, phi3, gemma, mistral,
    /// alpaca, raw
    #[arg(long, value_name = "NAME|FILE")]
    pub(crate) chat_template: Option<String>,
    /// Divides the logits; 0 always takes the most likely token, so that answers can be repeated
    #[arg(long, default_value_t = 0.0)]
    pub(crate) temperature: f32,
    /// Keep the K most likely tokens; 0 for all
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub(crate) top_k: usize,
    /// Keep the most likely tokens until their probability reaches P; 1 for all
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    pub(crate) top_p: f32,
    /// Keep tokens at least P times as likely as the most likely; 0 for all
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    pub(crate) min_p: f32,
    /// Keep the tokens nearest to the expected surprise until their probability reaches P; 1 for all
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    pub(crate) typical: f32,
    /// Makes tokens seen lately less likely; 1 for no change
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    pub(crate) repeat_penalty: f32,
    /// How many of the latest tokens the penalties look at
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub(crate) repeat_last_n: usize,
    /// Subtracted once from the logit of a token seen lately
    #[arg(long, value_name = "X", default_value_t = 0.0, allow_negative_numbers = true)]
    pub(crate) presence_penalty: f32,
    /// Subtracted from the logit of a token for each time it was seen lately
    #[arg(long, value_name = "X", default_value_t = 0.0, allow_negative_numbers = true)]
    pub(crate) frequency_penalty: f32,
    /// Added to the logit of a token; may be given more than once
    #[arg(long, value_name = "ID=V", value_parser = logit_bias)]
    pub(crate) logit_bias: Vec<(u32, f32)>,
    /// Seed of the random numbers: the same seed and prompt give the same text
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Most tokens of an answer
    #[arg(long, short = 'n', value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) max_tokens: u64,
    /// Text that ends an answer and is not part of it; may be given more than once
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) stop: Vec<String>,
    /// Most tokens of prompt and answer together; without it, what the model was made for
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(crate) context: Option<usize>,
}

/// `weft run`
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The prompt; `-`, or none where stdin is no terminal, reads it from stdin
    pub(crate) prompt: Option<String>,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) generate: GenerateArgs,
    /// Take the prompt as it is: no chat template; special tokens are parsed
    #[arg(long, conflicts_with = "system")]
    pub(crate) raw: bool,
    /// What the model is told before the prompt
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,
    /// Print one JSON value when the answer is whole
    #[arg(long)]
    pub(crate) json: bool,
    /// Print timings on stderr
    #[arg(long)]
    pub(crate) stats: bool,
    /// Read the model at this rate, to see it answer while it arrives
    #[arg(long, value_name = "BYTES_PER_S")]
    pub(crate) throttle: Option<NonZeroU64>,
}

/// `weft inspect`
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// A GGUF file, a Hugging Face folder, or a name from `weft list`
    pub(crate) file: String,
    /// Print one JSON value
    #[arg(long)]
    pub(crate) json: bool,
}

/// `weft tokenize`
#[derive(Debug, Args)]
pub(crate) struct TokenizeArgs {
    /// A GGUF file, which need not hold tensors, a Hugging Face folder, or a name from `weft list`
    #[arg(long, short)]
    pub(crate) model: Option<String>,
    /// Take the names of special tokens for those tokens
    #[arg(long)]
    pub(crate) special: bool,
    /// Never begin with the BOS token; without this, as the model's metadata says
    #[arg(long)]
    pub(crate) no_bos: bool,
    /// Print {"tokens": [ids]}
    #[arg(long)]
    pub(crate) json: bool,
}

/// `weft detokenize`
#[derive(Debug, Args)]
pub(crate) struct DetokenizeArgs {
    /// Token ids, such as 1,2,3
    #[arg(value_name = "IDS")]
    pub(crate) tokens: IdList,
    /// A GGUF file, which need not hold tensors, a Hugging Face folder, or a name from `weft list`
    #[arg(long, short)]
    pub(crate) model: Option<String>,
    /// Leave out special tokens instead of writing their names
    #[arg(long)]
    pub(crate) no_special: bool,
    /// Print {"text"}
    #[arg(long)]
    pub(crate) json: bool,
}

/// `weft template`
#[derive(Debug, Args)]
pub(crate) struct TemplateArgs {
    /// A GGUF file, which need not hold tensors, a Hugging Face folder, or a name from `weft list`
    #[arg(long, short, conflicts_with = "file")]
    pub(crate) model: Option<String>,
    /// A template in Jinja
    #[arg(long, value_name = "T.jinja")]
    pub(crate) file: Option<PathBuf>,
    /// Leave out what asks the model to answer
    #[arg(long)]
    pub(crate) no_generation_prompt: bool,
    /// Further variables, a JSON object, such as {"bos_token": "<s>"}
    #[arg(long, value_name = "JSON")]
    pub(crate) vars: Option<String>,
    /// Print {"text"}
    #[arg(long)]
    pub(crate) json: bool,
}

/// `weft logits`
#[derive(Debug, Args)]
pub(crate) struct LogitsArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// The prompt's token ids, such as 1,2,3
    #[arg(long, value_name = "IDS")]
    pub(crate) tokens: IdList,
    /// Positions whose logits are wanted, from 0; without it, the last
    #[arg(long, value_name = "POSITIONS")]
    pub(crate) positions: Option<IdList>,
    /// Most tokens of the prompt that pass through the model together; 0 for as many as fit
    #[arg(long, value_name = "C", default_value_t = 0)]
    pub(crate) chunk: usize,
    /// Other sessions that travel through the model together with this one
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = beside)]
    pub(crate) beside: usize,
    /// Print {"logits": [[…], …]}
    #[arg(long)]
    pub(crate) json: bool,
}

/// `weft tensor`
#[derive(Debug, Args)]
pub(crate) struct TensorArgs {
    /// A GGUF file, a Hugging Face folder, or a name from `weft list`
    pub(crate) file: String,
    /// The tensor's name
    pub(crate) name: String,
}

/// `weft perplexity`
#[derive(Debug, Args)]
pub(crate) struct PerplexityArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// The text
    #[arg(long)]
    pub(crate) file: PathBuf,
    /// Tokens of a chunk; the second half of each is scored
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = chunk_length)]
    pub(crate) context: usize,
    /// Print {"perplexity", "error", "tokens"}
    #[arg(long)]
    pub(crate) json: bool,
}

/// `weft bench`
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Tokens of the prompt
    #[arg(long, default_value_t = 512, value_parser = positive)]
    pub(crate) prompt: usize,
    /// Tokens decoded one by one, the first of which is not timed
    #[arg(long, default_value_t = 128, value_parser = at_least_two)]
    pub(crate) generate: usize,
    /// Sessions that decode together, such as 1,4,16
    #[arg(long, default_value = "1,4,16", value_name = "N,…")]
    pub(crate) sessions: IdList,
    /// Timed runs, of which the median counts; one more goes before to warm up
    #[arg(long, default_value_t = 3, value_parser = positive)]
    pub(crate) repeat: usize,
    /// Tokens that the context holds before anything is timed
    #[arg(long, default_value_t = 0)]
    pub(crate) depth: usize,
    /// Print one JSON value, with the keys of the peer's script
    #[arg(long)]
    pub(crate) json: bool,
    /// Show another engine's figures beside these: the JSON that its run printed
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    pub(crate) peer_json: Option<PathBuf>,
    /// Show where the time of a decode tick goes, instead of measuring speed
    #[arg(long, conflicts_with_all = ["peer_json", "sessions", "repeat"])]
    pub(crate) profile: bool,
}

/// `weft pull`
#[derive(Debug, Args)]
pub(crate) struct PullArgs {
    /// A name from `weft list`, or OWNER/REPO/FILE.gguf on the hub; without it, the default model
    pub(crate) model: Option<String>,
    /// Check a model that is already here against its checksum
    #[arg(long)]
    pub(crate) verify: bool,
    /// Print one JSON value
    #[arg(long)]
    pub(crate) json: bool,
}

/// `weft list`
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Print one JSON value
    #[arg(long)]
    pub(crate) json: bool,
}

/// Numbers with commas between them.
#[derive(Clone, Debug)]
pub(crate) struct IdList(pub(crate) Vec<u32>);

impl std::str::FromStr for IdList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number =
            |part: &str| part.trim().parse().map_err(|_| format!("`{part}` is not a number; write 1,2,3"));
        text.split(',').filter(|part| !part.trim().is_empty()).map(number).collect::<Result<_, _>>().map(Self)
    }
}

fn logit_bias(text: &str) -> Result<(u32, f32), String> {
    let parts = text
        .split_once('=')
        .and_then(|(id, value)| Some((id.trim().parse().ok()?, value.trim().parse().ok()?)));
    parts.ok_or_else(|| "write a token id, `=` and a number, such as 42=-1.5".to_owned())
}

fn at_least(text: &str, least: usize) -> Result<usize, String> {
    text.parse().ok().filter(|n| *n >= least).ok_or_else(|| format!("a number of at least {least} is needed"))
}

fn positive(text: &str) -> Result<usize, String> {
    at_least(text, 1)
}

fn at_least_two(text: &str) -> Result<usize, String> {
    at_least(text, 2)
}

/// A chunk needs a scored half of at least one token with another after it.
fn chunk_length(text: &str) -> Result<usize, String> {
    at_least(text, 4)
}

/// More sessions than this are no test of a wave but of patience.
const MOST_BESIDE: usize = 4096;

fn beside(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|n| *n <= MOST_BESIDE)
        .ok_or_else(|| format!("a number up to {MOST_BESIDE} is needed"))
}

/// A number of layers, or `auto`.
fn gpu_layers(text: &str) -> Result<GpuLayers, String> {
    match text {
        "auto" => Ok(GpuLayers::Auto),
        number => number.parse().map(GpuLayers::Count).map_err(|_| "not a number, nor auto".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn id_lists_take_commas_and_spaces() {
        let ids = |text: &str| text.parse::<IdList>().map(|list| list.0);
        assert_eq!(ids("1,2, 3"), Ok(vec![1, 2, 3]));
        assert_eq!(ids(""), Ok(vec![]));
        assert!(ids("1,x").is_err());
        assert!(ids("-1").is_err());
    }

    #[test]
    fn biases_are_an_id_and_a_number() {
        assert_eq!(logit_bias("7=-1.5"), Ok((7, -1.5)));
        assert!(logit_bias("7").is_err());
        assert!(logit_bias("x=1").is_err());
    }
}
