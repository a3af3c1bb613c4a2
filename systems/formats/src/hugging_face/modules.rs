//! `modules.json` of `sentence-transformers`: the modules that turn the hidden states of a text's tokens into one
//! vector.
//!
//! The first module is the model itself, which older folders keep in a subfolder. The second does the pooling. A third
//! may normalize, which the engine does by default anyway. A folder with other modules still opens; the reason why its
//! embeddings are not supported is stored with the model and reported when embeddings are requested.

use super::HuggingFaceError;
use super::config::shortened;
use super::read::read_all;
use serde_json::{Map, Value};
use std::path::{Component, Path, PathBuf};
use weft_components::{Pooling, SentenceConfig};

/// The list of modules.
const MODULES: &str = "modules.json";
/// Prompts that precede texts.
const PROMPTS: &str = "config_sentence_transformers.json";
/// A module's settings.
const CONFIG: &str = "config.json";
/// Names that the settings of the Transformer module have had.
const TRANSFORMER: [&str; 7] = [
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
];

/// Since version 6.0 only the tokenizer states the token limit.
const TOKENIZER: &str = "tokenizer_config.json";

/// Pooling modes: the boolean field used before version 6.0, the name used since, and the pooling if the engine
/// supports it.
const MODES: [(&str, &str, Option<Pooling>); 6] = [
    ("pooling_mode_cls_token", "cls", Some(Pooling::Cls)),
    ("pooling_mode_mean_tokens", "mean", Some(Pooling::Mean)),
    ("pooling_mode_lasttoken", "lasttoken", Some(Pooling::Last)),
    ("pooling_mode_max_tokens", "max", None),
    ("pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens", None),
    ("pooling_mode_weightedmean_tokens", "weightedmean", None),
];

/// Modules that do not change the vector, or only its length.
const IDLE: [&str; 2] = ["Normalize", "Dropout"];

/// The content of a folder's modules.
#[derive(Debug, Default)]
pub(super) struct Modules {
    /// The folder of the model itself, if it is a subfolder.
    pub(super) model: Option<PathBuf>,
    pub(super) pooling: Option<Pooling>,
    pub(super) sentence: SentenceConfig,
    /// True if pooling leaves out the prompt's tokens.
    skips_prompt: bool,
}

/// A file of settings.
struct File {
    name: String,
    fields: Map<String, Value>,
}

impl Modules {
    /// Reads the modules in `folder`. The result is the default if there is no `modules.json`.
    ///
    /// # Errors
    /// A file that is not valid JSON, or that names a path outside the folder.
    pub(super) fn read(folder: &Path) -> Result<Self, HuggingFaceError> {
        let path = folder.join(MODULES);
        if !path.is_file() {
            return Ok(Self::default());
        }
        let file = path.display().to_string();
        let list: Vec<Value> = serde_json::from_slice(&read_all(&path)?)
            .map_err(|error| HuggingFaceError::Json { file: file.clone(), reason: error.to_string() })?;
        let mut modules = Self::default();
        let mut kinds = Vec::new();
        for (at, module) in list.iter().enumerate() {
            let place = module.get("path").and_then(Value::as_str).unwrap_or_default();
            let inside = Path::new(place).components().all(|part| matches!(part, Component::Normal(_)));
            // The class's name is the last component of its Python path.
            let class = module.get("type").and_then(Value::as_str).unwrap_or_default();
            let kind = class.rsplit('.').next().unwrap_or_default();
            if kind.is_empty() || !inside {
                return Err(bad(&file, &format!("[{at}]"), module, "a `type` and a `path` in the folder"));
            }
            kinds.push((kind, folder.join(place)));
        }
        let mut rest = kinds.iter().enumerate();
        match rest.next() {
            Some((_, ("Transformer", place))) => {
                modules.transformer(place)?;
                modules.model = (place != folder).then(|| place.clone());
            }
            Some((_, (kind, _))) => modules.refuse(&file, &format!("module 0 is {kind}, not Transformer")),
            None => {}
        }
        let mut pooled = false;
        for (at, (kind, place)) in rest {
            match *kind {
                "Pooling" if !pooled => {
                    pooled = true;
                    modules.pool(&place.join(CONFIG))?;
                }
                kind if IDLE.contains(&kind) => {}
                kind => modules.refuse(&file, &format!("module {at} is {kind}")),
            }
        }
        if !pooled {
            modules.refuse(&file, "there is no module Pooling");
        }
        modules.prompt(&folder.join(PROMPTS))?;
        Ok(modules)
    }

    /// Records why the engine cannot compute the folder's embeddings. The first reason is kept.
    fn refuse(&mut self, file: &str, why: &str) {
        self.sentence.unsupported.get_or_insert_with(|| format!("{file}: {why}"));
    }

    /// Reads how texts become tokens: the token limit and lower-casing.
    fn transformer(&mut self, folder: &Path) -> Result<(), HuggingFaceError> {
        let there = |names: &[&str]| names.iter().map(|name| folder.join(name)).find(|path| path.is_file());
        if let Some(path) = there(&TRANSFORMER) {
            let file = File::read(&path)?;
            let tokens = file.get("max_seq_length");
            let count = |value| {
                let wanted = "a positive whole number";
                count(value).ok_or_else(|| bad(&file.name, "max_seq_length", value, wanted))
            };
            self.sentence.max_tokens = tokens.map(count).transpose()?;
            self.sentence.lower_case = file.flag("do_lower_case")?;
        }
        if let Some(path) = there(&[TOKENIZER]).filter(|_| self.sentence.max_tokens.is_none()) {
            // If there is no limit, the field contains a number of thirty digits.
            self.sentence.max_tokens = File::read(&path)?.get("model_max_length").and_then(count);
        }
        Ok(())
    }

    /// Reads how hidden states are pooled into a vector.
    fn pool(&mut self, path: &Path) -> Result<(), HuggingFaceError> {
        if !path.is_file() {
            let index = MODULES.to_owned();
            return Err(HuggingFaceError::MissingFile { file: path.display().to_string(), index });
        }
        let file = File::read(path)?;
        let mut names = Vec::new();
        match file.get("pooling_mode") {
            Some(Value::Array(modes)) => names.extend(modes.iter().map(Value::to_string)),
            Some(mode) => names.push(mode.to_string()),
            None => {
                for (field, name, _) in MODES {
                    if file.flag(field)? {
                        names.push(format!("{name:?}"));
                    }
                }
            }
        }
        let known = |wanted: &str| MODES.iter().find(|(_, name, _)| wanted == format!("{name:?}"));
        match names.as_slice() {
            [] => self.pooling = Some(Pooling::Mean),
            [one] => match known(one).and_then(|(_, _, pooling)| *pooling) {
                Some(pooling) => self.pooling = Some(pooling),
                None => self.refuse(&file.name, &format!("the pooling is {one}")),
            },
            several => self.refuse(&file.name, &format!("the pooling is {} together", several.join(" and "))),
        }
        self.skips_prompt = file.get("include_prompt") == Some(&Value::Bool(false));
        Ok(())
    }

    /// Reads the prompt that precedes each text.
    fn prompt(&mut self, path: &Path) -> Result<(), HuggingFaceError> {
        if !path.is_file() {
            return Ok(());
        }
        let file = File::read(path)?;
        let Some(name) = file.get("default_prompt_name") else { return Ok(()) };
        let prompts = file.get("prompts");
        let prompt = name.as_str().and_then(|name| prompts?.get(name)).and_then(Value::as_str);
        let wanted = "the name of one of `prompts`";
        let prompt = prompt.ok_or_else(|| bad(&file.name, "default_prompt_name", name, wanted))?;
        self.sentence.prompt = prompt.to_owned();
        if self.skips_prompt && !prompt.is_empty() {
            self.refuse(&file.name, "there is a default prompt, which the pooling leaves out");
        }
        Ok(())
    }
}

impl File {
    fn read(path: &Path) -> Result<Self, HuggingFaceError> {
        let name = path.display().to_string();
        let fields = serde_json::from_slice(&read_all(path)?)
            .map_err(|error| HuggingFaceError::Json { file: name.clone(), reason: error.to_string() })?;
        Ok(Self { name, fields })
    }

    fn get(&self, field: &str) -> Option<&Value> {
        self.fields.get(field).filter(|value| !value.is_null())
    }

    fn flag(&self, field: &str) -> Result<bool, HuggingFaceError> {
        let Some(value) = self.get(field) else { return Ok(false) };
        value.as_bool().ok_or_else(|| bad(&self.name, field, value, "true or false"))
    }
}

/// Returns a positive integer that fits 32 bits; `None` for any other value.
fn count(value: &Value) -> Option<usize> {
    let count = value.as_u64().and_then(|count| u32::try_from(count).ok());
    count.filter(|count| *count > 0).map(|count| count as usize)
}

fn bad(file: &str, field: &str, value: &Value, wanted: &str) -> HuggingFaceError {
    HuggingFaceError::BadField {
        file: file.to_owned(),
        field: field.to_owned(),
        value: shortened(value),
        wanted: wanted.to_owned(),
    }
}
