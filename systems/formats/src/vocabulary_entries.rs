//! Writes a vocabulary as the `tokenizer.*` metadata of a GGUF.

use super::gguf::{Array, Value};
use weft_text::Vocabulary;

/// Value of `tokenizer.ggml.model` if there is no vocabulary.
pub(super) const NO_VOCABULARY: &str = "no_vocab";

/// The key of the chat template. The keys of additional templates append a dot and the template's name.
pub(super) const CHAT_TEMPLATE: &str = "tokenizer.chat_template";
/// The key of the list of additional templates' names.
const CHAT_TEMPLATES: &str = "tokenizer.chat_templates";

/// Returns the metadata entry that tells readers that the file has no vocabulary.
pub(super) fn no_vocabulary_entry() -> (String, Value) {
    ("tokenizer.ggml.model".to_owned(), Value::String(NO_VOCABULARY.to_owned()))
}

/// Returns the metadata of a vocabulary as converters write them. If it has fewer than `rows` tokens, reserved tokens
/// are added.
///
/// Rules that GGUF has no keys for are left out.
pub(super) fn vocabulary_entries(vocabulary: &Vocabulary, rows: usize) -> Vec<(String, Value)> {
    const NORMAL: i32 = 1;
    const UNUSED: i32 = 5;
    /// Lower than the score of every used token.
    const LOWEST: f32 = -10_000.0;
    let count = vocabulary.tokens.len();
    let padded = rows.max(count);
    let mut tokens = vocabulary.tokens.clone();
    tokens.extend((count..padded).map(|id| format!("[PAD{id}]")));
    let mut types = vocabulary.token_types.clone();
    types.resize(count, NORMAL);
    types.resize(padded, UNUSED);
    let mut scores = vocabulary.scores.clone();
    if !scores.is_empty() {
        scores.resize(padded, LOWEST);
    }
    // GGUF has one more key for a token that ends an answer: the end of a turn. The first end token other than EOS gets
    // it.
    let end = vocabulary.ends.iter().copied().find(|end| Some(*end) != vocabulary.eos);
    let text = |text: &str| (!text.is_empty()).then(|| Value::String(text.to_owned()));
    let id = |id: Option<u32>| id.map(Value::U32);
    let flag = |flag: Option<bool>| flag.map(Value::Bool);
    let merges = vocabulary.merges.as_slice();
    let merges = if vocabulary.model == "gpt2" { merges } else { &[] };
    let array = |empty: bool, array: Array| (!empty).then_some(Value::Array(array));
    let entries = [
        ("ggml.model", text(&vocabulary.model)),
        ("ggml.pre", text(&vocabulary.pre)),
        ("ggml.tokens", Some(Value::Array(Array::String(tokens)))),
        ("ggml.token_type", Some(Value::Array(Array::I32(types)))),
        ("ggml.scores", array(scores.is_empty(), Array::F32(scores))),
        ("ggml.merges", array(merges.is_empty(), Array::String(merges.to_vec()))),
        (
            "ggml.precompiled_charsmap",
            array(vocabulary.charsmap.is_empty(), Array::U8(vocabulary.charsmap.clone())),
        ),
        ("ggml.bos_token_id", id(vocabulary.bos)),
        ("ggml.eos_token_id", id(vocabulary.eos)),
        ("ggml.eot_token_id", id(vocabulary.eot.or(end))),
        ("ggml.eom_token_id", id(vocabulary.eom)),
        ("ggml.unknown_token_id", id(vocabulary.unk)),
        ("ggml.padding_token_id", id(vocabulary.pad)),
        ("ggml.cls_token_id", id(vocabulary.cls)),
        ("ggml.seperator_token_id", id(vocabulary.sep)),
        ("ggml.mask_token_id", id(vocabulary.mask)),
        ("ggml.fim_pre_token_id", id(vocabulary.fim_pre)),
        ("ggml.fim_suf_token_id", id(vocabulary.fim_suf)),
        ("ggml.fim_mid_token_id", id(vocabulary.fim_mid)),
        ("ggml.fim_pad_token_id", id(vocabulary.fim_pad)),
        ("ggml.fim_rep_token_id", id(vocabulary.fim_rep)),
        ("ggml.fim_sep_token_id", id(vocabulary.fim_sep)),
        ("ggml.add_bos_token", flag(vocabulary.add_bos)),
        ("ggml.add_eos_token", flag(vocabulary.add_eos)),
        ("ggml.add_sep_token", flag(vocabulary.add_sep)),
        ("ggml.add_space_prefix", flag(vocabulary.add_space_prefix)),
        ("ggml.remove_extra_whitespaces", flag(vocabulary.remove_extra_whitespaces)),
        ("ggml.normalizer.lowercase", flag(vocabulary.lowercase)),
        ("ggml.normalizer.strip_accents", flag(vocabulary.strip_accents)),
        ("chat_template", vocabulary.chat_template.as_deref().and_then(text)),
    ];
    let mut entries: Vec<(String, Value)> =
        entries.into_iter().filter_map(|(key, value)| Some((format!("tokenizer.{key}"), value?))).collect();
    let named = &vocabulary.chat_templates;
    if !named.is_empty() {
        let names = named.iter().map(|(name, _)| name.clone()).collect();
        entries.push((CHAT_TEMPLATES.to_owned(), Value::Array(Array::String(names))));
    }
    let named = named.iter().map(|(name, source)| (format!("{CHAT_TEMPLATE}.{name}"), source));
    entries.extend(named.map(|(key, source)| (key, Value::String(source.clone()))));
    entries
}
