//! `weft`: the engine on the command line.
//!
//! [`args`] defines the command line, [`commands`] has one file or folder per subcommand, [`error`] defines what can go
//! wrong and [`report`] prints errors. Answers go to stdout through [`output`]. Everything else, such as progress and
//! logs, goes to stderr.

mod args;
mod backend;
mod catalogue;
mod commands;
mod error;
mod host;
mod input;
mod interrupt;
mod make;
mod memory;
mod output;
mod profile;
mod progress;
mod pull;
mod report;
mod style;

use std::ffi::OsString;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let line: Vec<OsString> = std::env::args_os().collect();
    let as_json = report::usage::asks_for_json(&line);
    let cli = match args::parse(line) {
        Ok(cli) => cli,
        Err(error) => return report::usage::report(&error, as_json),
    };
    let json = cli.command.json();
    if !cli.command.profiles() {
        log_to_stderr();
    }
    match commands::run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(json),
    }
}

/// Logs the engine's events to stderr: warnings, or the level that `WEFT_LOG` sets, such as `debug` or
/// `weft_systems::load=trace`.
fn log_to_stderr() {
    let filter = EnvFilter::try_from_env("WEFT_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(style::on_stderr());
    if let Err(error) = logs.try_init() {
        output::note(&format!("logs are off: {error}"));
    }
}
