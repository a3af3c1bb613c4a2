//! LoRA adapters on the command line: sessions that use one, and models with one merged in.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use crate::support::{Files, floats, folder, items, keys, weft};
use std::path::Path;

/// The path of an adapter in `assets/golden/lora`, for models of the shape that [`base`] makes.
fn golden(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/golden/lora").join(name);
    path.display().to_string()
}

/// Makes a synthetic model that the golden adapters for Llama fit.
fn base(files: &Files, format: &str) -> String {
    let path = files.path(&format!("{format}.gguf")).display().to_string();
    let shape = "--layers 2 --embedding 64 --feed-forward 96 --heads 4 --kv-heads 2 --vocab 512 --untied";
    weft(format!("synth '{path}' {shape} --type {format} --json")).done();
    path
}

fn logits(model: &str, more: &str) -> Vec<f64> {
    let line = format!("logits --model '{model}' --kv f32 --tokens 57,72,105,33 {more} --json");
    floats(&items(&weft(line).done()["logits"])[0])
}

/// The largest absolute difference, relative to the largest logit.
fn difference(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let largest = a.iter().fold(0.0f64, |most, x| most.max(x.abs()));
    a.iter().zip(b).fold(0.0f64, |most, (a, b)| most.max((a - b).abs())) / largest
}

#[test]
fn an_adapter_changes_what_a_model_says_and_can_be_merged() {
    let files = Files::new();
    let model = base(&files, "f32");
    let (gguf, folder) = (golden("llama-qv.gguf"), golden("llama-qv"));
    let plain = logits(&model, "");
    let adapted = logits(&model, &format!("--lora '{gguf}'"));
    assert!(difference(&plain, &adapted) > 0.05);
    assert!(difference(&adapted, &logits(&model, &format!("--lora '{folder}'"))) < 1e-6);
    assert_eq!(logits(&model, &format!("--lora '{gguf}' --lora-scale 0")), plain);
    assert!(difference(&adapted, &logits(&model, &format!("--lora '{gguf}' --lora-scale -1"))) > 0.05);
    assert_eq!(logits(&model, &format!("--lora '{gguf}' --beside 3")), adapted);
    let said = weft(format!("run --model '{model}' --lora '{gguf}' --raw -n 4 --json Hello")).done();
    assert!(!items(&said["tokens"]).is_empty(), "{said}");

    let out = files.path("merged.gguf").display().to_string();
    let merge = |more: &str| weft(format!("merge '{out}' --model '{model}' --lora '{gguf}' --json {more}"));
    let merged = merge("").done();
    assert_eq!(keys(&merged), ["path", "bytes", "tensors", "changed", "seconds"]);
    assert_eq!(merged["changed"], 4);
    assert!(difference(&adapted, &logits(&out, "")) < 1e-4);
    assert_eq!(merge("").failed()["kind"], "exists");
    merge("--force --lora-scale 0").done();
    assert!(std::fs::read(&out).expect("merged") == std::fs::read(&model).expect("the base"));
    merge("--force --type f16").done();
    assert!(difference(&adapted, &logits(&out, "")) < 1e-2);
}

#[test]
fn quantized_models_keep_their_formats() {
    let files = Files::new();
    let model = base(&files, "q8_0");
    let adapter = golden("llama-qv.gguf");
    let out = files.path("merged.gguf").display().to_string();
    weft(format!("merge '{out}' --model '{model}' --lora '{adapter}' --json")).done();
    let formats = |path: &str| {
        let inspected = weft(format!("inspect '{path}' --json")).done();
        items(&inspected["tensors"]).iter().map(|tensor| tensor["format"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(formats(&out), formats(&model));
    let adapted = logits(&model, &format!("--lora '{adapter}'"));
    assert!(difference(&adapted, &logits(&out, "")) < 0.05);
}

/// Writes an adapter in PEFT's form for the query matrix of the first layer, `width` wide.
fn peft(files: &Files, width: usize) -> String {
    let folder = files.path("peft");
    std::fs::create_dir(&folder).expect("a folder");
    let config =
        r#"{"peft_type": "LORA", "r": 1, "lora_alpha": 4, "target_modules": ["q_proj"], "bias": "none"}"#;
    std::fs::write(folder.join("adapter_config.json"), config).expect("a configuration");
    let bytes = 4 * width;
    let tensor = |which: &str, shape: [usize; 2], start: usize| {
        let name = format!("base_model.model.model.layers.0.self_attn.q_proj.lora_{which}.weight");
        (name, serde_json::json!({"dtype": "F32", "shape": shape, "data_offsets": [start, start + bytes]}))
    };
    let tensors = [tensor("A", [1, width], 0), tensor("B", [width, 1], bytes)];
    let header = serde_json::Value::from_iter(tensors).to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.bytes());
    file.extend((0..2 * width).flat_map(|i| (0.1 * (i % 7) as f32 - 0.3).to_le_bytes()));
    std::fs::write(folder.join("adapter_model.safetensors"), file).expect("weights");
    folder.display().to_string()
}

#[test]
fn a_folder_is_a_base_and_a_base_is_not_overwritten() {
    let files = Files::new();
    let (model, adapter) = (folder(&files, "llama-linear"), peft(&files, 32));
    let out = files.path("merged.gguf").display().to_string();
    let merge = |model: &str, more: &str| {
        weft(format!("merge '{out}' --model '{model}' --lora '{adapter}' --json {more}"))
    };
    merge(&model, "").done();
    let adapted = logits(&model, &format!("--lora '{adapter}'"));
    assert!(difference(&logits(&model, ""), &adapted) > 1e-3);
    assert!(difference(&adapted, &logits(&out, "")) < 1e-4);
    let merged = std::fs::read(&out).expect("merged");
    let onto_itself = merge(&out, "--force");
    assert_eq!(onto_itself.code, Some(2), "{}", onto_itself.stderr);
    assert!(std::fs::read(&out).expect("merged") == merged);
    for own in [format!("{model}/model.safetensors"), format!("{adapter}/adapter_model.safetensors")] {
        let over = weft(format!("merge '{own}' --model '{model}' --lora '{adapter}' --force --json"));
        assert_eq!(over.code, Some(2), "{}", over.stderr);
    }
}

#[test]
fn what_does_not_fit_is_an_error() {
    let files = Files::new();
    let model = base(&files, "f16");
    let failed = |adapter: &str| {
        weft(format!("logits --model '{model}' --tokens 1 --lora '{adapter}' --json")).failed()
    };
    assert_eq!(failed(&golden("qwen2-some.gguf"))["kind"], "other_architecture");
    // The adapter's output head has another vocabulary.
    let error = failed(&golden("llama-all.gguf"));
    assert_eq!(
        (&error["kind"], &error["tensor"]),
        (&"shape".into(), &"output.weight.lora_b".into()),
        "{error}"
    );
    assert_eq!(failed(&model)["kind"], "not_an_adapter");
    assert_eq!(failed("no/such/file.gguf")["kind"], "open");
    let folder = files.path(".").display().to_string();
    assert_eq!(failed(&folder)["kind"], "no_file");
    let usage = weft(format!("logits --model '{model}' --tokens 1 --lora-scale 2 --json"));
    assert_eq!(usage.code, Some(2), "{}", usage.stderr);
    let out = files.path("merged.gguf").display().to_string();
    let line = format!("merge '{out}' --model '{model}' --json --lora '{}'", golden("qwen2-some.gguf"));
    assert_eq!(weft(line).failed()["kind"], "other_architecture");
    assert!(!files.path("merged.gguf").exists());
}
