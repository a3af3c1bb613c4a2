//! Reads a vocabulary from GGUF metadata.

use super::error::ModelError;
use super::gguf::{Array, Gguf, Metadata, Value};
use super::vocabulary_entries::{CHAT_TEMPLATE, NO_VOCABULARY};
use weft_text::{TokenType, Vocabulary};

/// Returns the names and sources of the additional chat templates.
fn named_templates(metadata: &Metadata) -> Vec<(String, String)> {
    let named = metadata.iter().filter_map(|(key, value)| {
        let name = key.strip_prefix(CHAT_TEMPLATE)?.strip_prefix('.')?;
        let Value::String(source) = value else { return None };
        Some((name.to_owned(), source.clone()))
    });
    named.collect()
}

/// Reads the `tokenizer.*` keys; `None` if the file has no vocabulary.
///
/// # Errors
/// A key that is missing or has the wrong type, or strings that are not UTF-8.
pub(super) fn vocabulary_of(gguf: &Gguf) -> Result<Option<Vocabulary>, ModelError> {
    let metadata = &gguf.metadata;
    let key = |name: &str| format!("tokenizer.ggml.{name}");
    let Some(model) = metadata.opt_str(&key("model"))?.filter(|model| *model != NO_VOCABULARY) else {
        return Ok(None);
    };
    // Invalid UTF-8 was replaced when it was read. That is harmless in a title, but changes tokens in a vocabulary.
    if let Some(lossy) =
        metadata.lossy_keys().find(|lossy| [key("tokens"), key("merges")].iter().any(|k| k == lossy))
    {
        return Err(ModelError::BadMetadata {
            file: metadata.file().to_owned(),
            key: lossy.to_owned(),
            value: "text that is not UTF-8".to_owned(),
            wanted: "UTF-8",
        });
    }
    let tokens = metadata.strings(&key("tokens"))?;
    let token_types = metadata.opt_i32s(&key("token_type"))?.unwrap_or_default();
    let (lstrip, rstrip) = strips(metadata, tokens, &token_types)?;
    Ok(Some(Vocabulary {
        model: model.to_owned(),
        pre: metadata.opt_str(&key("pre"))?.unwrap_or_default().to_owned(),
        tokens: tokens.to_vec(),
        token_types: token_types.into_owned(),
        scores: scores(metadata, &key("scores"))?,
        // llama.cpp reads merges only for byte-level vocabularies. Some converters also write them for others.
        merges: if model == "gpt2" {
            metadata.opt_strings(&key("merges"))?.unwrap_or_default().to_vec()
        } else {
            Vec::new()
        },
        charsmap: bytes(metadata, &key("precompiled_charsmap"))?,
        bos: metadata.opt_u32(&key("bos_token_id"))?,
        eos: metadata.opt_u32(&key("eos_token_id"))?,
        eot: metadata.opt_u32(&key("eot_token_id"))?,
        eom: metadata.opt_u32(&key("eom_token_id"))?,
        unk: metadata.opt_u32(&key("unknown_token_id"))?,
        pad: metadata.opt_u32(&key("padding_token_id"))?,
        cls: metadata.opt_u32(&key("cls_token_id"))?,
        sep: metadata.opt_u32(&key("seperator_token_id"))?,
        mask: metadata.opt_u32(&key("mask_token_id"))?,
        fim_pre: metadata.opt_u32(&key("fim_pre_token_id"))?,
        fim_suf: metadata.opt_u32(&key("fim_suf_token_id"))?,
        fim_mid: metadata.opt_u32(&key("fim_mid_token_id"))?,
        fim_pad: metadata.opt_u32(&key("fim_pad_token_id"))?,
        fim_rep: metadata.opt_u32(&key("fim_rep_token_id"))?,
        fim_sep: metadata.opt_u32(&key("fim_sep_token_id"))?,
        add_bos: metadata.opt_bool(&key("add_bos_token"))?,
        add_eos: metadata.opt_bool(&key("add_eos_token"))?,
        add_sep: metadata.opt_bool(&key("add_sep_token"))?,
        add_space_prefix: metadata.opt_bool(&key("add_space_prefix"))?,
        remove_extra_whitespaces: metadata.opt_bool(&key("remove_extra_whitespaces"))?,
        lowercase: metadata.opt_bool(&key("normalizer.lowercase"))?,
        strip_accents: metadata.opt_bool(&key("normalizer.strip_accents"))?,
        lstrip,
        rstrip,
        chat_template: metadata.opt_str(CHAT_TEMPLATE)?.map(str::to_owned),
        chat_templates: named_templates(metadata),
        ..Vocabulary::default()
    }))
}

/// Reads the scores, which some files store as integers.
fn scores(metadata: &Metadata, key: &str) -> Result<Vec<f32>, ModelError> {
    Ok(match metadata.get(key) {
        Some(Value::Array(Array::I32(scores))) => scores.iter().map(|&score| score as f32).collect(),
        _ => metadata.opt_f32s(key)?.unwrap_or_default().into_owned(),
    })
}

/// Reads an array of bytes, which converters store as signed or unsigned.
fn bytes(metadata: &Metadata, key: &str) -> Result<Vec<u8>, ModelError> {
    Ok(match metadata.get(key) {
        None => Vec::new(),
        Some(Value::Array(Array::U8(bytes))) => bytes.clone(),
        Some(Value::Array(Array::I8(bytes))) => bytes.iter().map(|byte| byte.cast_unsigned()).collect(),
        Some(_) => {
            return Err(ModelError::BadMetadata {
                file: metadata.file().to_owned(),
                key: key.to_owned(),
                value: "not an array of bytes".to_owned(),
                wanted: "an array of u8",
            });
        }
    })
}

/// Returns the special tokens that remove white space before them and those that remove it after them. GGUF has no key
/// for this. As in llama.cpp, it is decided by the names of models and pre-tokenizers.
fn strips(
    metadata: &Metadata,
    tokens: &[String],
    token_types: &[i32],
) -> Result<(Vec<u32>, Vec<u32>), ModelError> {
    let name = metadata.opt_str("general.name")?.unwrap_or_default().to_lowercase();
    let arch = metadata.opt_str("general.architecture")?.unwrap_or_default();
    let pre = metadata.opt_str("tokenizer.ggml.pre")?.unwrap_or_default();
    let id = |text: &str| (0u32..).zip(tokens).find(|(_, token)| *token == text).map(|(id, _)| id);
    let contains = |text: &str, parts: &[&str]| parts.iter().any(|part| text.contains(part));
    if contains(pre, &["jina-v2-de", "jina-v2-es", "jina-v2-code"])
        || contains(arch, &["nomic-bert-moe", "jina-bert-v3"])
    {
        return Ok((id("<mask>").into_iter().collect(), Vec::new()));
    }
    if contains(&name, &["phi-3", "phi3"]) {
        let is_special = |kind: &i32| {
            matches!(
                TokenType::from_gguf(*kind),
                TokenType::Control | TokenType::UserDefined | TokenType::Unknown
            )
        };
        let special = (0u32..).zip(tokens.iter().zip(token_types)).filter(|(_, (_, kind))| is_special(kind));
        let strips =
            special.filter(|(_, (text, _))| !["<unk>", "<s>", "<|endoftext|>"].contains(&text.as_str()));
        return Ok((Vec::new(), strips.map(|(id, _)| id).collect()));
    }
    if name.contains("modern-bert") {
        return Ok((id("[MASK]").into_iter().collect(), Vec::new()));
    }
    Ok((Vec::new(), Vec::new()))
}
