//! Where an answer goes as it comes: stdout, wrapped at words where that is a terminal.
//!
//! Invariant: each answer ends in one line's end, and nothing but answers reaches stdout.

use super::wrap::Wrap;
use crate::error::CliError;
use crate::output;
use console::Term;
use std::io::IsTerminal;

/// Columns of a terminal that does not say how many it has.
const USUAL_COLUMNS: usize = 80;

/// One answer on its way.
pub(super) struct Screen {
    /// The terminal and the wrapped text; `None` for a file or a pipe.
    terminal: Option<(Term, Wrap)>,
    /// Line ends that are written only if more text follows.
    line_ends: usize,
}

impl Screen {
    /// The start of an answer.
    pub(super) fn open() -> Self {
        let terminal = std::io::stdout().is_terminal().then(|| (Term::stdout(), Wrap::new()));
        Self { terminal, line_ends: 0 }
    }

    /// Writes a piece.
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

    /// Writes what is left of it, and a line's end.
    pub(super) fn close(mut self) -> Result<(), CliError> {
        let rest = match &mut self.terminal {
            None => String::new(),
            Some((terminal, wrap)) => wrap.finish(columns(terminal)),
        };
        output::line(&rest)
    }
}

/// The terminal's width now: windows change theirs.
fn columns(terminal: &Term) -> usize {
    terminal.size_checked().map_or(USUAL_COLUMNS, |(_, columns)| usize::from(columns).max(1))
}
