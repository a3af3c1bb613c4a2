//! The chat on a terminal.

use crate::chat::{ALWAYS_A, SETTINGS, said};
use crate::support::terminal::{Setup, Terminal};
use crate::support::{Files, coloured, weft_with};
use std::fs::File;

fn setup(columns: u16) -> Setup<'static> {
    Setup { columns, ..Setup::default() }
}

/// Opens a chat that answers `aa` and saves to a new file, and waits for its prompt.
fn open(files: &Files, more: &str, setup: Setup<'_>) -> Terminal {
    let (model, file) = (files.with_template(), files.path("saved.json"));
    // An earlier chat of the test may have written the file.
    let _ = std::fs::remove_file(&file);
    let line = format!("chat --model '{model}' --max-tokens 2 {ALWAYS_A} --save '{}' {more}", file.display());
    let chat = Terminal::open(&line, setup);
    chat.ready("> ");
    chat
}

#[test]
fn chat_takes_all_lines_that_are_pasted() {
    let files = Files::new();
    let mut chat = open(&files, "", setup(100));
    chat.keys("alpha\rbeta\t2\rgamma\r/quit\r");
    assert_eq!(chat.ended(), Some(0), "{}", chat.shown());
    assert_eq!(said(&files.path("saved.json")), ["alpha", "beta\t2", "gamma"]);
    // More than the editor's buffer holds.
    let mut chat = open(&files, "", setup(100));
    let lines: Vec<String> = (0..60).map(|line| format!("line {line} {}", "x".repeat(line + 1))).collect();
    chat.keys(&format!("/set max-tokens 1\r{}\r/quit\r", lines.join("\r")));
    assert_eq!(chat.ended(), Some(0), "{}", chat.shown());
    assert_eq!(said(&files.path("saved.json")), lines);
}

#[test]
fn chat_takes_what_a_terminal_marks_as_pasted_for_one_message() {
    let files = Files::new();
    let mut chat = open(&files, "", setup(100));
    chat.keys("\x1b[200~one\r\n\ttwo\rthree\n\x1b[201~\r");
    chat.ready("> ");
    chat.keys("\x1b[200~\"\"\"four\r\rfive\"\"\"\x1b[201~\r\x1b[200~six\x1b[201~ seven\r/quit\r");
    assert_eq!(chat.ended(), Some(0), "{}", chat.shown());
    assert_eq!(said(&files.path("saved.json")), ["one\n\ttwo\nthree", "four\n\nfive", "six seven"]);
}

#[test]
fn chat_asks_for_the_further_lines_of_a_message() {
    let files = Files::new();
    let mut chat = open(&files, "", setup(100));
    chat.keys("\"\"\"one\r");
    chat.ready("... ");
    chat.keys("two\"\"\"\r");
    chat.wait_for("aa\n", 1);
    // Ctrl-C discards an incomplete message.
    chat.keys("\"\"\"three\r");
    chat.ready("... ");
    chat.keys("\x03");
    chat.ready("> ");
    chat.keys("four\r/quit\r");
    assert_eq!(chat.ended(), Some(0), "{}", chat.shown());
    assert_eq!(said(&files.path("saved.json")), ["one\ntwo", "four"]);
}

#[test]
fn chat_into_a_file_writes_answers_alone() {
    let files = Files::new();
    let answers = files.path("answers.txt");
    for terminal in ["xterm", "dumb"] {
        let stdout = Some(File::create(&answers).expect("a file"));
        let environment = &[("TERM", terminal)];
        let mut chat = open(&files, "", Setup { columns: 100, stdout, environment });
        chat.keys("hello there\r");
        chat.ready("> ");
        chat.keys("/stats\r/help\r/set\rhello again\r");
        chat.ready("> ");
        chat.keys("/quit\r");
        assert_eq!(chat.ended(), Some(0), "{}", chat.shown());
        assert_eq!(std::fs::read_to_string(&answers).expect("answers"), "aa\naa\n", "{terminal}");
        assert!(chat.shown().contains("KV pages"), "{}", chat.shown());
    }
}

#[test]
fn chat_wraps_answers_at_words_on_a_terminal_alone() {
    let files = Files::new();
    let model = files.with_template();
    // Tokens 277 and 97 are ` the` and `a`, so words begin with the first and continue with the second.
    let line = format!(
        "chat --model '{model}' --seed 1 --max-tokens 60 --logit-bias 277=1000 --logit-bias 97=1000 --temperature 1 --top-p 1 --min-p 0"
    );
    let mut chat = Terminal::open(&line, setup(30));
    chat.ready("> ");
    chat.keys("Hello\r");
    chat.ready("> ");
    chat.keys("/quit\r");
    assert_eq!(chat.ended(), Some(0), "{}", chat.shown());
    let shown = chat.shown();
    let answer = shown.split("Hello\n").nth(1).and_then(|rest| rest.split("[cut").next()).expect("an answer");
    let piped = weft_with(&line, "Hello\n");
    assert_eq!(piped.text().lines().count(), 1, "{:?}", piped.text());
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert!(words(piped.text()).len() > 10, "{:?}", piped.text());
    assert_eq!(words(answer), words(piped.text()), "no word is split");
    let lines: Vec<&str> = answer.trim_end().lines().collect();
    assert!(lines.len() > 3 && lines.iter().all(|line| line.len() <= 30), "{lines:?}");
}

#[test]
fn chat_answers_stop_at_ctrl_c_and_twice_leaves() {
    let files = Files::new();
    let model = files.with_context(30_000);
    let file = files.path("saved.json");
    let line = format!("chat --model '{model}' --max-tokens 100000 {ALWAYS_A} --save '{}'", file.display());
    let mut chat = Terminal::open(&line, setup(80));
    chat.ready("> ");
    chat.keys("hello\r");
    chat.wait_for("aaaa", 1);
    chat.keys("\x03");
    chat.wait_for("stopped; /continue", 1);
    chat.ready("> ");
    chat.keys("/set max-tokens 2\rhello again\r");
    chat.wait_for("cut at --max-tokens 2", 1);
    // Ctrl-C discards the line being typed.
    chat.keys("never sent");
    chat.wait_for("never sent", 1);
    chat.keys("\x03");
    chat.ready("> ");
    chat.keys("\x03");
    chat.wait_for("Ctrl-C again leaves", 1);
    chat.ready("> ");
    chat.keys("\x03");
    assert_eq!(chat.ended(), Some(0), "{}", chat.shown());
    assert_eq!(said(&files.path("saved.json")), ["hello", "hello again"]);
}

#[test]
fn chat_leaves_at_ctrl_d_and_colours_only_where_that_is_wanted() {
    let files = Files::new();
    for (environment, wanted) in [(&[][..], true), (&[("NO_COLOR", "1")][..], false)] {
        let mut chat = open(&files, "", Setup { columns: 80, stdout: None, environment });
        chat.keys("hello\r");
        chat.wait_for("cut at", 1);
        chat.ready("> ");
        chat.keys("\x04");
        assert_eq!(chat.ended(), Some(0), "{}", chat.shown());
        assert_eq!(coloured(&chat.colours()), wanted, "{}", chat.shown());
    }
    let file = format!("chat --model '{}' {SETTINGS}", files.with_template());
    assert!(!coloured(&weft_with(file, "Hello\n").stderr));
}
