//! SmolLM2-135M-Instruct, the real model, compared with llama.cpp and with exact activations.

#![allow(clippy::unwrap_used, reason = "a failed test should stop where it failed")]

use crate::common::reference::{PROMPTS, smollm2_agrees, smollm2_perplexity};
use crate::common::{golden_json, ids, loaded, smollm2};
use weft::{ChatOptions, EngineOptions, Message, SpecialTokens};

#[test]
fn prompts_have_the_reference_ids() {
    let (engine, model) = loaded(&smollm2());
    for n in PROMPTS {
        let reference = golden_json(&format!("smollm2/prompt{n}.json"));
        let text = reference["text"].as_str().unwrap();
        let tokens = engine.tokenizer(model).unwrap().encode(text, SpecialTokens::Parse, true).unwrap();
        assert_eq!(tokens, ids(&reference["tokens"]), "prompt {n}");
        let user =
            text.split("<|im_start|>user\n").nth(1).and_then(|t| t.split("<|im_end|>").next()).unwrap();
        assert_eq!(
            engine.render(model, &[Message::new("user", user)], &ChatOptions::default()).unwrap().text,
            text,
            "template of prompt {n}"
        );
    }
}

#[test]
fn texts_are_the_reference_texts_and_logits_as_near_to_exact_ones() {
    let (mut engine, model) = loaded(&smollm2());
    smollm2_agrees(&mut engine, model, &PROMPTS);
}

#[test]
fn perplexity_is_the_reference_s() {
    smollm2_perplexity(&EngineOptions::default());
}
