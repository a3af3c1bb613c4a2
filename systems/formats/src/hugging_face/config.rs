//! `config.json`: its fields, with the type that each must have.
//!
//! Configurations contain much that does not change the logits: the model's origin, training settings, generation
//! settings of early `transformers` versions, classes of a task. Unread fields are therefore ignored, except those that
//! change what some model computes (`matters.rs`). Those are refused.

use super::HuggingFaceError;
use super::matters::{changes_nothing, matters};
use serde_json::{Map, Value};
use std::cell::RefCell;
use std::collections::HashSet;

/// The file's name.
pub(super) const CONFIG: &str = "config.json";

/// The field of the layer count.
const LAYERS: &str = "num_hidden_layers";

/// The fields of a configuration.
pub(super) struct Config {
    /// The file's name in error messages.
    pub(super) file: String,
    fields: Map<String, Value>,
    /// Fields that have been asked for.
    known: RefCell<HashSet<&'static str>>,
}

impl Config {
    /// Parses the configuration in `json`. Fields of `text_config` override those beside it.
    pub(super) fn parse(file: String, json: &[u8]) -> Result<Self, HuggingFaceError> {
        let mut fields: Map<String, Value> = serde_json::from_slice(json)
            .map_err(|error| HuggingFaceError::Json { file: file.clone(), reason: error.to_string() })?;
        if let Some(Value::Object(text)) = fields.get("text_config").cloned() {
            // `architectures` keeps the value of the whole model.
            fields.extend(text.into_iter().filter(|(key, _)| key != "architectures"));
        }
        Ok(Self { file, fields, known: RefCell::default() })
    }

    /// Sets a field if it is missing.
    pub(super) fn default(&mut self, name: &str, value: f64) {
        let whole = (value.fract() == 0.0).then_some(value as u64);
        let value = whole.map_or(Value::from(value), Value::from);
        self.fields.entry(name).or_insert(value);
    }

    /// Renames fields: pairs of the family's name and the common name. If both exist, the common one is kept.
    pub(super) fn rename(&mut self, names: &[(&str, &str)]) {
        for (own, common) in names {
            if let Some(value) = self.fields.remove(*own) {
                self.fields.entry(*common).or_insert(value);
            }
        }
    }

    /// Returns true if the model has parts besides the text model.
    pub(super) fn has_other_parts(&self) -> bool {
        self.fields.contains_key("text_config")
    }

    /// Returns the field `name` if it is present and not null.
    pub(super) fn get(&self, name: &'static str) -> Option<&Value> {
        self.known.borrow_mut().insert(name);
        self.fields.get(name).filter(|value| !value.is_null())
    }

    /// Returns the field `name`. A list that repeats one value for each layer is returned as that value.
    fn one(&self, name: &'static str) -> Result<Option<&Value>, HuggingFaceError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let Some(list) = value.as_array().filter(|_| name != LAYERS) else { return Ok(Some(value)) };
        let layers = self.fields.get(LAYERS).and_then(Value::as_u64);
        match list.first().filter(|first| list.iter().all(|value| value == *first)) {
            Some(first) if Some(list.len() as u64) == layers => Ok(Some(first)),
            _ => Err(self.bad(name, value, "one value, or the same value for each layer")),
        }
    }

    /// Returns the quantization that the configuration states: the field and the method.
    pub(super) fn quantization(&self) -> Option<(&'static str, &str)> {
        // Early versions of one method wrote the second field.
        let field = |name| Some((name, self.get(name)?));
        let (name, found) = field("quantization_config").or_else(|| field("compression_config"))?;
        Some((name, found.get("quant_method").and_then(Value::as_str).unwrap_or_default()))
    }

    /// Returns the error for quantized weights if the configuration states that they are.
    pub(super) fn quantized(&self) -> Option<HuggingFaceError> {
        let (field, method) = self.quantization()?;
        let field = format!("{field}.quant_method");
        Some(self.bad(&field, &Value::from(method), "left out: get the model unquantized"))
    }

    /// Returns true if the field is present, even if it is null.
    pub(super) fn has(&self, name: &'static str) -> bool {
        self.known.borrow_mut().insert(name);
        self.fields.contains_key(name)
    }

    /// Returns the error for a value that is not `wanted`.
    pub(super) fn bad(&self, field: &str, value: &Value, wanted: &str) -> HuggingFaceError {
        HuggingFaceError::BadField {
            file: self.file.clone(),
            field: field.to_owned(),
            value: shortened(value),
            wanted: wanted.to_owned(),
        }
    }

    /// Returns the error for a missing field.
    pub(super) fn missing(&self, field: &str) -> HuggingFaceError {
        HuggingFaceError::MissingField { file: self.file.clone(), field: field.to_owned() }
    }

    /// Returns an integer; `None` if the field is missing.
    pub(super) fn opt_count(&self, name: &'static str) -> Result<Option<u64>, HuggingFaceError> {
        let count = |value: &Value| value.as_u64().ok_or_else(|| self.bad(name, value, "a whole number"));
        self.one(name)?.map(count).transpose()
    }

    /// Returns an integer. The field must be present.
    pub(super) fn count(&self, name: &'static str) -> Result<u64, HuggingFaceError> {
        self.opt_count(name)?.ok_or_else(|| self.missing(name))
    }

    /// Returns a number; `None` if the field is missing.
    pub(super) fn opt_float(&self, name: &'static str) -> Result<Option<f64>, HuggingFaceError> {
        self.one(name)?.map(|value| self.number(name, value)).transpose()
    }

    /// Converts a value to a number.
    pub(super) fn number(&self, name: &str, value: &Value) -> Result<f64, HuggingFaceError> {
        value.as_f64().ok_or_else(|| self.bad(name, value, "a number"))
    }

    /// Returns a boolean; `None` if the field is missing.
    pub(super) fn opt_flag(&self, name: &'static str) -> Result<Option<bool>, HuggingFaceError> {
        let flag = |value: &Value| value.as_bool().ok_or_else(|| self.bad(name, value, "true or false"));
        self.one(name)?.map(flag).transpose()
    }

    /// Returns a string; `None` if the field is missing.
    pub(super) fn opt_text(&self, name: &'static str) -> Result<Option<&str>, HuggingFaceError> {
        let text = |value| Value::as_str(value).ok_or_else(|| self.bad(name, value, "a text"));
        self.one(name)?.map(text).transpose()
    }

    /// Returns a list; `None` if the field is missing.
    pub(super) fn opt_list(&self, name: &'static str) -> Result<Option<&[Value]>, HuggingFaceError> {
        let list = |value| Value::as_array(value).ok_or_else(|| self.bad(name, value, "a list"));
        Ok(self.get(name).map(list).transpose()?.map(Vec::as_slice))
    }

    /// Refuses a field whose value is not one of `values`. The field may be missing.
    pub(super) fn only(&self, name: &'static str, values: &[Value]) -> Result<(), HuggingFaceError> {
        match self.get(name) {
            Some(value) if !values.contains(value) => {
                let wanted: Vec<String> = values.iter().map(Value::to_string).collect();
                Err(self.bad(name, value, &wanted.join(" or ")))
            }
            _ => Ok(()),
        }
    }

    /// Refuses a field that changes what a model computes and that was not read.
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

/// Returns a value on one line of limited length.
pub(super) fn shortened(value: &Value) -> String {
    const MOST: usize = 80;
    let text = value.to_string();
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}
