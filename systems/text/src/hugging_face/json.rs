//! The JSON structure of the files of a Hugging Face folder.

use serde::de::{DeserializeOwned, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};
use serde_json::Value;
use std::fmt;

use crate::error::TokenizeError;

/// `tokenizer.json`.
#[derive(Debug, Deserialize)]
pub(super) struct TokenizerFile {
    #[serde(default)]
    pub added_tokens: Vec<AddedToken>,
    #[serde(default)]
    pub normalizer: Value,
    #[serde(default)]
    pub pre_tokenizer: Value,
    #[serde(default)]
    pub post_processor: Value,
    pub model: ModelPart,
}

/// A token that the file lists beside the model's vocabulary.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct AddedToken {
    pub id: u32,
    pub content: String,
    #[serde(default)]
    pub single_word: bool,
    #[serde(default)]
    pub lstrip: bool,
    #[serde(default)]
    pub rstrip: bool,
    #[serde(default)]
    pub special: bool,
}

/// The field `model`. It has the fields of all kinds of model.
#[derive(Debug, Deserialize)]
pub(super) struct ModelPart {
    #[serde(default, rename = "type")]
    pub kind: Option<String>,
    pub vocab: Vocab,
    #[serde(default)]
    pub merges: Vec<MergePair>,
    #[serde(default)]
    pub unk_token: Option<String>,
    #[serde(default)]
    pub unk_id: Option<u32>,
    #[serde(default)]
    pub byte_fallback: bool,
    #[serde(default)]
    pub ignore_merges: bool,
    #[serde(default)]
    pub dropout: Option<f64>,
    #[serde(default)]
    pub continuing_subword_prefix: Option<String>,
    #[serde(default)]
    pub end_of_word_suffix: Option<String>,
    #[serde(default)]
    pub max_input_chars_per_word: Option<u64>,
}

impl ModelPart {
    /// Refuses prefixes and suffixes that mark the inside or the end of words. BPE models in use today have none.
    pub(super) fn check_no_affixes(&self) -> Result<(), TokenizeError> {
        for (part, value) in [
            ("model.continuing_subword_prefix", &self.continuing_subword_prefix),
            ("model.end_of_word_suffix", &self.end_of_word_suffix),
        ] {
            if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
                return Err(unsupported(part, &Value::from(value.as_str())));
            }
        }
        Ok(())
    }
}

/// The tokens of a model: with their ids, or in the order of their ids with their scores.
#[derive(Debug)]
pub(super) enum Vocab {
    Ids(Vec<(String, u32)>),
    Scores(Vec<(String, f64)>),
}

/// A merge as `left right`. The file may also write it as an array of two strings.
#[derive(Debug)]
pub(super) struct MergePair(pub String);

impl<'de> Deserialize<'de> for Vocab {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Vocab;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of ids or an array of tokens and scores")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vocab, A::Error> {
                let mut tokens = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    tokens.push(entry);
                }
                Ok(Vocab::Ids(tokens))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Vocab, A::Error> {
                let mut tokens = Vec::new();
                while let Some(entry) = sequence.next_element()? {
                    tokens.push(entry);
                }
                Ok(Vocab::Scores(tokens))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

impl<'de> Deserialize<'de> for MergePair {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = MergePair;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a merge, \"left right\" or [\"left\", \"right\"]")
            }

            fn visit_str<E: de::Error>(self, merge: &str) -> Result<MergePair, E> {
                Ok(MergePair(merge.to_owned()))
            }

            fn visit_string<E: de::Error>(self, merge: String) -> Result<MergePair, E> {
                Ok(MergePair(merge))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut pair: A) -> Result<MergePair, A::Error> {
                let parts: [Option<String>; 2] = [pair.next_element()?, pair.next_element()?];
                match (parts, pair.next_element::<IgnoredAny>()?) {
                    ([Some(left), Some(right)], None) => Ok(MergePair(format!("{left} {right}"))),
                    _ => Err(de::Error::custom("a merge has two parts")),
                }
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// Parses a JSON file.
pub(super) fn read<T: DeserializeOwned>(file: &'static str, text: &[u8]) -> Result<T, TokenizeError> {
    serde_json::from_slice(text)
        .map_err(|error| TokenizeError::HuggingFace { file, reason: error.to_string() })
}

/// Returns the type of a part of `tokenizer.json`, such as `ByteLevel`, or an empty string if it has none.
pub(super) fn kind(part: &Value) -> &str {
    part["type"].as_str().unwrap_or_default()
}

/// Returns the parts of a `Sequence` in order, nested ones included, or the part itself if it is not a sequence.
pub(super) fn steps(part: &Value) -> Vec<&Value> {
    fn flatten<'a>(part: &'a Value, out: &mut Vec<&'a Value>) {
        if part.is_null() {
            return;
        }
        let inner =
            ["normalizers", "pretokenizers", "processors"].iter().find_map(|key| part[*key].as_array());
        match inner.filter(|_| kind(part) == "Sequence") {
            // The JSON reader bounds the depth of this recursion.
            Some(inner) => inner.iter().for_each(|step| flatten(step, out)),
            None => out.push(part),
        }
    }
    let mut out = Vec::new();
    flatten(part, &mut out);
    out
}

/// Makes the error for a part that is not supported.
pub(super) fn unsupported(part: &'static str, value: &Value) -> TokenizeError {
    // A normalisation table can be of any length, so the message quotes 300 characters at most.
    let value: String = value.to_string().chars().take(300).collect();
    TokenizeError::UnsupportedPart { part, value }
}
