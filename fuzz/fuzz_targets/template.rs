//! Fuzzes chat templates. If the input contains the separator, a conversation in JSON follows the template.
//!
//! Run from the repository root: `cargo +nightly fuzz run template`. Seeds: the files `*.jinja` of
//! `assets/golden/templates` and of `systems/text/src/template/builtin`, copied to `fuzz/corpus/template`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use std::hint::black_box;
use std::sync::LazyLock;
use weft_text::{ChatTemplate, CivilTime, TemplateVars, Tokenizer, Vocabulary};

/// Separates the template from the conversation.
const SEPARATOR: u8 = 0;

/// A tokenizer with byte tokens and with control tokens that a user may try to forge.
static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
    let control = ["<s>", "</s>", "<|im_start|>", "<|im_end|>", "[INST]"].map(|token| (token.to_owned(), 3));
    let bytes = (0..=255).map(|byte| (format!("<0x{byte:02X}>"), 6));
    let (tokens, token_types): (Vec<String>, Vec<i32>) =
        std::iter::once(("<unk>".to_owned(), 2)).chain(control).chain(bytes).unzip();
    let scores = vec![0.0; tokens.len()];
    let vocabulary =
        Vocabulary { model: "llama".to_owned(), tokens, token_types, scores, ..Vocabulary::default() };
    Tokenizer::new(vocabulary).expect("a plain vocabulary")
});

fuzz_target!(|input: &[u8]| {
    let mut parts = input.splitn(2, |byte| *byte == SEPARATOR);
    let source = String::from_utf8_lossy(parts.next().unwrap_or_default());
    let template = match ChatTemplate::new(&source) {
        Ok(template) => template,
        Err(error) => {
            black_box(error.to_string());
            return;
        }
    };
    let conversation: Option<Value> = parts.next().and_then(|json| serde_json::from_slice(json).ok());
    let messages = conversation.unwrap_or_else(|| {
        json!([
            {"role": "system", "content": "You are terse."},
            {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
            {"role": "assistant", "content": null, "tool_calls": [{"function": {"name": "f", "arguments": {"x": 1}}}]},
            {"role": "tool", "content": "2"},
            {"role": "user", "content": "Bye"},
        ])
    });
    let vars = TemplateVars {
        add_generation_prompt: true,
        bos_token: Some("<s>".to_owned()),
        eos_token: Some("</s>".to_owned()),
        tools: Some(
            json!([{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]),
        ),
        now: Some(CivilTime::from_unix(1_721_952_000, 0)),
        ..TemplateVars::default()
    };
    match template.render_chat(&messages, &vars, &TOKENIZER) {
        Ok(rendered) => {
            TOKENIZER.encode_rendered(&rendered, false).expect("a short text");
        }
        Err(error) => {
            black_box(error.to_string());
        }
    }
});
