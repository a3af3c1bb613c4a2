//! Real `tokenizer.json` files produce the ids and texts of the Hugging Face library.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where its data is not as expected"
)]

use crate::tokenize_golden::golden;
use serde_json::Value;
use std::path::PathBuf;
use weft_text::{HuggingFaceFiles, SpecialTokens, Tokenizer, Vocabulary};

/// The folder of the files, with one folder for each tokenizer.
fn folder() -> PathBuf {
    std::env::var_os("WEFT_TOKENIZERS")
        .expect("WEFT_TOKENIZERS must name the folder of real tokenizers; `.ci/tokenizers` fetches them and prints it")
        .into()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| u32::try_from(id.as_u64().unwrap()).unwrap()).collect()
}

/// Compares one tokenizer with the library's results for every string.
fn check(name: &str) {
    let folder = folder().join(name);
    let file = |name: &str| std::fs::read(folder.join(name)).ok();
    let (tokenizer, config) = (file("tokenizer.json").unwrap(), file("tokenizer_config.json"));
    let files = HuggingFaceFiles {
        tokenizer: &tokenizer,
        tokenizer_config: config.as_deref(),
        ..HuggingFaceFiles::default()
    };
    let tokenizer = Tokenizer::new(Vocabulary::from_hugging_face(&files).unwrap()).unwrap();
    let golden = golden("real.json.gz");
    let expected = &golden["tokenizers"][name];
    let mut wrong = Vec::new();
    for (index, text) in golden["strings"].as_array().unwrap().iter().enumerate() {
        let text = text.as_str().unwrap();
        let ids = ids(&expected["ids"][index]);
        let got = tokenizer.encode(text, SpecialTokens::Parse, false).unwrap();
        if got != ids {
            wrong.push(format!("{text:?}:\n  {got:?} for\n  {ids:?}"));
        }
        let back = expected["back"][index.to_string()].as_str().unwrap_or(text);
        let shown = tokenizer.decode(&ids, true).unwrap();
        if shown != back {
            wrong.push(format!("{ids:?}:\n  {shown:?} for\n  {back:?}"));
        }
    }
    assert!(wrong.is_empty(), "{name}: {} wrong\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn qwen_3() {
    check("qwen3");
}

#[test]
fn gemma_3() {
    check("gemma3");
}

#[test]
fn llama_3_1() {
    check("llama3_1");
}

#[test]
fn gpt_oss() {
    check("gptoss");
}

#[test]
fn deepseek_v3() {
    check("deepseek_v3");
}
