//! Builds the metadata of a GGUF from `config.json`, with the entries that several families write.

use super::HuggingFaceError;
use super::config::Config;
use crate::architecture::{Architecture, POOLING_TYPE, pooling_type};
use crate::gguf::{Array, Value};
use weft_components::Pooling;

/// The key of the context length.
pub(super) const CONTEXT: &str = "context_length";

/// The metadata of a GGUF under construction.
pub(super) struct Keys {
    architecture: &'static str,
    pub(super) entries: Vec<(String, Value)>,
}

impl Keys {
    /// Starts the metadata of `architecture` with `entries`, whose keys are complete. Later keys get the architecture's
    /// prefix.
    pub(super) fn new(architecture: &'static str, entries: Vec<(String, Value)>) -> Self {
        Self { architecture, entries }
    }

    fn push(&mut self, name: &str, value: Value) {
        self.entries.push((format!("{}.{name}", self.architecture), value));
    }

    /// Adds an integer.
    pub(super) fn count(&mut self, name: &str, value: u64) {
        self.push(name, u32::try_from(value).map_or(Value::U64(value), Value::U32));
    }

    /// Adds a float.
    pub(super) fn float(&mut self, name: &str, value: f64) {
        self.push(name, Value::F32(value as f32));
    }

    /// Adds a string.
    pub(super) fn text(&mut self, name: &str, value: &str) {
        self.push(name, Value::String(value.to_owned()));
    }

    /// Adds a boolean.
    pub(super) fn flag(&mut self, name: &str, value: bool) {
        self.push(name, Value::Bool(value));
    }

    /// Limits the context length to `most` positions.
    pub(super) fn bound_context(&mut self, most: u64) {
        let key = format!("{}.{CONTEXT}", self.architecture);
        for (_, value) in self.entries.iter_mut().filter(|(found, _)| *found == key) {
            let stated = value.integer().and_then(|value| u64::try_from(value).ok());
            *value = Value::U64(stated.unwrap_or(most).min(most));
        }
    }

    /// Adds the pooling, as `pooling_type`.
    pub(super) fn pooling(&mut self, pooling: Pooling) {
        self.count(POOLING_TYPE, pooling_type(pooling));
    }

    /// Adds a boolean for each layer.
    pub(super) fn flags(&mut self, name: &str, values: Vec<bool>) {
        self.push(name, Value::Array(Array::Bool(values)));
    }
}

/// Adds Gemma's attention scale if it differs from the architecture's default.
pub(super) fn query_scale(
    config: &Config,
    arch: &Architecture,
    keys: &mut Keys,
) -> Result<(), HuggingFaceError> {
    let Some(scalar) = config.opt_float("query_pre_attn_scalar")? else {
        return Ok(());
    };
    let by_width =
        arch.scales_by_width.map(|layers| layers as u64) == Some(config.count("num_hidden_layers")?);
    let length = config.opt_count("head_dim")?.filter(|_| !by_width);
    let quotient = config.count("hidden_size")? / config.count("num_attention_heads")?.max(1);
    if scalar != length.unwrap_or(quotient) as f64 {
        keys.float("attention.scale", 1.0 / scalar.sqrt());
    }
    Ok(())
}

/// Adds a soft cap if the configuration has the field; 0 means none.
pub(super) fn cap(config: &Config, field: &'static str, keys: &mut Keys) -> Result<(), HuggingFaceError> {
    let known = config.has(field);
    match config.opt_float(field)? {
        Some(cap) => keys.float(field, cap),
        None if known => keys.float(field, 0.0),
        None => {}
    }
    Ok(())
}
