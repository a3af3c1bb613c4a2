//! The vocabulary of a folder, truncated to the rows of the embedding.

use weft_text::{HuggingFaceFiles, TokenizeError, Vocabulary};

/// Reads the vocabulary of a model whose embedding has `rows` rows.
///
/// Tokenizers may have more tokens, such as those for images. A text never contains them, so they are dropped.
pub(super) fn read(files: &HuggingFaceFiles<'_>, rows: u64) -> Result<Vocabulary, TokenizeError> {
    let mut vocabulary = Vocabulary::from_hugging_face(files)?;
    let rows = usize::try_from(rows).unwrap_or(usize::MAX);
    if vocabulary.tokens.len() <= rows {
        return Ok(vocabulary);
    }
    vocabulary.tokens.truncate(rows);
    vocabulary.token_types.truncate(rows);
    vocabulary.scores.truncate(rows);
    vocabulary.keep_ids_below(rows);
    for id in [&mut vocabulary.bos, &mut vocabulary.eos, &mut vocabulary.eot, &mut vocabulary.eom] {
        *id = id.filter(|id| (*id as usize) < rows);
    }
    Ok(vocabulary)
}
