//! Turns the user's lines into messages, which may span several lines, and commands.

use super::lines::{Line, Lines};
use crate::error::CliError;
use crate::output;

/// Prompt before a turn on a terminal.
const PROMPT: &str = "> ";
/// Prompt before a further line of a message.
const MORE: &str = "... ";
/// Opens and closes a message of several lines.
const QUOTES: &str = "\"\"\"";
/// Begins a command; doubled, it begins a message that starts with a slash.
const COMMAND: char = '/';

/// What the user asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// A message to answer.
    Message(String),
    /// A command without its slash.
    Command(String),
    /// End the chat.
    Leave,
}

/// Reads the next turn.
pub(super) fn next(lines: &mut Lines) -> Result<Turn, CliError> {
    let mut presses = 0;
    loop {
        let line = match lines.next(PROMPT)? {
            Line::Text(line) => line,
            Line::End => return Ok(Turn::Leave),
            Line::Interrupted { empty: true } if presses > 0 => return Ok(Turn::Leave),
            Line::Interrupted { empty } => {
                presses = usize::from(empty);
                if empty {
                    output::note("Ctrl-C again leaves, as do Ctrl-D and /quit");
                }
                continue;
            }
        };
        presses = 0;
        if let Some(first) = line.trim_start().strip_prefix(QUOTES) {
            match quoted(first, || lines.next(MORE))? {
                Some(message) if !message.trim().is_empty() => return Ok(Turn::Message(message)),
                _ => continue,
            }
        }
        if let Some(turn) = of_line(line.trim()) {
            return Ok(turn);
        }
    }
}

/// Interprets a single line; `None` if it is empty.
fn of_line(line: &str) -> Option<Turn> {
    let Some(command) = line.strip_prefix(COMMAND) else {
        return (!line.is_empty()).then(|| Turn::Message(line.to_owned()));
    };
    Some(match command.starts_with(COMMAND) {
        true => Turn::Message(command.to_owned()),
        false => Turn::Command(command.to_owned()),
    })
}

/// Reads a message between quotes, up to the closing ones; `first` is the text after the opening ones. `None` if Ctrl-C
/// discarded it. The end of the input completes it.
fn quoted(first: &str, mut next: impl FnMut() -> Result<Line, CliError>) -> Result<Option<String>, CliError> {
    let mut message = String::new();
    let mut line = first.to_owned();
    loop {
        if let Some(last) = line.trim_end().strip_suffix(QUOTES) {
            message.push_str(last);
            break;
        }
        message.push_str(&line);
        line = match next()? {
            Line::Text(line) => line,
            Line::End => break,
            Line::Interrupted { .. } => return Ok(None),
        };
        message.push('\n');
    }
    // Opening and closing quotes may be on lines of their own.
    let message = message.strip_prefix('\n').unwrap_or(&message);
    Ok(Some(message.strip_suffix('\n').unwrap_or(message).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message_of(text: &str) -> Option<String> {
        let mut lines = text.split('\n').map(|line| Line::Text(line.to_owned()));
        let Some(Line::Text(first)) = lines.next() else { return None };
        quoted(first.strip_prefix(QUOTES)?, || Ok(lines.next().unwrap_or(Line::End))).ok()?
    }

    #[test]
    fn quotes_open_and_close_a_message() {
        for (text, message) in [
            ("\"\"\"\none\n two\n\nthree\n\"\"\"\nfour", "one\n two\n\nthree"),
            ("\"\"\"one\ntwo\"\"\"", "one\ntwo"),
            ("\"\"\"one\"\"\"", "one"),
            ("\"\"\"\"\"\"", ""),
            ("\"\"\"\n\n\none\n\n\"\"\"", "\n\none\n"),
            ("\"\"\"one\ntwo", "one\ntwo"),
            ("\"\"\"/quit\n\"\"\"  ", "/quit"),
        ] {
            assert_eq!(message_of(text).as_deref(), Some(message), "{text:?}");
        }
        let interrupted = quoted("one", || Ok(Line::Interrupted { empty: false })).unwrap();
        assert_eq!(interrupted, None);
    }

    #[test]
    fn slashes_begin_commands_and_two_a_message() {
        assert_eq!(of_line("hello /quit"), Some(Turn::Message("hello /quit".into())));
        assert_eq!(of_line("/set top-k 4"), Some(Turn::Command("set top-k 4".into())));
        assert_eq!(of_line("//usr/bin is a folder"), Some(Turn::Message("/usr/bin is a folder".into())));
        assert_eq!(of_line("/"), Some(Turn::Command(String::new())));
        assert_eq!(of_line(""), None);
    }
}
