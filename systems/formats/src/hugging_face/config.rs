//! `config.json`: its fields, with the type that each should have.
//!
//! Configurations hold much that changes no logit: where the model is from, how it was trained, settings for generation that
//! `transformers` once kept there, classes of a task. So fields are ignored unless they are read. Only those that change what
//! some model computes, and that nobody read, are refused (`matters.rs`).

use super::HuggingFaceError;
use super::matters::{changes_nothing, matters};
use serde_json::{Map, Value};
use std::cell::RefCell;
use std::collections::HashSet;

/// The file's name.
pub(super) const CONFIG: &str = "config.json";

/// The field of the number of layers.
const LAYERS: &str = "num_hidden_layers";

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

    /// Gives fields the names that the others have: pairs of a name and the one in its place, which counts where both are there.
    pub(super) fn rename(&mut self, names: &[(&str, &str)]) {
        for (own, common) in names {
            if let Some(value) = self.fields.remove(*own) {
                self.fields.entry(*common).or_insert(value);
            }
        }
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

    /// The same, where a list of one value a layer that is the same for all is that value.
    fn one(&self, name: &'static str) -> Result<Option<&Value>, HuggingFaceError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let Some(list) = value.as_array().filter(|_| name != LAYERS) else { return Ok(Some(value)) };
        let layers = self.fields.get(LAYERS).and_then(Value::as_u64);
        match list.first().filter(|first| list.iter().all(|value| value == *first)) {
            Some(first) if Some(list.len() as u64) == layers => Ok(Some(first)),
            _ => Err(self.bad(name, value, "one value, or the same value for each layer")),
        }
    }

    /// How the configuration says that weights are quantized: the field, and the method.
    pub(super) fn quantization(&self) -> Option<(&'static str, &str)> {
        // The second is what early versions of one method wrote.
        let field = |name| Some((name, self.get(name)?));
        let (name, found) = field("quantization_config").or_else(|| field("compression_config"))?;
        Some((name, found.get("quant_method").and_then(Value::as_str).unwrap_or_default()))
    }

    /// The error for weights that are quantized as the configuration says, where it says so.
    pub(super) fn quantized(&self) -> Option<HuggingFaceError> {
        let (field, method) = self.quantization()?;
        let field = format!("{field}.quant_method");
        Some(self.bad(&field, &Value::from(method), "left out: get the model unquantized"))
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
        self.one(name)?.map(count).transpose()
    }

    /// A whole number that must be there.
    pub(super) fn count(&self, name: &'static str) -> Result<u64, HuggingFaceError> {
        self.opt_count(name)?.ok_or_else(|| self.missing(name))
    }

    /// A number that may be missing.
    pub(super) fn opt_float(&self, name: &'static str) -> Result<Option<f64>, HuggingFaceError> {
        self.one(name)?.map(|value| self.number(name, value)).transpose()
    }

    /// A value as the number that it should be.
    pub(super) fn number(&self, name: &str, value: &Value) -> Result<f64, HuggingFaceError> {
        value.as_f64().ok_or_else(|| self.bad(name, value, "a number"))
    }

    /// A truth value that may be missing.
    pub(super) fn opt_flag(&self, name: &'static str) -> Result<Option<bool>, HuggingFaceError> {
        let flag = |value: &Value| value.as_bool().ok_or_else(|| self.bad(name, value, "true or false"));
        self.one(name)?.map(flag).transpose()
    }

    /// A text that may be missing.
    pub(super) fn opt_text(&self, name: &'static str) -> Result<Option<&str>, HuggingFaceError> {
        let text = |value| Value::as_str(value).ok_or_else(|| self.bad(name, value, "a text"));
        self.one(name)?.map(text).transpose()
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

    /// Refuses a field that changes what a model computes and that nobody asked for.
    pub(super) fn refuse_unread(&self) -> Result<(), HuggingFaceError> {
        let read = self.known.borrow();
        let unread = self.fields.iter().find(|(name, value)| {
            !read.contains(name.as_str()) && matters(name) && !changes_nothing(name, value)
        });
        match unread {
            Some((field, value)) => Err(HuggingFaceError::UnknownField {
                file: self.file.clone(),
                field: field.clone(),
                value: shortened(value),
            }),
            None => Ok(()),
        }
    }
}

/// A value on one line of bounded length.
pub(super) fn shortened(value: &Value) -> String {
    const MOST: usize = 80;
    let text = value.to_string();
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}
