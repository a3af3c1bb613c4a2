//! The subcommands, one file or folder each.

mod bench;
mod chat;
mod completions;
mod convert;
mod detokenize;
mod embed;
mod inspect;
mod inspect_model;
mod list;
mod logits;
mod merge;
mod perplexity;
mod pull;
mod quantize;
mod remove;
mod run;
mod synth;
mod template;
mod tensor;
mod tokenize;

use crate::args::{Cli, Command};
use crate::error::CliError;
use crate::host;

/// Runs the subcommand. If an error may come from a damaged model file, adds how to repair it.
pub(crate) fn run(cli: &Cli) -> Result<(), CliError> {
    dispatch(cli).map_err(|error| error.with_advice(|| host::model_here(cli.command.model())))
}

fn dispatch(cli: &Cli) -> Result<(), CliError> {
    let isa = cli.isa.as_deref().filter(|name| !name.is_empty());
    match &cli.command {
        Command::Chat(args) => chat::run(args, isa),
        Command::Run(args) => run::run(args, isa),
        Command::Inspect(args) => inspect::run(args),
        Command::Tokenize(args) => tokenize::run(args),
        Command::Detokenize(args) => detokenize::run(args),
        Command::Template(args) => template::run(args),
        Command::Logits(args) => logits::run(args, isa),
        Command::Embed(args) => embed::run(args, isa),
        Command::Tensor(args) => tensor::run(args),
        Command::Perplexity(args) => perplexity::run(args, isa),
        Command::Bench(args) => bench::run(args, isa),
        Command::Synth(args) => synth::run(args),
        Command::Convert(args) => convert::run(args),
        Command::Merge(args) => merge::run(args),
        Command::Quantize(args) => quantize::run(args),
        Command::Pull(args) => pull::run(args),
        Command::List(args) => list::run(args),
        Command::Rm(args) => remove::run(args),
        Command::Completions(args) => completions::run(args),
    }
}
