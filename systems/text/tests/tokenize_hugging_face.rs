//! Vocabularies from `tokenizer.json` produce the ids of the Hugging Face library.

#![expect(clippy::unwrap_used, reason = "a test fails where its data is not as expected")]

use crate::tokenize_golden::golden;
use serde_json::{Value, json};
use weft_text::{
    HuggingFaceFiles, Rendered, Rules, SpecialTokens, TemplateVars, TokenizeError, Tokenizer, Vocabulary,
};

const NAMES: [&str; 12] = [
    "gpt-2",
    "llama-3",
    "qwen-2",
    "tekken",
    "gpt-4o",
    "llama-2",
    "mistral",
    "gemma",
    "t5",
    "xlm",
    "bert",
    "bert-cased",
];

fn read(golden: &Value) -> Result<Vocabulary, TokenizeError> {
    let file = |key: &str| golden[key].as_str().map(str::as_bytes);
    Vocabulary::from_hugging_face(&HuggingFaceFiles {
        tokenizer: file("tokenizer").unwrap_or_default(),
        tokenizer_config: file("tokenizer_config"),
        special_tokens_map: file("special_tokens_map"),
        generation_config: file("generation_config"),
        config: file("config"),
        chat_template: file("chat_template"),
        named_templates: &[],
    })
}

fn load(name: &str) -> (Value, Vocabulary) {
    let golden = golden(&format!("hf-{name}.json.gz"));
    let vocabulary = read(&golden).unwrap();
    (golden, vocabulary)
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| u32::try_from(id.as_u64().unwrap()).unwrap()).collect()
}

#[test]
fn ids_are_the_librarys() {
    let mut wrong = Vec::new();
    for name in NAMES {
        let (golden, vocabulary) = load(name);
        let tokenizer = Tokenizer::new(vocabulary).unwrap();
        for case in golden["cases"].as_array().unwrap() {
            let text = case["text"].as_str().unwrap();
            let expected = ids(&case["ids"]);
            let got = tokenizer.encode(text, SpecialTokens::Parse, false).unwrap();
            if got != expected {
                wrong.push(format!("{name} {text:?}:\n  {got:?} for\n  {expected:?}"));
            }
            // Decoders that join words again, and those of T5, are not implemented.
            let back = case["back"].as_str().unwrap_or(text);
            let text = tokenizer.decode(&expected, false).unwrap();
            if !["t5", "xlm", "bert", "bert-cased"].contains(&name) && text != back {
                wrong.push(format!("{name} {text:?} back for {back:?}"));
            }
        }
        let framed = tokenizer.encode("Hi", SpecialTokens::Parse, true).unwrap();
        assert_eq!(framed, ids(&golden["framed"]), "{name}");
    }
    assert!(wrong.is_empty(), "{} wrong\n{}", wrong.len(), wrong.join("\n"));
}

/// The library strips Unicode white space, as its own tests of `lstrip` show.
#[test]
fn special_tokens_swallow_white_space_of_every_kind() {
    let mut golden = golden("hf-llama-3.json.gz");
    let mut file: Value = serde_json::from_str(golden["tokenizer"].as_str().unwrap()).unwrap();
    let token = &mut file["added_tokens"][0];
    (token["lstrip"], token["rstrip"]) = (json!(true), json!(true));
    let text = token["content"].as_str().unwrap().to_owned();
    golden["tokenizer"] = json!(file.to_string());
    let tokenizer = Tokenizer::new(read(&golden).unwrap()).unwrap();
    let ids = |text: &str| tokenizer.encode(text, SpecialTokens::Parse, false).unwrap();
    assert_eq!(ids(&format!("a\u{3000}\n{text}\u{a0} \u{3000}b")), ids(&format!("a{text}b")));
    assert_eq!(ids(&format!("a{text}b")).len(), 3);
}

#[test]
fn roles_and_templates_are_read() {
    let (_, llama) = load("llama-3");
    assert_eq!((llama.pre.as_str(), llama.ignore_merges), ("llama-bpe", Some(true)));
    assert_eq!(llama.chat_template.as_deref(), Some("{% for m in messages %}{{ m['content'] }}{% endfor %}"));
    let tokenizer = Tokenizer::new(llama).unwrap();
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.adds_bos()), (Some(0), Some(2), true));
    assert_eq!(tokenizer.end_of_generation(), [1, 2]);
    let (_, qwen) = load("qwen-2");
    assert_eq!((qwen.pre.as_str(), qwen.add_bos, qwen.nfc), ("qwen2", Some(false), true));
    let (_, mistral) = load("mistral");
    assert_eq!((mistral.model.as_str(), mistral.bos, mistral.add_bos), ("llama", Some(1), Some(true)));
    assert_eq!(mistral.scores.len(), mistral.tokens.len());
}

/// A GGUF file stores no merges for these kinds. What it stores produces the same ids under llama.cpp's rules.
#[test]
fn what_a_gguf_keeps_is_enough() {
    for name in ["llama-2", "gemma"] {
        let (golden, vocabulary) = load(name);
        let kept = Vocabulary { merges: Vec::new(), rules: Rules::LlamaCpp, ..vocabulary };
        let tokenizer = Tokenizer::new(kept).unwrap();
        for case in golden["cases"].as_array().unwrap() {
            let text = case["text"].as_str().unwrap();
            let got = tokenizer.encode(text, SpecialTokens::Parse, false).unwrap();
            assert_eq!(got, ids(&case["ids"]), "{name} {text:?}");
        }
    }
}

/// Merges as pairs, ids with gaps, a file without its model's type, and a separate template file.
#[test]
fn other_ways_to_write_it() {
    let mut golden = golden("hf-gpt-2.json.gz");
    let mut file: Value = serde_json::from_str(golden["tokenizer"].as_str().unwrap()).unwrap();
    for merge in file["model"]["merges"].as_array_mut().unwrap() {
        *merge = match merge.as_str() {
            Some(text) => text.split(' ').collect(),
            None => json!(format!("{} {}", merge[0].as_str().unwrap(), merge[1].as_str().unwrap())),
        };
    }
    let plain = read(&golden).unwrap();
    golden["tokenizer"] = json!(file.to_string());
    assert_eq!(read(&golden).unwrap(), plain);
    file["model"].as_object_mut().unwrap().remove("type");
    golden["tokenizer"] = json!(file.to_string());
    golden["chat_template"] = json!("{{ messages }}");
    let other = read(&golden).unwrap();
    assert_eq!(other.chat_template.as_deref(), Some("{{ messages }}"));
    assert_eq!(other.tokens, plain.tokens);
    file["added_tokens"][0]["id"] = json!(plain.tokens.len() + 3);
    golden["tokenizer"] = json!(file.to_string());
    let gaps = read(&golden).unwrap();
    assert_eq!(gaps.tokens.len(), plain.tokens.len() + 4);
    let Err(error) = Tokenizer::new(gaps) else { panic!("the same token twice") };
    assert!(matches!(error, TokenizeError::DuplicateToken { .. }), "{error}");
}

#[test]
fn what_is_not_known_is_named() {
    let golden = golden("hf-gpt-2.json.gz");
    let file: Value = serde_json::from_str(golden["tokenizer"].as_str().unwrap()).unwrap();
    let error = |change: &dyn Fn(&mut Value)| {
        let mut file = file.clone();
        change(&mut file);
        read(&json!({"tokenizer": file.to_string()})).unwrap_err().to_string()
    };
    let split = json!({"type": "Split", "pattern": {"Regex": "x+"}, "behavior": "Isolated", "invert": false});
    let level = json!({"type": "ByteLevel", "add_prefix_space": false, "use_regex": false});
    let steps = json!({"type": "Sequence", "pretokenizers": [split, level]});
    let message = error(&|file| file["pre_tokenizer"] = steps.clone());
    assert!(message.contains("pre_tokenizer") && message.contains("x+"), "{message}");
    let message = error(&|file| file["normalizer"] = json!({"type": "Lowercase"}));
    assert!(message.contains("normalizer") && message.contains("Lowercase"), "{message}");
    let message = error(&|file| file["model"]["type"] = json!("WordLevel"));
    assert!(message.contains("WordLevel"), "{message}");
    let message = error(&|file| file["post_processor"] = json!({"type": "Odd"}));
    assert!(message.contains("Odd"), "{message}");
    let message = error(&|file| file["added_tokens"][0]["id"] = json!(4_000_000_000u32));
    assert!(message.contains("4000000000"), "{message}");
    let message = error(&|file| file["added_tokens"][0]["single_word"] = json!(true));
    assert!(message.contains("single_word"), "{message}");
    for text in ["", "[]", "{}", "{\"model\": {\"vocab\": 1}}", "\u{0}", "[[[[[[[[[["] {
        assert!(read(&json!({ "tokenizer": text })).is_err(), "{text}");
    }
    let deep = "[".repeat(1 << 20);
    assert!(read(&json!({ "tokenizer": deep })).is_err());
}

/// Unigram and BPE, with and without byte fallback, with each way in which `Metaspace` marks spaces.
#[test]
fn every_way_to_mark_spaces_gives_the_librarys_ids() {
    let golden = golden("hf-kinds.json.gz");
    let mut wrong = Vec::new();
    for row in golden.as_array().unwrap() {
        let name = row["name"].as_str().unwrap();
        let files = HuggingFaceFiles {
            tokenizer: row["tokenizer"].as_str().unwrap().as_bytes(),
            ..HuggingFaceFiles::default()
        };
        let tokenizer = Tokenizer::new(Vocabulary::from_hugging_face(&files).unwrap()).unwrap();
        for case in row["cases"].as_array().unwrap() {
            let (text, expected) = (case[0].as_str().unwrap(), ids(&case[1]));
            let got = tokenizer.encode(text, SpecialTokens::Parse, false).unwrap();
            if got != expected {
                wrong.push(format!("{name} {text:?}:\n  {got:?} for\n  {expected:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong\n{}", wrong.len(), wrong.join("\n"));
}

/// A tokenizer of three tokens with this configuration. `config.json` gives the id of `</s>` as EOS.
fn configured(config: &Value, templates: &[(String, Vec<u8>)]) -> Vocabulary {
    let tokenizer = json!({
        "added_tokens": [
            {"id": 0, "content": "<s>", "special": true},
            {"id": 1, "content": "</s>", "special": true},
        ],
        "normalizer": null,
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never", "split": false},
        "model": {"type": "Unigram", "unk_id": 0, "vocab": [["<s>", 0.0], ["</s>", 0.0], ["a", -1.0]]},
    });
    let (tokenizer, config) = (tokenizer.to_string(), config.to_string());
    Vocabulary::from_hugging_face(&HuggingFaceFiles {
        tokenizer: tokenizer.as_bytes(),
        tokenizer_config: Some(config.as_bytes()),
        config: Some(br#"{"bos_token_id": 0, "eos_token_id": 1}"#),
        named_templates: templates,
        ..HuggingFaceFiles::default()
    })
    .unwrap()
}

#[test]
fn a_token_that_is_null_has_no_text_for_templates() {
    let vars =
        |config: Value| TemplateVars::for_tokenizer(&Tokenizer::new(configured(&config, &[])).unwrap(), true);
    let text = |text: &str| Some(text.to_owned());
    let found = vars(json!({"bos_token": null, "eos_token": "</s>", "pad_token": null}));
    assert_eq!((found.bos_token, found.eos_token), (None, text("</s>")));
    assert_eq!(found.special_tokens, []);
    // The ids determine the tokens that the configuration does not mention.
    let found = vars(json!({"pad_token": {"content": "</s>", "__type": "AddedToken"}}));
    assert_eq!((found.bos_token, found.eos_token), (text("<s>"), text("</s>")));
    assert_eq!(found.special_tokens, [("pad_token".to_owned(), "</s>".to_owned())]);
}

#[test]
fn a_folder_may_have_several_templates() {
    let list = json!({"chat_template": [
        {"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}, {"name": "rag", "template": "R"},
    ]});
    let vocabulary = configured(&list, &[("rag".to_owned(), b"F".to_vec())]);
    assert_eq!(vocabulary.chat_template.as_deref(), Some("D"));
    let named: Vec<(&str, &str)> =
        vocabulary.chat_templates.iter().map(|(name, source)| (name.as_str(), source.as_str())).collect();
    assert_eq!(named, [("tool_use", "T"), ("default", "D"), ("rag", "F")]);
    let one = configured(&json!({"chat_template": "D"}), &[]);
    assert_eq!((one.chat_template.as_deref(), one.chat_templates.len()), (Some("D"), 0));
}

#[test]
fn nothing_is_added_after_a_conversation() {
    let mut vocabulary = configured(&json!({"add_bos_token": true, "add_eos_token": true}), &[]);
    (vocabulary.add_bos, vocabulary.add_eos) = (Some(true), Some(true));
    let tokenizer = Tokenizer::new(vocabulary).unwrap();
    assert_eq!(tokenizer.encode("a", SpecialTokens::Parse, true).unwrap(), [0, 2, 1]);
    let rendered = Rendered { text: "a".to_owned(), literal: Vec::new() };
    assert_eq!(tokenizer.encode_rendered(&rendered, true).unwrap(), [0, 2]);
    assert_eq!(tokenizer.encode_rendered(&rendered, false).unwrap(), [2]);
}
