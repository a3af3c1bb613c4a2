//! Colours: only on a terminal, and not where `NO_COLOR` is set (<https://no-color.org>).

use std::io::IsTerminal;

/// Wraps text in escape sequences, or leaves it alone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    colour: bool,
}

impl Style {
    /// For text that goes to stdout.
    pub(crate) fn stdout() -> Self {
        Self { colour: allowed() && std::io::stdout().is_terminal() }
    }

    /// For text that goes to stderr.
    pub(crate) fn stderr() -> Self {
        Self { colour: allowed() && std::io::stderr().is_terminal() }
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Headings.
    pub(crate) fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    /// What may be overlooked.
    pub(crate) fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    /// Errors.
    pub(crate) fn red(self, text: &str) -> String {
        self.wrap("1;31", text)
    }

    /// The prompt.
    pub(crate) fn cyan(self, text: &str) -> String {
        self.wrap("36", text)
    }
}

/// Whether the user has not asked for plain text.
pub(crate) fn allowed() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
