//! Arguments of `weft chat`.

use super::{GenerateArgs, ModelArgs};
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
    #[arg(long, value_name = "FILE")]
    pub(crate) load: Option<PathBuf>,
    /// Keep the conversation in a file, written after each answer
    #[arg(long, value_name = "FILE")]
    pub(crate) save: Option<PathBuf>,
    /// What becomes of a conversation that fills the context
    #[arg(long, value_enum, default_value_t = ContextPolicy::Shift)]
    pub(crate) context_policy: ContextPolicy,
    /// Print timings, context and memory after each answer, on stderr
    #[arg(long)]
    pub(crate) stats: bool,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) generate: GenerateArgs,
    #[command(flatten)]
    pub(crate) given: Given,
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

/// Names of those options that were given. Comes after [`GenerateArgs`], which has them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Given(pub(crate) Vec<&'static str>);

impl FromArgMatches for Given {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |id: &str| {
            matches!(
                matches.value_source(id),
                Some(ValueSource::CommandLine | ValueSource::EnvVariable)
            )
        };
        Ok(Self(FROM_MODEL.iter().filter(|(id, ..)| given(id)).map(|(_, name, _)| *name).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Given {
    fn augment_args(command: Command) -> Command {
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
