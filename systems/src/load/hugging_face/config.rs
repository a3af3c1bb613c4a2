//! `config.json`: its fields, with the type that each should have.
//!
//! A field that is read is known by that; what is left over at the end and is neither empty nor known to change nothing is
//! refused.

use super::HuggingFaceError;
use serde_json::{Map, Value};
use std::cell::RefCell;
use std::collections::HashSet;

/// The file's name.
pub(super) const CONFIG: &str = "config.json";

/// Fields that change nothing that the engine computes: where the model comes from, how it was trained, what its tokens are
/// (the tokenizer's files say it too), and how `transformers` runs it.
const HARMLESS: &[&str] = &[
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_experts_implementation",
    "_name_or_path",
    "architectures",
    "attention_dropout",
    "attn_implementation",
    "auto_map",
    "boi_token_index",
    "bos_token_id",
    "cache_implementation",
    "chunk_size_feed_forward",
    "dtype",
    "embd_pdrop",
    "eoi_token_index",
    "eos_token_id",
    "hidden_dropout",
    "id2label",
    "image_token_index",
    "initializer_range",
    "is_llama_config",
    "label2id",
    "max_window_layers",
    "mm_tokens_per_image",
    "model_type",
    "output_attentions",
    "output_hidden_states",
    "output_router_logits",
    "pad_token_id",
    "pretraining_tp",
    "problem_type",
    "resid_pdrop",
    "return_dict",
    "rope_interleaved",
    "router_aux_loss_coef",
    "router_jitter_noise",
    "sep_token_id",
    "text_config",
    "torch_dtype",
    "transformers.js_config",
    "transformers_version",
    "unsloth_fixed",
    "unsloth_version",
    "use_cache",
    "vision_config",
];

/// The fields of a configuration.
pub(super) struct Config {
    /// What it is called in messages.
    pub(super) file: String,
    fields: Map<String, Value>,
    /// Fields that somebody asked for.
    known: RefCell<HashSet<&'static str>>,
}

impl Config {
    /// The configuration in `json`; fields of a part for text come before those beside it.
    pub(super) fn parse(file: String, json: &[u8]) -> Result<Self, HuggingFaceError> {
        let mut fields: Map<String, Value> = serde_json::from_slice(json)
            .map_err(|error| HuggingFaceError::Json { file: file.clone(), reason: error.to_string() })?;
        if let Some(Value::Object(text)) = fields.get("text_config").cloned() {
            // What the model as a whole is stays what it is.
            fields.extend(text.into_iter().filter(|(key, _)| key != "architectures"));
        }
        Ok(Self { file, fields, known: RefCell::default() })
    }

    /// Gives a field a value where it has none.
    pub(super) fn default(&mut self, name: &str, value: f64) {
        let whole = (value.fract() == 0.0).then_some(value as u64);
        let value = whole.map_or(Value::from(value), Value::from);
        self.fields.entry(name).or_insert(value);
    }

    /// Whether the model is more than its part for text.
    pub(super) fn has_other_parts(&self) -> bool {
        self.fields.contains_key("text_config")
    }

    /// The field called `name`, where it is there and not null.
    pub(super) fn get(&self, name: &'static str) -> Option<&Value> {
        self.known.borrow_mut().insert(name);
        self.fields.get(name).filter(|value| !value.is_null())
    }

    /// Whether the field is there, null or not.
    pub(super) fn has(&self, name: &'static str) -> bool {
        self.known.borrow_mut().insert(name);
        self.fields.contains_key(name)
    }

    /// The error for a value that is not `wanted`.
    pub(super) fn bad(&self, field: &str, value: &Value, wanted: &str) -> HuggingFaceError {
        HuggingFaceError::BadField {
            file: self.file.clone(),
            field: field.to_owned(),
            value: shortened(value),
            wanted: wanted.to_owned(),
        }
    }

    /// The error for a field that is not there.
    pub(super) fn missing(&self, field: &str) -> HuggingFaceError {
        HuggingFaceError::MissingField { file: self.file.clone(), field: field.to_owned() }
    }

    /// A whole number that may be missing.
    pub(super) fn opt_count(&self, name: &'static str) -> Result<Option<u64>, HuggingFaceError> {
        let count = |value: &Value| value.as_u64().ok_or_else(|| self.bad(name, value, "a whole number"));
        self.get(name).map(count).transpose()
    }

    /// A whole number that must be there.
    pub(super) fn count(&self, name: &'static str) -> Result<u64, HuggingFaceError> {
        self.opt_count(name)?.ok_or_else(|| self.missing(name))
    }

    /// A number that may be missing.
    pub(super) fn opt_float(&self, name: &'static str) -> Result<Option<f64>, HuggingFaceError> {
        self.get(name).map(|value| self.number(name, value)).transpose()
    }

    /// A value as the number that it should be.
    pub(super) fn number(&self, name: &str, value: &Value) -> Result<f64, HuggingFaceError> {
        value.as_f64().ok_or_else(|| self.bad(name, value, "a number"))
    }

    /// A truth value that may be missing.
    pub(super) fn opt_flag(&self, name: &'static str) -> Result<Option<bool>, HuggingFaceError> {
        let flag = |value: &Value| value.as_bool().ok_or_else(|| self.bad(name, value, "true or false"));
        self.get(name).map(flag).transpose()
    }

    /// A text that may be missing.
    pub(super) fn opt_text(&self, name: &'static str) -> Result<Option<&str>, HuggingFaceError> {
        let text = |value| Value::as_str(value).ok_or_else(|| self.bad(name, value, "a text"));
        self.get(name).map(text).transpose()
    }

    /// A list that may be missing.
    pub(super) fn opt_list(&self, name: &'static str) -> Result<Option<&[Value]>, HuggingFaceError> {
        let list = |value| Value::as_array(value).ok_or_else(|| self.bad(name, value, "a list"));
        Ok(self.get(name).map(list).transpose()?.map(Vec::as_slice))
    }

    /// Refuses a field that has any other value than these; it may be missing.
    pub(super) fn only(&self, name: &'static str, values: &[Value]) -> Result<(), HuggingFaceError> {
        match self.get(name) {
            Some(value) if !values.contains(value) => {
                let wanted: Vec<String> = values.iter().map(Value::to_string).collect();
                Err(self.bad(name, value, &wanted.join(" or ")))
            }
            _ => Ok(()),
        }
    }

    /// Refuses what nobody asked for, unless it changes nothing or is empty.
    pub(super) fn refuse_unknown(&self) -> Result<(), HuggingFaceError> {
        let known = self.known.borrow();
        let unknown = self.fields.iter().find(|(name, value)| {
            !known.contains(name.as_str()) && !HARMLESS.contains(&name.as_str()) && !is_empty(value)
        });
        match unknown {
            Some((field, value)) => Err(HuggingFaceError::UnknownField {
                file: self.file.clone(),
                field: field.clone(),
                value: shortened(value),
            }),
            None => Ok(()),
        }
    }
}

/// Whether a value says no more than that there is nothing.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(values) => values.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

/// A value on one line of bounded length.
fn shortened(value: &Value) -> String {
    const MOST: usize = 80;
    let text = value.to_string();
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}
