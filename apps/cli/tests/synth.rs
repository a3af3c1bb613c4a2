//! Synthetic models: the written bytes, and that the other commands accept the file.

use crate::support::{Files, floats, items, keys, weft};
use serde_json::json;

/// Returns a path in the folder, and the start of a command line that makes a model there.
fn synth(files: &Files, name: &str) -> (String, String) {
    let path = files.path(name).display().to_string();
    (path.clone(), format!("synth '{path}' --json"))
}

#[test]
fn a_seed_and_a_shape_are_a_file_whatever_the_threads() {
    let files = Files::new();
    let make = |name: &str, more: &str| {
        let (path, line) = synth(&files, name);
        let made = weft(format!("{line} {more}")).done();
        assert_eq!(keys(&made), ["path", "bytes", "tensors", "seconds"]);
        assert_eq!(made["path"], *path);
        let bytes = std::fs::read(path).expect("the model");
        assert_eq!(made["bytes"], bytes.len());
        assert!(made["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{made}");
        bytes
    };
    let shape = "--layers 3 --vocab 2000 --type q4_0";
    let first = make("a.gguf", &format!("{shape} --seed 7 --threads 1"));
    assert!(make("b.gguf", &format!("{shape} --seed 7 --threads 3")) == first);
    assert!(make("c.gguf", &format!("{shape} --seed 7")) == first);
    let other = make("d.gguf", &format!("{shape} --seed 8"));
    assert!(other.len() == first.len() && other != first);
}

#[test]
fn what_is_made_up_runs() {
    let files = Files::new();
    for format in ["f32", "f16", "bf16", "q8_0", "q4_0", "q4_1"] {
        let (path, line) = synth(&files, &format!("{format}.gguf"));
        let made = weft(format!("{line} --type {format}")).done();
        let inspected = weft(format!("inspect '{path}' --json")).done();
        assert_eq!((&inspected["supported"], &inspected["unsupported"]), (&json!(true), &json!(null)));
        assert_eq!((&inspected["bytes"], &made["tensors"]), (&made["bytes"], &json!(20)));
        assert_eq!(items(&inspected["tensors"])[0]["format"], format.to_uppercase());
        let answer =
            weft(format!("run --model '{path}' --raw -n 8 --logit-bias 258=-1000 --json Hello")).done();
        assert_eq!(items(&answer["tokens"]).len(), 8, "{answer}");
        assert_eq!(answer["prompt_tokens"], 6);
        // Logits are finite and of ordinary size, so that no token dominates all others.
        let logits = weft(format!("logits --model '{path}' --tokens 257,72,105 --json")).done();
        let logits = floats(&items(&logits["logits"])[0]);
        let deviation = (logits.iter().map(|logit| logit * logit).sum::<f64>() / logits.len() as f64).sqrt();
        assert!(logits.len() == 512 && (0.5..2.0).contains(&deviation), "{format}: {deviation}");
    }
}

#[test]
fn flags_are_the_models_numbers() {
    let files = Files::new();
    let (path, line) = synth(&files, "flags.gguf");
    let shape = "--arch llama --layers 1 --embedding 96 --feed-forward 160 --heads 3 --kv-heads 1 --key-length 64 \
                 --vocab 400 --context 99 --rope-base 1234.5 --untied --type f16";
    weft(format!("{line} {shape}")).done();
    let model = weft(format!("inspect '{path}' --json")).done();
    assert_eq!(model["supported"], true, "{model}");
    for (key, value) in [
        ("block_count", json!(1)),
        ("embedding_length", json!(96)),
        ("feed_forward_length", json!(160)),
        ("attention.head_count", json!(3)),
        ("attention.head_count_kv", json!(1)),
        ("attention.key_length", json!(64)),
        ("attention.value_length", json!(64)),
        ("vocab_size", json!(400)),
        ("context_length", json!(99)),
        ("rope.freq_base", json!(1234.5)),
    ] {
        assert_eq!(model["metadata"][format!("llama.{key}")], value, "{key}");
    }
    let shape = |name: &str| {
        let found = items(&model["tensors"]).iter().find(|tensor| tensor["name"] == name);
        found.map(|tensor| tensor["shape"].clone())
    };
    assert_eq!(shape("blk.0.attn_q.weight"), Some(json!([96, 192])));
    assert_eq!(shape("output.weight"), Some(json!([96, 400])));
    // Tied embeddings by default, a preset with options over it, and only the path on stdout without --json.
    let (path, _) = synth(&files, "preset.gguf");
    let made =
        weft(format!("synth '{path}' --preset 8b --layers 1 --embedding 64 --feed-forward 64 --vocab 300"));
    assert_eq!((made.code, made.text().trim_end()), (Some(0), path.as_str()), "{}", made.stderr);
    let model = weft(format!("inspect '{path}' --json")).done();
    let metadata = &model["metadata"];
    assert_eq!(
        (&metadata["llama.attention.head_count"], &metadata["llama.rope.freq_base"]),
        (&json!(32), &json!(500_000.0))
    );
    assert_eq!(items(&model["tensors"]).len(), 12);
}

#[test]
fn files_are_kept_unless_they_may_go() {
    let files = Files::new();
    let (path, line) = synth(&files, "model.gguf");
    std::fs::write(&path, "precious").expect("a file");
    let error = weft(&line).failed();
    assert_eq!((&error["kind"], &error["file"]), (&json!("exists"), &json!(path)));
    // A shape that is refused leaves the existing file untouched as well.
    let error = weft(format!("{line} --force --kv-heads 3")).failed();
    assert_eq!((&error["kind"], &error["value"]), (&json!("bad_number"), &json!("3")));
    assert_eq!(std::fs::read(&path).expect("the file"), b"precious");
    weft(format!("{line} --force")).done();
    assert_eq!(weft(format!("inspect '{path}' --json")).done()["supported"], true);
    assert!(!files.path("model.gguf.part").exists());
}

#[test]
fn what_cannot_be_made_is_refused_before_a_byte_is_written() {
    let files = Files::new();
    let (path, line) = synth(&files, "model.gguf");
    for (more, kind) in [
        ("--type nvfp4", "unsupported_format"),
        ("--arch abacus", "unsupported_architecture"),
        ("--preset 3t", "unknown_preset"),
    ] {
        let error = weft(format!("{line} {more}")).refused();
        assert_eq!(error["kind"], kind, "{more}: {error}");
    }
    for (more, kind) in [("--embedding 272", "row_not_blocks"), ("--vocab 100", "bad_number")] {
        let error = weft(format!("{line} {more}")).failed();
        assert_eq!(error["kind"], kind, "{more}: {error}");
    }
    assert!(!std::path::Path::new(&path).exists() && !files.path("model.gguf.part").exists());
    assert_eq!(weft(format!("{line} --tied --untied")).code, Some(2));
    let nowhere = files.path("no/model.gguf").display().to_string();
    assert_eq!(weft(format!("synth '{nowhere}' --json")).failed()["kind"], "create");
}

#[cfg(unix)]
#[test]
fn ctrl_c_leaves_no_file_and_a_script_learns_of_it() {
    use std::process::Stdio;
    use std::time::{Duration, Instant};
    let files = Files::new();
    let (path, line) = synth(&files, "large.gguf");
    let shape = "--layers 64 --embedding 2048 --feed-forward 8192 --type f16 --threads 1";
    let mut command = crate::support::command(&format!("{line} {shape}"));
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the command starts");
    let part = files.path("large.gguf.part");
    let start = Instant::now();
    // Once the part file grows, the Ctrl-C handler is installed.
    while std::fs::metadata(&part).map_or(0, |part| part.len()) == 0 {
        assert!(start.elapsed() < Duration::from_secs(60), "nothing was written");
        std::thread::sleep(Duration::from_millis(1));
    }
    let kill = format!("kill -INT {}", child.id());
    assert!(std::process::Command::new("sh").args(["-c", &kill]).status().expect("a shell").success());
    let output = child.wait_with_output().expect("an end");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{told}");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(json["error"]["kind"], "interrupted");
    assert!(told.contains("interrupted"), "{told}");
    assert!(!part.exists() && !std::path::Path::new(&path).exists());
}

/// Unix only: where the free space is unknown, the command would begin to write.
#[cfg(unix)]
#[test]
fn more_than_the_disk_takes_is_not_begun() {
    let files = Files::new();
    let (_, line) = synth(&files, "model.gguf");
    let error = weft(format!("{line} --layers 10000 --embedding 1048576 --type f32")).failed();
    assert_eq!(error["kind"], "no_room");
    assert!(error["bytes"].as_u64() > error["free"].as_u64(), "{error}");
    assert!(!files.path("model.gguf.part").exists());
}
