//! Reports what the argument parser says, to users and to scripts.

use crate::error::USAGE;
use crate::output;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use serde_json::{Map, Value, json};
use std::ffi::OsString;
use std::process::ExitCode;

/// Returns true if a command line that cannot be parsed contains `--json`.
pub(crate) fn asks_for_json(line: &[OsString]) -> bool {
    line.iter().take_while(|word| *word != "--").any(|word| word == "--json")
}

/// Prints help or the version if that was asked for, else what is wrong. Returns the exit code.
pub(crate) fn report(error: &clap::Error, as_json: bool) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // If the reader has closed its end, the help is not needed.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    if as_json {
        // If stdout is closed too, the exit code still reports the failure.
        let _ = output::json(&to_json(error));
    }
    let _ = error.print();
    ExitCode::from(USAGE)
}

fn to_json(error: &clap::Error) -> Value {
    let mut facts = Map::new();
    facts.insert("kind".into(), json!("usage"));
    facts.insert("message".into(), json!(message(error)));
    for (kind, name) in [(ContextKind::InvalidArg, "argument"), (ContextKind::InvalidValue, "value")] {
        if let Some(ContextValue::String(value)) = error.get(kind) {
            facts.insert(name.into(), json!(value));
        }
    }
    json!({ "error": facts })
}

/// The message alone, without the heading before it and the usage after it.
fn message(error: &clap::Error) -> String {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return "a command is needed; `weft --help` lists them".into();
    }
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let end = ["\n\nUsage:", "\n\nFor more information"].iter().filter_map(|part| text.find(part)).min();
    text.get(..end.unwrap_or(text.len())).unwrap_or(text).trim().to_owned()
}
