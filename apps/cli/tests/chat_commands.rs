//! Chat commands that change the model's answers.

use crate::chat::{ALWAYS_A, SETTINGS, said, saved};
use crate::support::{Files, weft_with};

#[test]
fn chat_goes_on_with_a_cut_answer() {
    let files = Files::new();
    let model = files.with_template();
    let (file, whole) = (files.path("saved.json"), files.path("whole.json"));
    // Letters, so that an answer cut within a character can be recognized.
    let letters: String = (97..107).map(|letter| format!(" --logit-bias {letter}=100")).collect();
    let chat = format!("chat --model '{model}' --max-tokens 4 --temperature 0{letters}");
    let run = weft_with(
        format!("{chat} --save '{}'", file.display()),
        "Hello\n/continue\n/set max-tokens 8\n/continue\nAnd now?\n",
    );
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(run.stderr.contains("cut at --max-tokens 4; /continue goes on"), "{}", run.stderr);
    let long = weft_with(
        format!("{chat} --max-tokens 16 --save '{}'", whole.display()).replace("--max-tokens 4", ""),
        "Hello\n/set max-tokens 8\nAnd now?\n",
    );
    assert_eq!(long.code, Some(0), "{}", long.stderr);
    assert_eq!(saved(&file), saved(&whole), "an answer in parts equals one in one piece");
    // An answer loaded from a file can be continued as well.
    let name = file.display();
    let run = weft_with(format!("{chat} --load '{name}' --save '{name}'"), "/continue\n");
    assert_eq!((run.code, run.text().len() > 1), (Some(0), true), "{}", run.stderr);
    let (before, after) = (&saved(&whole)[3].1, &saved(&file)[3].1);
    assert!(after.starts_with(before.as_str()) && after.len() > before.len(), "{before:?} {after:?}");
}

#[test]
fn chat_does_not_go_on_with_a_whole_answer() {
    let files = Files::new();
    let model = files.with_template();
    // Token 284 ends an answer.
    let chat = format!("chat --model '{model}' --temperature 0 --logit-bias 284=1000");
    let run = weft_with(chat, "Hello\n/continue\n");
    assert_eq!((run.code, run.text()), (Some(0), "\n"));
    assert!(run.stderr.contains("the last answer is whole"), "{}", run.stderr);
}

#[test]
fn chat_answers_anew() {
    let files = Files::new();
    let model = files.with_template();
    let file = files.path("saved.json");
    let chat =
        format!("chat --model '{model}' --max-tokens 12 --logit-bias 284=-1000 --save '{}'", file.display());
    let run = weft_with(format!("{chat} --temperature 3 --min-p 0 --top-p 1"), "Hello\n/retry\n/retry\n");
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let messages = saved(&file);
    assert_eq!((messages.len(), said(&file)), (2, vec!["Hello".to_owned()]));
    assert!(run.text().contains(messages[1].1.trim_end_matches('\n')));
    std::fs::remove_file(&file).expect("a conversation");
    // A seed gives the same sequence of answers again.
    let again = weft_with(
        format!("{chat} --temperature 3 --min-p 0 --top-p 1"),
        "Hello\n/retry\n/set seed 0\n/retry\n",
    );
    let first = saved(&file)[1].1.clone();
    assert!(again.text().starts_with(first.trim_end_matches('\n')), "{:?} {first:?}", again.text());
    assert_ne!(first, messages[1].1, "each answer has its own random numbers");
    std::fs::remove_file(&file).expect("a conversation");
    let greedy = weft_with(format!("{chat} --temperature 0"), "Hello\n/retry\n");
    assert!(greedy.stderr.contains("temperature 0"), "{}", greedy.stderr);
}

#[test]
fn chat_takes_turns_back() {
    let files = Files::new();
    let model = files.with_template();
    let file = files.path("saved.json");
    let chat = format!("chat --model '{model}' {SETTINGS} --system 'Be brief.' --save '{}'", file.display());
    let run = weft_with(&chat, "One\nTwo\n/undo\n/undo\n/undo\nThree\nFour\n/undo\n");
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert_eq!(said(&file), ["Three"]);
    for told in ["taken back: Two", "taken back: One", "no message to take back", "taken back: Four"] {
        assert!(run.stderr.contains(told), "{told}: {}", run.stderr);
    }
    assert_eq!(saved(&file)[0].1, "Be brief.");
    std::fs::remove_file(&file).expect("a conversation");
    let fresh = weft_with(&chat, "Three\n");
    assert_eq!(
        run.text().lines().nth(2),
        fresh.text().lines().next(),
        "nothing of what was taken back stays"
    );
}

#[test]
fn chat_settings_can_be_seen_and_changed() {
    let files = Files::new();
    let model = files.with_template();
    let chat = format!("chat --model '{model}' {ALWAYS_A} --max-tokens 3 --top-k 7");
    let script = "/set\nOne\n/set max-tokens 5\nTwo\n/set warmth 1\n/set top_p 2\n/set temperature\n/set max-tokens 0\n/stats\n";
    let run = weft_with(chat, script);
    assert_eq!((run.code, run.text()), (Some(0), "aaa\naaaaa\n"), "{}", run.stderr);
    for told in [
        "top-k              7",
        "max-tokens         5",
        "min-p              0.05",
        "no setting `warmth`",
        "top-p cannot be `2`; it is a number between 0 and 1",
        "temperature        0",
        "max-tokens cannot be `0`",
        "sampling   temperature 0, top-k 7, top-p 0.95, min-p 0.05",
    ] {
        assert!(run.stderr.contains(told), "{told}: {}", run.stderr);
    }
}

#[test]
fn chat_takes_the_system_message_away() {
    let files = Files::new();
    let model = files.with_template();
    let file = files.path("saved.json");
    let chat = format!("chat --model '{model}' {SETTINGS} --system 'Be brief.' --save '{}'", file.display());
    let run = weft_with(&chat, "One\n/system\nTwo\n");
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let roles: Vec<_> = saved(&file).into_iter().map(|(role, _)| role).collect();
    assert_eq!(roles, ["user", "assistant", "user", "assistant"]);
    // /clear keeps the system message.
    std::fs::remove_file(&file).expect("a conversation");
    let fresh = weft_with(&chat, "Hello\n");
    std::fs::remove_file(&file).expect("a conversation");
    let reset = weft_with(&chat, "One\n/reset\nHello\n");
    assert!(reset.text().ends_with(fresh.text()) && fresh.text().len() > 1);
}
