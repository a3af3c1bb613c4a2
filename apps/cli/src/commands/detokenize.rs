//! `weft detokenize`: converts token ids to text.

use crate::args::DetokenizeArgs;
use crate::error::CliError;
use crate::{host, output};
use serde::Serialize;
use weft::VocabularyFile;

#[derive(Serialize)]
struct Report {
    text: String,
}

/// Runs the command. Special tokens are written by their names, so that every given id shows in the text.
pub(super) fn run(args: &DetokenizeArgs) -> Result<(), CliError> {
    let file = VocabularyFile::read(host::model_file(args.model.as_deref())?.as_path())?;
    let text = file.tokenizer.decode(&args.tokens.0, !args.no_special)?;
    if args.json { output::json(&Report { text }) } else { output::exact(&text) }
}
