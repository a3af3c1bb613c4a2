//! Reads the user's lines: with a line editor on a terminal, or from stdin line by line.
//!
//! If stdout is not a terminal, the editor writes to the terminal device itself, so that prompts and typed text never
//! mix with the answers.

use super::command;
use crate::error::CliError;
use crate::output;
use crate::style::Style;
use rustyline::completion::Completer;
use rustyline::config::{Behavior, CompletionType};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::Validator;
use rustyline::{Config, Context, Editor, Helper};
use std::cell::Cell;
use std::io::{BufRead, BufReader, IsTerminal, Read, StdinLock};
use std::path::PathBuf;

/// Maximum length of a line of stdin, in bytes.
const LONGEST: u64 = 64 << 20;
/// Values of `TERM` for terminals that the editor cannot draw on, as in rustyline.
const PLAIN_TERMINALS: [&str; 3] = ["dumb", "cons25", "emacs"];
const BYTE_ORDER_MARK: char = '\u{feff}';

/// A line, or what came instead of one.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A line without its end. Text that was pasted at once may have several lines.
    Text(String),
    /// Ctrl-C; `empty` is true if nothing had been typed.
    Interrupted { empty: bool },
    /// Ctrl-D, or the end of stdin.
    End,
}

/// The source of the user's lines.
pub(super) enum Lines {
    Editor { editor: Box<Editor<Watch, DefaultHistory>>, style: Style, history: Option<PathBuf> },
    Plain(Plain),
}

impl Lines {
    pub(super) fn open() -> Result<Self, CliError> {
        let typed = std::io::stdin().is_terminal();
        let elsewhere = !std::io::stdout().is_terminal();
        if !typed || is_plain() || elsewhere && !has_terminal() {
            return Ok(Self::Plain(Plain::new(typed)));
        }
        let behavior = if elsewhere { Behavior::PreferTerm } else { Behavior::Stdio };
        let config = Config::builder().behavior(behavior).completion_type(CompletionType::List).build();
        let mut editor = Editor::with_config(config).map_err(|error| terminal(&error))?;
        editor.set_helper(Some(Watch::default()));
        let history =
            crate::pull::Places::from_environment().ok().map(|places| places.folder.join("chat-history"));
        if let Some(history) = &history {
            // Fails on the first start, when there is no history yet.
            let _ = editor.load_history(history);
        }
        let style = if elsewhere { Style::stderr() } else { Style::stdout() };
        Ok(Self::Editor { editor: Box::new(editor), style, history })
    }

    /// Returns true if a user types the lines on a terminal.
    pub(super) fn are_typed(&self) -> bool {
        match self {
            Self::Editor { .. } => true,
            Self::Plain(plain) => plain.prompts,
        }
    }

    /// Reads the next line, after a prompt if a user types it.
    pub(super) fn next(&mut self, prompt: &str) -> Result<Line, CliError> {
        let (editor, style) = match self {
            Self::Plain(plain) => return plain.next(prompt),
            Self::Editor { editor, style, .. } => (editor, style),
        };
        loop {
            // The plain prompt gives the width, and the styled one is shown.
            match editor.readline(&(prompt, style.cyan(prompt).as_str())) {
                Ok(line) => {
                    let _ = editor.add_history_entry(line.as_str());
                    return Ok(Line::Text(line));
                }
                Err(ReadlineError::Interrupted) => {
                    let empty = editor.helper().is_none_or(|watch| watch.empty.get());
                    return Ok(Line::Interrupted { empty });
                }
                Err(ReadlineError::Eof) => return Ok(Line::End),
                Err(ReadlineError::Io(error)) if error.kind() == std::io::ErrorKind::InvalidData => {
                    output::note("the typed text is not UTF-8; type it again");
                }
                // The window was resized while the editor was not drawing.
                Err(ReadlineError::Signal(_)) => {}
                Err(error) => return Err(terminal(&error)),
            }
        }
    }

    /// Saves the line history for the next chat.
    pub(super) fn close(&mut self) {
        let Self::Editor { editor, history: Some(history), .. } = self else {
            return;
        };
        let folder = history.parent().map_or(Ok(()), std::fs::create_dir_all);
        if let Err(error) = folder.map_err(ReadlineError::from).and_then(|()| editor.save_history(history)) {
            tracing::warn!(%error, file = %history.display(), "the history was not saved");
        }
    }
}

/// Reads stdin line by line.
pub(super) struct Plain {
    stdin: BufReader<StdinLock<'static>>,
    /// True if prompts are shown: stdin is a terminal that the editor cannot draw on.
    prompts: bool,
    /// Number of lines read so far.
    number: usize,
}

impl Plain {
    fn new(prompts: bool) -> Self {
        Self { stdin: BufReader::new(std::io::stdin().lock()), prompts, number: 0 }
    }

    fn next(&mut self, prompt: &str) -> Result<Line, CliError> {
        if self.prompts {
            output::prompt(prompt);
        }
        let mut bytes = Vec::new();
        let mut stdin = (&mut self.stdin).take(LONGEST);
        stdin.read_until(b'\n', &mut bytes).map_err(|error| CliError::read("stdin", &error))?;
        if bytes.is_empty() {
            return Ok(Line::End);
        }
        self.number += 1;
        let input = || format!("line {} of stdin", self.number);
        if bytes.len() as u64 == LONGEST && !bytes.ends_with(b"\n") {
            return Err(CliError::usage(format!("{} is longer than {} MiB", input(), LONGEST >> 20)));
        }
        let text = String::from_utf8(bytes).map_err(|error| CliError::NotUtf8 {
            input: input(),
            offset: error.utf8_error().valid_up_to(),
        })?;
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        let mark = (self.number == 1).then_some(BYTE_ORDER_MARK);
        let text = mark.and_then(|mark| text.strip_prefix(mark)).unwrap_or(text);
        Ok(Line::Text(text.to_owned()))
    }
}

/// Returns true if the editor cannot draw on the terminal.
fn is_plain() -> bool {
    let name = std::env::var("TERM").unwrap_or_default();
    PLAIN_TERMINALS.iter().any(|plain| name.eq_ignore_ascii_case(plain))
}

/// Returns true if the process has a terminal other than stdin and stdout.
fn has_terminal() -> bool {
    cfg!(windows) || std::fs::OpenOptions::new().read(true).write(true).open("/dev/tty").is_ok()
}

fn terminal(error: &ReadlineError) -> CliError {
    CliError::Read { file: "the terminal".into(), reason: error.to_string() }
}

/// Keeps a copy of the line being edited, because the editor's Ctrl-C error does not say if it was empty.
#[derive(Default)]
pub(super) struct Watch {
    empty: Cell<bool>,
}

impl Hinter for Watch {
    type Hint = String;

    fn hint(&self, line: &str, _at: usize, _context: &Context<'_>) -> Option<String> {
        self.empty.set(line.is_empty());
        None
    }
}

impl Completer for Watch {
    type Candidate = String;

    /// Completes commands. In other lines Tab inserts a tab character, since pasted text may contain some.
    fn complete(
        &self,
        line: &str,
        at: usize,
        _context: &Context<'_>,
    ) -> Result<(usize, Vec<String>), ReadlineError> {
        let start = line.get(..at).and_then(|start| start.strip_prefix('/'));
        Ok(match start.filter(|start| !start.contains(char::is_whitespace)) {
            Some(start) => (1, command::names(start).map(|name| format!("{name} ")).collect()),
            None => (at, vec!["\t".to_owned()]),
        })
    }
}

impl Highlighter for Watch {}
impl Validator for Watch {}
impl Helper for Watch {}
