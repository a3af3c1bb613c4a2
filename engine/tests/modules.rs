//! Settings for embeddings in folders of sentence-transformers: the pooling, the token limit, and modules that are not
//! supported.

#![allow(clippy::unwrap_used, reason = "a failed test should stop where it failed")]

use crate::common::golden;
use serde_json::{Value, json};
use std::path::Path;
use weft::hugging_face::{HuggingFaceError as E, HuggingFaceFolder};
use weft::{ModelConfig, ModelError, ModelFile, OpenModel, Pooling, SentenceConfig};

/// A folder of the golden data with its `modules.json` and related files replaced.
fn folder(files: &[(&str, Value)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let archive = std::fs::File::open(golden("embed/folders/bert.zip")).unwrap();
    zip::ZipArchive::new(archive).unwrap().extract(folder.path()).unwrap();
    for (name, value) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, value.to_string()).unwrap();
    }
    folder
}

fn read(folder: &Path) -> Result<ModelConfig, ModelError> {
    Ok(ModelFile::read(OpenModel::open(folder)?)?.config)
}

fn modules(kinds: &[&str]) -> Value {
    let module = |(at, kind): (usize, &&str)| {
        let path = if at == 0 { String::new() } else { format!("{at}_{kind}") };
        json!({ "idx": at, "name": at.to_string(), "path": path, "type": format!("sentence_transformers.models.{kind}") })
    };
    Value::Array(kinds.iter().enumerate().map(module).collect())
}

/// The pooling of a folder with these modules and pooling settings, and the reason if there is none.
fn pooled(kinds: &[&str], settings: Value) -> (Option<Pooling>, Option<String>) {
    let folder = folder(&[("modules.json", modules(kinds)), ("1_Pooling/config.json", settings)]);
    let config = read(folder.path()).unwrap();
    (config.pooling, config.sentence.unsupported)
}

#[test]
fn the_pooling_is_the_one_that_is_named() {
    let kinds = ["Transformer", "Pooling", "Normalize"];
    for (settings, pooling) in [
        (json!({"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}), Pooling::Cls),
        (json!({"pooling_mode_mean_tokens": true}), Pooling::Mean),
        (json!({"pooling_mode_lasttoken": true, "include_prompt": true}), Pooling::Last),
        (json!({"pooling_mode_cls_token": false}), Pooling::Mean),
        (json!({"pooling_mode": "cls", "embedding_dimension": 32}), Pooling::Cls),
        (json!({"pooling_mode": ["lasttoken"]}), Pooling::Last),
        (json!({}), Pooling::Mean),
    ] {
        assert_eq!(pooled(&kinds, settings.clone()), (Some(pooling), None), "{settings}");
        assert_eq!(pooled(&kinds[..2], settings.clone()), (Some(pooling), None), "{settings}");
    }
    assert_eq!(read(folder(&[]).path()).unwrap().pooling, None);
}

#[test]
fn what_is_not_computed_is_named() {
    let kinds = ["Transformer", "Pooling"];
    for (settings, named) in [
        (json!({"pooling_mode_max_tokens": true}), "max"),
        (json!({"pooling_mode": "weightedmean"}), "weightedmean"),
        (json!({"pooling_mode": "median"}), "median"),
        (json!({"pooling_mode_mean_sqrt_len_tokens": true}), "mean_sqrt_len_tokens"),
        (json!({"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": true}), "\"cls\" and \"mean\""),
    ] {
        let (pooling, reason) = pooled(&kinds, settings);
        let reason = reason.unwrap();
        assert!(pooling.is_none() && reason.contains(named) && reason.contains("1_Pooling"), "{reason}");
    }
    let mean = json!({"pooling_mode_mean_tokens": true});
    for (kinds, named) in [
        (&["Transformer", "Pooling", "Dense", "Normalize"][..], "module 2 is Dense"),
        (&["Transformer", "Pooling", "LayerNorm"], "module 2 is LayerNorm"),
        (&["StaticEmbedding", "Pooling"], "module 0 is StaticEmbedding"),
        (&["Transformer", "Normalize"], "no module Pooling"),
    ] {
        let reason = pooled(kinds, mean.clone()).1.unwrap();
        assert!(reason.contains(named) && reason.contains("modules.json"), "{reason}");
    }
}

#[test]
fn limits_prompts_and_letters_go_with_the_model() {
    let pooling = ("1_Pooling/config.json", json!({}));
    let of = |files: &[(&str, Value)]| {
        let mut all = vec![("modules.json", modules(&["Transformer", "Pooling"])), pooling.clone()];
        all.extend_from_slice(files);
        read(folder(&all).path()).map(|config| config.sentence)
    };
    let none = SentenceConfig::default();
    assert_eq!(of(&[]).unwrap(), none);
    let limited = ("sentence_bert_config.json", json!({"max_seq_length": 48, "do_lower_case": true}));
    let length = ("tokenizer_config.json", json!({"model_max_length": 32}));
    let longest = ("tokenizer_config.json", json!({"model_max_length": 1e30}));
    let older = ("sentence_roberta_config.json", json!({"max_seq_length": null}));
    let found = of(&[limited, length.clone()]).unwrap();
    assert_eq!(found, SentenceConfig { max_tokens: Some(48), lower_case: true, ..none.clone() });
    let short = SentenceConfig { max_tokens: Some(32), ..none.clone() };
    assert_eq!(of(&[older, length]).unwrap(), short);
    assert_eq!(of(&[longest]).unwrap(), none);
    let prompts = |name: Value| {
        let prompts = json!({"prompts": {"query": "query: ", "document": ""}, "default_prompt_name": name});
        ("config_sentence_transformers.json", prompts)
    };
    let before = of(&[prompts(json!("query"))]).unwrap();
    assert_eq!(before, SentenceConfig { prompt: "query: ".to_owned(), ..none.clone() });
    assert_eq!(of(&[prompts(Value::Null)]).unwrap(), none);
    let wrong = |result: Result<SentenceConfig, ModelError>, name: &str| match result.unwrap_err() {
        ModelError::HuggingFace(E::BadField { field, .. }) => assert_eq!(field, name),
        error => panic!("{error}"),
    };
    wrong(of(&[prompts(json!("passage"))]), "default_prompt_name");
    wrong(of(&[("sentence_bert_config.json", json!({"max_seq_length": 0}))]), "max_seq_length");
    let apart = ("1_Pooling/config.json", json!({"include_prompt": false}));
    let skipped = of(&[apart, prompts(json!("query"))]).unwrap();
    assert!(skipped.unsupported.unwrap().contains("prompt"));
}

#[test]
fn the_model_may_lie_in_a_folder_of_its_own() {
    let folder = folder(&[("1_Pooling/config.json", json!({"pooling_mode": "cls"}))]);
    let plain = read(folder.path()).unwrap();
    let inner = folder.path().join("0_Transformer");
    std::fs::create_dir(&inner).unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::rename(folder.path().join(file), inner.join(file)).unwrap();
    }
    let mut list = modules(&["Transformer", "Pooling"]);
    list[0]["path"] = json!("0_Transformer");
    std::fs::write(folder.path().join("modules.json"), list.to_string()).unwrap();
    let found = read(folder.path()).unwrap();
    assert_eq!((found.pooling, found.layers), (Some(Pooling::Cls), plain.layers));
    for path in ["..", "/etc", "a/../../b"] {
        list[0]["path"] = json!(path);
        std::fs::write(folder.path().join("modules.json"), list.to_string()).unwrap();
        assert!(matches!(HuggingFaceFolder::open(folder.path()), Err(E::BadField { .. })), "{path}");
    }
    std::fs::write(folder.path().join("modules.json"), "{}").unwrap();
    assert!(matches!(HuggingFaceFolder::open(folder.path()), Err(E::Json { .. })));
}
