//! The command line: its subcommands and their options. The submodules hold one topic each.

mod cache;
mod chat;
mod embed;
mod generate;
mod lora;
mod make;
mod measure;
mod model;
mod prefix;
mod spelling;
mod text;
mod values;

pub(crate) use cache::{CompletionsArgs, ListArgs, PullArgs, RemoveArgs};
pub(crate) use chat::{ChatArgs, ContextPolicy};
pub(crate) use embed::EmbedArgs;
pub(crate) use generate::GenerateArgs;
pub(crate) use lora::{LoraArgs, MergeArgs};
pub(crate) use make::{ConvertArgs, QuantizeArgs, ShapeArgs, SynthArgs};
pub(crate) use measure::{BenchArgs, LogitsArgs, PerplexityArgs};
pub(crate) use model::{BackendName, ModelArgs};
pub(crate) use prefix::PrefixArgs;
pub(crate) use text::{DetokenizeArgs, InspectArgs, TemplateArgs, TensorArgs, TokenizeArgs};
pub(crate) use values::seed;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use std::ffi::OsString;
use std::num::NonZeroU64;
use std::path::PathBuf;

/// Maximum width of the help text in columns, even on a wider terminal.
const HELP_WIDTH: usize = 80;

/// Runs large language models on this machine.
///
/// Without --model, the catalogue's default model is used. The first use downloads it.
#[derive(Debug, Parser)]
#[command(name = "weft", version, max_term_width = HELP_WIDTH)]
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
    /// Chat with a model
    Chat(ChatArgs),
    /// Answer one prompt
    Run(RunArgs),
    /// Show the contents of a model file
    Inspect(InspectArgs),
    /// Convert text from stdin to token ids
    Tokenize(TokenizeArgs),
    /// Convert token ids to text
    Detokenize(DetokenizeArgs),
    /// Render messages (a JSON array on stdin) with a chat template
    Template(TemplateArgs),
    /// Print the logits at positions of a prompt
    Logits(LogitsArgs),
    /// Print the embeddings of texts
    Embed(EmbedArgs),
    /// Write a tensor's values to stdout as little-endian 32-bit floats
    Tensor(TensorArgs),
    /// Measure the perplexity of a model on a text
    Perplexity(PerplexityArgs),
    /// Measure speed and memory
    Bench(BenchArgs),
    /// Make a model with random weights, for measurements
    Synth(SynthArgs),
    /// Convert a Hugging Face folder to a GGUF file
    Convert(ConvertArgs),
    /// Write a model with a LoRA adapter merged into it
    Merge(MergeArgs),
    /// Quantize a model: store its weights in other formats
    Quantize(QuantizeArgs),
    /// Download a model
    Pull(PullArgs),
    /// List the downloaded models and the models of the catalogue
    List(ListArgs),
    /// Remove downloaded models
    Rm(RemoveArgs),
    /// Print a shell completion script
    Completions(CompletionsArgs),
}

impl Command {
    /// Returns true if the command was given `--json`, so that errors are printed as JSON too.
    pub(crate) fn json(&self) -> bool {
        match self {
            Self::Chat(_) | Self::Tensor(_) | Self::Completions(_) => false,
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
            Self::Rm(args) => args.json,
        }
    }

    /// The model that the command reads, as the user named it; `None` if it reads none or uses the default.
    pub(crate) fn model(&self) -> Option<&str> {
        match self {
            Self::Chat(args) => args.model.model.as_deref(),
            Self::Run(args) => args.model.model.as_deref(),
            Self::Inspect(args) => Some(&args.file),
            Self::Tokenize(args) => args.model.as_deref(),
            Self::Detokenize(args) => args.model.as_deref(),
            Self::Template(args) => args.model.as_deref(),
            Self::Logits(args) => args.model.model.as_deref(),
            Self::Embed(args) => args.model.model.as_deref(),
            Self::Tensor(args) => Some(&args.file),
            Self::Perplexity(args) => args.model.model.as_deref(),
            Self::Bench(args) => args.model.model.as_deref(),
            Self::Merge(args) => Some(&args.model),
            Self::Quantize(args) => Some(&args.input),
            Self::Synth(_)
            | Self::Convert(_)
            | Self::Pull(_)
            | Self::List(_)
            | Self::Rm(_)
            | Self::Completions(_) => None,
        }
    }

    /// Returns true if the command counts tracing spans instead of logging them.
    pub(crate) fn profiles(&self) -> bool {
        matches!(self, Self::Bench(args) if args.profile)
    }
}

/// `weft run`
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The prompt; `-` reads it from stdin, as does leaving it out when stdin is not a terminal
    #[arg(value_name = "PROMPT", long_help = PROMPT_HELP)]
    pub(crate) prompt: Option<String>,
    /// The prompt, under the option name that other programs use
    #[arg(
        long = "prompt",
        short = 'p',
        value_name = "PROMPT",
        hide = true,
        allow_hyphen_values = true,
        conflicts_with = "prompt"
    )]
    pub(crate) prompt_option: Option<String>,
    /// A file whose text follows the prompt after a blank line, or is the prompt if there is no other
    #[arg(long, short, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Use the prompt unchanged: no chat template, special tokens are parsed, and the last line end of a file or of
    /// stdin is kept
    #[arg(long, conflicts_with = "system")]
    pub(crate) raw: bool,
    /// The system message
    #[arg(long, value_name = "TEXT", alias = "system-prompt", allow_hyphen_values = true)]
    pub(crate) system: Option<String>,
    /// Print one JSON value once the answer is complete
    #[arg(long)]
    pub(crate) json: bool,
    /// Print the backend, timings and the seed on stderr
    #[arg(long)]
    pub(crate) stats: bool,
    /// Limit how fast the model file is read, to watch the model answer while it loads
    #[arg(long, value_name = "BYTES_PER_S")]
    pub(crate) throttle: Option<NonZeroU64>,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) prefix: PrefixArgs,
    #[command(flatten)]
    pub(crate) generate: GenerateArgs,
}

const PROMPT_HELP: &str = "\
The prompt; `-` reads it from stdin, as does leaving it out when
stdin is not a terminal. With a prompt and piped text, the text
follows the prompt after a blank line:

  git diff | weft run \"Write a commit message for this change.\"

Unless --raw is given, one line end at the end of such a text and a
byte order mark at its start are dropped.";

/// Builds the clap command.
pub(crate) fn command() -> clap::Command {
    // Lets `--seed -1` pass -1 as a value, so that its own parser judges it. No option is a digit.
    let numbers = |arg: clap::Arg| {
        if arg.get_action().takes_values() { arg.allow_negative_numbers(true) } else { arg }
    };
    Cli::command().mut_subcommands(|command| command.mut_args(numbers))
}

/// Parses a command line whose first word is the program's name.
pub(crate) fn parse(line: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let mut command = command();
    let line = spelling::ours(line, &command);
    let matches = command.try_get_matches_from_mut(line)?;
    Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        command().debug_assert();
    }

    fn parsed(line: &str) -> Result<Command, String> {
        let line = ["weft"].into_iter().chain(line.split(' ')).map(OsString::from);
        parse(line).map(|cli| cli.command).map_err(|error| error.to_string())
    }

    #[test]
    fn peers_spellings_are_taken() {
        let line = "run -m x -c 9 -t 2 -n -1 -ngl 3 --temp 0.5 -s -1 -f file -p -5";
        let Ok(Command::Run(args)) = parsed(line) else { panic!("{:?}", parsed(line)) };
        assert_eq!((args.generate.context, args.model.threads), (Some(9), 2));
        assert_eq!((args.generate.max_tokens, args.prompt_option.as_deref()), (u64::MAX, Some("-5")));
        assert!(args.model.asks_for_a_gpu());
    }

    #[test]
    fn negative_numbers_are_values() {
        for (line, option) in [
            ("run --temperature -1 x", "--temperature"),
            ("run --top-p -0.5 x", "--top-p"),
            ("run --top-k -3 x", "--top-k"),
            ("run --seed -2 x", "--seed"),
            ("run --max-tokens -2 x", "--max-tokens"),
            ("run --gpu-layers -1 x", "--gpu-layers"),
            ("bench --repeat -1", "--repeat"),
            ("synth out --layers -1", "--layers"),
        ] {
            let Err(error) = parsed(line) else { panic!("{line} is taken") };
            assert!(error.contains(&format!("for '{option}")), "{line}: {error}");
        }
    }
}
