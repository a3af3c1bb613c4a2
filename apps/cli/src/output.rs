//! The one place that writes to stdout, and the one that writes lines to stderr.
//!
//! Invariant: a reader that closes its end, such as `head`, ends the program quietly instead of with a panic.

use crate::error::CliError;
use serde::Serialize;
use std::io::{self, ErrorKind, IsTerminal, Write};

/// Writes bytes to stdout and flushes them, so that text streams.
pub(crate) fn bytes(bytes: &[u8]) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(failed)
}

/// Writes text as it is.
pub(crate) fn text(text: &str) -> Result<(), CliError> {
    bytes(text.as_bytes())
}

/// Writes a line.
pub(crate) fn line(line: &str) -> Result<(), CliError> {
    text(&format!("{line}\n"))
}

/// Writes text exactly for a pipe or a file, and on a terminal with a line's end.
pub(crate) fn exact(exact: &str) -> Result<(), CliError> {
    text(exact)?;
    if io::stdout().is_terminal() && !exact.ends_with('\n') {
        text("\n")?;
    }
    Ok(())
}

/// Writes one JSON value and a line's end. Floats have as many digits as it takes to read them back.
pub(crate) fn json(value: &impl Serialize) -> Result<(), CliError> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    serde_json::to_writer(&mut out, value).map_err(io::Error::from).map_err(failed)?;
    out.write_all(b"\n").and_then(|()| out.flush()).map_err(failed)
}

/// Writes to stderr what asks for a line of input. There is nobody to tell where that fails.
pub(crate) fn prompt(prompt: &str) {
    let mut err = io::stderr().lock();
    let _ = err.write_all(prompt.as_bytes()).and_then(|()| err.flush());
}

/// Writes a line to stderr. There is nobody to tell where that fails.
pub(crate) fn note(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

fn failed(error: io::Error) -> CliError {
    match error.kind() {
        ErrorKind::BrokenPipe => CliError::ReaderGone,
        _ => CliError::Write { to: "stdout".into(), reason: error.to_string() },
    }
}
