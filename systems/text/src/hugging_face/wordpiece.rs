//! WordPiece: BERT and the embedding models derived from it.

use serde_json::Value;

use super::json::{TokenizerFile, kind, steps, unsupported};
use super::tokens::{CONTROL, NORMAL, id_of};
use crate::error::TokenizeError;
use crate::pieces::SPACE;
use crate::vocabulary::Vocabulary;

/// Marks a token that continues a word.
const CONTINUES: &str = "##";
/// Longer words are unknown. No file in use has another limit.
const LONGEST_WORD: u64 = 100;

pub(super) fn fill(vocabulary: &mut Vocabulary, file: &TokenizerFile) -> Result<(), TokenizeError> {
    let model = &file.model;
    let prefix = model.continuing_subword_prefix.as_deref().unwrap_or(CONTINUES);
    if prefix != CONTINUES {
        return Err(unsupported("model.continuing_subword_prefix", &Value::from(prefix)));
    }
    if model.max_input_chars_per_word.is_some_and(|longest| longest != LONGEST_WORD) {
        let value = Value::from(model.max_input_chars_per_word);
        return Err(unsupported("model.max_input_chars_per_word", &value));
    }
    let [normalizer] = steps(&file.normalizer)[..] else {
        return Err(unsupported("normalizer", &file.normalizer));
    };
    let flag = |key: &str| normalizer[key].as_bool();
    let known = kind(normalizer) == "BertNormalizer"
        && flag("clean_text") != Some(false)
        && flag("handle_chinese_chars") != Some(false);
    if !known {
        return Err(unsupported("normalizer", normalizer));
    }
    let [pre_tokenizer] = steps(&file.pre_tokenizer)[..] else {
        return Err(unsupported("pre_tokenizer", &file.pre_tokenizer));
    };
    if kind(pre_tokenizer) != "BertPreTokenizer" {
        return Err(unsupported("pre_tokenizer", pre_tokenizer));
    }
    vocabulary.unk = model.unk_token.as_deref().and_then(|text| id_of(vocabulary, text));
    vocabulary.model = "bert".to_owned();
    vocabulary.lowercase = Some(flag("lowercase").unwrap_or(true));
    vocabulary.strip_accents = Some(flag("strip_accents").or(vocabulary.lowercase).unwrap_or(true));
    // GGUF vocabularies mark the beginning of a word, not its continuation.
    for (id, (text, kind)) in (0u32..).zip(vocabulary.tokens.iter_mut().zip(&mut vocabulary.token_types)) {
        if *kind != NORMAL {
            continue;
        }
        if Some(id) == vocabulary.unk {
            *kind = CONTROL;
        } else if let Some(rest) = text.strip_prefix(CONTINUES).filter(|rest| !rest.is_empty()) {
            *text = rest.to_owned();
        } else {
            text.insert(0, SPACE);
        }
    }
    Ok(())
}
