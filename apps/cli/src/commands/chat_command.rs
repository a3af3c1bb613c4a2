//! The commands of a conversation: lines that begin with `/`.

use super::chat::Chat;
use crate::report::CliError;
use crate::{input, memory, output};
use serde::{Deserialize, Serialize};
use std::path::Path;
use weft::Message;
use weft::components::{BlockTable, ContextCursor, KvPool};

const HELP: &str = "\
/help           this list
/system TEXT    tell the model something before the conversation, which starts anew; without TEXT, nothing
/save FILE      write the conversation to a file
/load FILE      go on from a conversation in a file
/reset          start anew, keeping the system message
/stats          speed, context and memory
/quit           leave; so does Ctrl-D";

/// What comes after a command.
pub(super) enum Next {
    /// The next line.
    Go,
    /// The end.
    Leave,
}

/// A conversation in a file.
#[derive(Deserialize, Serialize)]
struct Saved {
    messages: Vec<SavedMessage>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct SavedMessage {
    role: String,
    content: String,
}

/// Runs a command, given without its slash.
pub(super) fn run(chat: &mut Chat, line: &str) -> Result<Next, CliError> {
    let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = rest.trim();
    match name {
        "help" | "?" => output::line(HELP)?,
        "system" => {
            chat.set_system(rest);
            output::note("the conversation starts anew");
        }
        "save" => {
            save(chat, Path::new(file_name(rest, "/save FILE")?))?;
            output::note(&format!("{} messages saved", chat.messages.len()));
        }
        "load" => {
            chat.messages = load(Path::new(file_name(rest, "/load FILE")?))?;
            output::note(&format!("{} messages loaded", chat.messages.len()));
        }
        "reset" => {
            chat.messages.retain(|message| message.role == "system");
            output::note("the conversation starts anew");
        }
        "stats" => output::text(&stats(chat)?)?,
        "quit" | "exit" | "bye" => return Ok(Next::Leave),
        _ => {
            return Err(CliError::usage(format!("there is no command /{name}; /help lists them")));
        }
    }
    Ok(Next::Go)
}

fn file_name<'a>(name: &'a str, usage: &str) -> Result<&'a str, CliError> {
    if name.is_empty() { Err(CliError::usage(format!("name a file: {usage}"))) } else { Ok(name) }
}

fn save(chat: &Chat, file: &Path) -> Result<(), CliError> {
    let saved =
        |message: &Message| SavedMessage { role: message.role.clone(), content: message.content.clone() };
    let saved = Saved { messages: chat.messages.iter().map(saved).collect() };
    let failed = |reason: String| CliError::Write { to: file.display().to_string(), reason };
    let mut json = serde_json::to_string_pretty(&saved).map_err(|error| failed(error.to_string()))?;
    json.push('\n');
    std::fs::write(file, json).map_err(|error| failed(error.to_string()))
}

/// The messages of a file that [`save`] wrote.
pub(super) fn load(file: &Path) -> Result<Vec<Message>, CliError> {
    let saved: Saved = serde_json::from_str(&input::file(file)?).map_err(|error| CliError::BadJson {
        input: file.display().to_string(),
        reason: error.to_string(),
        wanted: "give a file written by /save",
    })?;
    let message = |saved: SavedMessage| Message { role: saved.role, content: saved.content };
    Ok(saved.messages.into_iter().map(message).collect())
}

fn stats(chat: &Chat) -> Result<String, CliError> {
    let mut lines = Vec::new();
    let mut row = |name: &str, value: String| lines.push(format!("{name:<10} {value}\n"));
    let engine = &chat.host.engine;
    if let Some(last) = chat.last {
        let speed = last.tok_s.map_or("-".to_owned(), |rate| format!("{rate:.1} tok/s"));
        row("answer", format!("{} tokens, {speed}", last.tokens));
        row(
            "prompt",
            format!("{} tokens, first token after {:.3} s", last.prompt_tokens, last.first_token_s),
        );
    }
    let world = engine.world();
    let held = engine.history(chat.session)?.len();
    let limit = world.get::<ContextCursor>(chat.session.0).map_or(0, |cursor| cursor.limit);
    row("context", format!("{held} of {limit} tokens, {} messages", chat.messages.len()));
    let pages = world.get::<BlockTable>(chat.session.0).map_or(0, |table| table.0.len());
    if let Some(pool) = world.get::<KvPool>(chat.host.model.0) {
        row("KV pages", format!("{pages} of {}, {} free", pool.capacity(), pool.free()));
    }
    let loaded = engine.progress(chat.host.model)?;
    row("weights", format!("{} of {}", memory::human(loaded.bytes), memory::human(loaded.total_bytes)));
    if let Some(peak) = memory::peak_rss() {
        row("memory", format!("{} at most", memory::human(peak)));
    }
    Ok(lines.concat())
}
