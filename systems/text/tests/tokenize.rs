//! Ids and texts are those of llama.cpp, for four real vocabularies and for every pre-tokenizer.

#![expect(clippy::unwrap_used, reason = "a test fails where its data is not as expected")]

use crate::tokenize_golden::byte_level::{tokenizer, vocabulary};
use crate::tokenize_golden::{golden, golden_text};
use serde_json::Value;
use weft_text::{Detokenizer, SpecialTokens, TokenizeError, Tokenizer};

const VOCABULARIES: [&str; 4] = ["gpt-2", "llama-bpe", "qwen2", "smollm2"];

/// Reads a list of token ids.
fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| u32::try_from(id.as_u64().unwrap()).unwrap()).collect()
}

fn encode(tokenizer: &Tokenizer, text: &str, special: SpecialTokens) -> Vec<u32> {
    tokenizer.encode(text, special, false).unwrap()
}

#[test]
fn llama_cpps_own_strings() {
    for name in ["gpt-2", "llama-bpe", "qwen2"] {
        let tokenizer = tokenizer(name);
        let (input, output) =
            (golden_text(&format!("{name}.inp.gz")), golden_text(&format!("{name}.out.gz")));
        let texts: Vec<&str> = input.split("\n__ggml_vocab_test__\n").collect();
        let expected: Vec<Vec<u32>> = output
            .lines()
            .map(|line| line.split_whitespace().map(|id| id.parse().unwrap()).collect())
            .collect();
        assert!(expected.len() >= 45, "{name}: {}", expected.len());
        for (text, expected) in texts.iter().zip(&expected) {
            let got = encode(&tokenizer, text, SpecialTokens::AsText);
            assert_eq!(&got, expected, "{name}: {text:?}");
            assert_eq!(tokenizer.decode(&got, false).unwrap(), *text, "{name}");
        }
    }
}

#[test]
fn random_strings() {
    for name in VOCABULARIES {
        let tokenizer = tokenizer(name);
        let golden = golden(&format!("{name}.cases.json.gz"));
        let mut wrong = Vec::new();
        for case in golden["cases"].as_array().unwrap() {
            let text = case["text"].as_str().unwrap();
            let plain = ids(&case["plain"]);
            let parsed = case.get("parsed").map_or_else(|| plain.clone(), ids);
            for (special, expected) in [(SpecialTokens::AsText, &plain), (SpecialTokens::Parse, &parsed)] {
                let got = encode(&tokenizer, text, special);
                if got != *expected {
                    wrong.push(format!("{text:?} {special:?}: {got:?} for {expected:?}"));
                }
            }
            for (key, render_special) in [("shown", true), ("hidden", false)] {
                let expected = case.get(key).map_or_else(|| text.as_bytes().to_vec(), unhex);
                let mut bytes = Vec::new();
                for &id in &parsed {
                    bytes.extend_from_slice(tokenizer.token_bytes(id, render_special).unwrap());
                }
                if bytes != expected {
                    wrong.push(format!("{text:?} {key}: {}", String::from_utf8_lossy(&bytes)));
                }
                let expected = String::from_utf8_lossy(&expected);
                assert_eq!(tokenizer.decode(&parsed, render_special).unwrap(), expected);
                let mut detokenizer = Detokenizer::new(render_special);
                let mut streamed = String::new();
                for &id in &parsed {
                    streamed.push_str(detokenizer.push(&tokenizer, id).unwrap());
                }
                streamed.push_str(detokenizer.finish());
                assert_eq!(streamed, expected);
            }
        }
        assert!(wrong.is_empty(), "{name}: {} wrong\n{}", wrong.len(), wrong.join("\n"));
        assert_eq!(tokenizer.end_of_generation(), ids(&golden["end_of_generation"]), "{name}");
        let with_special = tokenizer.encode("Hi", SpecialTokens::Parse, true).unwrap();
        assert_eq!(with_special, ids(&golden["with_special"]), "{name}");
    }
}

#[test]
fn every_pre_tokenizer() {
    let golden = golden("pretokenizers.json.gz");
    let texts: Vec<&str> = golden["texts"].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
    let names = golden["names"].as_object().unwrap();
    let base: Vec<Vec<u32>> = names["gpt-2"]["ids"].as_array().unwrap().iter().map(ids).collect();
    let source = vocabulary("gpt-2");
    let mut wrong = Vec::new();
    for (name, expected) in names {
        let mut vocabulary = source.clone();
        vocabulary.pre.clone_from(name);
        let tokenizer = Tokenizer::new(vocabulary).unwrap();
        assert_eq!(tokenizer.adds_bos(), expected["adds_bos"].as_bool().unwrap(), "{name}");
        for ((text, differing), base) in texts.iter().zip(expected["ids"].as_array().unwrap()).zip(&base) {
            let expected = if differing.is_null() { base.clone() } else { ids(differing) };
            let got = encode(&tokenizer, text, SpecialTokens::AsText);
            if got != expected {
                wrong.push(format!("{name} {text:?}: {got:?} for {expected:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong\n{}", wrong.len(), wrong.join("\n"));

    // The error names exactly the pre-tokenizers that were compared.
    let mut vocabulary = source;
    vocabulary.pre = "no-such-thing".to_owned();
    let TokenizeError::UnknownPreTokenizer { name, mut supported } = Tokenizer::new(vocabulary).unwrap_err()
    else {
        panic!("another error");
    };
    let mut compared: Vec<&str> = names.keys().map(String::as_str).collect();
    supported.sort_unstable();
    compared.sort_unstable();
    assert_eq!((name.as_str(), supported), ("no-such-thing", compared));
}

#[test]
fn smollm2_prompts() {
    let tokenizer = tokenizer("smollm2");
    let prompts: Value = serde_json::from_str(&golden_text("smollm2.prompts.json")).unwrap();
    for prompt in prompts.as_array().unwrap() {
        let (text, tokens) = (prompt["text"].as_str().unwrap(), ids(&prompt["tokens"]));
        assert_eq!(encode(&tokenizer, text, SpecialTokens::Parse), tokens);
        assert_eq!(tokenizer.decode(&tokens, true).unwrap(), text);
        let greedy = ids(&prompt["greedy"]);
        assert_eq!(tokenizer.decode(&greedy, false).unwrap(), prompt["greedy_text"].as_str().unwrap());
    }
    assert_eq!(tokenizer.eos(), Some(2));
    assert!(tokenizer.is_end_of_generation(2) && !tokenizer.is_end_of_generation(1));
    assert_eq!(tokenizer.token_to_id("<|im_start|>"), Some(1));
    assert_eq!(tokenizer.vocab_size(), 49_152);
}

fn unhex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}
