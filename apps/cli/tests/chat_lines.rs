//! How the chat splits the lines of a pipe into messages.

use crate::chat::{ALWAYS_A, SETTINGS, said};
use crate::support::{Files, Run, weft_with};

/// Runs a chat; returns the user's messages in the conversation that it saved, and the run.
fn talk(lines: impl AsRef<[u8]>) -> (Vec<String>, Run) {
    let files = Files::new();
    let model = files.with_template();
    let file = files.path("saved.json");
    let chat = format!("chat --model '{model}' --max-tokens 2 {ALWAYS_A} --save '{}'", file.display());
    let run = weft_with(chat, lines);
    let messages = if file.exists() { said(&file) } else { Vec::new() };
    (messages, run)
}

#[test]
fn chat_takes_lines_with_any_ends_and_a_byte_order_mark() {
    for lines in [
        "one\ntwo\nthree\n",
        "one\r\ntwo\r\nthree\r\n",
        "\u{feff}one\n\n  two \nthree",
        "one\n\r\ntwo\r\nthree\r\n",
    ] {
        let (said, run) = talk(lines);
        assert_eq!((run.code, run.text()), (Some(0), "aa\naa\naa\n"), "{lines:?} {}", run.stderr);
        assert_eq!(said, ["one", "two", "three"], "{lines:?}");
    }
    let (said, _) = talk("\u{feff}\"\"\"\r\none\r\n  two\r\n\"\"\"\r\n");
    assert_eq!(said, ["one\n  two"]);
    let (said, _) = talk("\u{feff}/set max-tokens 1\none\n");
    assert_eq!(said, ["one"]);
    assert_eq!(talk("").0, Vec::<String>::new());
}

#[test]
fn chat_takes_messages_of_several_lines() {
    let (said, run) =
        talk("\"\"\"\none\n\n  /two\nthree\n\"\"\"\n\"\"\"four\nfive\"\"\"\n\"\"\"six\"\"\"\nseven \"\"\"\n");
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert_eq!(said, ["one\n\n  /two\nthree", "four\nfive", "six", "seven \"\"\""]);
    // The end of input completes a message, and an empty message is not sent.
    assert_eq!(talk("\"\"\"one\ntwo").0, ["one\ntwo"]);
    assert_eq!(talk("\"\"\"\n\n\"\"\"\n\"\"\"").0, Vec::<String>::new());
}

#[test]
fn chat_sends_no_command_that_it_does_not_know() {
    let lines = "/nonsense here\n/ set\n/usr/bin/env is a program\n/quit now\n/SET\n//usr is a folder\n///\n";
    let (said, run) = talk(lines);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert_eq!(said, ["/usr is a folder", "//"]);
    for told in ["no command /nonsense", "no command /usr/bin/env", "no command /SET", "/quit takes nothing"]
    {
        assert!(run.stderr.contains(told), "{told}: {}", run.stderr);
    }
}

#[test]
fn chat_says_which_line_is_not_utf8() {
    for (lines, place) in [
        (&b"hi\n\xff\xfe\nhello\n"[..], "line 2 of stdin"),
        (b"\xff\xfeh\0i\0\n\0", "line 1 of stdin"),
        (b"one\n\ncaf\xe9\n", "line 3 of stdin"),
        (b"\"\"\"\none\n\xc3", "line 3 of stdin"),
    ] {
        let (_, run) = talk(lines);
        assert_eq!(run.code, Some(1), "{}", run.stderr);
        assert!(run.stderr.contains(place) && run.stderr.contains("UTF-8"), "{}", run.stderr);
        assert!(!run.stderr.contains("permission"), "{}", run.stderr);
    }
    assert_eq!(talk(b"hi\n\xff\n").0, ["hi"], "earlier lines are answered and kept");
}

#[test]
fn chat_takes_all_of_a_line_whatever_it_holds() {
    let files = Files::new();
    let model = files.with_template();
    let file = files.path("saved.json");
    let chat = format!("chat --model '{model}' {SETTINGS} --save '{}'", file.display());
    let run = weft_with(chat, "a\tb\0c \u{1b}[31m é 你好 👩\u{200d}👧\n");
    assert_eq!((run.code, said(&file)), (Some(0), vec!["a\tb\0c \u{1b}[31m é 你好 👩\u{200d}👧".to_owned()]));
}
