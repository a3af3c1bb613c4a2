//! Reads the tokens that begin and end a text or an answer, and the chat templates.

use serde_json::Value;

use super::files::HuggingFaceFiles;
use super::json::{TokenizerFile, kind, read, steps, unsupported};
use super::tokens::id_of;
use crate::error::TokenizeError;
use crate::vocabulary::Vocabulary;

const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
/// The template used by default if a folder has several.
const DEFAULT_TEMPLATE: &str = "default";

/// The tokens that a post-processor puts around a text.
#[derive(Debug, Default)]
struct Frame {
    first: Option<u32>,
    last: Option<u32>,
}

pub(super) fn fill(
    vocabulary: &mut Vocabulary,
    file: &TokenizerFile,
    files: &HuggingFaceFiles<'_>,
) -> Result<(), TokenizeError> {
    let optional = |name, text: Option<&[u8]>| text.map_or(Ok(Value::Null), |text| read(name, text));
    let tokenizer_config: Value = optional(TOKENIZER_CONFIG, files.tokenizer_config)?;
    let map: Value = optional("special_tokens_map.json", files.special_tokens_map)?;
    let generation: Value = optional("generation_config.json", files.generation_config)?;
    let config: Value = optional("config.json", files.config)?;

    let by_name = |role: &str| {
        let name = [&tokenizer_config, &map].into_iter().find_map(|file| token_text(&file[role]))?;
        id_of(vocabulary, name)
    };
    let by_number = |key: &str| [&generation, &config].into_iter().find_map(|file| numbers(&file[key]));
    let first_number = |key: &str| by_number(key).and_then(|ids| ids.first().copied());
    let bos = by_name("bos_token").or_else(|| first_number("bos_token_id"));
    let eos = by_name("eos_token").or_else(|| first_number("eos_token_id"));
    let unk = by_name("unk_token");
    let pad = by_name("pad_token").or_else(|| first_number("pad_token_id"));
    let (cls, sep, mask) = (by_name("cls_token"), by_name("sep_token"), by_name("mask_token"));
    let ends = by_number("eos_token_id").unwrap_or_default();

    let frame = frame(vocabulary, &file.post_processor)?;
    let flag = |key: &str| tokenizer_config[key].as_bool();
    let is_wordpiece = vocabulary.model == "bert";
    vocabulary.bos = frame.first.or(bos).or(cls);
    vocabulary.unk = vocabulary.unk.or(unk);
    (vocabulary.pad, vocabulary.cls, vocabulary.mask) = (pad, cls, mask);
    vocabulary.add_bos = Some(flag("add_bos_token").unwrap_or(frame.first.is_some()));
    if is_wordpiece {
        vocabulary.eos = eos;
        vocabulary.sep = frame.last.or(sep);
        vocabulary.add_sep = Some(frame.last.is_some());
    } else {
        vocabulary.eos = if frame.last.is_some() && eos.is_none() { frame.last } else { eos };
        vocabulary.sep = sep;
        vocabulary.add_eos = Some(flag("add_eos_token").unwrap_or(frame.last.is_some()));
        // The last token of a text is the one that the post-processor adds, whatever its role is called.
        if vocabulary.add_eos == Some(true) && frame.last.is_some() {
            vocabulary.ends.extend(vocabulary.eos);
            vocabulary.eos = frame.last;
        }
    }
    vocabulary.ends.extend(ends.iter().copied().filter(|id| Some(*id) != vocabulary.eos));
    // GGUF has one more key for a token that ends generation.
    vocabulary.eot = vocabulary.ends.first().copied();
    vocabulary.special_texts = special_texts(&tokenizer_config, &map);
    (vocabulary.chat_template, vocabulary.chat_templates) = templates(&tokenizer_config, files)?;
    Ok(())
}

/// Returns the texts of tokens by their roles, as the Hugging Face library passes them to templates. A role that is
/// null in `tokenizer_config.json` has no text, whatever ids other files name.
fn special_texts(tokenizer_config: &Value, map: &Value) -> Vec<(String, Option<String>)> {
    const ROLES: [&str; 7] =
        ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
    let named = ROLES.into_iter().filter_map(|role| {
        let said = [tokenizer_config, map].into_iter().find_map(|file| token_text(&file[role]));
        let is_null = || tokenizer_config.get(role).is_some_and(Value::is_null);
        let known = said.is_some() || is_null();
        known.then(|| (role.to_owned(), said.filter(|text| !text.is_empty()).map(str::to_owned)))
    });
    named.collect()
}

/// Returns the text of a token. These files write a token as its text or as an object with the field `content`.
fn token_text(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value["content"].as_str())
}

/// Reads one number or an array of numbers.
fn numbers(value: &Value) -> Option<Vec<u32>> {
    let number = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match value.as_array() {
        Some(values) => Some(values.iter().filter_map(number).collect()),
        None => Some(vec![number(value)?]),
    }
}

/// Reads the tokens that the post-processor puts around a text.
fn frame(vocabulary: &Vocabulary, post_processor: &Value) -> Result<Frame, TokenizeError> {
    let mut frame = Frame::default();
    for step in steps(post_processor) {
        match kind(step) {
            "ByteLevel" => {}
            "TemplateProcessing" => {
                let none = Vec::new();
                let parts = step["single"].as_array().unwrap_or(&none);
                let text = parts.iter().position(|part| !part["Sequence"].is_null());
                let (before, after) = parts.split_at(text.unwrap_or(parts.len()));
                let after = after.get(1..).unwrap_or_default();
                let token = |parts: &[Value]| match parts {
                    [] => Ok(None),
                    [part] => Ok(template_token(vocabulary, step, part)),
                    _ => Err(unsupported("post_processor", step)),
                };
                frame = Frame { first: token(before)?, last: token(after)? };
            }
            "BertProcessing" | "RobertaProcessing" => {
                let token = |key: &str| step[key][0].as_str().and_then(|text| id_of(vocabulary, text));
                frame = Frame { first: token("cls"), last: token("sep") };
            }
            _ => return Err(unsupported("post_processor", step)),
        }
    }
    Ok(frame)
}

/// Returns the id of a token of a post-processor template. The template lists ids itself; otherwise the vocabulary has
/// it.
fn template_token(vocabulary: &Vocabulary, step: &Value, part: &Value) -> Option<u32> {
    let name = part["SpecialToken"]["id"].as_str()?;
    let listed = numbers(&step["special_tokens"][name]["ids"]).and_then(|ids| ids.first().copied());
    listed.or_else(|| id_of(vocabulary, name))
}

/// Returns the default chat template and the named ones. Template files take precedence over `tokenizer_config.json`.
fn templates(
    tokenizer_config: &Value,
    files: &HuggingFaceFiles<'_>,
) -> Result<(Option<String>, Vec<(String, String)>), TokenizeError> {
    let text = |bytes: &[u8]| {
        std::str::from_utf8(bytes).map(str::to_owned).map_err(|error| TokenizeError::HuggingFace {
            file: "chat_template.jinja",
            reason: error.to_string(),
        })
    };
    let mut named = Vec::new();
    let value = &tokenizer_config["chat_template"];
    for entry in value.as_array().into_iter().flatten() {
        if let (Some(name), Some(source)) = (entry["name"].as_str(), entry["template"].as_str()) {
            named.push((name.to_owned(), source.to_owned()));
        }
    }
    for (name, bytes) in files.named_templates {
        named.retain(|(known, _)| known != name);
        named.push((name.clone(), text(bytes)?));
    }
    let default = match files.chat_template {
        Some(bytes) => Some(text(bytes)?),
        None => {
            let default = named.iter().find(|(name, _)| name == DEFAULT_TEMPLATE).or(named.first());
            value.as_str().or(default.map(|(_, source)| source.as_str())).map(str::to_owned)
        }
    };
    Ok((default, named))
}
