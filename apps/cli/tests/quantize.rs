//! `weft quantize`: its output, its refusals, and that the written models run.

use crate::support::{Files, TINY, divergence, floats, items, keys, weft};
use serde_json::json;

/// The logits of the tiny model's first tokens.
fn logits(model: &str) -> Vec<f64> {
    let answer = weft(format!("logits --model '{model}' --tokens 1,72,105,33 --json")).done();
    floats(&items(&answer["logits"])[0])
}

#[test]
fn what_is_written_runs_and_says_nearly_the_same() {
    let files = Files::new();
    let exact = logits(TINY);
    // The last number is 1.1 times the divergence of what llama.cpp's quantizer (llama-cpp-python 0.3.36) makes of the
    // same file. Rounding the rest of a row differently changes it by as much as that tenth.
    let losses = [
        ("f32", 0, 0.0),
        ("F16", 1, 0.0),
        ("q8_0", 7, 1.1 * 1.071e-3),
        ("Q5_1", 9, 1.1 * 1.612e-2),
        ("Q4_K_M", 15, 1.1 * 2.438e-2),
        ("iq4_xs", 30, 1.1 * 1.373e-1),
    ];
    for (name, file_type, most) in losses {
        let path = files.path(&format!("{name}.gguf")).display().to_string();
        let made = weft(format!("quantize '{TINY}' '{path}' --type {name} --json")).done();
        assert_eq!(keys(&made), ["path", "type", "bytes", "tensors", "formats", "seconds"]);
        assert_eq!((&made["path"], &made["type"]), (&json!(path), &json!(name.to_uppercase())));
        assert_eq!(made["bytes"], std::fs::metadata(&path).expect("the file").len());
        let inspected = weft(format!("inspect '{path}' --json")).done();
        assert_eq!(made["tensors"], items(&inspected["tensors"]).len());
        let counts = made["formats"].as_object().expect("formats").values();
        assert_eq!(counts.filter_map(|count| count.as_u64()).sum::<u64>(), made["tensors"]);
        assert_eq!(inspected["metadata"]["general.file_type"], file_type);
        assert_eq!(inspected["metadata"]["general.quantization_version"], 2);
        let lost = divergence(&exact, &logits(&path));
        assert!(lost.abs() <= most, "{name}: {lost}");
    }
}

#[test]
fn flags_choose_formats() {
    let files = Files::new();
    let formats = |more: &str| {
        let path = files.path("out.gguf").display().to_string();
        weft(format!("quantize '{TINY}' '{path}' --force --json {more}")).done();
        let inspected = weft(format!("inspect '{path}' --json")).done();
        let found = |name: &str| {
            let tensor = items(&inspected["tensors"]).iter().find(|tensor| tensor["name"] == name);
            tensor.map(|tensor| tensor["format"].as_str().unwrap_or_default().to_owned()).unwrap_or_default()
        };
        ["token_embd.weight", "output.weight", "blk.0.attn_q.weight"].map(found)
    };
    // Rows of 64 are no multiple of a super-block.
    assert_eq!(formats("--type q4_k_m"), ["Q5_0", "Q8_0", "Q5_0"]);
    assert_eq!(formats("--type q4_k_m --pure"), ["Q5_0", "Q5_0", "Q5_0"]);
    assert_eq!(formats("--type q4_0 --output-type q5_1 --embedding-type f16"), ["F16", "Q5_1", "Q4_0"]);
}

#[test]
fn people_read_the_path_and_a_warning() {
    let files = Files::new();
    let (once, twice) = (files.path("once.gguf").display().to_string(), files.path("twice.gguf"));
    let run = weft(format!("quantize '{TINY}' '{once}' --type q5_1 --threads 1"));
    assert_eq!((run.code, run.text().trim_end()), (Some(0), once.as_str()), "{}", run.stderr);
    assert!(run.stderr.contains("Q5_1") && !run.stderr.contains("warning"), "{}", run.stderr);
    let run = weft(format!("quantize '{once}' '{}' --type q4_0", twice.display()));
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(run.stderr.contains("warning") && run.stderr.contains("quantized before"), "{}", run.stderr);
}

#[test]
fn every_part_of_a_split_model_is_read() {
    let files = Files::new();
    let first = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/golden/gguf/split-00001-of-00003.gguf");
    let out = files.path("whole.gguf");
    // A matrix of doubles in the third part, which cannot be decoded.
    let error = weft(format!("quantize '{first}' '{}' --type q4_0 --json", out.display())).failed();
    assert_eq!((&error["kind"], &error["tensor"]), (&json!("unreadable_tensor"), &json!("doubles.weight")));
    let named = error["file"].as_str().expect("a file");
    assert!(named.ends_with("split-00003-of-00003.gguf") && !out.exists(), "{error}");
}

#[test]
fn files_are_kept_and_errors_are_named() {
    let files = Files::new();
    let model = files.write("model.gguf", std::fs::read(TINY).expect("the tiny model"));
    let out = files.write("out.gguf", "precious");
    let error = weft(format!("quantize '{model}' '{out}' --type q8_0 --json")).failed();
    assert_eq!((&error["kind"], &error["file"]), (&json!("exists"), &json!(out)));
    for more in ["", "--force"] {
        let run = weft(format!("quantize '{model}' '{model}' --type q8_0 --json {more}"));
        assert_eq!((run.code, &run.json()["error"]["kind"]), (Some(2), &json!("usage")), "{}", run.stderr);
    }
    assert_eq!(std::fs::read(&model).expect("the model"), std::fs::read(TINY).expect("the tiny model"));
    for (more, kind) in
        [("--type q9_z", "unsupported_type"), ("--type q8_0 --output-type q4_k_m", "unsupported_type")]
    {
        let error = weft(format!("quantize '{model}' '{out}' --force --json {more}")).refused();
        assert_eq!(error["kind"], kind, "{more}: {error}");
    }
    let error =
        weft(format!("quantize '{model}' '{out}' --force --json --type q8_0 --embedding-type q4_k")).failed();
    assert_eq!(error["kind"], "row_not_blocks");
    assert_eq!(std::fs::read(&out).expect("the file"), b"precious");
    assert_eq!(weft(format!("quantize '{model}' '{out}' --force")).code, Some(2));
    let error = weft(format!("quantize no-such-model '{out}' --type q8_0 --json")).failed();
    assert_eq!(error["kind"], "unknown_model");
    // A weight that is not finite: the last bytes of the file belong to a tensor.
    let mut bytes = std::fs::read(&model).expect("the model");
    let end = bytes.len() - 4;
    bytes[end..].copy_from_slice(&[0xff; 4]);
    let damaged = files.write("damaged.gguf", bytes);
    let other = files.path("other.gguf");
    let error = weft(format!("quantize '{damaged}' '{}' --type q4_0 --json", other.display())).failed();
    assert_eq!((&error["kind"], &error["file"]), (&json!("not_finite"), &json!(damaged)), "{error}");
    assert!(error["tensor"].is_string() && error["index"].is_u64(), "{error}");
    assert!(!other.exists() && !files.path("other.gguf.part").exists());
}
