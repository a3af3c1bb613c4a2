//! `weft quantize`: stores a model's weights in other formats.

use crate::args::QuantizeArgs;
use crate::error::CliError;
use crate::{make, memory, output};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;
use weft::TensorFormat;
use weft::quantize::{Quantize, QuantizeError, QuantizeOptions, quantized_formats};

#[derive(Serialize)]
struct Report<'a> {
    path: &'a str,
    #[serde(rename = "type")]
    mix: &'static str,
    bytes: u64,
    tensors: usize,
    /// Number of tensors per format.
    formats: BTreeMap<&'static str, usize>,
    /// Time from reading the header to renaming the finished file.
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
    let name = args.out.display().to_string();
    let sources = make::model(&args.input, &args.out)?;
    let plan = Quantize::new(&name, &sources, &options)?;
    let again = plan.requantized();
    if again > 0 {
        let said =
            "were quantized before, which loses more than quantizing floats; prefer the unquantized model";
        output::note(&format!("warning: {again} tensors {said}"));
    }
    write(
        &plan,
        &options,
        &Target { out: &args.out, force: args.force, threads: args.threads, json: args.json, start },
    )
}

/// Where the output goes, and with which options.
pub(super) struct Target<'a> {
    pub(super) out: &'a Path,
    pub(super) force: bool,
    pub(super) threads: usize,
    pub(super) json: bool,
    /// When the command began.
    pub(super) start: Instant,
}

/// Writes a planned file and reports the result.
pub(super) fn write(
    plan: &Quantize<'_>,
    options: &QuantizeOptions,
    target: &Target<'_>,
) -> Result<(), CliError> {
    let name = target.out.display().to_string();
    make::write(target.out, target.force, plan.bytes(), |file, progress| {
        plan.write(file, target.threads, progress)
    })?;
    let seconds = target.start.elapsed().as_secs_f64();
    let (bytes, formats) = (plan.bytes(), plan.formats());
    let tensors = formats.values().sum();
    if target.json {
        let mix = options.mix.name();
        return output::json(&Report { path: &name, mix, bytes, tensors, formats, seconds });
    }
    output::line(&name)?;
    let formats: Vec<_> = formats.iter().map(|(format, count)| format!("{count} {format}")).collect();
    output::note(&format!("{}, tensors: {}; {seconds:.1} s", memory::human(bytes), formats.join(", ")));
    Ok(())
}

/// Returns the format called `name`.
fn format(name: &str) -> Result<TensorFormat, CliError> {
    let found = quantized_formats().find(|format| format.name().eq_ignore_ascii_case(name));
    found.ok_or_else(|| {
        let supported = quantized_formats().map(TensorFormat::name).collect::<Vec<_>>().join(", ");
        QuantizeError::UnsupportedType { name: name.to_owned(), supported }.into()
    })
}
