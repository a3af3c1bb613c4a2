//! Byte-level BPE: GPT-2, Llama 3, Qwen, SmolLM and most others.

use serde_json::Value;

use super::expressions::{SPLITS, Step};
use super::json::{TokenizerFile, kind, steps, unsupported};
use crate::error::TokenizeError;
use crate::pretokenizers;
use crate::vocabulary::Vocabulary;

/// Returns true if the file writes the bytes of words in GPT-2's alphabet.
pub(super) fn is_byte_level(file: &TokenizerFile) -> bool {
    steps(&file.pre_tokenizer)
        .into_iter()
        .chain(steps(&file.normalizer))
        .any(|step| kind(step) == "ByteLevel")
}

pub(super) fn fill(vocabulary: &mut Vocabulary, file: &TokenizerFile) -> Result<(), TokenizeError> {
    let model = &file.model;
    model.check_no_affixes()?;
    for step in steps(&file.normalizer) {
        match kind(step) {
            "NFC" => vocabulary.nfc = true,
            _ => return Err(unsupported("normalizer", step)),
        }
    }
    vocabulary.model = "gpt2".to_owned();
    vocabulary.pre = pre(&file.pre_tokenizer, model.ignore_merges)?.to_owned();
    vocabulary.ignore_merges = Some(model.ignore_merges);
    vocabulary.merges = model.merges.iter().map(|merge| merge.0.clone()).collect();
    Ok(())
}

/// Returns the name of a pre-tokenizer that splits as the file does. Of several, the first whose `ignore_merges` is the
/// file's is chosen, or else the first.
fn pre(pre_tokenizer: &Value, ignore_merges: bool) -> Result<&'static str, TokenizeError> {
    let found: Option<Vec<Step<'_>>> = steps(pre_tokenizer).into_iter().filter_map(step).collect();
    let found = found.ok_or_else(|| unsupported("pre_tokenizer", pre_tokenizer))?;
    let mut names = SPLITS.iter().filter(|(_, steps)| *steps == found.as_slice()).map(|(name, _)| *name);
    let habit =
        |name: &&str| pretokenizers::find(name).is_some_and(|family| family.ignore_merges == ignore_merges);
    let any = names.clone().next();
    names.find(habit).or(any).ok_or_else(|| unsupported("pre_tokenizer", pre_tokenizer))
}

/// Converts a step of the file to a step of the table. Returns `None` if the step splits nothing, and `Some(None)` if
/// it is not known.
fn step(step: &Value) -> Option<Option<Step<'_>>> {
    let flag = |key: &str| step[key].as_bool();
    Some(match kind(step) {
        // Not supported: the space added before the text would become part of the text.
        "ByteLevel" if flag("add_prefix_space") == Some(true) => None,
        "ByteLevel" if flag("use_regex") == Some(false) => return None,
        "ByteLevel" => Some(Step::Gpt2),
        "Digits" => {
            Some(if flag("individual_digits") == Some(true) { Step::EachDigit } else { Step::Digits })
        }
        "Punctuation" if step["behavior"] == "Contiguous" => Some(Step::Punctuation),
        "Split" if step["behavior"] == "Isolated" && flag("invert") != Some(true) => {
            step["pattern"]["Regex"].as_str().map(Step::Isolated)
        }
        // The matches are the words, and the text between two matches is a word as well.
        "Split" if step["behavior"] == "Removed" && flag("invert") == Some(true) => {
            step["pattern"]["Regex"].as_str().map(Step::Isolated)
        }
        _ => None,
    })
}
