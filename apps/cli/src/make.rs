//! Making a model file of another: a bar while it grows, Ctrl-C, and its name only once it is whole.

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

/// The model in `input`, a GGUF file or a folder, from which `out` is to be made.
///
/// # Errors
/// What is not there or cannot be read, and an `out` that is the model itself.
pub(crate) fn model(input: &str, out: &Path) -> Result<Vec<Arc<dyn Source>>, CliError> {
    open(&host::model_file(Some(input))?, out)
}

/// The same of a path.
///
/// # Errors
/// As [`model`].
pub(crate) fn open(path: &Path, out: &Path) -> Result<Vec<Arc<dyn Source>>, CliError> {
    let model = ModelSource::from(path).open()?;
    keep(&model.files, out)?;
    Ok(model.sources)
}

/// Refuses to write `out` over a file that is read.
pub(crate) fn keep(read: &[PathBuf], out: &Path) -> Result<(), CliError> {
    let Ok(found) = fs::canonicalize(out) else { return Ok(()) };
    if read.iter().filter_map(|path| fs::canonicalize(path).ok()).any(|path| path == found) {
        let message = format!("{} is the model that is read; write to another file", out.display());
        return Err(CliError::usage(message));
    }
    Ok(())
}

/// Writes `bytes` to the file `out` through `write`, which is given the file and what to tell of the bytes so far. Told to stop, it
/// is to give an error, which becomes [`CliError::Interrupted`].
pub(crate) fn write<E: Into<CliError>>(
    out: &Path,
    force: bool,
    bytes: u64,
    write: impl FnOnce(NewFile, &mut dyn FnMut(u64) -> ControlFlow<()>) -> Result<NewFile, E>,
) -> Result<(), CliError> {
    // Before there is a part of the file that Ctrl-C could leave behind.
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
