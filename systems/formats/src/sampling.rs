//! The sampling settings that a file recommends: the keys `general.sampling.*`, which llama.cpp also reads.

use super::gguf::{Metadata, Value};
use weft_components::{IgnoredDefault, SamplingDefaults};

const PREFIX: &str = "general.sampling.";

/// A setting that the engine supports.
struct Followed {
    key: &'static str,
    /// The accepted range, as the reason for refusing a value.
    range: &'static str,
    /// Stores the value. Returns false if it is out of range.
    take: fn(&mut SamplingDefaults, f64) -> bool,
}

const FOLLOWED: &[Followed] = &[
    Followed {
        key: "temp",
        range: "a temperature is a number from 0",
        take: |defaults, value| number(&mut defaults.temperature, value, 0.0, f64::from(f32::MAX)),
    },
    Followed {
        key: "top_k",
        range: "top-k is a whole number from 0",
        // llama.cpp takes negative numbers to mean all tokens.
        take: |defaults, value| count(&mut defaults.top_k, if value < 0.0 { 0.0 } else { value }),
    },
    Followed {
        key: "top_p",
        range: "top-p is a number between 0 and 1",
        take: |defaults, value| number(&mut defaults.top_p, value, 0.0, 1.0),
    },
    Followed {
        key: "min_p",
        range: "min-p is a number between 0 and 1",
        take: |defaults, value| number(&mut defaults.min_p, value, 0.0, 1.0),
    },
    Followed {
        key: "penalty_repeat",
        range: "a repetition penalty is a number above 0",
        take: |defaults, value| {
            value > 0.0
                && number(
                    &mut defaults.repetition_penalty,
                    value,
                    f64::from(f32::MIN_POSITIVE),
                    f64::from(f32::MAX),
                )
        },
    },
    Followed {
        key: "penalty_last_n",
        range: "the number of tokens that penalties look at is a whole number from 0, or -1 for all",
        take: |defaults, value| {
            if value == -1.0 {
                defaults.penalty_last_n = Some(usize::MAX);
                return true;
            }
            count(&mut defaults.penalty_last_n, value)
        },
    },
];

/// Settings of samplers that the engine does not have, and the value that switches each off.
const FOREIGN: &[(&str, f64)] = &[("mirostat", 0.0), ("xtc_probability", 0.0)];

/// The key of the order of samplers: their names, separated by `;`.
const SEQUENCE: &str = "sequence";
const REORDERED: &str = "samplers run in the order penalties;top_k;typ_p;top_p;min_p;temperature";
/// Samplers that are off unless another key switches them on.
const OFF: &[&str] = &["dry", "xtc", "top_n_sigma", "top-n-sigma"];

/// The engine's samplers in their order: their names in llama.cpp, and the setting that switches each off.
const ORDER: &[(&[&str], fn(&mut SamplingDefaults))] = &[
    (&["penalties"], |defaults| defaults.penalty_last_n = Some(0)),
    (&["top_k", "top-k"], |defaults| defaults.top_k = Some(0)),
    (&["typ_p", "typ-p", "typ", "typical", "typical-p"], |_| {}),
    (&["top_p", "top-p", "nucleus"], |defaults| defaults.top_p = Some(1.0)),
    (&["min_p", "min-p"], |defaults| defaults.min_p = Some(0.0)),
    (&["temperature", "temp"], |defaults| defaults.temperature = Some(1.0)),
];

/// Stores a number from `least` to `most`. Returns false for any other value.
fn number(field: &mut Option<f32>, value: f64, least: f64, most: f64) -> bool {
    let good = (least..=most).contains(&value);
    if good {
        *field = Some(value as f32);
    }
    good
}

/// Stores an integer that fits 32 bits. Returns false for any other value.
fn count(field: &mut Option<usize>, value: f64) -> bool {
    let good = value.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&value);
    if good {
        *field = Some(value as usize);
    }
    good
}

/// Reads the recommended settings. A setting that is out of range or not supported is left out and listed.
pub(super) fn sampling_defaults(metadata: &Metadata) -> SamplingDefaults {
    let mut defaults = SamplingDefaults::default();
    for Followed { key, range, take } in FOLLOWED {
        if let Some(value) = get(metadata, key)
            && !as_number(value).is_some_and(|value| take(&mut defaults, value))
        {
            ignore(&mut defaults, key, value, range);
        }
    }
    for (key, off) in FOREIGN {
        if let Some(value) = get(metadata, key)
            && as_number(value) != Some(*off)
        {
            ignore(&mut defaults, key, value, "the engine has no such sampler");
        }
    }
    if let Some(value) = get(metadata, SEQUENCE)
        && !matches!(value, Value::String(names) if follow_sequence(&mut defaults, names))
    {
        ignore(&mut defaults, SEQUENCE, value, REORDERED);
    }
    defaults
}

/// Switches off the samplers that a sequence does not name. Returns false and changes nothing if the sequence has
/// another order than the engine or names samplers that the engine does not have.
fn follow_sequence(defaults: &mut SamplingDefaults, sequence: &str) -> bool {
    let names = sequence.split(';').map(str::trim).filter(|name| !name.is_empty() && !OFF.contains(name));
    let places: Option<Vec<usize>> =
        names.map(|name| ORDER.iter().position(|(names, _)| names.contains(&name))).collect();
    let Some(places) = places.filter(|places| !places.is_empty() && places.is_sorted()) else { return false };
    let absent = ORDER.iter().enumerate().filter(|(place, _)| !places.contains(place));
    absent.for_each(|(_, (_, leave_out))| leave_out(defaults));
    true
}

fn get<'a>(metadata: &'a Metadata, key: &str) -> Option<&'a Value> {
    metadata.get(&format!("{PREFIX}{key}"))
}

/// Returns a number of any type, or one written as text, as llama.cpp does.
fn as_number(value: &Value) -> Option<f64> {
    match value {
        Value::F32(value) => Some(f64::from(*value)),
        Value::F64(value) => Some(*value),
        Value::String(text) => text.trim().parse().ok(),
        value => value.integer().map(|value| value as f64),
    }
}

fn ignore(defaults: &mut SamplingDefaults, key: &str, value: &Value, reason: &'static str) {
    const MOST: usize = 40;
    let value = value.to_string().chars().take(MOST).collect();
    defaults.ignored.push(IgnoredDefault { key: format!("{PREFIX}{key}"), value, reason });
}

/// Fields of `generation_config.json` and the keys that llama.cpp's converter writes for them.
const FIELDS: &[(&str, &str)] = &[
    ("temperature", "temp"),
    ("top_k", "top_k"),
    ("top_p", "top_p"),
    ("min_p", "min_p"),
    ("repetition_penalty", "penalty_repeat"),
];

/// Returns the settings in `generation_config.json` as metadata. Invalid JSON is ignored here. The tokenizer also reads
/// the file and reports it.
pub(super) fn sampling_entries(generation_config: &[u8]) -> Vec<(String, Value)> {
    let config: serde_json::Value = serde_json::from_slice(generation_config).unwrap_or_default();
    let entry = |(field, key): &(&str, &str)| {
        let value = match &config[field] {
            serde_json::Value::Null => return None,
            value => match (value.as_u64().map(u32::try_from), value.as_f64()) {
                (Some(Ok(whole)), _) if *key == "top_k" => Value::U32(whole),
                (_, Some(number)) => Value::F32(number as f32),
                _ => Value::String(value.to_string()),
            },
        };
        Some((format!("{PREFIX}{key}"), value))
    };
    let mut entries: Vec<_> = FIELDS.iter().filter_map(entry).collect();
    if config["do_sample"] == serde_json::Value::Bool(false) {
        let key = format!("{PREFIX}temp");
        entries.retain(|(found, _)| *found != key);
        entries.push((key, Value::F32(0.0)));
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(entries: &[(&str, Value)]) -> SamplingDefaults {
        let entries = entries.iter().map(|(key, value)| (format!("{PREFIX}{key}"), value.clone())).collect();
        sampling_defaults(&Metadata::new("m", entries).unwrap())
    }

    fn text(text: &str) -> Value {
        Value::String(text.to_owned())
    }

    #[test]
    fn numbers_of_any_type_within_their_range_are_taken() {
        let defaults = read(&[
            ("temp", Value::F32(0.5)),
            ("top_k", Value::I32(20)),
            ("top_p", Value::F64(0.75)),
            ("min_p", text("0.25")),
            ("penalty_repeat", Value::U8(2)),
            ("penalty_last_n", Value::I64(-1)),
            ("mirostat", Value::I32(0)),
            ("mirostat_tau", Value::F32(5.0)),
        ]);
        assert_eq!(
            defaults,
            SamplingDefaults {
                temperature: Some(0.5),
                top_k: Some(20),
                top_p: Some(0.75),
                min_p: Some(0.25),
                repetition_penalty: Some(2.0),
                penalty_last_n: Some(usize::MAX),
                ignored: Vec::new(),
            }
        );
        assert_eq!(read(&[("top_k", Value::I32(-1))]).top_k, Some(0));
        assert_eq!(read(&[]), SamplingDefaults::default());
    }

    #[test]
    fn what_cannot_be_followed_is_listed() {
        for (key, value) in [
            ("temp", Value::F32(-1.0)),
            ("temp", Value::F32(f32::NAN)),
            ("temp", Value::F64(1e300)),
            ("temp", text("hot")),
            ("temp", Value::Bool(true)),
            ("top_k", Value::F32(1.5)),
            ("top_k", Value::U64(u64::MAX)),
            ("top_p", Value::F32(1.5)),
            ("min_p", Value::F32(-0.5)),
            ("penalty_repeat", Value::F32(0.0)),
            ("penalty_repeat", Value::F64(1e-300)),
            ("penalty_last_n", Value::I32(-2)),
            ("mirostat", Value::I32(2)),
            ("xtc_probability", Value::F32(0.5)),
            ("sequence", text("temperature;top_k")),
            ("sequence", text("top_k;infill")),
            ("sequence", text("")),
            ("sequence", Value::U32(1)),
        ] {
            let mut defaults = read(&[(key, value.clone())]);
            assert_eq!(defaults.ignored.len(), 1, "{key} {value:?}");
            assert_eq!(defaults.ignored[0].key, format!("general.sampling.{key}"));
            defaults.ignored.clear();
            assert_eq!(defaults, SamplingDefaults::default(), "{key} {value:?}");
        }
    }

    #[test]
    fn a_sequence_leaves_samplers_out() {
        let all = "penalties;dry;top_n_sigma;top_k;typ_p;top_p;min_p;xtc;temperature";
        assert_eq!(read(&[("sequence", text(all))]), SamplingDefaults::default());
        let some = read(&[("sequence", text("top_k;temp")), ("top_p", Value::F32(0.5))]);
        assert_eq!((some.top_p, some.min_p, some.penalty_last_n), (Some(1.0), Some(0.0), Some(0)));
        assert_eq!((some.top_k, some.temperature), (None, None));
    }

    #[test]
    fn folders_recommend_in_their_own_words() {
        let read = |json: &str| {
            let entries = sampling_entries(json.as_bytes());
            sampling_defaults(&Metadata::new("m", entries).unwrap())
        };
        let defaults = read(
            r#"{"do_sample": true, "temperature": 0.5, "top_k": 20, "top_p": 1, "repetition_penalty": 1.5}"#,
        );
        assert_eq!((defaults.temperature, defaults.top_k, defaults.top_p), (Some(0.5), Some(20), Some(1.0)));
        assert_eq!((defaults.repetition_penalty, defaults.min_p), (Some(1.5), None));
        assert_eq!(read(r#"{"do_sample": false, "temperature": 0.5}"#).temperature, Some(0.0));
        assert_eq!(read(r#"{"temperature": null}"#), SamplingDefaults::default());
        assert_eq!(read("[]"), SamplingDefaults::default());
        let hot = read(r#"{"temperature": "hot", "top_p": 7}"#);
        assert_eq!((hot.temperature, hot.top_p, hot.ignored.len()), (None, None, 2));
    }
}
