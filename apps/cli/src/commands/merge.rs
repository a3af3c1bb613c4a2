//! `weft merge`: merges a LoRA adapter into a model.

use crate::args::MergeArgs;
use crate::error::CliError;
use crate::{make, memory, output};
use serde::Serialize;
use std::time::Instant;
use weft::{AdapterFiles, Merge, MergeError, Stored};

#[derive(Serialize)]
struct Report<'a> {
    path: &'a str,
    bytes: u64,
    tensors: usize,
    /// Number of tensors that the adapter changes.
    changed: usize,
    seconds: f64,
}

/// Runs the command.
pub(super) fn run(args: &MergeArgs) -> Result<(), CliError> {
    let start = Instant::now();
    let name = args.out.display().to_string();
    let stored = args.format.as_deref().map_or(Ok(Stored::Same), Stored::from_name)?;
    let sources = make::model(&args.model, &args.out)?;
    let adapter = AdapterFiles::open(&args.lora).map_err(MergeError::from)?;
    make::keep(&adapter.files(), &args.out)?;
    let plan = Merge::new(&name, sources, &adapter, args.lora_scale, stored)?;
    make::write(&args.out, args.force, plan.bytes(), |file, progress| {
        plan.write(file, args.threads, progress)
    })?;
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
