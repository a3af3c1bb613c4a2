//! Writes a new model file: shows a progress bar, stops on Ctrl-C, and gives the file its name only once it is
//! complete.

use crate::error::CliError;
use crate::host;
use crate::interrupt::{self, Answering};
use crate::progress::WriteBar;
use std::cell::Cell;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use weft::ModelSource;
use weft::storage::{NewFile, Source};

/// Opens the model in `input`, a GGUF file or a folder, which `out` is made from.
///
/// # Errors
/// If the model is missing or unreadable, or if `out` is the model itself.
pub(crate) fn model(input: &str, out: &Path) -> Result<Vec<Arc<dyn Source>>, CliError> {
    open(&host::model_file(Some(input))?, out)
}

/// Like [`model`], for a path.
///
/// # Errors
/// As [`model`].
pub(crate) fn open(path: &Path, out: &Path) -> Result<Vec<Arc<dyn Source>>, CliError> {
    let model = ModelSource::from(path).open()?;
    keep(&model.files, out)?;
    Ok(model.sources)
}

/// Refuses to write `out` over a file that is being read.
pub(crate) fn keep(read: &[PathBuf], out: &Path) -> Result<(), CliError> {
    let Ok(found) = fs::canonicalize(out) else { return Ok(()) };
    if read.iter().filter_map(|path| fs::canonicalize(path).ok()).any(|path| path == found) {
        let message = format!("{} is the model being read; write to another file", out.display());
        return Err(CliError::usage(message));
    }
    Ok(())
}

/// Writes a file of `bytes` bytes to `out`. The closure `write` gets the file and a callback, which it calls with the
/// number of bytes written so far. If the callback returns `Break`, `write` must return an error, which becomes
/// [`CliError::Interrupted`].
pub(crate) fn write<E: Into<CliError>>(
    out: &Path,
    force: bool,
    bytes: u64,
    write: impl FnOnce(NewFile, &mut dyn FnMut(u64) -> ControlFlow<()>) -> Result<NewFile, E>,
) -> Result<(), CliError> {
    // Installed before the file is created, so that Ctrl-C leaves no partial file behind.
    interrupt::install();
    let ctrl_c = Answering::start();
    let file = NewFile::create(out, force, bytes)?;
    let bar = WriteBar::new(&out.display().to_string(), bytes);
    let stopped = Cell::new(false);
    let written = write(file, &mut |bytes| {
        bar.show(bytes);
        stopped.set(ctrl_c.pressed());
        if stopped.get() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let file = written.map_err(|error| if stopped.get() { CliError::Interrupted } else { error.into() })?;
    file.commit()?;
    Ok(())
}
