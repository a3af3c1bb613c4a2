//! What the argument parser says, to people and to scripts.

use crate::error::USAGE;
use crate::output;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use serde_json::{Map, Value, json};
use std::ffi::OsString;
use std::process::ExitCode;

/// Whether a line that cannot be parsed asks for JSON.
pub(crate) fn asks_for_json(line: &[OsString]) -> bool {
    line.iter().take_while(|word| *word != "--").any(|word| word == "--json")
}

/// Shows help or the version where that was asked for; else tells what is wrong, and gives the exit code.
pub(crate) fn report(error: &clap::Error, as_json: bool) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // A reader that has gone needs no help.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    if as_json {
        // Where stdout is gone too, the exit code has to do.
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

/// What is wrong, without the heading before it and the usage after it.
fn message(error: &clap::Error) -> String {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return "a command is needed; `weft --help` lists them".into();
    }
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let end = ["\n\nUsage:", "\n\nFor more information"].iter().filter_map(|part| text.find(part)).min();
    text.get(..end.unwrap_or(text.len())).unwrap_or(text).trim().to_owned()
}
