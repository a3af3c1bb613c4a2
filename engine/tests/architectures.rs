//! Small models of every architecture against llama.cpp (`assets/golden/tiny`) and transformers (`assets/golden/hf`). Every file
//! there is held to its reference.

#![allow(clippy::unwrap_used, reason = "a failed test should stop where it failed")]

mod common;

use common::golden;
use common::reference::{MOST_DIFFERENCE, hf_difference, tiny_agrees};
use weft::{Engine, EngineOptions, KvFormat};

/// Names of the JSON files of a folder of golden data that have `logits`.
fn references(folder: &str) -> Vec<String> {
    let files = std::fs::read_dir(golden(folder)).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter_map(|name| Some(name.strip_suffix(".json")?.to_owned())).collect();
    names.sort();
    names
}

#[test]
fn tiny_models_agree_with_llama_cpp() {
    // Those of one format each have exact references of their own.
    let exact = |name: &str| name.starts_with("tiny-llama-") || name.ends_with("-exact");
    let names: Vec<_> = references("tiny").into_iter().filter(|name| !exact(name)).collect();
    assert!(names.len() >= 13, "{names:?}");
    for name in names {
        let most = tiny_agrees(&name, &EngineOptions::default());
        println!("{name}: KL {most:.1e}");
    }
}

#[test]
fn models_agree_with_transformers() {
    let names = references("hf");
    let mut wrong = Vec::new();
    for name in &names {
        let mut engine = Engine::new(&EngineOptions::default()).unwrap();
        let (difference, _) = hf_difference(name, &mut engine, KvFormat::F32);
        println!("{name}: {difference:.1e} of the largest logit");
        if difference.is_nan() || difference > MOST_DIFFERENCE {
            wrong.push((name, difference));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}
