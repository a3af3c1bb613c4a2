//! Folders that Hugging Face's PEFT saves: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! The tensors of a pair are `base_model.model.MODULE.lora_A.weight`, `[rank, inputs]`, and `.lora_B.weight`,
//! `[outputs, rank]`. MODULE is the module that they change, which may be in the text model of a vision model. The rows
//! of heads are in Hugging Face's order. They are reordered for models whose rotary embedding turns adjacent pairs. An
//! unknown field of the configuration that is set is an error, because it may change what the adapter does.

use super::{AdapterBase, AdapterError, AdapterFile, Half, Reader, Target};
use crate::hugging_face::{RowOrder, gguf_names, is_other_part, row_order};
use crate::manifest::dimensions;
use crate::safetensors::{SafetensorsHeader, SafetensorsTensor};
use serde_json::{Map, Value};
use weft_components::TensorRole as Role;
use weft_platform::storage::Source;

/// Fields that have no effect on a trained adapter.
const HARMLESS: [&str; 25] = [
    "alpha_pattern",
    "auto_mapping",
    "base_model_name_or_path",
    "bias",
    "eva_config",
    "exclude_modules",
    "inference_mode",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "lora_alpha",
    "lora_dropout",
    "megatron_config",
    "megatron_core",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "r",
    "rank_pattern",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
    "use_rslora",
    "loftq_config",
];

/// Largest configuration that is read: a hundred times the size of the largest known.
const MOST_CONFIG_BYTES: u64 = 4 << 20;

/// Initialisations of A and B that do not change the base model.
const STARTS: [&str; 3] = ["gaussian", "eva", "orthogonal"];

const PREFIX: &str = "base_model.model.";
const DOWN: &str = ".lora_A.weight";
const UP: &str = ".lora_B.weight";
const BASE: &str = ".base_layer.weight";

/// The settings of a configuration that the engine uses.
struct Config {
    /// Factor of the pairs, before it is divided by the rank or its square root.
    alpha: f64,
    /// Module names, or their endings, with an alpha of their own. The first match applies.
    alphas: Vec<(String, f64)>,
    /// True if alpha is divided by the square root of the rank (arXiv 2312.03732).
    by_root: bool,
}

pub(super) fn read(
    config: &dyn Source,
    weights: &dyn Source,
    base: &AdapterBase<'_>,
) -> Result<AdapterFile, AdapterError> {
    let settings = Config::read(config)?;
    let header = SafetensorsHeader::read(weights)?;
    let mut reader = Reader::new(weights.name(), base);
    let mut skipped = 0;
    for tensor in &header.tensors {
        let name = tensor.name.strip_prefix(PREFIX).ok_or_else(|| reader.unknown(&tensor.name))?;
        // If the adapter changes a head, PEFT also saves the unchanged head.
        if name.ends_with(BASE) {
            continue;
        }
        // Text does not pass through this part.
        if is_other_part(name) {
            skipped += 1;
            continue;
        }
        if let Some(module) = name.strip_suffix(".lora_embedding_A").filter(|module| !module.is_empty()) {
            let target = Target { name: module, layer: None, roles: &[Role::TokenEmbedding] };
            base.place(weights.name(), &target, 1, 1.0)?;
        }
        let Some(module) = name.strip_suffix(DOWN) else {
            let there = name.strip_suffix(UP).map(|module| format!("{PREFIX}{module}{DOWN}"));
            let down = there.ok_or_else(|| reader.unknown(&tensor.name))?;
            if header.tensor(&down).is_none() {
                return Err(reader.missing(down));
            }
            continue;
        };
        let up_name = format!("{PREFIX}{module}{UP}");
        let up = header.tensor(&up_name).ok_or_else(|| reader.missing(up_name))?;
        let (target, order) = target_of(module, base).ok_or_else(|| reader.no_such(module))?;
        let halves = [half(tensor, weights, &reader)?, half(up, weights, &reader)?];
        reader.pair(&target, halves.each_ref(), order, |rank| settings.scale(module, rank))?;
    }
    let name = weights.name();
    if skipped > 0 {
        tracing::warn!(
            file = name,
            tensors = skipped,
            "matrices of the vision tower do not change text and are left out"
        );
    }
    reader.finish(name)
}

/// Returns the projections of a module, and the order of its rows in the model.
fn target_of<'a>(module: &'a str, base: &AdapterBase<'_>) -> Option<(Target<'a>, RowOrder)> {
    let config = base.config;
    let named = gguf_names(&config.architecture, &format!("{module}.weight"))?;
    let name = named.names.first()?;
    let (layer, roles) = base.gguf_roles(name)?;
    let heads = if roles == [Role::Key] { config.kv_heads } else { config.heads };
    let rows = roles.iter().filter_map(|role| dimensions(*role, config).0).sum::<usize>();
    let order = row_order(base.architecture()?, name, heads as u64, rows as u64)?;
    Some((Target { name: module, layer, roles }, order))
}

fn half(tensor: &SafetensorsTensor, weights: &dyn Source, reader: &Reader<'_>) -> Result<Half, AdapterError> {
    let &[rows, cols] = &tensor.shape[..] else { return Err(reader.unknown(&tensor.name)) };
    let format = tensor.dtype.format().ok_or_else(|| AdapterError::Format {
        file: weights.name().to_owned(),
        tensor: tensor.name.clone(),
        format: tensor.dtype.name().to_owned(),
    })?;
    Ok(Half { name: tensor.name.clone(), format, rows, cols, bytes: weights.read(tensor.range.clone())? })
}

impl Config {
    fn read(source: &dyn Source) -> Result<Self, AdapterError> {
        let file = source.name();
        let bad = |reason: String| AdapterError::BadConfig { file: file.to_owned(), reason };
        if source.len() > MOST_CONFIG_BYTES {
            return Err(bad(format!("it has {} bytes, more than {MOST_CONFIG_BYTES}", source.len())));
        }
        let bytes = source.read(0..source.len())?;
        let fields: Map<String, Value> = serde_json::from_slice(&bytes).map_err(|e| bad(e.to_string()))?;
        let fields = Fields { file, fields: &fields };
        match fields.text("peft_type")? {
            Some("LORA") => {}
            found => {
                let found = found.map_or("not there".to_owned(), |found| format!("`{found}`"));
                let file = file.to_owned();
                return Err(AdapterError::NotAnAdapter { file, key: "peft_type", found, wanted: "LORA" });
            }
        }
        fields.check()?;
        let alpha =
            fields.number("lora_alpha")?.ok_or_else(|| bad("`lora_alpha` is not there".to_owned()))?;
        Ok(Self { alpha, alphas: fields.alphas()?, by_root: fields.truth("use_rslora")? })
    }

    /// Returns the factor of a module's pair.
    fn scale(&self, module: &str, rank: usize) -> f32 {
        let fits = |(name, _): &&(String, f64)| {
            let before = module.strip_suffix(name.as_str());
            before.is_some_and(|before| before.is_empty() || before.ends_with('.'))
        };
        let alpha = self.alphas.iter().find(fits).map_or(self.alpha, |(_, alpha)| *alpha);
        let rank = rank as f64;
        (alpha / if self.by_root { rank.sqrt() } else { rank }) as f32
    }
}

/// The fields of a configuration.
struct Fields<'a> {
    file: &'a str,
    fields: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    fn get(&self, field: &str) -> Option<&'a Value> {
        self.fields.get(field).filter(|value| !value.is_null())
    }

    fn bad(&self, field: &str, value: &Value, wanted: &'static str) -> AdapterError {
        let (file, field) = (self.file.to_owned(), field.to_owned());
        AdapterError::BadField { file, field, value: shown(value), wanted }
    }

    fn unsupported(&self, field: &str, value: &Value) -> AdapterError {
        AdapterError::UnsupportedField {
            file: self.file.to_owned(),
            field: field.to_owned(),
            value: shown(value),
            remedy: "merge the adapter into its base model with PEFT",
        }
    }

    fn text(&self, field: &str) -> Result<Option<&'a str>, AdapterError> {
        let Some(value) = self.get(field) else { return Ok(None) };
        value.as_str().map(Some).ok_or_else(|| self.bad(field, value, "a text"))
    }

    fn truth(&self, field: &str) -> Result<bool, AdapterError> {
        let Some(value) = self.get(field) else { return Ok(false) };
        value.as_bool().ok_or_else(|| self.bad(field, value, "true or false"))
    }

    fn number(&self, field: &str) -> Result<Option<f64>, AdapterError> {
        let Some(value) = self.get(field) else { return Ok(None) };
        value.as_f64().map(Some).ok_or_else(|| self.bad(field, value, "a number"))
    }

    /// Reads the alphas of single modules. PEFT treats names as patterns; only plain names are supported.
    fn alphas(&self) -> Result<Vec<(String, f64)>, AdapterError> {
        const FIELD: &str = "alpha_pattern";
        let Some(value) = self.get(FIELD) else { return Ok(Vec::new()) };
        let alphas = value.as_object().ok_or_else(|| self.bad(FIELD, value, "an object of numbers"))?;
        let alpha = |(name, alpha): (&String, &Value)| {
            if !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.')) {
                return Err(self.unsupported(FIELD, &Value::String(name.clone())));
            }
            let alpha = alpha.as_f64().ok_or_else(|| self.bad(FIELD, alpha, "an object of numbers"))?;
            Ok((name.clone(), alpha))
        };
        alphas.iter().map(alpha).collect()
    }

    /// Refuses settings that the engine does not support.
    fn check(&self) -> Result<(), AdapterError> {
        if self.text("bias")?.is_some_and(|bias| bias != "none") {
            return Err(self.unsupported("bias", &self.fields["bias"]));
        }
        if let Some(value) = self.get("init_lora_weights") {
            let known = value.is_boolean() || value.as_str().is_some_and(|name| STARTS.contains(&name));
            if !known {
                return Err(self.unsupported("init_lora_weights", value));
            }
        }
        // `use_dora`, `fan_in_fan_out`, `modules_to_save`, `target_parameters` and future fields: off if empty, null or
        // false.
        let off = |value: &Value| match value {
            Value::Null | Value::Bool(false) => true,
            Value::Array(values) => values.is_empty(),
            Value::Object(values) => values.is_empty(),
            _ => false,
        };
        let on = self.fields.iter().find(|(name, value)| !HARMLESS.contains(&name.as_str()) && !off(value));
        on.map_or(Ok(()), |(name, value)| Err(self.unsupported(name, value)))
    }
}

/// Returns a value for a message, shortened if it is long.
fn shown(value: &Value) -> String {
    const SHOWN: usize = 64;
    let text = value.to_string();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_platform::storage::MemorySource;

    fn config(more: &str) -> Result<Config, AdapterError> {
        let text = format!(r#"{{"peft_type": "LORA", "r": 8, "lora_alpha": 16, "bias": "none"{more}}}"#);
        Config::read(&MemorySource::new("adapter_config.json", text.into_bytes()))
    }

    #[test]
    fn scales_are_alpha_over_the_rank_or_its_root() {
        let scale = |more: &str, module: &str| config(more).unwrap().scale(module, 4);
        assert_eq!(scale("", "model.layers.0.self_attn.q_proj"), 4.0);
        assert_eq!(scale(r#", "use_rslora": true"#, "lm_head"), 8.0);
        let pattern = r#", "alpha_pattern": {"layers.1.self_attn.q_proj": 2, "q_proj": 1}"#;
        assert_eq!(scale(pattern, "model.layers.1.self_attn.q_proj"), 0.5);
        assert_eq!(scale(pattern, "model.layers.11.self_attn.q_proj"), 0.25);
        assert_eq!(scale(pattern, "model.layers.1.self_attn.k_proj"), 4.0);
    }

    #[test]
    fn what_changes_the_meaning_is_refused_by_name() {
        for (field, value) in [
            ("use_dora", "true"),
            ("fan_in_fan_out", "true"),
            ("lora_bias", "true"),
            ("modules_to_save", r#"["lm_head"]"#),
            ("init_lora_weights", r#""pissa""#),
            ("something_new", "1"),
            ("alpha_pattern", r#"{".*q_proj": 3}"#),
        ] {
            let error = config(&format!(r#", "{field}": {value}"#)).err().unwrap();
            assert!(
                matches!(&error, AdapterError::UnsupportedField { field: found, .. } if found == field),
                "{error}"
            );
        }
        for harmless in [
            r#", "use_dora": false"#,
            r#", "modules_to_save": null"#,
            r#", "init_lora_weights": "eva", "eva_config": {"rho": 2.0}"#,
        ] {
            assert!(config(harmless).is_ok(), "{harmless}");
        }
        let biased = r#"{"peft_type": "LORA", "lora_alpha": 16, "bias": "all"}"#;
        let error = Config::read(&MemorySource::new("c", biased.as_bytes().to_vec())).err().unwrap();
        assert!(matches!(&error, AdapterError::UnsupportedField { field, .. } if field == "bias"), "{error}");
    }
}
