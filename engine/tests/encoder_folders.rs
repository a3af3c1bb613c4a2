//! Folders of encoders and embedding models (`assets/golden/embed/folders`) compared with transformers and
//! sentence-transformers, and the real all-MiniLM-L6-v2.

#![allow(clippy::unwrap_used, reason = "a failed test should stop where it failed")]

use crate::common::embedding::{MOST_DIFFERENCE, difference, prompts, reference_states};
use crate::common::{golden, golden_floats, golden_json, ids, told};
use serde_json::Value;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use weft::quantize::{Quantize, QuantizeOptions};
use weft::{
    EmbedOptions, Embedding, Engine, EngineOptions, Error, GenerateOptions, KeepLogits, KvFormat,
    LoadOptions, ModelId, ModelSource, Pooling, Prompt, SpecialTokens,
};

/// Maximum difference in a component of two vectors of length 1 for the same text.
const MOST_OF_A_VECTOR: f64 = 1e-4;

/// Unpacks a folder of the golden data.
fn unpacked(name: &str) -> TempDir {
    let file = std::fs::File::open(golden(&format!("embed/folders/{name}.zip"))).unwrap();
    let folder = tempfile::tempdir().unwrap();
    zip::ZipArchive::new(file).unwrap().extract(folder.path()).unwrap();
    folder
}

/// The references that have this key.
fn references(key: &str) -> Vec<(String, Value)> {
    let files = std::fs::read_dir(golden("embed/folders")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter_map(|name| Some(name.strip_suffix(".json")?.to_owned())).collect();
    names.sort();
    let references = names.into_iter().map(|name| {
        let reference = golden_json(&format!("embed/folders/{name}.json"));
        (name, reference)
    });
    references.filter(|(_, reference)| reference.get(key).is_some()).collect()
}

fn loaded(source: ModelSource) -> (Engine, ModelId) {
    let mut engine = Engine::new(&EngineOptions::default()).unwrap();
    let load = LoadOptions { kv_format: KvFormat::F32, ..LoadOptions::default() };
    let model = engine.load(source, &load).unwrap();
    engine.wait_loaded(model).unwrap();
    (engine, model)
}

/// Converts the folder's model to a GGUF of this type.
fn converted(folder: &Path, mix: &str) -> ModelSource {
    let sources = ModelSource::from(folder).open().unwrap().sources;
    let plan = Quantize::new("converted.gguf", &sources, &QuantizeOptions::new(mix).unwrap()).unwrap();
    ModelSource::memory("converted.gguf", plan.write(Vec::new(), 1, |_| ControlFlow::Continue(())).unwrap())
}

#[test]
fn encoders_agree_with_transformers() {
    let references = references("texts");
    assert!(references.len() >= 8, "{}", references.len());
    for (name, reference) in references {
        let texts: Vec<_> = reference["texts"].as_array().unwrap().iter().map(ids).collect();
        let folder = unpacked(&name);
        for source in [ModelSource::from(folder.path()), converted(folder.path(), "f16")] {
            let (mut engine, model) = loaded(source);
            let width = engine.config(model).unwrap().embedding;
            let wanted = reference_states(&format!("folders/{name}"), &texts, width);
            let pooling = Some(Pooling::None);
            let options = EmbedOptions { pooling, normalize: false, ..EmbedOptions::default() };
            let found = engine.embed(model, &prompts(&texts), &options).unwrap();
            let difference = difference(&found, &wanted);
            println!("{name}: {difference:.1e} of the largest component");
            assert!(difference < MOST_DIFFERENCE, "{name}: {difference:.1e}");
            assert_eq!(engine.config(model).unwrap().context, 64, "{name}");
        }
    }
}

/// Compares a model's results for texts with those of sentence-transformers: token ids, tokens cut at the limit, and
/// vectors.
fn agrees_on_texts(name: &str, source: ModelSource, reference: &Value, vectors: &[f32]) {
    let (mut engine, model) = loaded(source);
    let cases = reference["text"].as_array().unwrap();
    let prompt = |case: &Value| Prompt::Text {
        text: case[0].as_str().unwrap().to_owned(),
        special: SpecialTokens::AsText,
    };
    let texts: Vec<_> = cases.iter().map(prompt).collect();
    for (case, text) in cases.iter().zip(&texts) {
        let (tokens, left_out) = engine.embedding_prompt(model, text).unwrap();
        let tokens = match tokens {
            Prompt::Tokens(tokens) => tokens,
            Prompt::Text { text, special } => {
                engine.tokenizer(model).unwrap().encode(&text, special, true).unwrap()
            }
        };
        assert_eq!(tokens, ids(&case[1]), "{name}: {case}");
        assert_eq!(left_out as u64, case[2].as_u64().unwrap(), "{name}: {case}");
    }
    let found = engine.embed(model, &texts, &EmbedOptions::default()).unwrap();
    let width = engine.config(model).unwrap().embedding;
    let wanted: Vec<_> = vectors.chunks_exact(width).map(|vector| vec![vector.to_vec()]).collect();
    let components = |found: &Embedding| found.vectors.concat();
    let apart = found.iter().zip(&wanted).flat_map(|(found, wanted)| {
        components(found).into_iter().zip(wanted[0].clone()).map(|(a, b)| f64::from((a - b).abs()))
    });
    let most = apart.fold(0.0, |most, apart| if apart > most || apart.is_nan() { apart } else { most });
    println!("{name}: {most:.1e}");
    assert!(found.len() == wanted.len() && most < MOST_OF_A_VECTOR, "{name}: {most:.1e}");
    let counted = |(found, case): (&Embedding, &Value)| {
        found.tokens == ids(&case[1]).len() && found.left_out as u64 == case[2].as_u64().unwrap()
    };
    assert!(found.iter().zip(cases).all(counted), "{name}");
}

#[test]
fn texts_have_the_vectors_of_sentence_transformers() {
    let references = references("text");
    assert_eq!(references.len(), 2);
    for (name, reference) in references {
        let folder = unpacked(&name);
        let vectors = golden_floats(&format!("embed/folders/{name}.f32.gz"));
        agrees_on_texts(&name, ModelSource::from(folder.path()), &reference, &vectors);
    }
}

#[test]
fn what_the_folder_says_survives_its_conversion() {
    for (name, _) in references("text") {
        let folder = unpacked(&name);
        let config = |source: ModelSource| weft::ModelFile::read(source.open().unwrap()).unwrap().config;
        let (direct, through) = (config(folder.path().into()), config(converted(folder.path(), "f16")));
        assert_eq!((direct.pooling, direct.sentence), (through.pooling, through.sentence), "{name}");
        assert_eq!(direct.headless, through.headless, "{name}");
    }
}

/// Folder of the real model: `WEFT_MINILM` names it, as the test command in the README sets it.
fn minilm() -> PathBuf {
    let path = std::env::var_os("WEFT_MINILM").expect(
        "WEFT_MINILM must name the folder of all-MiniLM-L6-v2; `.ci/minilm` fetches it and prints its path",
    );
    PathBuf::from(path)
}

#[test]
fn minilm_gives_the_vectors_of_sentence_transformers() {
    let vectors = golden_floats("embed/minilm.f32.gz");
    agrees_on_texts("MiniLM", minilm().as_path().into(), &golden_json("embed/minilm.json"), &vectors);
}

#[test]
fn a_decoder_without_its_head_embeds_and_says_why_it_does_not_speak() {
    let folder = unpacked("sentence-qwen3");
    let (mut engine, model) = loaded(ModelSource::from(folder.path()));
    let session = told(&mut engine, model, &[5, 6, 7]);
    let refused = engine.generate(session, &GenerateOptions::default());
    assert!(matches!(refused, Err(Error::NoHead)), "{refused:?}");
    let refused = engine.ask_logits(session, vec![0], KeepLogits::Row, 0);
    assert!(matches!(refused, Err(Error::NoHead)), "{refused:?}");
    engine.ask_embedding(session, &EmbedOptions::default()).unwrap();
    engine.wait(session).unwrap();
    assert_eq!(engine.take_embedding(session).unwrap().unwrap().tokens, 3);
}

#[test]
fn modules_that_are_not_computed_are_named_where_nobody_names_a_pooling() {
    let folder = unpacked("sentence-bert");
    let modules = folder.path().join("modules.json");
    let text = std::fs::read_to_string(&modules).unwrap();
    std::fs::write(&modules, text.replace("models.Normalize", "models.Dense")).unwrap();
    let (mut engine, model) = loaded(ModelSource::from(folder.path()));
    let texts = [Prompt::Tokens(vec![2, 5, 3])];
    let refused = engine.embed(model, &texts, &EmbedOptions::default()).unwrap_err();
    let reason = refused.to_string();
    assert!(
        matches!(refused, Error::EmbeddingModules { .. }) && reason.contains("module 2 is Dense"),
        "{reason}"
    );
    let named = EmbedOptions { pooling: Some(Pooling::Cls), ..EmbedOptions::default() };
    assert_eq!(engine.embed(model, &texts, &named).unwrap()[0].vectors.len(), 1);
}
