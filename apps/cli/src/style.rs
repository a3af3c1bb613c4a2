//! Colours: used only on a terminal, and not if `NO_COLOR` is set (<https://no-color.org>).

use console::Term;

/// Wraps text in escape sequences, or leaves it unchanged if colours are off.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    colour: bool,
}

impl Style {
    /// The style for text on stdout.
    pub(crate) fn stdout() -> Self {
        Self { colour: coloured(&Term::stdout()) }
    }

    /// The style for text on stderr.
    pub(crate) fn stderr() -> Self {
        Self { colour: on_stderr() }
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// For headings.
    pub(crate) fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    /// For less important text.
    pub(crate) fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    /// For errors.
    pub(crate) fn red(self, text: &str) -> String {
        self.wrap("1;31", text)
    }

    /// For the input prompt.
    pub(crate) fn cyan(self, text: &str) -> String {
        self.wrap("36", text)
    }
}

/// Returns true if escape sequences may be written to this stream: it is a terminal that understands them, and the user has not
/// asked for plain text.
fn coloured(stream: &Term) -> bool {
    // A Windows console interprets escape sequences only once a program has switched that on, which this question does.
    let understands = || !cfg!(windows) || stream.features().colors_supported();
    allowed() && stream.is_term() && understands()
}

/// Returns true if escape sequences may be written to stderr.
pub(crate) fn on_stderr() -> bool {
    coloured(&Term::stderr())
}

/// Returns false if the user turned colours off.
pub(crate) fn allowed() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
