//! Chats whose context becomes full.

use crate::chat::{ALWAYS_A, saved};
use crate::support::{Files, Run, weft_with};
use serde_json::json;

/// Checks that no count printed by `/stats` exceeds its limit.
fn check_counts(run: &Run) {
    let lines = run.stderr.lines().filter(|line| line.starts_with("context "));
    let counts: Vec<Vec<usize>> = lines
        .map(|line| line.split_whitespace().filter_map(|word| word.parse().ok()).take(2).collect())
        .collect();
    assert!(!counts.is_empty(), "{}", run.stderr);
    assert!(counts.iter().all(|pair| pair[0] <= pair[1]), "{counts:?}");
}

/// The number of messages that the model no longer sees, from the chat's last note about it.
fn unseen(run: &Run) -> usize {
    let said = run.stderr.rsplit_once("no longer sees the oldest ").map(|(_, rest)| rest);
    let number = said.and_then(|rest| rest.split(' ').next()).and_then(|word| word.parse().ok());
    number.unwrap_or_else(|| panic!("nothing has gone: {}", run.stderr))
}

#[test]
fn chat_lets_the_oldest_turns_go_and_keeps_the_system_message() {
    let files = Files::new();
    let model = files.with_template();
    let file = files.path("saved.json");
    let options =
        format!("--model '{model}' --temperature 0 --logit-bias 284=-1000 --context 200 --max-tokens 20");
    let turns: String = (0..8).map(|turn| format!("This is turn {turn}.\n/stats\n")).collect();
    let run = weft_with(format!("chat {options} --system 'Be brief.' --save '{}'", file.display()), turns);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(run.stderr.contains("the system message stays"), "{}", run.stderr);
    check_counts(&run);
    let messages = saved(&file);
    assert_eq!(messages.len(), 17, "messages that the model does not see are kept");
    // The last answer equals that of a conversation which only ever had the system message and the last turns.
    let gone = unseen(&run);
    assert!((2..14).contains(&gone) && gone.is_multiple_of(2), "{gone}");
    let short: Vec<_> = messages[..1]
        .iter()
        .chain(&messages[1 + gone..])
        .map(|(role, content)| json!({"role": role, "content": content}))
        .collect();
    let short = files.write("short.json", json!({ "messages": short }).to_string());
    let again = weft_with(format!("chat {options} --load '{short}'"), "/retry\n");
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    assert_eq!(again.text().trim_end_matches('\n'), messages[16].1.trim_end_matches('\n'));
    assert!(!again.stderr.contains("no longer sees"), "{}", again.stderr);
}

#[test]
fn chat_makes_room_in_the_middle_of_an_answer() {
    let files = Files::new();
    let model = files.with_template();
    let chat =
        format!("chat --model '{model}' {ALWAYS_A} --context 160 --max-tokens 10 --system 'Be brief.'");
    let last = "/set max-tokens 1000\nThe last one.\n/stats\n";
    let alone = weft_with(&chat, last);
    let run = weft_with(&chat, format!("One.\nTwo.\n{last}"));
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert_eq!(unseen(&run), 4);
    let answers: Vec<&str> = run.text().lines().collect();
    // The answer ends when its turn alone fills the context.
    assert_eq!(answers[..2], ["aaaaaaaaaa", "aaaaaaaaaa"]);
    assert_eq!((answers.len(), answers[2]), (3, alone.text().trim_end()));
    assert!(answers[2].len() > 80, "{}", answers[2]);
    for run in [&alone, &run] {
        assert!(run.stderr.contains("this turn alone fills the context of 160 tokens"), "{}", run.stderr);
        assert!(run.stderr.contains("--context"), "{}", run.stderr);
        check_counts(run);
    }
}

#[test]
fn chat_stops_at_a_full_context_where_it_is_told_to() {
    let files = Files::new();
    let model = files.with_template();
    let file = files.path("saved.json");
    let chat = format!(
        "chat --model '{model}' {ALWAYS_A} --context 160 --max-tokens 1000 --context-policy stop --save '{}'",
        file.display()
    );
    let run = weft_with(chat, "One.\n/stats\nTwo.\n/stats\n/clear\nThree.\n");
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    check_counts(&run);
    for told in ["context of 160 tokens is full", "/clear", "--context-policy shift", "fills its context"] {
        assert!(run.stderr.contains(told), "{told}: {}", run.stderr);
    }
    assert!(!run.stderr.contains("no longer sees"), "{}", run.stderr);
    assert_eq!(run.text().lines().count(), 2, "the second message was refused: {:?}", run.text());
    assert_eq!(saved(&file)[0], ("user".into(), "Three.".into()));
}

#[test]
fn chat_refuses_a_message_that_no_context_has_room_for() {
    let files = Files::new();
    let model = files.with_template();
    for policy in ["stop", "shift"] {
        let file = files.path(policy);
        let chat = format!(
            "chat --model '{model}' {ALWAYS_A} --context 100 --max-tokens 3 --context-policy {policy} --save '{}'",
            file.display()
        );
        let run = weft_with(chat, format!("One.\n{}\nTwo.\n", "q".repeat(100)));
        assert_eq!((run.code, run.text()), (Some(1), "aaa\naaa\n"), "{}", run.stderr);
        // Besides the 100 letters, the count includes the template's tokens and one token of the answer.
        for told in ["needs a context of 1", "the context has 100", "--context", "512"] {
            assert!(run.stderr.contains(told), "{told}: {}", run.stderr);
        }
        let said: Vec<_> = saved(&file).into_iter().map(|(_, text)| text).collect();
        assert_eq!(said, ["One.", "aaa", "Two.", "aaa"], "{}", run.stderr);
    }
}

#[test]
fn chat_goes_on_however_small_the_context_is() {
    let files = Files::new();
    let model = files.with_template();
    let turns: String = (0..5).map(|turn| format!("Hi {turn}\n/stats\n")).collect();
    for context in [1, 15, 16, 17, 30, 31, 32, 33, 60] {
        for tokens in [1, 7, 50] {
            let chat = format!("chat --model '{model}' {ALWAYS_A} --context {context} --max-tokens {tokens}");
            let run = weft_with(chat, &turns);
            let failed = run.stderr.contains("error:");
            assert_eq!(run.code, Some(i32::from(failed)), "{context}: {}", run.stderr);
            assert!(!failed || context < 60, "{}", run.stderr);
            check_counts(&run);
        }
    }
}

#[test]
fn chat_goes_on_from_a_conversation_far_longer_than_the_context() {
    let files = Files::new();
    let model = files.with_template();
    let turn = |turn: usize| {
        [
            json!({"role": "user", "content": format!("Hi {turn}")}),
            json!({"role": "assistant", "content": "aa"}),
        ]
    };
    let talk =
        |turns: std::ops::Range<usize>| json!({ "messages": turns.flat_map(turn).collect::<Vec<_>>() });
    let file = files.write("long.json", talk(0..1500).to_string());
    let chat = format!("chat --model '{model}' {ALWAYS_A} --max-tokens 10 --context 200");
    let run = weft_with(format!("{chat} --load '{file}'"), "And now?\n/stats\n");
    assert_eq!((run.code, run.text()), (Some(0), "aaaaaaaaaa\n"), "{}", run.stderr);
    check_counts(&run);
    // The model sees the same as if the conversation had only the last turns, as many as leave enough room.
    let gone = unseen(&run) / 2;
    assert!((1490..1500).contains(&gone), "{gone}");
    let held = |run: &Run| {
        let line = run.stderr.lines().find_map(|line| line.strip_prefix("context ")).expect("a context");
        line.split_whitespace().next().and_then(|count| count.parse::<usize>().ok()).expect("a count")
    };
    let short = files.write("short.json", talk(gone..1500).to_string());
    let alone = weft_with(format!("{chat} --load '{short}'"), "And now?\n/stats\n");
    assert_eq!((held(&alone), alone.text()), (held(&run), run.text()), "{}", alone.stderr);
    let more = files.write("more.json", talk(gone - 1..1500).to_string());
    let more = weft_with(
        format!("{chat} --context 512 --load '{more}'").replacen("--context 200", "", 1),
        "And now?\n/stats\n",
    );
    assert!(held(&more) - 10 > 150, "one turn more leaves less than a quarter: {}", more.stderr);
}
