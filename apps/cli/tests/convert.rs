//! Hugging Face folders: every command reads them, and `weft convert` turns them into a file.

use crate::support::{Files, floats, folder, items, keys, weft, weft_with};
use serde_json::json;

#[test]
fn a_folder_is_a_model_as_a_file_is() {
    let files = Files::new();
    let folder = folder(&files, "llama3-text");
    let file = files.path("made.gguf").display().to_string();
    let made = weft(format!("convert '{folder}' '{file}' --json")).done();
    assert_eq!(keys(&made), ["path", "type", "bytes", "tensors", "formats", "seconds"]);
    assert_eq!((&made["type"], &made["formats"]["BF16"]), (&json!("BF16"), &json!(15)));
    let logits = |model: &str| {
        let row = weft(format!("logits --model '{model}' --tokens 39,68,75 --kv f32 --json")).done();
        floats(&items(&row["logits"])[0])
    };
    // Same weights in the same formats give exactly the same sums.
    assert!(logits(&folder) == logits(&file));
    assert!(logits(&format!("{folder}/model.safetensors")) == logits(&file));
    let said = |model: &str| {
        let said = weft(format!("run --model '{model}' -n 8 --json 'Hello, world'")).done();
        (said["text"].clone(), said["tokens"].clone(), said["prompt_tokens"].clone())
    };
    assert_eq!(said(&folder), said(&file));
    let ids = |model: &str| weft_with(format!("tokenize --model '{model}' --json"), "Hello, world").done();
    assert_eq!(ids(&folder)["tokens"], json!([39, 68, 75, 75, 78, 11, 285, 259, 75, 67]));
    assert_eq!(ids(&folder), ids(&file));
    let tensor = |model: &str| weft(format!("tensor '{model}' blk.1.attn_k.weight")).stdout;
    assert!(tensor(&folder) == tensor(&file));
}

#[test]
fn inspect_tells_the_files_of_a_folder() {
    let files = Files::new();
    let folder = folder(&files, "qwen2-bf16");
    let report = weft(format!("inspect '{folder}' --json")).done();
    assert_eq!((&report["supported"], &report["architecture"]), (&json!(true), &json!("qwen2")));
    let tensors = items(&report["tensors"]);
    let mut named = std::collections::BTreeSet::new();
    for tensor in tensors {
        for file in items(&tensor["files"]) {
            let file = file.as_str().expect("a path");
            assert!(file.starts_with(&folder) && std::path::Path::new(file).exists(), "{file}");
            named.insert(file);
        }
    }
    assert!(
        named.len() > 1 && tensors.iter().any(|tensor| tensor["name"] == "blk.0.attn_q.bias"),
        "{named:?}"
    );
    assert!(weft(format!("inspect '{folder}'")).text().contains("model-00001-of-"));
}

#[test]
fn types_are_those_of_the_quantizer() {
    let files = Files::new();
    let folder = folder(&files, "mixtral");
    let path = files.path("made.gguf").display().to_string();
    for (mix, format) in [("f32", "F32"), ("f16", "F16"), ("q8_0", "Q8_0")] {
        let made = weft(format!("convert '{folder}' '{path}' --type {mix} --force --json")).done();
        assert!(made["formats"][format].as_u64().is_some_and(|count| count > 4), "{made}");
        let report = weft(format!("inspect '{path}' --json")).done();
        assert_eq!(report["supported"], true, "{report}");
    }
    let error = weft(format!("convert '{folder}' '{path}' --type f8 --force --json")).refused();
    assert_eq!(error["kind"], "unsupported_type");
    let error = weft(format!("convert '{folder}' '{path}' --json")).failed();
    assert_eq!(error["kind"], "exists");
}

#[test]
fn what_is_made_may_lie_in_the_folder_but_not_be_a_file_of_it() {
    let files = Files::new();
    let folder = folder(&files, "llama3-text");
    let inside = format!("{folder}/made.gguf");
    for line in [
        format!("convert '{folder}' '{inside}' --json"),
        format!("convert '{folder}' '{inside}' --force --json"),
        format!("quantize '{folder}' '{inside}' --type q8_0 --force --json"),
    ] {
        weft(line).done();
    }
    let files = ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"];
    for own in files.map(|file| format!("{folder}/{file}")) {
        let before = std::fs::read(&own).expect("a file");
        for line in [
            format!("convert '{folder}' '{own}' --force --json"),
            format!("quantize '{folder}' '{own}' --type q8_0 --force --json"),
        ] {
            let over = weft(line);
            assert_eq!(over.code, Some(2), "{own}: {}", over.stderr);
            assert!(std::fs::read(&own).expect("a file") == before, "{own}");
        }
    }
}

#[test]
fn what_is_no_folder_of_a_model_is_refused() {
    let files = Files::new();
    let out = files.path("made.gguf").display().to_string();
    assert_eq!(weft(format!("convert '{}' '{out}'", crate::support::TINY)).code, Some(2));
    let empty = files.path("empty");
    std::fs::create_dir(&empty).expect("a folder");
    let empty = empty.display().to_string();
    for line in [format!("convert '{empty}' '{out}' --json"), format!("run --model '{empty}' --json Hello")] {
        let error = weft(line).failed();
        assert_eq!((&error["kind"], &error["folder"]), (&json!("not_a_model"), &json!(empty)));
    }
    let folder = folder(&files, "llama3");
    std::fs::write(format!("{folder}/config.json"), r#"{"model_type": "abacus"}"#).expect("a file");
    let error = weft(format!("inspect '{folder}' --json")).failed();
    assert_eq!((&error["kind"], &error["model_type"]), (&json!("unknown_model"), &json!("abacus")));
    assert!(!std::path::Path::new(&out).exists());
}
