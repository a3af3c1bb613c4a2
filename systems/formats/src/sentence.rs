//! Settings of `sentence-transformers` for a model's embeddings, stored as GGUF metadata.
//!
//! GGUF defines a key for the pooling only. The other keys are specific to this engine, and other programs ignore them.

use super::gguf::{GgufError, Metadata, Value};
use weft_components::SentenceConfig;

const MAX_TOKENS: &str = "weft.sentence.max_tokens";
const PROMPT: &str = "weft.sentence.prompt";
const LOWER_CASE: &str = "weft.sentence.lower_case";
const UNSUPPORTED: &str = "weft.sentence.unsupported";

/// The key that says that the model has no head. Without it, a file without a head tensor means that the embedding is
/// the head.
pub(super) const NO_HEAD: &str = "weft.no_head";

/// Returns the metadata entries of `sentence`.
pub(super) fn entries(sentence: &SentenceConfig) -> Vec<(String, Value)> {
    let text = |text: &str| Value::String(text.to_owned());
    let entries = [
        (MAX_TOKENS, sentence.max_tokens.map(|tokens| Value::U64(tokens as u64))),
        (PROMPT, (!sentence.prompt.is_empty()).then(|| text(&sentence.prompt))),
        (LOWER_CASE, sentence.lower_case.then_some(Value::Bool(true))),
        (UNSUPPORTED, sentence.unsupported.as_deref().map(text)),
    ];
    entries.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
}

/// Reads the settings from metadata.
///
/// # Errors
/// A value of the wrong type.
pub(super) fn read(metadata: &Metadata) -> Result<SentenceConfig, GgufError> {
    let max_tokens = metadata.opt_u64(MAX_TOKENS)?.filter(|tokens| *tokens > 0);
    Ok(SentenceConfig {
        max_tokens: max_tokens.map(|tokens| usize::try_from(tokens).unwrap_or(usize::MAX)),
        prompt: metadata.opt_str(PROMPT)?.unwrap_or_default().to_owned(),
        lower_case: metadata.opt_bool(LOWER_CASE)?.unwrap_or(false),
        unsupported: metadata.opt_str(UNSUPPORTED)?.map(str::to_owned),
    })
}
