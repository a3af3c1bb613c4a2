//! Arguments of `weft chat`.

use super::{GenerateArgs, ModelArgs, PrefixArgs};
use clap::builder::{PathBufValueParser, TypedValueParser};
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, FromArgMatches, ValueEnum};
use std::path::PathBuf;

/// `weft chat`
#[derive(Debug, Args)]
pub(crate) struct ChatArgs {
    /// The system message
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,
    /// Continue a conversation that --save or /save wrote
    #[arg(long, value_name = "FILE", value_parser = file())]
    pub(crate) load: Option<PathBuf>,
    /// Save the conversation to a file after each answer; continue it later with --load
    #[arg(long, value_name = "FILE", value_parser = file())]
    pub(crate) save: Option<PathBuf>,
    /// What to do when the conversation fills the context: shift drops the oldest turns, stop ends the answer
    #[arg(long, value_enum, value_name = "POLICY", hide_possible_values = true, default_value_t = ContextPolicy::Shift)]
    pub(crate) context_policy: ContextPolicy,
    /// Print timings, context and memory after each answer, on stderr
    #[arg(long)]
    pub(crate) stats: bool,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) prefix: PrefixArgs,
    #[command(flatten)]
    pub(crate) generate: ChatGenerateArgs,
}

/// Parses a file name. `-` is refused: elsewhere it means stdin, which here carries the user's lines.
fn file() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|file| match file.as_os_str() == "-" {
        true => Err("a file is needed, since stdin carries your messages"),
        false => Ok(file),
    })
}

/// What happens when the conversation fills the context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ContextPolicy {
    /// The answer stops
    Stop,
    /// The oldest turns are dropped; the system message stays
    Shift,
}

/// Sampling options whose defaults a model can set in a chat: clap id, option name, default without a model's value.
const FROM_MODEL: [(&str, &str, &str); 6] = [
    ("temperature", "temperature", "0.8"),
    ("top_k", "top-k", "0"),
    ("top_p", "top-p", "0.95"),
    ("min_p", "min-p", "0.05"),
    ("repeat_penalty", "repeat-penalty", "1"),
    ("repeat_last_n", "repeat-last-n", "64"),
];

/// [`GenerateArgs`], together with which of the options were given.
#[derive(Debug)]
pub(crate) struct ChatGenerateArgs {
    pub(crate) args: GenerateArgs,
    /// Option names of those given whose defaults the model can set.
    pub(crate) given: Vec<&'static str>,
}

impl FromArgMatches for ChatGenerateArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Self::from_arg_matches_mut(&mut matches.clone())
    }

    fn from_arg_matches_mut(matches: &mut ArgMatches) -> Result<Self, clap::Error> {
        let given = |id: &str| {
            matches!(matches.value_source(id), Some(ValueSource::CommandLine | ValueSource::EnvVariable))
        };
        // Computed first: parsing the arguments removes them from `matches`.
        let given = FROM_MODEL.iter().filter(|(id, ..)| given(id)).map(|(_, name, _)| *name).collect();
        Ok(Self { args: GenerateArgs::from_arg_matches_mut(matches)?, given })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for ChatGenerateArgs {
    fn augment_args(command: Command) -> Command {
        let command = GenerateArgs::augment_args(command);
        FROM_MODEL.iter().fold(command, |command, (id, _, usual)| {
            command.mut_arg(id, |arg| {
                let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
                arg.hide_default_value(true).help(format!("{help} [default: the model's own, or {usual}]"))
            })
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}
