//! `weft chat`: a conversation with a model.
//!
//! Lines that begin with `/` are commands (see [`super::chat_command`]); everything else is a turn. On a terminal
//! lines are edited and remembered; elsewhere stdin is read line by line, so that a conversation can be scripted.
//! Ctrl-C stops an answer, keeping what was said; Ctrl-D leaves.

use super::chat_command::{self, Next};
use super::run::{message, rate};
use crate::args::ChatArgs;
use crate::host::{Host, HostOptions, generate_options};
use crate::input;
use crate::interrupt::{self, Answering};
use crate::output;
use crate::report::CliError;
use crate::style::Style;
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use std::io::{BufRead, IsTerminal};
use std::path::PathBuf;
use std::time::Instant;
use weft::{FinishReason, GenerateOptions, Message, SessionId};

/// What stands before a turn on a terminal.
const PROMPT: &str = "> ";

/// A conversation and the session that holds it.
pub(super) struct Chat {
    pub(super) host: Host,
    pub(super) session: SessionId,
    pub(super) messages: Vec<Message>,
    pub(super) last: Option<AnswerStats>,
    options: GenerateOptions,
}

/// What the last answer took.
#[derive(Clone, Copy, Debug)]
pub(super) struct AnswerStats {
    pub(super) prompt_tokens: usize,
    pub(super) tokens: usize,
    pub(super) first_token_s: f64,
    pub(super) tok_s: Option<f64>,
}

/// Runs the command.
pub(super) fn run(args: &ChatArgs, isa: Option<&str>) -> Result<(), CliError> {
    interrupt::install();
    let template = input::template(args.generate.chat_template.as_deref())?;
    let options = HostOptions { kv_tokens: args.generate.context, throttle: None, template };
    let mut host = Host::open(&args.model, isa, options)?;
    if !host.engine.has_template(host.model) {
        return Err(weft::Error::NoTemplate.into());
    }
    let session = host.session(args.generate.context)?;
    let mut chat =
        Chat { host, session, messages: Vec::new(), last: None, options: generate_options(&args.generate) };
    if let Some(file) = &args.load {
        chat.messages = chat_command::load(file)?;
    }
    if let Some(text) = &args.system {
        chat.set_system(text);
    }
    let mut lines = Lines::open()?;
    if lines.are_typed() {
        // Weights arrive with ticks, and while a line is typed there are none. From a pipe the first turn comes at once
        // and meets the layers as they arrive.
        chat.host.wait_loaded()?;
        let name = Style::stderr().bold(&chat.host.file_name);
        output::note(&format!("{name}; /help lists commands, Ctrl-C stops an answer, Ctrl-D leaves"));
    }
    while let Some(line) = lines.next()? {
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        if let Some(command) = line.strip_prefix('/') {
            match chat_command::run(&mut chat, command) {
                Ok(Next::Go) => {}
                Ok(Next::Leave) => break,
                Err(CliError::ReaderGone) => return Err(CliError::ReaderGone),
                Err(error) => complain(&error),
            }
            continue;
        }
        match chat.turn(line) {
            Ok(()) => {}
            Err(error @ (CliError::ReaderGone | CliError::InvalidLogits { .. })) => return Err(error),
            Err(error) if chat.host.engine.progress(chat.host.model).is_err() => return Err(error),
            Err(error) => complain(&error),
        }
    }
    lines.close();
    Ok(())
}

/// An error after which the conversation goes on.
fn complain(error: &CliError) {
    output::note(&format!("{} {error}", Style::stderr().red("error:")));
}

impl Chat {
    /// Starts anew with a system message; an empty one is none.
    pub(super) fn set_system(&mut self, text: &str) {
        self.messages.clear();
        if !text.is_empty() {
            self.messages.push(message("system", text));
        }
    }

    /// One turn: the user's line, and the model's answer on stdout as it comes.
    fn turn(&mut self, line: &str) -> Result<(), CliError> {
        self.messages.push(message("user", line));
        match self.answer() {
            Ok(text) => {
                self.messages.push(message("assistant", &text));
                Ok(())
            }
            Err(error) => {
                // The conversation stays as it was, so that a shorter turn can be tried.
                self.messages.pop();
                Err(error)
            }
        }
    }

    fn answer(&mut self) -> Result<String, CliError> {
        let Self { host, session, .. } = self;
        host.engine.set_messages(*session, &self.messages)?;
        let prompt_tokens = host.engine.history(*session)?.len();
        let answering = Answering::start();
        let asked = Instant::now();
        host.engine.generate(*session, &self.options)?;
        let (mut first, mut last) = (None, asked);
        let reason = host.answer(*session, Some(&answering), |piece, tokens| {
            last = Instant::now();
            if tokens > 0 && first.is_none() {
                first = Some(last);
            }
            output::text(piece)
        })?;
        drop(answering);
        let output = host.engine.output(*session)?;
        let (text, tokens) = (output.text.clone(), output.tokens.len());
        if !text.ends_with('\n') {
            output::text("\n")?;
        }
        let why = match reason {
            FinishReason::Cancelled => Some("stopped"),
            FinishReason::MaxTokens => Some("stopped at --max-tokens"),
            FinishReason::ContextFull => Some("the context is full; /reset starts anew"),
            _ => None,
        };
        if let Some(why) = why {
            output::note(&Style::stderr().dim(&format!("[{why}]")));
        }
        let first = first.unwrap_or(last);
        self.last = Some(AnswerStats {
            prompt_tokens,
            tokens,
            first_token_s: first.duration_since(asked).as_secs_f64(),
            tok_s: rate(tokens.saturating_sub(1), last.duration_since(first).as_secs_f64()),
        });
        Ok(text)
    }
}

/// Where turns come from.
enum Lines {
    Terminal { editor: Box<DefaultEditor>, prompt: String, history: Option<PathBuf> },
    Pipe(std::io::Lines<std::io::StdinLock<'static>>),
}

impl Lines {
    fn open() -> Result<Self, CliError> {
        if !std::io::stdin().is_terminal() {
            return Ok(Self::Pipe(std::io::stdin().lock().lines()));
        }
        let mut editor = Box::new(DefaultEditor::new().map_err(|error| terminal(&error))?);
        let history =
            crate::pull::Places::from_environment().ok().map(|places| places.folder.join("chat-history"));
        if let Some(history) = &history {
            // The first time there is none.
            let _ = editor.load_history(history);
        }
        Ok(Self::Terminal { editor, prompt: Style::stdout().cyan(PROMPT), history })
    }

    fn are_typed(&self) -> bool {
        matches!(self, Self::Terminal { .. })
    }

    /// The next line; `None` at the end.
    fn next(&mut self) -> Result<Option<String>, CliError> {
        let (editor, prompt) = match self {
            Self::Pipe(lines) => {
                return lines.next().transpose().map_err(|error| CliError::read("stdin", &error));
            }
            Self::Terminal { editor, prompt, .. } => (editor, prompt),
        };
        loop {
            // The plain text tells the width, the styled one is shown.
            match editor.readline(&(PROMPT, prompt.as_str())) {
                Ok(line) => {
                    let _ = editor.add_history_entry(line.as_str());
                    return Ok(Some(line));
                }
                Err(ReadlineError::Interrupted) => output::note("Ctrl-D or /quit leaves"),
                Err(ReadlineError::Eof) => return Ok(None),
                Err(error) => return Err(terminal(&error)),
            }
        }
    }

    /// Keeps the lines for the next conversation.
    fn close(&mut self) {
        let Self::Terminal { editor, history: Some(history), .. } = self else {
            return;
        };
        let folder = history.parent().map_or(Ok(()), std::fs::create_dir_all);
        if let Err(error) = folder.map_err(ReadlineError::from).and_then(|()| editor.save_history(history)) {
            tracing::warn!(%error, file = %history.display(), "the history was not saved");
        }
    }
}

fn terminal(error: &ReadlineError) -> CliError {
    CliError::Read { file: "the terminal".into(), reason: error.to_string() }
}
