//! BPE with marked spaces and byte fallback: Llama 2, Mistral, Phi 3, Gemma.

use serde_json::Value;
use std::collections::HashMap;

use super::json::{TokenizerFile, kind, steps, unsupported};
use super::tokens::{NORMAL, USER_DEFINED, id_of};
use crate::error::TokenizeError;
use crate::pieces::SPACE;
use crate::vocabulary::{SpacePrefix, Vocabulary};

pub(super) fn fill(vocabulary: &mut Vocabulary, file: &TokenizerFile) -> Result<(), TokenizeError> {
    let model = &file.model;
    model.check_no_affixes()?;
    if model.ignore_merges {
        return Err(unsupported("model.ignore_merges", &Value::from(true)));
    }
    vocabulary.model = "llama".to_owned();
    vocabulary.pre = "default".to_owned();
    vocabulary.merges = model.merges.iter().map(|merge| merge.0.clone()).collect();
    vocabulary.scores = scores(vocabulary);
    vocabulary.unk = model.unk_token.as_deref().and_then(|text| id_of(vocabulary, text));
    // Added tokens that contain marked spaces are ordinary tokens: merges produce them from spaces.
    for (text, kind) in vocabulary.tokens.iter().zip(&mut vocabulary.token_types) {
        if *kind == USER_DEFINED && text.contains(SPACE) {
            *kind = NORMAL;
        }
    }
    spaces(vocabulary, file)
}

/// Reads how the normalizer and the pre-tokenizer treat spaces.
fn spaces(vocabulary: &mut Vocabulary, file: &TokenizerFile) -> Result<(), TokenizeError> {
    let mark = SPACE.to_string();
    let mut marked = false;
    vocabulary.add_space_prefix = Some(false);
    for step in steps(&file.normalizer) {
        match kind(step) {
            "Prepend" if step["prepend"] == mark => vocabulary.add_space_prefix = Some(true),
            "Replace" if step["pattern"]["String"] == " " && step["content"] == mark => marked = true,
            _ => return Err(unsupported("normalizer", step)),
        }
    }
    for step in steps(&file.pre_tokenizer) {
        match kind(step) {
            // Nothing to do: the normalizer has replaced every space.
            "Split" if marked && step["pattern"]["String"] == " " => {}
            "Metaspace" if step["replacement"] == mark => {
                marked = true;
                metaspace(vocabulary, step)?;
            }
            _ => return Err(unsupported("pre_tokenizer", step)),
        }
    }
    if marked { Ok(()) } else { Err(unsupported("normalizer", &file.normalizer)) }
}

/// Reads where `Metaspace` puts a space before the text, and whether it splits before each space.
pub(super) fn metaspace(vocabulary: &mut Vocabulary, step: &Value) -> Result<(), TokenizeError> {
    let (prefix, place) = match (step["prepend_scheme"].as_str(), step["add_prefix_space"].as_bool()) {
        (Some("never"), _) | (None, Some(false)) => (false, SpacePrefix::Missing),
        (Some("first"), _) => (true, SpacePrefix::Start),
        (Some("always"), _) | (None, _) => (true, SpacePrefix::Missing),
        _ => return Err(unsupported("pre_tokenizer", step)),
    };
    vocabulary.add_space_prefix = Some(prefix);
    vocabulary.space_prefix = place;
    // Files without this field are older than the option. They split.
    vocabulary.split_at_spaces = step["split"] != false;
    Ok(())
}

/// Computes scores that make SentencePiece merge in the order of the merge list, as far as scores can express it. A
/// token's score follows from the first merge that produces it.
fn scores(vocabulary: &Vocabulary) -> Vec<f32> {
    let ids: HashMap<&str, usize> =
        vocabulary.tokens.iter().enumerate().map(|(id, text)| (text.as_str(), id)).collect();
    let mut scores = vec![0.0; vocabulary.tokens.len()];
    for (rank, merge) in vocabulary.merges.iter().enumerate().rev() {
        if let Some(&id) = ids.get(merge.replacen(' ', "", 1).as_str()) {
            scores[id] = -(rank as f32) - 1.0;
        }
    }
    scores
}
