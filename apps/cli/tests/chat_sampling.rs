//! Sampling settings in a chat: from the command line, else from the model's file, else the defaults.

use crate::support::{Files, folder, weft, weft_with};

const F32: u32 = 6;
const I32: u32 = 5;

/// The value that `/set` prints for a name.
fn setting(stderr: &str, name: &str) -> String {
    let line = stderr.lines().find(|line| line.split_whitespace().next() == Some(name));
    line.unwrap_or_else(|| panic!("{name}: {stderr}"))
        .split_whitespace()
        .skip(1)
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn chat_follows_what_the_model_recommends() {
    let files = Files::new();
    let plain = files.with_template();
    let run = weft_with(format!("chat --model '{plain}'"), "/set\n");
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let usual = [("temperature", "0.8"), ("top-k", "0"), ("top-p", "0.95"), ("min-p", "0.05")];
    for (name, value) in usual.into_iter().chain([("repeat-penalty", "1"), ("seed", "0")]) {
        assert_eq!(setting(&run.stderr, name), value, "{name}");
    }
    let recommending = files.with_template_and(
        "recommending.gguf",
        &[
            ("general.sampling.temp", F32, &0.25f32.to_le_bytes()),
            ("general.sampling.top_k", I32, &20i32.to_le_bytes()),
            ("general.sampling.penalty_repeat", F32, &1.5f32.to_le_bytes()),
            ("general.sampling.min_p", F32, &7f32.to_le_bytes()),
            ("general.sampling.mirostat", I32, &2i32.to_le_bytes()),
        ],
    );
    let run = weft_with(format!("chat --model '{recommending}' --top-k 3"), "/set\n/stats\n");
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    for (name, value) in [
        ("temperature", "0.25 from the model"),
        ("top-k", "3"),
        ("top-p", "0.95"),
        ("min-p", "0.05"),
        ("repeat-penalty", "1.5 from the model"),
        ("sampling", "temperature 0.25, top-k 3, top-p 0.95, min-p 0.05, repeat-penalty 1.5"),
    ] {
        assert_eq!(setting(&run.stderr, name), value, "{name}");
    }
    for told in ["general.sampling.min_p = 7", "general.sampling.mirostat = 2"] {
        assert!(run.stderr.contains(told), "{told}: {}", run.stderr);
    }
    // `weft run` ignores the file's recommendations, so that its answers are reproducible.
    let run = |model: &str| {
        weft(format!("run --model '{model}' --max-tokens 8 --json Hello")).done()["tokens"].clone()
    };
    assert_eq!(run(&plain), run(&recommending));
}

#[test]
fn chat_follows_what_a_folder_recommends() {
    let files = Files::new();
    let path = folder(&files, "llama3-text");
    let generation =
        r#"{"do_sample": true, "temperature": 0.6, "top_p": 0.9, "top_k": 40, "repetition_penalty": 1.1}"#;
    files.write("llama3-text/generation_config.json", generation);
    let run = weft_with(format!("chat --model '{path}' --top-p 0.5"), "/set\n");
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    for (name, value) in [
        ("temperature", "0.6 from the model"),
        ("top-k", "40 from the model"),
        ("top-p", "0.5"),
        ("min-p", "0.05"),
        ("repeat-penalty", "1.1 from the model"),
    ] {
        assert_eq!(setting(&run.stderr, name), value, "{name}");
    }
    // The file converted from the folder has the same recommendations.
    let file = files.path("made.gguf");
    let made = weft(format!("convert '{path}' '{}'", file.display()));
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let run = weft_with(format!("chat --model '{}'", file.display()), "/set\n");
    assert_eq!(setting(&run.stderr, "temperature"), "0.6 from the model");
    files.write(
        "llama3-text/generation_config.json",
        r#"{"do_sample": false, "temperature": -3, "top_p": "x"}"#,
    );
    let run = weft_with(format!("chat --model '{path}'"), "/set\n");
    assert_eq!(setting(&run.stderr, "temperature"), "0 from the model");
    assert!(run.stderr.contains("general.sampling.top_p"), "{}", run.stderr);
}
