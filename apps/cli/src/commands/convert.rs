//! `weft convert`: converts a Hugging Face folder to a GGUF file.

use super::quantize::{Target, write};
use crate::args::ConvertArgs;
use crate::error::CliError;
use crate::make;
use std::time::Instant;
use weft::gguf::Gguf;
use weft::hugging_face::folder_of;
use weft::quantize::{Quantize, QuantizeOptions};

/// The tensor whose format is used for all weights if the user names none.
const EMBEDDING: &str = "token_embd.weight";

/// Runs the command.
pub(super) fn run(args: &ConvertArgs) -> Result<(), CliError> {
    let start = Instant::now();
    if args.folder.exists() && folder_of(&args.folder).is_none() {
        let folder = args.folder.display();
        return Err(CliError::usage(format!("{folder} is not a folder; weft quantize takes GGUF files")));
    }
    let sources = make::open(&args.folder, &args.out)?;
    let gguf = Gguf::read(&sources)?;
    let own = gguf.tensor(EMBEDDING).map_or("f16", |tensor| tensor.format.name());
    let options = QuantizeOptions::new(args.mix.as_deref().unwrap_or(own))?;
    let plan = Quantize::new(&args.out.display().to_string(), &sources, &options)?;
    let target = Target { out: &args.out, force: args.force, threads: args.threads, json: args.json, start };
    write(&plan, &options, &target)
}
