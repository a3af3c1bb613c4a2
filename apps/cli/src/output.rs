//! All output to stdout, and lines of text to stderr.
//!
//! Invariant: if the reader closes its end, as `head` does, the program ends quietly instead of panicking.

use crate::error::CliError;
use serde::Serialize;
use std::io::{self, ErrorKind, IsTerminal, Write};

/// Writes bytes to stdout and flushes them, so that text appears as it is generated.
pub(crate) fn bytes(bytes: &[u8]) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(failed)
}

/// Writes text to stdout unchanged.
pub(crate) fn text(text: &str) -> Result<(), CliError> {
    bytes(text.as_bytes())
}

/// Writes a line to stdout.
pub(crate) fn line(line: &str) -> Result<(), CliError> {
    text(&format!("{line}\n"))
}

/// Writes text unchanged to a pipe or a file. On a terminal, adds a line end if it has none.
pub(crate) fn exact(exact: &str) -> Result<(), CliError> {
    text(exact)?;
    if io::stdout().is_terminal() && !exact.ends_with('\n') {
        text("\n")?;
    }
    Ok(())
}

/// Writes one JSON value and a line end. Floats have enough digits to be read back exactly.
pub(crate) fn json(value: &impl Serialize) -> Result<(), CliError> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    serde_json::to_writer(&mut out, value).map_err(io::Error::from).map_err(failed)?;
    out.write_all(b"\n").and_then(|()| out.flush()).map_err(failed)
}

/// Writes a prompt for input to stderr. A failure is ignored, since there is nowhere to report it.
pub(crate) fn prompt(prompt: &str) {
    let mut err = io::stderr().lock();
    let _ = err.write_all(prompt.as_bytes()).and_then(|()| err.flush());
}

/// Writes a line to stderr. A failure is ignored, since there is nowhere to report it.
pub(crate) fn note(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

fn failed(error: io::Error) -> CliError {
    match error.kind() {
        ErrorKind::BrokenPipe => CliError::ReaderGone,
        _ => CliError::Write { to: "stdout".into(), reason: error.to_string() },
    }
}
