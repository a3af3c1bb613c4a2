//! Reads text from stdin and from files.

use crate::error::CliError;
use crate::output;
use std::io::{IsTerminal, Read};
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;
use weft::{BuiltinTemplate, TemplateChoice};

/// The character that UTF-8 files begin with on some systems.
const BYTE_ORDER_MARK: char = '\u{feff}';
/// How long stdin may stay silent before the user is told that the command waits for it.
const SILENCE: Duration = Duration::from_secs(2);

/// Reads all of stdin, which must be UTF-8.
pub(crate) fn stdin() -> Result<String, CliError> {
    let mut bytes = Vec::new();
    std::io::stdin().lock().read_to_end(&mut bytes).map_err(|error| CliError::read("stdin", &error))?;
    text("stdin", bytes)
}

/// Reads all of stdin if it is a file or a pipe; returns `None` if it is a terminal. A pipe is read until its writer
/// closes it. If a pipe stays open and silent, a note says so, because programs often pass one to their children by
/// accident.
pub(crate) fn piped() -> Result<Option<String>, CliError> {
    if std::io::stdin().is_terminal() {
        return Ok(None);
    }
    let (read, waiting) = mpsc::channel::<()>();
    thread::spawn(move || {
        if waiting.recv_timeout(SILENCE) == Err(RecvTimeoutError::Timeout) {
            output::note("waiting for the end of stdin; add `< /dev/null` if there is no input");
        }
    });
    let text = stdin();
    drop(read);
    text.map(Some)
}

/// Turns piped or file text into a message: drops a byte order mark at the start, and one line end, which editors and
/// `echo` put after the last line.
pub(crate) fn message(text: &str) -> &str {
    let text = unmarked(text);
    text.strip_suffix("\r\n").or_else(|| text.strip_suffix('\n')).unwrap_or(text)
}

/// Removes a byte order mark from the start of a text.
pub(crate) fn unmarked(text: &str) -> &str {
    text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text)
}

/// Reads a whole file, or stdin if the path is `-`. It must be UTF-8.
pub(crate) fn file(path: &Path) -> Result<String, CliError> {
    if path == Path::new("-") { stdin() } else { named(path) }
}

/// Reads a whole file whatever its name is. It must be UTF-8.
pub(crate) fn named(path: &Path) -> Result<String, CliError> {
    let bytes = std::fs::read(path).map_err(|error| CliError::read(path.display(), &error))?;
    text(&path.display().to_string(), bytes)
}

/// Resolves the chat template that was asked for: a built-in one, a named one of the model, or one in a file.
pub(crate) fn template(asked: Option<&str>) -> Result<TemplateChoice, CliError> {
    let Some(asked) = asked else { return Ok(TemplateChoice::Shipped) };
    match BuiltinTemplate::find(asked) {
        Some(template) => Ok(TemplateChoice::Builtin(template)),
        // A name without dot or slash, such as `tool_use`, is one of the model's own templates, unless a file has that
        // name.
        None if !Path::new(asked).exists() && !asked.contains(['.', '/', '\\']) => {
            Ok(TemplateChoice::Named(asked.to_owned()))
        }
        None => Ok(TemplateChoice::Source(file(Path::new(asked))?)),
    }
}

fn text(input: &str, bytes: Vec<u8>) -> Result<String, CliError> {
    String::from_utf8(bytes).map_err(|error| CliError::NotUtf8 {
        input: input.to_owned(),
        offset: error.utf8_error().valid_up_to(),
    })
}

#[cfg(test)]
mod tests {
    use super::message;

    #[test]
    fn one_line_end_and_a_byte_order_mark_are_no_part_of_a_message() {
        for (text, wanted) in [
            ("hi\n", "hi"),
            ("hi\r\n", "hi"),
            ("hi\n\n", "hi\n"),
            ("\u{feff}hi", "hi"),
            ("hi \n", "hi "),
            ("a\nb", "a\nb"),
            ("\n", ""),
            ("", ""),
        ] {
            assert_eq!(message(text), wanted, "{text:?}");
        }
    }
}
