//! `weft chat`: a conversation with a model.
//!
//! [`lines`] reads what the user types or a script pipes in. [`turns`] separates messages from commands. [`answer`]
//! generates the model's answer within the context, and [`screen`] writes it. Only answers go to stdout; everything
//! else, such as the output of commands, goes to stderr or to the terminal device. Ctrl-C stops an answer and keeps the
//! part that was generated.

mod answer;
mod command;
mod conversation;
mod lines;
mod screen;
mod settings;
mod stats;
mod turns;
mod wrap;

use crate::args::{ChatArgs, ContextPolicy};
use crate::error::CliError;
use crate::host::{Host, HostOptions, generate_options};
use crate::input;
use crate::interrupt;
use crate::output;
use crate::style::Style;
use answer::{AnswerStats, Draft};
use command::Next;
use conversation::Conversation;
use lines::Lines;
use settings::Settings;
use std::path::PathBuf;
use turns::Turn;
use weft::SessionId;

/// Where the last answer was cut off.
enum Cut {
    /// Not at all: it is complete.
    Nowhere,
    /// After this draft, at the end of a character.
    At(Draft),
    /// Unknown, because the answer was loaded from a file.
    Unknown,
}

/// A conversation and the session that computes it. One exists per run of the command.
struct Chat {
    host: Host,
    session: SessionId,
    conversation: Conversation,
    settings: Settings,
    policy: ContextPolicy,
    last: Option<AnswerStats>,
    cut: Cut,
    /// Notes to print once the answer is complete.
    notes: Vec<String>,
    /// The file that the conversation is saved to.
    save: Option<PathBuf>,
    /// True if a message was added or removed since the start. Until then the file is not written.
    changed: bool,
    /// True if statistics are printed after each answer.
    stats: bool,
}

/// Runs the command.
pub(super) fn run(args: &ChatArgs, isa: Option<&str>) -> Result<(), CliError> {
    interrupt::install();
    let mut chat = Chat::open(args, isa)?;
    let mut lines = Lines::open()?;
    if lines.are_typed() {
        // Weights are loaded by ticks, and there are none while the user types a line. From a pipe the first turn comes
        // at once and is computed while layers load.
        chat.host.wait_loaded()?;
        chat.greet();
    }
    let mut failed = None;
    loop {
        let done = match turns::next(&mut lines)? {
            Turn::Leave => break,
            Turn::Command(command) => command::run(&mut chat, &command),
            Turn::Message(message) => chat.ask(&message).map(|()| Next::Go),
        };
        match done {
            Ok(Next::Go) => {}
            Ok(Next::Leave) => break,
            Err(error @ (CliError::ReaderGone | CliError::InvalidLogits { .. })) => return Err(error),
            Err(error) if chat.host.engine.progress(chat.host.model).is_err() => return Err(error),
            Err(error) => {
                error.tell();
                // Wrong usage of a command changes nothing, so it does not make the chat fail.
                failed = failed.or(Some(error).filter(|error| !matches!(error, CliError::Usage { .. })));
            }
        }
    }
    lines.close();
    chat.close()?;
    chat.host.save_prefixes(&args.prefix)?;
    // A user at the terminal has seen the error; a script needs the exit code.
    match failed.filter(|_| !lines.are_typed()) {
        Some(error) => Err(CliError::Told { source: Box::new(error) }),
        None => Ok(()),
    }
}

impl Chat {
    fn open(args: &ChatArgs, isa: Option<&str>) -> Result<Self, CliError> {
        let template = input::template(args.generate.args.chat_template.as_deref())?;
        let context = args.generate.args.context;
        let options = HostOptions { kv_tokens: context, context, throttle: None, template };
        let mut conversation = match &args.load {
            Some(file) => Conversation::load(file)?,
            None => Conversation::default(),
        };
        if let Some(text) = &args.system {
            conversation.set_system(text);
        }
        if let Some(file) = &args.save {
            Conversation::may_keep(file, args.load.as_deref())?;
        }
        let mut host = Host::open(&args.model, isa, options)?;
        if !host.engine.has_template(host.model) {
            return Err(weft::Error::NoTemplate.into());
        }
        let recommended = host.engine.sampling_defaults(host.model)?;
        for ignored in &recommended.ignored {
            output::note(&ignored.to_string());
        }
        let settings =
            Settings::new(generate_options(&args.generate.args), &args.generate.given, recommended);
        host.load_prefixes(&args.prefix)?;
        let session = host.session(context)?;
        Ok(Self {
            host,
            session,
            conversation,
            settings,
            policy: args.context_policy,
            last: None,
            cut: Cut::Unknown,
            notes: Vec::new(),
            save: args.save.clone(),
            changed: false,
            stats: args.stats,
        })
    }

    fn greet(&self) {
        output::note(&Style::stderr().bold(&self.host.file_name));
        output::note("/help lists commands, Ctrl-C stops an answer, Ctrl-D leaves");
        let loaded = self.conversation.len();
        if loaded > self.conversation.head() {
            output::note(&format!("the conversation continues after {loaded} messages"));
        }
    }

    /// Saves the conversation to the file that was asked for. Reports a failure without ending the chat.
    fn autosave(&self) {
        if let Some(file) = &self.save
            && let Err(error) = self.conversation.save(file)
        {
            error.tell();
        }
    }

    /// Saves the conversation at the end of the chat, if it changed.
    fn close(&self) -> Result<(), CliError> {
        let Some(file) = self.save.as_ref().filter(|_| self.changed) else { return Ok(()) };
        self.conversation.save(file)?;
        output::note(&format!("{} messages saved to {}", self.conversation.len(), file.display()));
        Ok(())
    }
}
