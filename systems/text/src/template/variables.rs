//! The input of a chat template: messages and variables.

use super::clock::CivilTime;
use crate::tokenizer::Tokenizer;
use serde::{Deserialize, Serialize};

/// One message of a conversation, with the fields that most templates read. For tool calls or content in parts, pass
/// JSON values to [`ChatTemplate::render`] instead.
///
/// [`ChatTemplate::render`]: crate::ChatTemplate::render
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant`, `tool` or another role that the template knows.
    pub role: String,
    /// The text.
    pub content: String,
}

impl Message {
    /// Makes a message of a role.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }
}

/// The variables of one rendering besides the messages.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TemplateVars {
    /// Whether the text ends where the assistant's answer begins.
    pub add_generation_prompt: bool,
    /// Text of the beginning-of-text token. Undefined in the template if `None`, as in the Hugging Face library.
    pub bos_token: Option<String>,
    /// Text of the end-of-text token. Undefined in the template if `None`.
    pub eos_token: Option<String>,
    /// Texts of further tokens by their roles, such as `pad_token`.
    pub special_tokens: Vec<(String, String)>,
    /// Tool definitions; `none` in the template if `None`.
    pub tools: Option<serde_json::Value>,
    /// Documents that an answer may draw on; `none` in the template if `None`.
    pub documents: Option<serde_json::Value>,
    /// Further variables, such as `enable_thinking`. They override the ones above.
    pub extra: serde_json::Map<String, serde_json::Value>,
    /// The local time for `strftime_now`. The function is undefined in the template if `None`.
    pub now: Option<CivilTime>,
}

impl TemplateVars {
    /// Returns the variables that follow from a vocabulary.
    pub fn for_tokenizer(tokenizer: &Tokenizer, add_generation_prompt: bool) -> Self {
        let text = |token: Option<u32>| {
            let bytes = token.and_then(|token| tokenizer.token_bytes(token, true))?;
            Some(String::from_utf8_lossy(bytes).into_owned())
        };
        let role = |name, id| match tokenizer.special_text(name) {
            Some(named) => named.map(str::to_owned),
            None => text(id),
        };
        let further = ["unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
        let special_tokens = further
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), tokenizer.special_text(name)??.to_owned())))
            .collect();
        Self {
            add_generation_prompt,
            bos_token: role("bos_token", tokenizer.bos()),
            eos_token: role("eos_token", tokenizer.eos()),
            special_tokens,
            ..Self::default()
        }
    }
}
