//! Reads rotary embedding from `config.json`: bases, scaling, and the factors that a GGUF stores as tensors.
//!
//! Sources: `modeling_rope_utils.py` of `transformers`; Llama 3's factors as in llama.cpp's converter.

use super::HuggingFaceError;
use super::config::Config;
use super::families::Family;
use super::keys::Keys;
use serde_json::{Map, Value, json};

/// Tensors of factors that divide rotary frequencies.
#[derive(Debug, Default)]
pub(super) struct Rope {
    /// GGUF names and factors, one factor for each pair of dimensions.
    pub(super) factors: Vec<(&'static str, Vec<f32>)>,
}

/// Longest head that is accepted.
const MAX_LENGTH: u64 = 1 << 16;

/// Rotary parameters of a group of layers, from whichever field of the configuration contains them.
struct Parameters<'a> {
    config: &'a Config,
    fields: Option<&'a Map<String, Value>>,
}

impl Parameters<'_> {
    fn float(&self, name: &str) -> Result<Option<f64>, HuggingFaceError> {
        let value = self.fields.and_then(|fields| fields.get(name)).filter(|value| !value.is_null());
        value.map(|value| self.config.number(&format!("rope_parameters.{name}"), value)).transpose()
    }

    fn needed(&self, name: &str) -> Result<f64, HuggingFaceError> {
        self.float(name)?.ok_or_else(|| self.config.missing(&format!("rope_parameters.{name}")))
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.fields.and_then(|fields| fields.get(name)).and_then(Value::as_str)
    }

    fn floats(&self, name: &str, count: u64) -> Result<Vec<f32>, HuggingFaceError> {
        let field = format!("rope_parameters.{name}");
        let value =
            self.fields.and_then(|fields| fields.get(name)).ok_or_else(|| self.config.missing(&field))?;
        let numbers = value.as_array().filter(|values| values.len() as u64 == count);
        let numbers = numbers.ok_or_else(|| self.config.bad(&field, value, &format!("{count} numbers")))?;
        let number = |value| {
            let number = self.config.number(&field, value)? as f32;
            // A value beyond the f32 range would become infinite.
            if number.is_finite() {
                Ok(number)
            } else {
                Err(self.config.bad(&field, value, "a 32-bit number"))
            }
        };
        numbers.iter().map(number).collect()
    }

    /// Returns the original context length in positions: an integer below 2^32, which an f64 represents exactly and the
    /// GGUF key accepts.
    fn original_context(&self) -> Result<Option<f64>, HuggingFaceError> {
        const FIELD: &str = "original_max_position_embeddings";
        match self.float(FIELD)?.or(self.config.opt_float(FIELD)?) {
            Some(found) if found.fract() != 0.0 || !(0.0..=f64::from(u32::MAX)).contains(&found) => {
                Err(self.config.bad(FIELD, &json!(found), "a whole number of positions below 2^32"))
            }
            found => Ok(found),
        }
    }
}

/// Reads the rotary embedding, writes its metadata and returns the tensors of factors.
pub(super) fn describe(config: &Config, family: &Family, keys: &mut Keys) -> Result<Rope, HuggingFaceError> {
    let stated = config.get("rope_parameters").or(config.get("rope_scaling"));
    if let Some(stated) = stated.filter(|stated| !stated.is_object()) {
        return Err(config.bad("rope_parameters", stated, "an object"));
    }
    let stated = stated.and_then(Value::as_object);
    let layers = |name: &str| stated.and_then(|fields| fields.get(name)).and_then(Value::as_object);
    let parameters = Parameters { config, fields: layers("full_attention").or(stated) };
    let local = Parameters { config, fields: layers("sliding_attention") };
    let theta = parameters.float("rope_theta")?.or(config.opt_float("rope_theta")?).unwrap_or(family.theta);
    keys.float("rope.freq_base", theta);
    let local_theta = local.float("rope_theta")?.or(config.opt_float("rope_local_base_freq")?);
    if let Some(theta) = local_theta {
        keys.float("rope.freq_base_swa", theta);
    }
    if let Some(kind) = local.text("rope_type").filter(|kind| *kind != "default") {
        return Err(config.bad("rope_parameters.sliding_attention.rope_type", &json!(kind), "default"));
    }
    let length = head_length(config)?;
    if !(1..=MAX_LENGTH).contains(&length) {
        return Err(config.bad("head_dim", &json!(length), "a positive count of plausible size"));
    }
    let partial = parameters.float("partial_rotary_factor")?.or(config.opt_float("partial_rotary_factor")?);
    let partial = partial.unwrap_or(1.0);
    if !(partial > 0.0 && partial <= 1.0) || (partial != 1.0 && !family.turns_partly) {
        return Err(config.bad("partial_rotary_factor", &json!(partial), "1"));
    }
    let dimensions = (length as f64 * partial) as u64;
    keys.count("rope.dimension_count", dimensions);
    let mut rope = Rope::default();
    match parameters.text("rope_type").or(parameters.text("type")).unwrap_or("default") {
        "default" => {
            if let Some(context) = parameters.original_context()? {
                keys.count("rope.scaling.original_context_length", context as u64);
            }
        }
        // Frequencies change only beyond `max_position_embeddings`, and the context is not longer than that.
        "dynamic" => {
            if let Some(alpha) = parameters.float("alpha")? {
                return Err(config.bad("rope_parameters.alpha", &json!(alpha), "left out"));
            }
        }
        "linear" => {
            keys.text("rope.scaling.type", "linear");
            keys.float("rope.scaling.factor", parameters.needed("factor")?);
        }
        "yarn" => yarn(&parameters, keys)?,
        "llama3" => rope.factors.push(("rope_freqs.weight", llama3(&parameters, theta, dimensions)?)),
        "longrope" | "su" => rope.factors = longrope(&parameters, dimensions, keys)?,
        kind => {
            let wanted = "default, linear, dynamic, yarn, llama3 or longrope";
            return Err(config.bad("rope_parameters.rope_type", &json!(kind), wanted));
        }
    }
    Ok(rope)
}

/// Returns the length of a head in elements.
fn head_length(config: &Config) -> Result<u64, HuggingFaceError> {
    match config.opt_count("head_dim")? {
        Some(length) => Ok(length),
        None => {
            Ok(config.count("hidden_size")?.checked_div(config.count("num_attention_heads")?).unwrap_or(0))
        }
    }
}

/// Writes the metadata of YaRN (arXiv 2309.00071).
fn yarn(parameters: &Parameters<'_>, keys: &mut Keys) -> Result<(), HuggingFaceError> {
    let config = parameters.config;
    let context = config.count("max_position_embeddings")? as f64;
    let original = parameters.original_context()?.filter(|original| *original > 0.0).unwrap_or(context);
    let factor = parameters.float("factor")?.unwrap_or(context / original);
    keys.text("rope.scaling.type", "yarn");
    keys.float("rope.scaling.factor", factor);
    keys.count("rope.scaling.original_context_length", original as u64);
    let magnitude = |scale: f64| if factor > 1.0 { 0.1 * scale * factor.ln() + 1.0 } else { 1.0 };
    let stated = parameters.float("attention_factor")?;
    let scales = (parameters.float("mscale")?, parameters.float("mscale_all_dim")?);
    let attention = match (stated, scales) {
        (None, (Some(one), Some(all))) if one != 0.0 && all != 0.0 => Some(magnitude(one) / magnitude(all)),
        (stated, _) => stated,
    };
    for (key, value) in [
        ("rope.scaling.yarn_attn_factor", attention),
        ("rope.scaling.yarn_beta_fast", parameters.float("beta_fast")?),
        ("rope.scaling.yarn_beta_slow", parameters.float("beta_slow")?),
    ] {
        if let Some(value) = value {
            keys.float(key, value);
        }
    }
    let truncate = parameters.fields.and_then(|fields| fields.get("truncate"));
    match truncate.filter(|truncate| **truncate != json!(true)) {
        Some(truncate) => Err(config.bad("rope_parameters.truncate", truncate, "true")),
        None => Ok(()),
    }
}

/// Returns Llama 3's factors: slow pairs are divided by `factor`, fast pairs are unchanged, those between are
/// interpolated.
fn llama3(parameters: &Parameters<'_>, theta: f64, dimensions: u64) -> Result<Vec<f32>, HuggingFaceError> {
    let factor = parameters.needed("factor")?;
    let (low, high) = (parameters.needed("low_freq_factor")?, parameters.needed("high_freq_factor")?);
    let field = "original_max_position_embeddings";
    let original = parameters.original_context()?.ok_or_else(|| parameters.config.missing(field))?;
    let of_pair = |pair: u64| {
        // In f32, as the model itself computes it.
        let frequency = 1.0 / (theta as f32).powf((2 * pair) as f32 / dimensions as f32);
        let wavelength = 2.0 * std::f64::consts::PI / f64::from(frequency);
        if wavelength < original / high {
            1.0
        } else if wavelength > original / low {
            factor as f32
        } else {
            let smooth = (original / wavelength - low) / (high - low);
            (1.0 / ((1.0 - smooth) / factor + smooth)) as f32
        }
    };
    Ok((0..dimensions / 2).map(of_pair).collect())
}

/// Returns the factors for texts within the original context and for longer ones (arXiv 2402.13753).
fn longrope(
    parameters: &Parameters<'_>,
    dimensions: u64,
    keys: &mut Keys,
) -> Result<Vec<(&'static str, Vec<f32>)>, HuggingFaceError> {
    let config = parameters.config;
    let field = "original_max_position_embeddings";
    let original = parameters.original_context()?.ok_or_else(|| config.missing(field))?;
    let context = config.count("max_position_embeddings")? as f64;
    let factor = parameters.float("factor")?.unwrap_or(context / original);
    let magnitude = match parameters.float("attention_factor")? {
        Some(stated) => stated,
        None if factor > 1.0 => (1.0 + factor.ln() / original.ln()).sqrt(),
        None => 1.0,
    };
    keys.count("rope.scaling.original_context_length", original as u64);
    keys.float("rope.scaling.attn_factor", magnitude);
    let pairs = dimensions / 2;
    Ok(vec![
        ("rope_factors_long.weight", parameters.floats("long_factor", pairs)?),
        ("rope_factors_short.weight", parameters.floats("short_factor", pairs)?),
    ])
}
