//! Arguments of `weft chat`.

use super::{GenerateArgs, ModelArgs};
use clap::builder::{PathBufValueParser, TypedValueParser};
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, FromArgMatches, ValueEnum};
use std::path::PathBuf;

/// `weft chat`
#[derive(Debug, Args)]
pub(crate) struct ChatArgs {
    /// What the model is told before the conversation
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,
    /// Go on from a conversation that --save or /save wrote
    #[arg(long, value_name = "FILE", value_parser = file())]
    pub(crate) load: Option<PathBuf>,
    /// Keep the conversation in a file, written after each answer; one that is there goes on with --load
    #[arg(long, value_name = "FILE", value_parser = file())]
    pub(crate) save: Option<PathBuf>,
    /// What happens where the conversation fills the context: shift lets the oldest turns go, stop ends the answer
    #[arg(long, value_enum, value_name = "POLICY", hide_possible_values = true, default_value_t = ContextPolicy::Shift)]
    pub(crate) context_policy: ContextPolicy,
    /// Print timings, context and memory after each answer, on stderr
    #[arg(long)]
    pub(crate) stats: bool,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) generate: ChatGenerateArgs,
}

/// A file by its name: stdin, which `-` is elsewhere, has the user's lines.
fn file() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|file| match file.as_os_str() == "-" {
        true => Err("a file is needed, since stdin has what you say"),
        false => Ok(file),
    })
}

/// What becomes of a conversation that fills the context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ContextPolicy {
    /// The answer stops
    Stop,
    /// The oldest turns go; the system message stays
    Shift,
}

/// Options whose defaults come from the model in a conversation.
const FROM_MODEL: [(&str, &str, &str); 6] = [
    ("temperature", "temperature", "0.8"),
    ("top_k", "top-k", "0"),
    ("top_p", "top-p", "0.95"),
    ("min_p", "min-p", "0.05"),
    ("repeat_penalty", "repeat-penalty", "1"),
    ("repeat_last_n", "repeat-last-n", "64"),
];

/// [`GenerateArgs`], and which of them were given.
#[derive(Debug)]
pub(crate) struct ChatGenerateArgs {
    pub(crate) args: GenerateArgs,
    /// Names of the given ones whose defaults come from the model.
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
        // The matches of what has been taken are gone.
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
