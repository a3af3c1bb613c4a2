//! Fuzzes vocabularies of every kind, as a GGUF may contain them, with a text.
//!
//! Run from the repository root: `cargo +nightly fuzz run vocabulary`.
#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use weft_text::{SpecialTokens, Tokenizer, Vocabulary};

#[derive(Arbitrary, Debug)]
struct Input {
    model: u8,
    pre: u8,
    tokens: Vec<String>,
    token_types: Vec<i8>,
    scores: Vec<f32>,
    merges: Vec<(String, String)>,
    charsmap: Vec<u8>,
    ids: [Option<u16>; 4],
    flags: [Option<bool>; 6],
    strip: Vec<u8>,
    text: String,
}

fuzz_target!(|input: Input| {
    let pick = |names: &[&str], at: u8| names[usize::from(at) % names.len()].to_owned();
    let [bos, eos, unk, sep] = input.ids.map(|id| id.map(u32::from));
    let [add_bos, add_eos, add_space_prefix, remove_extra_whitespaces, lowercase, strip_accents] =
        input.flags;
    let vocabulary = Vocabulary {
        model: pick(&["gpt2", "llama", "t5", "bert"], input.model),
        pre: pick(&["gpt-2", "llama-bpe", "default", "deepseek-llm"], input.pre),
        tokens: input.tokens,
        token_types: input.token_types.into_iter().map(i32::from).collect(),
        scores: input.scores,
        merges: input.merges.iter().map(|(left, right)| format!("{left} {right}")).collect(),
        charsmap: input.charsmap,
        bos,
        eos,
        unk,
        sep,
        add_bos,
        add_eos,
        add_space_prefix,
        remove_extra_whitespaces,
        lowercase,
        strip_accents,
        lstrip: input.strip.iter().map(|&id| u32::from(id)).collect(),
        rstrip: input.strip.iter().map(|&id| u32::from(id)).collect(),
        ..Vocabulary::default()
    };
    let Ok(tokenizer) = Tokenizer::new(vocabulary) else {
        return;
    };
    for special in [SpecialTokens::Parse, SpecialTokens::AsText] {
        let ids = tokenizer.encode(&input.text, special, true).expect("a short text");
        for render_special in [false, true] {
            tokenizer.decode(&ids, render_special).expect("ids of the vocabulary");
        }
    }
});
