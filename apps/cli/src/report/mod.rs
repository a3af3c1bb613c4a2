//! Prints errors: on stderr for the user, and on stdout as JSON for a script that asked for it.

pub(crate) mod usage;

use crate::error::CliError;
use crate::output;
use crate::style::Style;
use std::process::ExitCode;

impl CliError {
    /// Reports the error to the user on stderr, and on stdout as JSON if `as_json`. Returns the exit code.
    pub(crate) fn report(&self, as_json: bool) -> ExitCode {
        match self {
            Self::ReaderGone => return ExitCode::SUCCESS,
            Self::Told { source } => return ExitCode::from(source.code()),
            _ => {}
        }
        if as_json {
            // If stdout is closed too, the exit code still reports the failure.
            let _ = output::json(&self.to_json());
        }
        self.tell();
        ExitCode::from(self.code())
    }

    /// Prints the error on stderr.
    pub(crate) fn tell(&self) {
        output::note(&format!("{} {self}", Style::stderr().red("error:")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::USAGE;
    use crate::interrupt;

    #[test]
    fn what_has_been_told_ends_as_it_would_have() {
        for (error, code) in [
            (CliError::Interrupted, interrupt::EXIT),
            (CliError::usage("no"), USAGE),
            (CliError::EmptyPrompt, 1),
        ] {
            assert_eq!(error.code(), code);
            let told = CliError::Told { source: Box::new(error) };
            assert_eq!(told.report(true), ExitCode::from(code));
        }
    }
}
