//! The conversation, driven from a pipe: answers, files and what fails.

use crate::support::{Files, coloured, items, weft, weft_with};
use serde_json::Value;
use std::path::Path;

/// Settings with which the tiny model answers, always the same.
pub(crate) const SETTINGS: &str = "--temperature 0 --max-tokens 4 --logit-bias 284=-1000";
/// Settings with which each token of an answer is an `a`.
pub(crate) const ALWAYS_A: &str = "--temperature 0 --logit-bias 97=1000";

/// The messages of a saved conversation: roles and contents.
pub(crate) fn saved(file: &Path) -> Vec<(String, String)> {
    let file = std::fs::read_to_string(file).expect("a saved conversation");
    let file: Value = serde_json::from_str(&file).expect("JSON");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    items(&file["messages"])
        .iter()
        .map(|message| (text(&message["role"]), text(&message["content"])))
        .collect()
}

/// What the user said in a saved conversation.
pub(crate) fn said(file: &Path) -> Vec<String> {
    saved(file).into_iter().filter(|(role, _)| role == "user").map(|(_, text)| text).collect()
}

#[test]
fn chat_takes_turns_and_commands() {
    let files = Files::new();
    let model = files.with_template();
    let chat = format!("chat --model '{model}' {SETTINGS} --system 'Be brief.'");
    let file = files.path("saved.json");
    let name = file.display();
    let script = format!(
        "/help\nHello\n\n/save {name}\n/stats\nAnd now?\n/reset\n/nonsense\n/load {name}\n/quit\nnever said"
    );
    let run = weft_with(&chat, script);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let told =
        ["/system TEXT", "context    ", "KV pages", "/nonsense", "3 messages saved", "3 messages loaded"];
    for told in told {
        assert!(run.stderr.contains(told), "{told}: {}", run.stderr);
    }
    // Answers alone are on stdout, a line each.
    assert_eq!(run.text().lines().count(), 2, "{:?}", run.text());
    assert!(!coloured(run.text()) && !coloured(&run.stderr));
    let messages = saved(&file);
    let roles: Vec<_> = messages.iter().map(|(role, _)| role.as_str()).collect();
    assert_eq!(roles, ["system", "user", "assistant"]);
    // The first answer is that of `weft run`.
    let run = format!("run --model '{model}' {SETTINGS} --system 'Be brief.' --json Hello");
    assert_eq!(weft(run).done()["text"], *messages[2].1);
    // A conversation goes on from a file as it went on by itself.
    let by_itself = weft_with(&chat, "Hello\nAnd now?\n");
    let from_file = weft_with(format!("chat --model '{model}' {SETTINGS} --load '{name}'"), "And now?");
    assert_eq!(from_file.code, Some(0), "{}", from_file.stderr);
    let (whole, end) = (by_itself.text(), from_file.text());
    assert!(whole.ends_with(end) && end.len() > 1, "{whole:?} {end:?}");
}

#[test]
fn chat_stays_as_it_was_where_something_fails() {
    let files = Files::new();
    let model = files.with_template();
    let chat = format!("chat --model '{model}' {SETTINGS}");
    let plain = weft_with(&chat, "Hello\n");
    let long = "word ".repeat(600);
    let script =
        format!("{long}\n/load {model}\n/save\n/load no-such-file\n/retry\n/undo\n/continue\nHello\n");
    let run = weft_with(&chat, script);
    assert_eq!((run.code, run.text()), (Some(0), plain.text()), "{}", run.stderr);
    let told = ["needs a context of", "not UTF-8", "name a file", "no-such-file", "no message", "no answer"];
    for told in told {
        assert!(run.stderr.contains(told), "{told}: {}", run.stderr);
    }
}

#[test]
fn chat_answers_end_in_one_line_end() {
    let files = Files::new();
    let model = files.with_template();
    // Token 10 is a line's end.
    let chat = format!("chat --model '{model}' --temperature 0 --max-tokens 3 --logit-bias 10=1000");
    assert_eq!(weft_with(&chat, "Hello\nHello\n").text(), "\n\n");
    let chat = format!("chat --model '{model}' --max-tokens 3 {ALWAYS_A}");
    assert_eq!(weft_with(&chat, "Hello\nHello\n").text(), "aaa\naaa\n");
}

#[test]
fn chat_keeps_a_loaded_conversation_under_a_new_system_message() {
    let files = Files::new();
    let model = files.with_template();
    let file = files.write(
        "before.json",
        r#"{"messages": [{"role": "system", "content": "You are a pirate."}, {"role": "user", "content": "hello"},
            {"role": "assistant", "content": "Ahoy"}]}"#,
    );
    let after = files.path("after.json");
    let chat = format!("chat --model '{model}' {SETTINGS} --load '{file}'");
    let script = format!("And now?\n/save {}\n", after.display());
    let run = weft_with(format!("{chat} --system 'Answer in French.'"), &script);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let new = saved(&after);
    let pair = |role: &str, text: &str| (role.to_owned(), text.to_owned());
    let wanted = [pair("system", "Answer in French."), pair("user", "hello"), pair("assistant", "Ahoy")];
    assert_eq!(new[..3], wanted);
    assert_eq!(new[3], pair("user", "And now?"));
    // The command does the same to the running conversation.
    let run = weft_with(chat, format!("/system Answer in French.\n{script}"));
    assert_eq!((run.code, saved(&after)), (Some(0), new), "{}", run.stderr);
}

#[test]
fn chat_keeps_its_conversation_in_a_file() {
    let files = Files::new();
    let model = files.with_template();
    let file = files.path("kept.json");
    let name = file.display();
    let chat = format!("chat --model '{model}' {SETTINGS} --save '{name}'");
    let run = weft_with(&chat, "Hello\n");
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(run.stderr.contains("2 messages saved to"), "{}", run.stderr);
    let run = weft_with(format!("{chat} --load '{name}'"), "And now?\n");
    assert_eq!((run.code, said(&file)), (Some(0), vec!["Hello".to_owned(), "And now?".to_owned()]));
    // What is no conversation is left alone, at the start as well as later.
    let before = std::fs::read(&model).expect("the model");
    let run = weft_with(format!("chat --model '{model}' {SETTINGS} --save '{model}'"), "Hello\n");
    assert_eq!((run.code, run.text()), (Some(1), ""));
    assert!(run.stderr.contains("holds no conversation"), "{}", run.stderr);
    let run = weft_with(&chat, format!("/save {model}\nHello\n"));
    assert_eq!(run.code, Some(0));
    assert!(run.stderr.contains("holds no conversation"), "{}", run.stderr);
    assert_eq!(std::fs::read(&model).expect("the model"), before);
}
