//! `weft merge`: a model with a LoRA adapter merged into it.

use crate::args::MergeArgs;
use crate::interrupt::{self, Answering};
use crate::progress::WriteBar;
use crate::report::CliError;
use crate::{host, memory, output};
use serde::Serialize;
use std::ops::ControlFlow;
use std::time::Instant;
use weft::storage::NewFile;
use weft::{AdapterFiles, Merge, MergeError, Stored};

#[derive(Serialize)]
struct Report<'a> {
    path: &'a str,
    bytes: u64,
    tensors: usize,
    /// Tensors that the adapter changes.
    changed: usize,
    seconds: f64,
}

/// Runs the command.
pub(super) fn run(args: &MergeArgs) -> Result<(), CliError> {
    let start = Instant::now();
    let name = args.out.display().to_string();
    let stored = args.format.as_deref().map_or(Ok(Stored::Same), Stored::from_name)?;
    let sources = weft::gguf::open_files(&host::model_file(Some(&args.model))?)?;
    let adapter = AdapterFiles::open(&args.lora).map_err(MergeError::from)?;
    let plan = Merge::new(&name, sources, &adapter, args.lora_scale, stored)?;
    let file = NewFile::create(&args.out, args.force, plan.bytes())?;
    let bar = WriteBar::new(&name, plan.bytes());
    interrupt::install();
    let ctrl_c = Answering::start();
    let written = plan.write(file, args.threads, |bytes| {
        bar.show(bytes);
        if ctrl_c.pressed() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let file = written.map_err(|error| match error {
        MergeError::Stopped { .. } => CliError::Interrupted,
        error => error.into(),
    })?;
    file.commit()?;
    drop(bar);
    let seconds = start.elapsed().as_secs_f64();
    let (bytes, tensors, changed) = (plan.bytes(), plan.tensors(), plan.changed());
    if args.json {
        return output::json(&Report { path: &name, bytes, tensors, changed, seconds });
    }
    output::line(&name)?;
    output::note(&format!(
        "{}, {changed} of {tensors} tensors changed, {seconds:.1} s",
        memory::human(bytes)
    ));
    Ok(())
}
