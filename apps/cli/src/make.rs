//! Writing a model file: a bar while it grows, Ctrl-C, and its name only once it is whole.

use crate::interrupt::{self, Answering};
use crate::progress::WriteBar;
use crate::report::CliError;
use std::cell::Cell;
use std::ops::ControlFlow;
use std::path::Path;
use weft::storage::NewFile;

/// Writes `bytes` to the file `out` through `write`, which is given the file and what to tell of the bytes so far. Told to stop, it
/// is to give an error, which becomes [`CliError::Interrupted`].
pub(crate) fn write<E: Into<CliError>>(
    out: &Path,
    force: bool,
    bytes: u64,
    write: impl FnOnce(NewFile, &mut dyn FnMut(u64) -> ControlFlow<()>) -> Result<NewFile, E>,
) -> Result<(), CliError> {
    let file = NewFile::create(out, force, bytes)?;
    let bar = WriteBar::new(&out.display().to_string(), bytes);
    interrupt::install();
    let ctrl_c = Answering::start();
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
