//! The chat commands: lines that begin with `/`.

use super::answer::Draft;
use super::conversation::{ASSISTANT, Conversation, file_named};
use super::stats::stats;
use super::{Chat, Cut};
use crate::error::CliError;
use crate::output;

/// What the chat does after a command.
pub(super) enum Next {
    /// Read the next line.
    Go,
    /// End the chat.
    Leave,
}

/// What a command takes after its name, and the function that runs it.
enum Action {
    Alone(fn(&mut Chat) -> Result<Next, CliError>),
    With(fn(&mut Chat, &str) -> Result<Next, CliError>),
}
use Action::{Alone, With};

struct Command {
    /// The name, followed by aliases.
    names: &'static [&'static str],
    /// One line each: the argument and what the command does with it.
    help: &'static [(&'static str, &'static str)],
    action: Action,
}

const COMMANDS: &[Command] = &[
    Command { names: &["help", "?"], help: &[("", "this list")], action: Alone(help) },
    Command { names: &["retry"], help: &[("", "answer the last message again")], action: Alone(retry) },
    Command { names: &["continue"], help: &[("", "continue an answer that was cut")], action: Alone(go_on) },
    Command {
        names: &["undo"],
        help: &[("", "remove the last message and its answer")],
        action: Alone(undo),
    },
    Command {
        names: &["clear", "reset"],
        help: &[("", "start a new conversation, keeping the system message")],
        action: Alone(clear),
    },
    Command {
        names: &["system"],
        help: &[("TEXT", "set the system message; without TEXT, remove it")],
        action: With(system),
    },
    Command {
        names: &["set"],
        help: &[("", "how answers are generated"), ("NAME VALUE", "change it: /set temperature 0.5")],
        action: With(set),
    },
    Command { names: &["stats"], help: &[("", "speed, context and memory")], action: Alone(show_stats) },
    Command { names: &["save"], help: &[("FILE", "write the conversation to a file")], action: With(save) },
    Command {
        names: &["load"],
        help: &[("FILE", "continue a conversation from a file")],
        action: With(load),
    },
    Command {
        names: &["quit", "exit", "bye"],
        help: &[("", "leave the chat, as Ctrl-D does")],
        action: Alone(|_| Ok(Next::Leave)),
    },
];

/// Help on input that is not a command.
const LINES: &str = "\
\"\"\"               begins and ends a message of several lines
//…               a message that begins with /
Ctrl-C            stops an answer";

/// Runs a command line without its slash.
pub(super) fn run(chat: &mut Chat, line: &str) -> Result<Next, CliError> {
    let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = rest.trim();
    let Some(command) = COMMANDS.iter().find(|command| command.names.contains(&name)) else {
        return Err(CliError::usage(format!(
            "there is no command /{name}, and nothing was sent; /help lists the commands, // begins a message \
             with a slash"
        )));
    };
    match command.action {
        Alone(_) if !rest.is_empty() => Err(CliError::usage(format!(
            "/{name} takes nothing after its name, and nothing was sent; // begins a message with a slash"
        ))),
        Alone(action) => action(chat),
        With(action) => action(chat, rest),
    }
}

/// Returns the names of the commands that begin with `start`.
pub(super) fn names(start: &str) -> impl Iterator<Item = &'static str> {
    COMMANDS
        .iter()
        .filter_map(|command| command.names.first().copied())
        .filter(move |name| name.starts_with(start))
}

fn help(_: &mut Chat) -> Result<Next, CliError> {
    for Command { names, help, .. } in COMMANDS {
        for (takes, does) in *help {
            let usage = format!("/{} {takes}", names.first().unwrap_or(&""));
            output::note(&format!("{usage:<17} {does}"));
        }
    }
    output::note(LINES);
    Ok(Next::Go)
}

fn retry(chat: &mut Chat) -> Result<Next, CliError> {
    let before = chat.conversation.clone();
    if !chat.conversation.drop_answer() {
        return Err(CliError::usage("there is no message to answer yet"));
    }
    if chat.settings.options.sampler.temperature == 0.0 && before != chat.conversation {
        output::note("at temperature 0 the answer stays the same; /set temperature 0.8 lets it vary");
    }
    chat.answer(Draft::default()).inspect_err(|_| chat.conversation = before)?;
    Ok(Next::Go)
}

fn go_on(chat: &mut Chat) -> Result<Next, CliError> {
    let answered = chat.conversation.last().is_some_and(|message| message.role == ASSISTANT);
    if !answered {
        return Err(CliError::usage("there is no answer to go on with"));
    }
    if matches!(chat.cut, Cut::Nowhere) {
        return Err(CliError::usage("the last answer is whole; /retry asks for another"));
    }
    let before = chat.conversation.clone();
    let text = chat.conversation.pop().map(|message| message.content).unwrap_or_default();
    let draft = match &chat.cut {
        Cut::At(draft) => draft.clone(),
        Cut::Nowhere | Cut::Unknown => Draft { tokens: chat.tokens_of(&text)?, text },
    };
    chat.answer(draft).inspect_err(|_| chat.conversation = before)?;
    Ok(Next::Go)
}

fn undo(chat: &mut Chat) -> Result<Next, CliError> {
    let Some(message) = chat.conversation.undo() else {
        return Err(CliError::usage("there is no message to take back"));
    };
    chat.conversation.see_all();
    chat.cut = Cut::Unknown;
    chat.changed = true;
    output::note(&format!("taken back: {}", shortened(&message.content)));
    chat.autosave();
    Ok(Next::Go)
}

/// Returns the beginning of a text, on one line.
fn shortened(text: &str) -> String {
    const MOST: usize = 60;
    let line = text.lines().next().unwrap_or_default();
    match line.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None if line.len() < text.len() => format!("{line}…"),
        None => line.to_owned(),
    }
}

fn clear(chat: &mut Chat) -> Result<Next, CliError> {
    chat.conversation.clear();
    chat.cut = Cut::Unknown;
    chat.changed = false;
    output::note("a new conversation starts");
    Ok(Next::Go)
}

fn system(chat: &mut Chat, text: &str) -> Result<Next, CliError> {
    chat.conversation.set_system(text);
    chat.changed |= chat.conversation.len() > chat.conversation.head();
    output::note(match text.is_empty() {
        true => "there is no system message now; the conversation stays",
        false => "the system message is set; the conversation stays",
    });
    Ok(Next::Go)
}

fn set(chat: &mut Chat, line: &str) -> Result<Next, CliError> {
    if line.is_empty() {
        output::note(chat.settings.list().trim_end());
        return Ok(Next::Go);
    }
    output::note(&chat.settings.set(line)?);
    Ok(Next::Go)
}

fn show_stats(chat: &mut Chat) -> Result<Next, CliError> {
    output::note(stats(chat)?.trim_end());
    Ok(Next::Go)
}

fn save(chat: &mut Chat, file: &str) -> Result<Next, CliError> {
    let file = match (file, &chat.save) {
        ("", None) => return Err(CliError::usage("name a file: /save FILE")),
        ("", Some(file)) => file.clone(),
        (file, _) => file_named(file)?,
    };
    chat.conversation.save(&file)?;
    output::note(&format!("{} messages saved to {}", chat.conversation.len(), file.display()));
    Ok(Next::Go)
}

fn load(chat: &mut Chat, file: &str) -> Result<Next, CliError> {
    if file.is_empty() {
        return Err(CliError::usage("name a file: /load FILE"));
    }
    chat.conversation = Conversation::load(&file_named(file)?)?;
    chat.cut = Cut::Unknown;
    chat.changed = false;
    output::note(&format!("{} messages loaded", chat.conversation.len()));
    Ok(Next::Go)
}
