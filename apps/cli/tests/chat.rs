//! The conversation, driven from a pipe.

use crate::support::{Files, coloured, items, weft, weft_with};
use serde_json::Value;

const SETTINGS: &str = "--max-tokens 4 --logit-bias 284=-1000";

#[test]
fn chat_takes_turns_and_commands() {
    let files = Files::new();
    let model = files.with_template();
    let chat = format!("chat --model '{model}' {SETTINGS} --system 'Be brief.'");
    let saved = files.path("saved.json");
    let name = saved.display();
    let script = format!(
        "/help\nHello\n\n/save {name}\n/stats\nAnd now?\n/reset\n/nonsense\n/load {name}\n/quit\nnever said"
    );
    let run = weft_with(&chat, script);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    for shown in ["/system TEXT", "context    ", "KV pages"] {
        assert!(run.text().contains(shown), "{shown}: {}", run.text());
    }
    for told in ["/nonsense", "3 messages saved", "3 messages loaded"] {
        assert!(run.stderr.contains(told), "{told}: {}", run.stderr);
    }
    assert!(!coloured(run.text()) && !coloured(&run.stderr));
    let file = std::fs::read_to_string(&saved).expect("a saved conversation");
    let file: Value = serde_json::from_str(&file).expect("JSON");
    let roles: Vec<_> = items(&file["messages"]).iter().map(|message| &message["role"]).collect();
    assert_eq!(roles, ["system", "user", "assistant"]);
    // The first answer is that of `weft run`.
    let run = format!("run --model '{model}' {SETTINGS} --system 'Be brief.' --json Hello");
    assert_eq!(weft(run).done()["text"], file["messages"][2]["content"]);
    // A conversation goes on from a file as it went on by itself.
    let by_itself = weft_with(&chat, "Hello\nAnd now?\n");
    let from_file = weft_with(format!("chat --model '{model}' {SETTINGS} --load '{name}'"), "And now?");
    assert_eq!(from_file.code, Some(0), "{}", from_file.stderr);
    let (whole, end) = (by_itself.text(), from_file.text());
    assert!(whole.ends_with(end) && end.len() > 1, "{whole:?} {end:?}");
}

#[test]
fn what_fails_leaves_the_conversation_as_it_was() {
    let files = Files::new();
    let model = files.with_template();
    let chat = format!("chat --model '{model}' {SETTINGS}");
    let plain = weft_with(&chat, "Hello\n");
    let long = "word ".repeat(600);
    let script = format!("{long}\n/load {model}\n/save\n/load no-such-file\nHello\n");
    let run = weft_with(&chat, script);
    assert_eq!((run.code, run.text()), (Some(0), plain.text()), "{}", run.stderr);
    for told in ["do not fit", "not UTF-8", "name a file", "no-such-file"] {
        assert!(run.stderr.contains(told), "{told}: {}", run.stderr);
    }
}

#[test]
fn a_system_message_starts_anew() {
    let files = Files::new();
    let model = files.with_template();
    let chat = format!("chat --model '{model}' {SETTINGS}");
    let after = weft_with(&chat, "One\n/system Be brief.\nHello\n");
    let fresh = weft_with(format!("{chat} --system 'Be brief.'"), "Hello\n");
    assert!(after.text().ends_with(fresh.text()) && fresh.text().len() > 1);
    let reset = weft_with(format!("{chat} --system 'Be brief.'"), "One\n/reset\nHello\n");
    assert!(reset.text().ends_with(fresh.text()));
}
