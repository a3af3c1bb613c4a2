//! `weft quantize`: a model's weights in other formats.

use crate::args::QuantizeArgs;
use crate::interrupt::{self, Answering};
use crate::progress::WriteBar;
use crate::report::CliError;
use crate::{host, memory, output};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;
use weft::TensorFormat;
use weft::gguf::open_files;
use weft::quantize::{Quantize, QuantizeError, QuantizeOptions, quantized_formats};
use weft::storage::NewFile;

#[derive(Serialize)]
struct Report<'a> {
    path: &'a str,
    #[serde(rename = "type")]
    mix: &'static str,
    bytes: u64,
    tensors: usize,
    /// Tensors of each format.
    formats: BTreeMap<&'static str, usize>,
    /// From reading the header to the file's name.
    seconds: f64,
}

/// Runs the command.
pub(super) fn run(args: &QuantizeArgs) -> Result<(), CliError> {
    let start = Instant::now();
    let options = QuantizeOptions {
        pure: args.pure,
        output: args.output_type.as_deref().map(format).transpose()?,
        embedding: args.embedding_type.as_deref().map(format).transpose()?,
        ..QuantizeOptions::new(&args.mix)?
    };
    let sources = open_files(&host::model_file(Some(&args.input))?)?;
    let name = args.out.display().to_string();
    if sources.iter().any(|source| is_same_file(&args.out, Path::new(source.name()))) {
        let message = format!("{name} is the model that is read; write to another file");
        return Err(CliError::usage(message));
    }
    let plan = Quantize::new(&name, &sources, &options)?;
    let file = NewFile::create(&args.out, args.force, plan.bytes())?;
    let again = plan.requantized();
    if again > 0 {
        let said = "were quantized before and lose more than from floats; quantize the unquantized model for the best";
        output::note(&format!("warning: {again} tensors {said}"));
    }
    let bar = WriteBar::new(&name, plan.bytes());
    interrupt::install();
    let ctrl_c = Answering::start();
    let written = plan.write(file, args.threads, |bytes| {
        bar.show(bytes);
        if ctrl_c.pressed() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let file = written.map_err(|error| match error {
        QuantizeError::Stopped { .. } => CliError::Interrupted,
        error => error.into(),
    })?;
    file.commit()?;
    drop(bar);
    let seconds = start.elapsed().as_secs_f64();
    let (bytes, formats) = (plan.bytes(), plan.formats());
    let tensors = formats.values().sum();
    if args.json {
        let mix = options.mix.name();
        return output::json(&Report { path: &name, mix, bytes, tensors, formats, seconds });
    }
    output::line(&name)?;
    let formats: Vec<_> = formats.iter().map(|(format, count)| format!("{count} {format}")).collect();
    output::note(&format!("{}, tensors: {}; {seconds:.1} s", memory::human(bytes), formats.join(", ")));
    Ok(())
}

/// The format called `name`.
fn format(name: &str) -> Result<TensorFormat, CliError> {
    let found = quantized_formats().find(|format| format.name().eq_ignore_ascii_case(name));
    found.ok_or_else(|| {
        let supported = quantized_formats().map(TensorFormat::name).collect::<Vec<_>>().join(", ");
        QuantizeError::UnsupportedType { name: name.to_owned(), supported }.into()
    })
}

/// Whether both paths lead to one file that is there.
fn is_same_file(a: &Path, b: &Path) -> bool {
    matches!((fs::canonicalize(a), fs::canonicalize(b)), (Ok(a), Ok(b)) if a == b)
}
