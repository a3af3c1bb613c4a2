//! A vocabulary that can represent every text: the 256 bytes, one merge, begin and end tokens, and filler tokens.
//!
//! It uses byte-level byte-pair encoding with the pre-tokenizer of Llama 3, as models of this kind do.

use crate::gguf::{Array, Value};
use weft_text::bytes;

/// Number of tokens that are not fillers.
pub(super) const LEAST: usize = 256 + 1 + ENDS.len();

/// The begin-of-text and end-of-text tokens.
const ENDS: [&str; 2] = ["<|begin_of_text|>", "<|end_of_text|>"];

/// The two bytes of the only merge: a space and a `t`. Some engines refuse a vocabulary without merges.
const MERGE: [u8; 2] = *b" t";

/// `tokenizer.ggml.token_type` of normal and of control tokens.
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;

/// Returns the `tokenizer.*` keys of a vocabulary of `size` tokens. `size` must be at least [`LEAST`].
pub(super) fn metadata(size: usize) -> Vec<(String, Value)> {
    let mut tokens = Vec::with_capacity(size);
    let mut types = vec![NORMAL; size];
    tokens.extend((0..=u8::MAX).map(|byte| bytes::character(byte).to_string()));
    let [left, right] = MERGE.map(bytes::character);
    tokens.push(format!("{left}{right}"));
    let [bos, eos] = [0, 1].map(|end| tokens.len() + end);
    tokens.extend(ENDS.map(str::to_owned));
    for end in [bos, eos] {
        if let Some(kind) = types.get_mut(end) {
            *kind = CONTROL;
        }
    }
    tokens.extend((tokens.len()..size).map(|id| format!("<t{id}>")));
    let entry = |name: &str, value| (format!("tokenizer.ggml.{name}"), value);
    let text = |text: &str| Value::String(text.to_owned());
    let id = |id: usize| Value::U32(u32::try_from(id).unwrap_or(u32::MAX));
    vec![
        entry("model", text("gpt2")),
        entry("pre", text("llama-bpe")),
        entry("tokens", Value::Array(Array::String(tokens))),
        entry("token_type", Value::Array(Array::I32(types))),
        entry("merges", Value::Array(Array::String(vec![format!("{left} {right}")]))),
        entry("bos_token_id", id(bos)),
        entry("eos_token_id", id(eos)),
        entry("add_bos_token", Value::Bool(true)),
    ]
}
