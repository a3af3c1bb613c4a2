//! `weft tokenize`: converts text from stdin to token ids.

use crate::args::TokenizeArgs;
use crate::error::CliError;
use crate::{host, input, output};
use serde::Serialize;
use weft::{SpecialTokens, VocabularyFile};

#[derive(Serialize)]
struct Report<'a> {
    tokens: &'a [u32],
}

/// Runs the command.
pub(super) fn run(args: &TokenizeArgs) -> Result<(), CliError> {
    let file = VocabularyFile::read(host::model_file(args.model.as_deref())?.as_path())?;
    let special = if args.special { SpecialTokens::Parse } else { SpecialTokens::AsText };
    let tokens = file.tokenizer.encode(&input::stdin()?, special, !args.no_bos)?;
    if args.json {
        return output::json(&Report { tokens: &tokens });
    }
    let ids: Vec<String> = tokens.iter().map(u32::to_string).collect();
    output::line(&ids.join(","))
}
