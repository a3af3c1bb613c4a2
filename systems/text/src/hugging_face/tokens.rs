//! The tokens of a vocabulary with their types, and the kind of its model.

use super::files::TOKENIZER;
use super::json::{AddedToken, ModelPart, TokenizerFile, Vocab, unsupported};
use crate::error::TokenizeError;
use crate::pieces::byte_of;
use crate::vocabulary::{Rules, Vocabulary};
use serde_json::Value;

/// Ids may be this many times the number of tokens, since files leave some ids out.
const SPARSEST: usize = 2;
/// Ids may exceed that by this many more.
const SPARE_IDS: usize = 1024;

/// Values of `tokenizer.ggml.token_type`.
pub(super) const NORMAL: i32 = 1;
pub(super) const UNKNOWN: i32 = 2;
pub(super) const CONTROL: i32 = 3;
pub(super) const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

/// Returns the model's kind. Old files do not name it, so it follows from the fields that are present.
pub(super) fn model_kind(model: &ModelPart) -> &str {
    match (&model.kind, &model.vocab) {
        (Some(kind), _) => kind,
        (None, Vocab::Scores(_)) => "Unigram",
        (None, Vocab::Ids(_)) if model.max_input_chars_per_word.is_some() => "WordPiece",
        (None, Vocab::Ids(_)) => "BPE",
    }
}

/// Collects the tokens by id, with their types. An id without a token becomes a reserved token.
pub(super) fn tokens(file: &TokenizerFile) -> Result<Vocabulary, TokenizeError> {
    let model = &file.model;
    let listed: Vec<(&str, u32)> = match &model.vocab {
        Vocab::Ids(tokens) => tokens.iter().map(|(text, id)| (text.as_str(), *id)).collect(),
        Vocab::Scores(tokens) => {
            tokens.iter().zip(0u32..).map(|((text, _), id)| (text.as_str(), id)).collect()
        }
    };
    let count = listed.len() + file.added_tokens.len();
    let added = file.added_tokens.iter().map(|token| (token.content.as_str(), token.id));
    let highest = listed.iter().copied().chain(added).map(|(_, id)| id as usize).max();
    let size = highest.map_or(0, |highest| highest.saturating_add(1));
    if size > count.saturating_mul(SPARSEST).saturating_add(SPARE_IDS) {
        let reason = format!("{count} tokens have ids up to {}; the ids leave too many gaps", size - 1);
        return Err(TokenizeError::HuggingFace { file: TOKENIZER, reason });
    }
    let mut texts: Vec<Option<String>> = vec![None; size];
    let mut types = vec![NORMAL; size];
    for (text, id) in listed {
        let byte = model.byte_fallback && byte_of(text).is_some();
        texts[id as usize] = Some(text.to_owned());
        if byte {
            types[id as usize] = BYTE;
        }
    }
    for token in &file.added_tokens {
        texts[token.id as usize] = Some(token.content.clone());
        types[token.id as usize] = added_type(token, model);
    }
    let tokens = (0..).zip(texts).map(|(id, text)| match text {
        Some(text) => text,
        None => {
            types[id] = UNUSED;
            format!("[PAD{id}]")
        }
    });
    let tokens = tokens.collect();
    let ids_where = |wanted: fn(&AddedToken) -> bool| {
        file.added_tokens.iter().filter(|token| wanted(token)).map(|token| token.id).collect()
    };
    if let Some(token) = file.added_tokens.iter().find(|token| token.single_word) {
        return Err(unsupported(
            "added_tokens",
            &Value::from(format!("{:?} with single_word", token.content)),
        ));
    }
    if model.dropout.is_some_and(|dropout| dropout != 0.0) {
        return Err(unsupported("model.dropout", &Value::from(model.dropout)));
    }
    Ok(Vocabulary {
        tokens,
        token_types: types,
        lstrip: ids_where(|token| token.lstrip),
        rstrip: ids_where(|token| token.rstrip),
        rules: Rules::HuggingFace,
        ..Vocabulary::default()
    })
}

fn added_type(token: &AddedToken, model: &ModelPart) -> i32 {
    match token.special {
        true if model.unk_token.as_ref() == Some(&token.content) || model.unk_id == Some(token.id) => UNKNOWN,
        true => CONTROL,
        // Fine-tuned models add ChatML's tokens without marking them as special.
        false if looks_special(&token.content) => CONTROL,
        false => USER_DEFINED,
    }
}

/// Returns true if the text alone identifies a control token. llama.cpp's converter uses the same rules.
fn looks_special(text: &str) -> bool {
    matches!(text, "<pad>" | "<mask>" | "<2mass>" | "[@BOS@]")
        || [("<|", "|>"), ("<｜", "｜>"), ("<unused", ">")]
            .iter()
            .any(|(start, end)| text.strip_prefix(start).is_some_and(|rest| rest.ends_with(end)))
}

/// Returns the id of a token.
pub(super) fn id_of(vocabulary: &Vocabulary, text: &str) -> Option<u32> {
    (0u32..).zip(&vocabulary.tokens).find(|(_, token)| *token == text).map(|(id, _)| id)
}
