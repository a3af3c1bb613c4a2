//! Failures, and how they are reported to scripts and users.

use crate::support::{Files, TINY, coloured, weft, weft_with};
use serde_json::json;

#[test]
fn failures_exit_with_1_and_say_kind_message_and_facts() {
    let run = "run --raw --json Hello";
    let error = weft(format!("{run} --model no-such-model")).failed();
    assert_eq!(error["kind"], "unknown_model");
    assert_eq!(error["model"], "no-such-model");
    let message = error["message"].as_str().expect("a message");
    assert!(message.contains("weft list"), "{message}");
    let run = format!("{run} --model '{TINY}'");
    let error = weft(format!("{run} --backend gpu --gpu 'no such thing'")).failed();
    assert_eq!((&error["kind"], &error["wanted"]), (&json!("no_adapter"), &json!("no such thing")));
    let error = weft(format!("{run} --context 9999")).failed();
    assert_eq!(error["kind"], "context_too_large");
    assert_eq!((&error["asked"], &error["model"]), (&json!(9999), &json!(512)));
    // A context beyond any machine's memory gives the same error, in every command that takes a context.
    for command in [run.as_str(), &format!("embed --model '{TINY}' --json Hello")] {
        for context in ["100000000000", "18446744073709551615"] {
            let error = weft(format!("{command} --context {context}")).failed();
            assert_eq!((&error["kind"], &error["model"]), (&json!("context_too_large"), &json!(512)));
        }
    }
    let error = weft(format!("{run} --isa sse9")).failed();
    assert_eq!(error["kind"], "unknown_isa");
    assert_eq!(error["name"], "sse9");
    let long = "word ".repeat(600);
    let error = weft_with(format!("run --model '{TINY}' --raw --json"), long).failed();
    assert_eq!(error["kind"], "context_overflow");
    assert_eq!(error["limit"], 512);
    let files = Files::new();
    let bad = files.write("bad.jinja", "{% for %}");
    let error = weft(format!("run --model '{TINY}' --chat-template '{bad}' --json Hello")).failed();
    assert_eq!(error["kind"], "syntax");
    let error = weft(format!("run --model '{TINY}' --chat-template nowhere --json Hello")).failed();
    assert_eq!((&error["kind"], &error["name"]), (&json!("unknown_name"), &json!("nowhere")));
    let error = weft(format!("run --model '{TINY}' --chat-template nowhere.jinja --json Hello")).failed();
    assert_eq!(error["file"], "nowhere.jinja");
}

#[test]
fn damaged_files_are_named() {
    let files = Files::new();
    let damaged = files.write("damaged.gguf", "not a model");
    let error = weft(format!("inspect '{damaged}' --json")).failed();
    assert_eq!(error["kind"], "not_gguf");
    assert_eq!(error["file"], *damaged);
    let whole = std::fs::read(TINY).expect("the tiny model");
    let cut = files.write("cut.gguf", &whole[..whole.len() / 2]);
    for command in ["run --raw --json Hello --model", "inspect --json"] {
        let error = weft(format!("{command} '{cut}'")).failed();
        assert_eq!(error["file"], *cut);
    }
    // A file without weights cannot answer.
    let vocabulary = files.vocabulary_only();
    let error = weft(format!("run --model '{vocabulary}' --raw --json Hello")).failed();
    assert_eq!(error["kind"], "missing_tensor");
    assert_eq!(error["file"], *vocabulary);
}

#[test]
fn logits_refuse_what_is_not_there() {
    let logits = format!("logits --model '{TINY}' --json --tokens");
    let error = weft(format!("{logits} 1,320")).failed();
    assert_eq!(error["kind"], "unknown_token");
    assert_eq!((&error["token"], &error["vocabulary"]), (&json!(320), &json!(320)));
    let error = weft(format!("{logits} 1,2 --positions 2")).failed();
    assert_eq!(error["kind"], "bad_position");
    assert_eq!((&error["position"], &error["tokens"]), (&json!(2), &json!(2)));
}

#[test]
fn bad_text_and_tokens_are_refused() {
    let tokenize = format!("tokenize --model '{TINY}' --json");
    let error = weft_with(tokenize, [b'a', 0xff]).failed();
    assert_eq!((&error["kind"], &error["offset"]), (&json!("not_utf8"), &json!(1)));
    let error = weft(format!("detokenize --model '{TINY}' --json 1,320")).failed();
    assert_eq!(error["kind"], "unknown_token");
    let files = Files::new();
    let file = files.write("bad.jinja", "{% for %}");
    let error = weft_with(format!("template --file '{file}' --json"), "[]").failed();
    assert_eq!(error["kind"], "syntax");
    let error = weft_with(format!("template --file '{file}' --json --vars 3"), "[]").failed();
    assert_eq!(error["kind"], "bad_json");
    let file = files.write("short.txt", "Hello");
    let error = weft(format!("perplexity --model '{TINY}' --file '{file}' --json")).failed();
    assert_eq!(error["kind"], "text_too_short");
    assert_eq!(error["context"], 512);
}

#[test]
fn a_missing_tensor_comes_with_names_like_it() {
    let missing = weft(format!("tensor '{TINY}' blk.9.attn_q.weight"));
    assert_eq!((missing.code, missing.stdout.len()), (Some(1), 0));
    let offered = missing.stderr.contains("blk.0.attn_q.weight");
    assert!(offered, "{}", missing.stderr);
}

#[test]
fn wrong_usage_exits_with_2() {
    for line in [
        "",
        "no-such-command",
        "run --no-such-option",
        "run --temperature warm Hello",
        "run --logit-bias 7 Hello",
        "run --max-tokens 0 Hello",
        "run --backend abacus --raw Hello",
        "logits --tokens 1,x",
        "logits --tokens ''",
        "bench --sessions 0",
        "template --model x --file x",
    ] {
        let run = weft(line);
        assert_eq!((run.code, run.text()), (Some(2), ""), "{line}: {}", run.stderr);
        assert!(!run.stderr.is_empty() && !coloured(&run.stderr), "{line}");
    }
}

#[test]
fn an_instruction_set_comes_from_the_environment_too() {
    let mut command = crate::support::command(&format!("run --model '{TINY}' --raw --json Hello"));
    let output = command.env("WEFT_ISA", "sse9").output().expect("a run");
    assert_eq!(output.status.code(), Some(1));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(json["error"]["kind"], "unknown_isa");
}
