//! A chat driven through a pipe: answers, files and failures.

use crate::support::{Files, coloured, items, weft, weft_with};
use serde_json::Value;
use std::path::Path;

/// Settings with which the tiny model always gives the same answer.
pub(crate) const SETTINGS: &str = "--temperature 0 --max-tokens 4 --logit-bias 284=-1000";
/// Settings with which every token of an answer is an `a`.
pub(crate) const ALWAYS_A: &str = "--temperature 0 --logit-bias 97=1000";

/// Roles and contents of the messages in a saved conversation.
pub(crate) fn saved(file: &Path) -> Vec<(String, String)> {
    let file = std::fs::read_to_string(file).expect("a saved conversation");
    let file: Value = serde_json::from_str(&file).expect("JSON");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    items(&file["messages"])
        .iter()
        .map(|message| (text(&message["role"]), text(&message["content"])))
        .collect()
}

/// The user's messages in a saved conversation.
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
    // Only answers are on stdout, one per line.
    assert_eq!(run.text().lines().count(), 2, "{:?}", run.text());
    assert!(!coloured(run.text()) && !coloured(&run.stderr));
    let messages = saved(&file);
    let roles: Vec<_> = messages.iter().map(|(role, _)| role.as_str()).collect();
    assert_eq!(roles, ["system", "user", "assistant"]);
    // The first answer equals that of `weft run`.
    let run = format!("run --model '{model}' {SETTINGS} --system 'Be brief.' --json Hello");
    assert_eq!(weft(run).done()["text"], *messages[2].1);
    // A conversation loaded from a file continues like one that was never interrupted.
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
    // The chat continues after a failure, and its exit code reports the failure.
    assert_eq!((run.code, run.text()), (Some(1), plain.text()), "{}", run.stderr);
    let told = ["needs a context of", "not UTF-8", "name a file", "no-such-file", "no message", "no answer"];
    for told in told {
        assert!(run.stderr.contains(told), "{told}: {}", run.stderr);
    }
}

#[test]
fn chat_answers_end_in_one_line_end() {
    let files = Files::new();
    let model = files.with_template();
    // Token 10 is a line end.
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
    // The command /system has the same effect on a running conversation.
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
    // A file that is not a conversation is not overwritten, neither at the start nor later.
    let before = std::fs::read(&model).expect("the model");
    let run = weft_with(format!("chat --model '{model}' {SETTINGS} --save '{model}'"), "Hello\n");
    assert_eq!((run.code, run.text()), (Some(1), ""));
    assert!(run.stderr.contains("holds no conversation"), "{}", run.stderr);
    let run = weft_with(format!("{chat} --load '{name}'"), format!("/save {model}\nHello\n"));
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains("holds no conversation"), "{}", run.stderr);
    assert_eq!(std::fs::read(&model).expect("the model"), before);
}

/// A saved conversation of one turn.
const TALK: &str =
    r#"{"messages": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "Ahoy"}]}"#;

#[test]
fn chat_writes_over_no_conversation_that_it_does_not_go_on_from() {
    let files = Files::new();
    let model = files.with_template();
    let (kept, other) = (files.write("kept.json", TALK), files.write("other.json", TALK));
    let chat = format!("chat --model '{model}' {SETTINGS} --save '{kept}'");
    for (more, lines) in [("", ""), ("", "Hello\n"), (&*format!("--load '{other}'"), "Hello\n")] {
        let run = weft_with(format!("{chat} {more}"), lines);
        assert_eq!((run.code, run.text()), (Some(1), ""), "{more} {lines}");
        assert!(run.stderr.contains("goes on from it"), "{}", run.stderr);
        assert_eq!(std::fs::read_to_string(&kept).expect("a file"), TALK, "{more} {lines}");
    }
    // Without a message, an existing file stays byte for byte the same and no new one is created.
    let load = format!("{chat} --load '{kept}'");
    for lines in ["", "/stats\n", "/clear\n", "/load no-such-file\n"] {
        let run = weft_with(&load, lines);
        assert!(!run.stderr.contains("messages saved"), "{lines}: {}", run.stderr);
        assert_eq!(std::fs::read_to_string(&kept).expect("a file"), TALK, "{lines}");
    }
    let new = files.path("new.json");
    let run = weft_with(format!("chat --model '{model}' --save '{}'", new.display()), "");
    assert_eq!((run.code, new.exists()), (Some(0), false), "{}", run.stderr);
    // /undo and /system change the conversation, so it is saved.
    let run = weft_with(&load, "/system Be brief.\n");
    assert_eq!((run.code, saved(Path::new(&kept)).len()), (Some(0), 3), "{}", run.stderr);
    let run = weft_with(&load, "/undo\n");
    assert_eq!((run.code, saved(Path::new(&kept)).len()), (Some(0), 1), "{}", run.stderr);
    // Only an existing conversation without any message may be overwritten; a system message counts as one.
    let run = weft_with(&chat, "Hello\n");
    assert_eq!(run.code, Some(1), "a system message counts: {}", run.stderr);
    files.write("kept.json", r#"{"messages": []}"#);
    assert_eq!(weft_with(&chat, "Hello\n").code, Some(0));
    assert_eq!(said(Path::new(&kept)), ["Hello"]);
}

#[cfg(unix)]
#[test]
fn chat_saves_all_or_nothing() {
    use std::os::unix::fs::PermissionsExt;
    let files = Files::new();
    let model = files.with_template();
    let (kept, script) = (files.write("kept.json", TALK), files.write("script", "Hello\n"));
    std::fs::set_permissions(&kept, PermissionsExt::from_mode(0o600)).expect("permissions");
    let line = format!("chat --model '{model}' {SETTINGS} --load '{kept}' --save '{kept}'");
    // A file size limit of zero bytes stands in for a full disk. The signal that comes with it is ignored.
    let whole = crate::support::command(&line);
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "trap '' XFSZ; ulimit -f 0; file=$1; shift; exec \"$@\" < $file", "sh", &script]);
    let output = shell.arg(whole.get_program()).args(whole.get_args()).output().expect("a run");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("kept.json"), "{told}");
    assert_eq!(std::fs::read_to_string(&kept).expect("a file"), TALK);
    // A successful save keeps the file's permissions, keeps a link a link, and leaves no other file behind.
    let link = files.path("link.json");
    std::os::unix::fs::symlink(&kept, &link).expect("a link");
    let line = format!("chat --model '{model}' {SETTINGS} --load '{kept}' --save '{}'", link.display());
    let run = weft_with(line, "Hello\n");
    assert_eq!((run.code, saved(Path::new(&kept)).len()), (Some(0), 4), "{}", run.stderr);
    assert!(link.is_symlink());
    assert_eq!(std::fs::metadata(&kept).expect("a file").permissions().mode() & 0o777, 0o600);
    let folder = Path::new(&kept).parent().expect("a folder");
    let names = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("a file").file_name());
    let parts: Vec<_> = names.filter(|name| name.to_string_lossy().ends_with(".part")).collect();
    assert!(parts.is_empty(), "{parts:?}");
}

#[test]
fn chat_takes_a_dash_for_no_file() {
    let files = Files::new();
    let model = files.with_template();
    let chat = format!("chat --model '{model}' {SETTINGS}");
    let plain = weft_with(&chat, "Hello\n");
    // Both would read the stdin that the chat itself reads.
    for command in ["/load -", "/save -"] {
        let run = weft_with(&chat, format!("{command}\nHello\n"));
        assert_eq!((run.code, run.text()), (Some(0), plain.text()), "{command}: {}", run.stderr);
        assert!(run.stderr.contains("`-` is no file"), "{command}: {}", run.stderr);
    }
    for option in ["--load -", "--save -", "--save=-"] {
        let run = weft_with(format!("{chat} {option}"), "Hello\n");
        assert_eq!((run.code, run.text()), (Some(2), ""), "{option}: {}", run.stderr);
        assert!(run.stderr.contains("a file is needed"), "{option}: {}", run.stderr);
    }
}

#[test]
fn chat_says_what_computes_and_which_seed_an_answer_had() {
    let files = Files::new();
    let model = files.with_template();
    let told = |name: &str, stderr: &str| -> Vec<String> {
        let lines =
            stderr.lines().filter_map(|line| line.strip_prefix(name)).map(|rest| rest.trim().to_owned());
        lines.collect()
    };
    let chat = format!(
        "chat --model '{model}' --temperature 2 --max-tokens 12 --backend cpu --logit-bias 284=-1000"
    );
    let run = weft_with(format!("{chat} --stats --seed 9"), "Hello\n/retry\n/set seed 20\n/retry\n/stats\n");
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert_eq!(told("seed  ", &run.stderr)[..2], ["9", "10"], "{}", run.stderr);
    assert_eq!(told("seed  ", &run.stderr).last().map(String::as_str), Some("20"), "{}", run.stderr);
    assert!(told("backend  ", &run.stderr).iter().all(|line| line == "cpu"), "{}", run.stderr);
    assert_eq!(told("backend  ", &run.stderr).len(), 4, "{}", run.stderr);
    // The seed gives the same answer again.
    let kept = files.path("kept.json");
    weft_with(format!("{chat} --seed 9 --save '{}'", kept.display()), "Hello\n/retry\n");
    let again = weft(
        format!("{chat} --seed 10 --json Hello").replacen("chat", "run", 1) + " --top-p 0.95 --min-p 0.05",
    );
    assert_eq!(again.done()["text"], *saved(&kept)[1].1);
}
