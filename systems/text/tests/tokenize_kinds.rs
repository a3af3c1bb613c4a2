//! Ids and texts are those of llama.cpp for SentencePiece, unigram and WordPiece vocabularies, read from GGUF.

#![expect(clippy::unwrap_used, reason = "a test fails where its data is not as expected")]

use crate::tokenize_golden::{golden, golden_text};
use flate2::read::GzDecoder;
use proptest::prelude::*;
use serde_json::Value;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use weft_formats::gguf::Gguf;
use weft_formats::text_parts;
use weft_platform::storage::{MemorySource, Source};
use weft_text::{Detokenizer, SpecialTokens, Tokenizer};

const SENTENCEPIECE: [&str; 3] = ["llama-spm", "phi-3", "spm-across"];
const UNIGRAM: [&str; 2] = ["t5", "t5-plain"];
const WORDPIECE: [&str; 2] = ["bert", "bert-cased"];

fn tokenizer(name: &str) -> Tokenizer {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/golden/tokenizers");
    let packed = std::fs::read(path.join(format!("{name}.gguf.gz"))).unwrap();
    let mut file = Vec::new();
    GzDecoder::new(packed.as_slice()).read_to_end(&mut file).unwrap();
    let source: Arc<dyn Source> = Arc::new(MemorySource::new(name.to_owned(), file));
    text_parts(&Gguf::read(&[source]).unwrap(), None).unwrap().0.unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| u32::try_from(id.as_u64().unwrap()).unwrap()).collect()
}

fn unhex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn llama_cpps_own_strings() {
    for name in ["llama-spm", "phi-3"] {
        let tokenizer = tokenizer(name);
        let (input, output) =
            (golden_text(&format!("{name}.inp.gz")), golden_text(&format!("{name}.out.gz")));
        let texts: Vec<&str> = input.split("\n__ggml_vocab_test__\n").collect();
        let lines: Vec<&str> = output.lines().collect();
        assert!(lines.len() >= 45, "{name}: {}", lines.len());
        for (text, line) in texts.iter().zip(&lines) {
            let expected: Vec<u32> = line.split_whitespace().map(|id| id.parse().unwrap()).collect();
            let got = tokenizer.encode(text, SpecialTokens::AsText, false).unwrap();
            assert_eq!(got, expected, "{name}: {text:?}");
            assert_eq!(tokenizer.decode(&got, false).unwrap(), *text, "{name}");
        }
    }
}

#[test]
fn random_strings() {
    let mut wrong = Vec::new();
    for name in SENTENCEPIECE.into_iter().chain(UNIGRAM).chain(WORDPIECE) {
        let tokenizer = tokenizer(name);
        let golden = golden(&format!("{name}.cases.json.gz"));
        for case in golden["cases"].as_array().unwrap() {
            let text = case["text"].as_str().unwrap();
            let plain = ids(&case["plain"]);
            let parsed = case.get("parsed").map_or_else(|| plain.clone(), ids);
            for (special, expected) in [(SpecialTokens::AsText, &plain), (SpecialTokens::Parse, &parsed)] {
                let got = tokenizer.encode(text, special, false).unwrap();
                if got != *expected {
                    wrong.push(format!("{name} {text:?} {special:?}:\n  {got:?} for\n  {expected:?}"));
                }
            }
            for (key, render_special) in [("shown", true), ("hidden", false)] {
                let expected = case.get(key).map_or_else(|| text.as_bytes().to_vec(), unhex);
                let mut bytes = Vec::new();
                for &id in &parsed {
                    bytes.extend_from_slice(tokenizer.token_bytes(id, render_special).unwrap());
                }
                if bytes != expected {
                    wrong.push(format!("{name} {text:?} {key}: {}", String::from_utf8_lossy(&bytes)));
                }
            }
            // llama.cpp also removes WordPiece's spaces around punctuation, which loses spaces of the text.
            if !WORDPIECE.contains(&name) {
                let back = case.get("back").map_or_else(|| text.as_bytes().to_vec(), unhex);
                let got = tokenizer.decode(&plain, false).unwrap();
                if got != String::from_utf8_lossy(&back) {
                    wrong.push(format!("{name} {text:?} back: {got:?}"));
                }
            }
        }
        assert_eq!(tokenizer.end_of_generation(), ids(&golden["end_of_generation"]), "{name}");
        for (text, key) in [("Hi", "with_special"), ("", "empty")] {
            let got = tokenizer.encode(text, SpecialTokens::Parse, true).unwrap();
            assert_eq!(got, ids(&golden[key]), "{name}");
        }
    }
    assert!(wrong.is_empty(), "{} wrong\n{}", wrong.len(), wrong.join("\n"));
}

static LLAMA: LazyLock<Tokenizer> = LazyLock::new(|| tokenizer("llama-spm"));
static T5: LazyLock<Tokenizer> = LazyLock::new(|| tokenizer("t5"));

#[test]
fn the_space_before_a_text_is_the_tokenizers_and_within_one_it_is_the_texts() {
    let ids = LLAMA.encode(" Hello", SpecialTokens::AsText, false).unwrap();
    assert_eq!(LLAMA.decode(&ids, false).unwrap(), " Hello");
    let ids = LLAMA.encode("Hello", SpecialTokens::AsText, true).unwrap();
    assert_eq!(ids, [1, 15_043]);
    assert_eq!(LLAMA.decode(&ids, false).unwrap(), "Hello");
    // As llama.cpp and the Hugging Face library show it.
    assert_eq!(LLAMA.decode(&ids, true).unwrap(), "<s> Hello");
    let mut answer = Detokenizer::continuing(false);
    assert_eq!(answer.push(&LLAMA, 15_043).unwrap(), " Hello");
}

proptest! {
    #[test]
    fn any_text_comes_back(text in "\\PC{0,40}|(?s).{0,40}|[ ▁a\\n]{0,20}") {
        // These vocabularies treat the space mark as a space.
        let expected = text.replace('▁', " ");
        let ids = LLAMA.encode(&text, SpecialTokens::AsText, false).unwrap();
        prop_assert_eq!(LLAMA.decode(&ids, false).unwrap(), expected);
        let with_bos = LLAMA.encode(&text, SpecialTokens::AsText, true).unwrap();
        prop_assert_eq!(&with_bos[1..], &ids);
    }

    #[test]
    fn no_text_becomes_a_control_token(text in "(<|/|s|>|unk|pad|0x|A| |▁|<s>|</s>|<pad>|<unk>|<0x0A>){0,12}") {
        for id in LLAMA.encode(&text, SpecialTokens::AsText, false).unwrap() {
            prop_assert!(id > 2, "{}", id);
        }
        // The unknown token is 2.
        for id in T5.encode(&text, SpecialTokens::AsText, false).unwrap() {
            prop_assert!(id > 1, "{}", id);
        }
    }
}
