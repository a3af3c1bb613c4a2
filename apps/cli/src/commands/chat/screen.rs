//! Writes an answer to stdout as it is generated, wrapped at words if stdout is a terminal.
//!
//! Invariant: each answer ends with one line end, and only answers reach stdout.

use super::wrap::Wrap;
use crate::error::CliError;
use crate::output;
use console::Term;
use std::io::IsTerminal;

/// Width in columns that is assumed if the terminal does not report one.
const USUAL_COLUMNS: usize = 80;

/// The output of one answer.
pub(super) struct Screen {
    /// The terminal and its wrapped text; `None` if stdout is a file or a pipe.
    terminal: Option<(Term, Wrap)>,
    /// Line ends at the end of the text so far. They are written only if more text follows.
    line_ends: usize,
}

impl Screen {
    /// Starts an answer.
    pub(super) fn open() -> Self {
        let terminal = std::io::stdout().is_terminal().then(|| (Term::stdout(), Wrap::new()));
        Self { terminal, line_ends: 0 }
    }

    /// Writes a piece of text.
    pub(super) fn write(&mut self, piece: &str) -> Result<(), CliError> {
        let text = piece.trim_end_matches('\n');
        if text.is_empty() {
            self.line_ends += piece.len();
            return Ok(());
        }
        let ends = std::mem::replace(&mut self.line_ends, piece.len() - text.len());
        let text = format!("{}{text}", "\n".repeat(ends));
        match &mut self.terminal {
            None => output::text(&text),
            Some((terminal, wrap)) => output::text(&wrap.push(&text, columns(terminal))),
        }
    }

    /// Writes text that was held back, and one line end.
    pub(super) fn close(mut self) -> Result<(), CliError> {
        let rest = match &mut self.terminal {
            None => String::new(),
            Some((terminal, wrap)) => wrap.finish(columns(terminal)),
        };
        output::line(&rest)
    }
}

/// The terminal's current width; the user may have resized it.
fn columns(terminal: &Term) -> usize {
    terminal.size_checked().map_or(USUAL_COLUMNS, |(_, columns)| usize::from(columns).max(1))
}
