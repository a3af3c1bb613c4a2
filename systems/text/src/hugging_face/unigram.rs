//! Unigram models: T5, XLM-RoBERTa.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::files::TOKENIZER;
use super::json::{TokenizerFile, Vocab, kind, steps, unsupported};
use super::sentencepiece::metaspace;
use super::tokens::{CONTROL, UNKNOWN};
use crate::error::TokenizeError;
use crate::pieces::SPACE;
use crate::vocabulary::Vocabulary;

pub(super) fn fill(vocabulary: &mut Vocabulary, file: &TokenizerFile) -> Result<(), TokenizeError> {
    let model = &file.model;
    let Vocab::Scores(scored) = &model.vocab else {
        return Err(unsupported("model.vocab", &Value::from("without scores")));
    };
    vocabulary.model = "t5".to_owned();
    vocabulary.pre = "default".to_owned();
    vocabulary.scores = scored.iter().map(|(_, score)| *score as f32).collect();
    vocabulary.scores.resize(vocabulary.tokens.len(), 0.0);
    vocabulary.unk = model.unk_id;
    if let Some(kind) = model.unk_id.and_then(|id| vocabulary.token_types.get_mut(id as usize)) {
        *kind = if *kind == CONTROL { CONTROL } else { UNKNOWN };
    }
    for step in steps(&file.normalizer) {
        match kind(step) {
            "Precompiled" => {
                let table = step["precompiled_charsmap"].as_str().unwrap_or_default();
                vocabulary.charsmap = STANDARD.decode(table).map_err(|error| TokenizeError::HuggingFace {
                    file: TOKENIZER,
                    reason: format!("normalizer.precompiled_charsmap: {error}"),
                })?;
            }
            "Replace" if step["pattern"]["Regex"] == " {2,}" && collapses(&step["content"]) => {
                vocabulary.remove_extra_whitespaces = Some(true);
            }
            "Strip" => vocabulary.remove_extra_whitespaces = Some(true),
            _ => return Err(unsupported("normalizer", step)),
        }
    }
    vocabulary.add_space_prefix = Some(false);
    for step in steps(&file.pre_tokenizer) {
        match kind(step) {
            "WhitespaceSplit" => vocabulary.remove_extra_whitespaces = Some(true),
            "Metaspace" if step["replacement"] == SPACE.to_string() => metaspace(vocabulary, step)?,
            _ => return Err(unsupported("pre_tokenizer", step)),
        }
    }
    Ok(())
}

/// Returns true if the replacement turns a run of spaces into one space.
fn collapses(content: &Value) -> bool {
    *content == " " || *content == SPACE.to_string()
}
