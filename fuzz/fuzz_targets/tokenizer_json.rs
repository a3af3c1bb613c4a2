//! Fuzzes `tokenizer.json`. If the input contains the separator, a `tokenizer_config.json` and a text follow.
//!
//! Run from the repository root: `cargo +nightly fuzz run tokenizer_json`. Seeds: the field `tokenizer` of the files
//! `assets/golden/tokenizers/hf-*.json.gz`, copied to `fuzz/corpus/tokenizer_json`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_text::{HuggingFaceFiles, SpecialTokens, Tokenizer, Vocabulary};

/// Separates the files and the text.
const SEPARATOR: u8 = 0;

fuzz_target!(|input: &[u8]| {
    let mut parts = input.splitn(3, |byte| *byte == SEPARATOR);
    let files = HuggingFaceFiles {
        tokenizer: parts.next().unwrap_or_default(),
        tokenizer_config: parts.next(),
        ..HuggingFaceFiles::default()
    };
    let text = String::from_utf8_lossy(parts.next().unwrap_or(b"The quick <s> fox\n"));
    let vocabulary = match Vocabulary::from_hugging_face(&files) {
        Ok(vocabulary) => vocabulary,
        Err(error) => {
            std::hint::black_box(error.to_string());
            return;
        }
    };
    if let Ok(tokenizer) = Tokenizer::new(vocabulary) {
        let ids = tokenizer.encode(&text, SpecialTokens::Parse, true).expect("a short text");
        tokenizer.decode(&ids, true).expect("ids of the vocabulary");
    }
});
