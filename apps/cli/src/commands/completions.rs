//! `weft completions`: prints a shell completion script.

use crate::args::{self, CompletionsArgs};
use crate::error::CliError;
use crate::output;

/// Runs the command.
pub(super) fn run(args: &CompletionsArgs) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut args::command(), "weft", &mut script);
    output::bytes(&script)
}
