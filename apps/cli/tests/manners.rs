//! What users and scripts expect of a command: what it reads, what it prints about itself, and which values it accepts.

use crate::support::{Files, ON, Run, TINY, command, floats, items, keys, run_of, weft, weft_with};
use serde_json::{Value, json};
use std::io::Read;
use std::process::Stdio;

fn run(files: &Files, more: &str) -> String {
    format!("run --model '{}' --json -n 3 {ON} {more}", files.with_template())
}

#[test]
fn a_cut_answer_says_so() {
    let run = format!("run --model '{TINY}' --raw --logit-bias 65=1000");
    let cut = weft(format!("{run} Hello"));
    assert_eq!(cut.code, Some(0));
    assert!(cut.stderr.contains("context is full"), "{}", cut.stderr);
    let cut = weft(format!("{run} -n 5 Hello"));
    assert!(cut.stderr.contains("--max-tokens 5"), "{}", cut.stderr);
    let cut = weft(format!("{run} -c 32 Hello"));
    assert!(cut.stderr.contains("--context"), "{}", cut.stderr);
    let ended = weft(format!("run --model '{TINY}' --raw --logit-bias 284=1000 Hello"));
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
}

#[test]
fn text_is_joined_to_the_prompt() {
    let files = Files::new();
    let ask = run(&files, "");
    let joined = weft(format!("{ask} 'Which word?\n\nThe word is zebra.'")).done();
    let text = files.write("text", "\u{feff}The word is zebra.\r\n");
    for (line, stdin) in [
        (format!("{ask} 'Which word?'"), "The word is zebra.\n"),
        (format!("{ask} -p 'Which word?'"), "The word is zebra."),
        (format!("{ask} 'Which word?' -f '{text}'"), ""),
        (format!("{ask} 'Which word?' -f -"), "The word is zebra.\n"),
        (format!("{ask} -f '{text}' 'Which word?'"), "\n"),
    ] {
        let run = weft_with(&line, stdin).done();
        assert_eq!(
            (&run["prompt_tokens"], &run["tokens"]),
            (&joined["prompt_tokens"], &joined["tokens"]),
            "{line}"
        );
    }
    let alone = weft(format!("{ask} 'Which word?'")).done();
    assert!(alone["prompt_tokens"].as_u64() < joined["prompt_tokens"].as_u64());
    let nothing = command(&format!("{ask} 'Which word?'")).stdin(Stdio::null()).output().expect("a run");
    let nothing: Value = serde_json::from_slice(&nothing.stdout).expect("JSON");
    assert_eq!(nothing["tokens"], alone["tokens"]);
    let error = weft_with(format!("{ask} hi"), [0xff_u8]).failed();
    assert_eq!(error["kind"], "not_utf8");
    for nothing in ["", "\n"] {
        assert_eq!(weft_with(&ask, nothing).refused()["kind"], "usage");
    }
}

#[test]
fn a_line_end_and_a_byte_order_mark_are_no_part_of_a_message() {
    let files = Files::new();
    let ask = run(&files, "");
    let said = weft(format!("{ask} 'Say hi.'")).done();
    for stdin in ["Say hi.\n", "Say hi.\r\n", "Say hi.", "\u{feff}Say hi.\n"] {
        for prompt in ["-", ""] {
            let piped = weft_with(format!("{ask} {prompt}"), stdin).done();
            assert_eq!(piped["prompt_tokens"], said["prompt_tokens"], "{stdin:?}");
        }
    }
    let more = weft_with(format!("{ask} -"), "Say hi.\n\n").done();
    assert!(more["prompt_tokens"].as_u64() > said["prompt_tokens"].as_u64());
    // With --raw every byte counts.
    let raw = weft_with(format!("{ask} --raw -"), "Say hi.\n").done();
    assert_eq!(raw["prompt_tokens"], weft(format!("{ask} --raw 'Say hi.\n'")).done()["prompt_tokens"]);
}

#[test]
fn a_silent_pipe_is_told_of_and_read_to_its_end() {
    let mut child = command(&format!("run --model '{TINY}' --raw --json -n 2 Hello"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts");
    let mut stderr = child.stderr.take().expect("a pipe");
    let mut told = [0; 7];
    stderr.read_exact(&mut told).expect("a word on stderr");
    assert_eq!(&told, b"waiting");
    assert!(child.try_wait().expect("a state").is_none());
    drop(child.stdin.take());
    assert!(child.wait().expect("an end").success());
}

#[test]
fn seeds_are_told_and_may_be_drawn() {
    let run = format!("run --model '{TINY}' --raw --json -n 12 --temperature 1.5 {ON} Hello");
    assert_eq!(weft(&run).done()["seed"], 0);
    assert_eq!(weft(format!("{run} --seed 7")).done()["seed"], 7);
    let drawn: Vec<Value> = (0..4).map(|_| weft(format!("{run} --seed -1")).done()).collect();
    assert!(drawn[1..].iter().any(|other| other["seed"] != drawn[0]["seed"]));
    let again = weft(format!("{run} --seed {}", drawn[0]["seed"])).done();
    assert_eq!(again["tokens"], drawn[0]["tokens"]);
    let stats = weft(format!("run --model '{TINY}' --raw --stats -n 2 --seed 9 Hello"));
    assert!(stats.stderr.contains("seed         9"), "{}", stats.stderr);
}

#[test]
fn the_penalties_may_look_at_all_tokens() {
    let run = |last: &str| {
        let line = format!("run --model '{TINY}' --raw --json -n 24 {ON} --repeat-penalty 1.5 Hello");
        weft(format!("{line} --repeat-last-n {last}")).done()["tokens"].clone()
    };
    assert_eq!(run("-1"), run("512"));
    assert_ne!(run("-1"), run("0"));
}

#[test]
fn wrong_values_are_wrong_usage_in_json_too() {
    for wrong in [
        "--temperature abc",
        "--temperature -1",
        "--temperature nan",
        "--temp=inf",
        "--top-p 2",
        "--top-p -0.1",
        "--min-p 1.5",
        "--typical nan",
        "--top-k -1",
        "--repeat-last-n -2",
        "--repeat-penalty 0",
        "--presence-penalty nan",
        "--frequency-penalty x",
        "--logit-bias -5=1",
        "--logit-bias 5=nan",
        "--seed -2",
        "--seed 1.5",
        "--max-tokens 0",
        "-n -2",
        "--context 0",
        "--threads -1",
        "--threads 100000",
        "--kv q9_9",
        "--backend abacus",
        "--gpu-layers -1",
        "--gpus 0",
        "--backend cpu --gpu-layers 3",
        "--stop ''",
        "--no-such-option",
        "one two",
    ] {
        for line in [
            format!("run --json --model '{TINY}' {wrong} hi"),
            format!("run --model '{TINY}' hi --json {wrong}"),
        ] {
            let run = weft(&line);
            assert_eq!(run.code, Some(2), "{line}: {} {}", run.text(), run.stderr);
            let error = &run.json()["error"];
            assert_eq!(error["kind"], "usage", "{line}");
            let message = error["message"].as_str().expect("a message");
            assert!(!message.is_empty() && !message.contains("Usage:"), "{line}: {message}");
            let option = wrong.split([' ', '=']).next().unwrap_or_default();
            let named = !option.starts_with("--") || option == "--temp" || message.contains(option);
            assert!(named, "{line}: {message}");
        }
    }
    for line in
        ["--json", "frobnicate --json", "run --json --model", "pull a b --json", "embed --file --json"]
    {
        let run = weft(line);
        assert_eq!((run.code, &run.json()["error"]["kind"]), (Some(2), &json!("usage")), "{line}");
        assert!(!run.stderr.is_empty());
    }
    let value = weft(format!("run --model '{TINY}' --top-p 2 --json hi")).json();
    assert_eq!(value["error"]["value"], "2");
    // After `--` there are no options.
    let run = weft("run --top-p 2 -- --json");
    assert_eq!((run.code, run.text()), (Some(2), ""));
}

#[test]
fn peers_spellings_are_taken() {
    let files = Files::new();
    let model = files.with_template();
    let ours = format!(
        "run --model '{model}' --context 64 --threads 1 --max-tokens 4 --temperature 0.5 {ON} --json"
    );
    let ours = weft(format!("{ours} --seed 3 --system 'Be brief.' --gpu-layers 0 Hello")).done();
    let peers = format!("run -m '{model}' --ctx_size 64 -t 1 --n-predict 4 --temp 0.5 {ON} --json");
    let peers = weft(format!("{peers} -s 3 -sys 'Be brief.' -ngl 0 -p Hello")).done();
    for same in ["tokens", "prompt_tokens", "seed"] {
        assert_eq!(ours[same], peers[same], "{same}");
    }
}

#[test]
fn a_context_sizes_the_cache_and_its_error_names_it() {
    let long = "word ".repeat(60);
    let ask = format!("run --model '{TINY}' --raw -n 2 --json -");
    let tokens = weft_with(&ask, &long).done()["prompt_tokens"].clone();
    let error = weft_with(format!("{ask} --context 32"), &long).failed();
    assert_eq!((&error["kind"], &error["tokens"]), (&json!("context_overflow"), &tokens));
    assert_eq!((&error["limit"], &error["model"]), (&json!(32), &json!(512)));
    assert!(error["message"].as_str().is_some_and(|text| text.contains("--context 512")), "{error}");
    let error = weft_with(&ask, "word ".repeat(600)).failed();
    assert!(error["message"].as_str().is_some_and(|text| !text.contains("--context")), "{error}");
    let error = weft(format!("logits --model '{TINY}' --tokens 1,2,3,4 --context 2 --json"));
    // The KV cache consists of whole pages, so 4 tokens fit although --context is 2.
    assert_eq!(items(&error.done()["logits"]).len(), 1);
    let ids: Vec<String> = (0..40).map(|id| id.to_string()).collect();
    let error = weft(format!("logits --model '{TINY}' --tokens {} -c 16 --json", ids.join(","))).failed();
    assert_eq!(error["kind"], "context_overflow");
    let bench = format!("bench --model '{TINY}' --prompt 40 --generate 4 --sessions 1 --repeat 1 --json");
    assert_eq!(weft(format!("{bench} -c 16")).failed()["kind"], "context_overflow");
    weft(format!("{bench} -c 256")).done();
}

/// Runs the command as on a machine without a GPU, by hiding all drivers.
fn without_gpu(line: &str) -> Run {
    let mut command = command(line);
    let nowhere = "/nonexistent";
    command.env("VK_DRIVER_FILES", nowhere).env("VK_ICD_FILENAMES", nowhere);
    run_of(&mut command, "")
}

#[cfg(target_os = "linux")]
#[test]
fn options_of_gpus_ask_for_one() {
    let run = format!("run --model '{TINY}' --raw -n 2 --json Hello");
    for asks in ["--gpu-layers 99", "-ngl all", "--gpus 2", "--gpu-memory 100", "--gpu llvm", "--backend gpu"]
    {
        assert_eq!(without_gpu(&format!("{run} {asks}")).failed()["kind"], "no_adapter", "{asks}");
    }
    for on_cpu in ["", "--gpu-layers 0", "--backend auto", "--backend cpu", "--backend auto --gpu-layers 9"] {
        assert_eq!(without_gpu(&format!("{run} {on_cpu}")).done()["backend"], "cpu", "{on_cpu}");
    }
    let stats = format!("run --model '{TINY}' --raw -n 2 --stats Hello");
    assert!(without_gpu(&stats).stderr.contains("backend      cpu (no GPU was found)\n"));
    let mut command = command(&run);
    let chosen = run_of(command.env("WEFT_BACKEND", "abacus"), "");
    assert_eq!((chosen.code, &chosen.json()["error"]["kind"]), (Some(2), &json!("usage")));
}

#[cfg(target_os = "linux")]
#[test]
fn looking_for_a_gpu_takes_no_time() {
    let time = |more: &str| {
        let run = format!("run --model '{TINY}' --raw -n 1 {more} Hello");
        let once = || {
            let start = std::time::Instant::now();
            assert_eq!(without_gpu(&run).code, Some(0));
            start.elapsed()
        };
        (0..5).map(|_| once()).min().unwrap_or_default()
    };
    // A wide margin, because the machine may be busy.
    assert!(time("--backend auto") < time("--backend cpu") + std::time::Duration::from_millis(200));
}

#[test]
fn embed_names_the_texts_that_it_refuses_and_does_the_others() {
    let files = Files::new();
    let embed = format!("embed --model '{TINY}'");
    let texts = files.write("texts", format!("\u{feff}one\n\ntwo\r\n{}\n", "long ".repeat(600)));
    let run = weft(format!("{embed} --json --file '{texts}'"));
    assert_eq!(run.code, Some(1));
    let report = run.json();
    assert_eq!(keys(&report), ["embeddings", "tokens", "errors", "error"]);
    let one = weft(format!("{embed} --json one two")).done();
    assert_eq!(report["embeddings"], json!([one["embeddings"][0], null, one["embeddings"][1], null]));
    assert_eq!(report["tokens"], one["tokens"]);
    let errors = items(&report["errors"]);
    assert_eq!((&errors[0]["index"], &errors[0]["kind"]), (&json!(1), &json!("empty_prompt")));
    assert_eq!((&errors[1]["index"], &errors[1]["kind"]), (&json!(3), &json!("context_overflow")));
    assert_eq!((&report["error"]["kind"], &report["error"]["refused"]), (&json!("texts_refused"), &json!(2)));
    assert!(run.stderr.contains("line 2: ") && run.stderr.contains("line 4: "), "{}", run.stderr);
    // Without --json, the line of a refused text is empty.
    let plain = weft(format!("{embed} --file '{texts}'"));
    let lines: Vec<&str> = plain.text().lines().collect();
    assert_eq!((plain.code, lines.len(), lines[1], lines[3]), (Some(1), 4, "", ""));
    let first: Vec<f64> = lines[0].split(' ').map(|x| x.parse().expect("a float")).collect();
    assert_eq!(first, floats(&one["embeddings"][0]));
    let run = weft(format!("{embed} --json one '' two"));
    assert!(run.code == Some(1) && run.stderr.contains("text 2: "), "{}", run.stderr);
    // From stdin, by `-` or by default.
    for dash in ["", "-", "--file -"] {
        assert_eq!(weft_with(format!("{embed} --json {dash}"), "one\ntwo\n").done(), one, "{dash}");
    }
    assert_eq!(weft(format!("{embed} --json -")).done()["embeddings"], json!([]));
    // `-` among other texts stands for the lines of stdin, in its place.
    for (line, stdin) in
        [("- two", "one\n"), ("one -", "two"), ("--prompt -", "one\ntwo\n"), ("- -", "one\ntwo\n")]
    {
        assert_eq!(weft_with(format!("{embed} --json {line}"), stdin).done(), one, "{line}");
    }
}

#[test]
fn completions_name_commands_and_options() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = weft(format!("completions {shell}"));
        assert_eq!((script.code, script.stderr.as_str()), (Some(0), ""), "{shell}");
        for word in ["weft", "perplexity", "max-tokens"] {
            assert!(script.text().contains(word), "{shell}: {word}");
        }
    }
    assert_eq!(weft("completions dos").code, Some(2));
}

#[test]
fn help_fits_80_columns() {
    let commands = weft("--help");
    let names = commands.text().lines().skip_while(|line| *line != "Commands:").skip(1);
    let names: Vec<&str> =
        names.map_while(|line| line.strip_prefix("  ")?.split_whitespace().next()).collect();
    assert!(names.len() > 15, "{}", commands.text());
    let names = names.into_iter().filter(|name| *name != "help");
    for name in names.chain([""]) {
        for help in ["-h", "--help"] {
            let help = weft(format!("{name} {help}"));
            assert_eq!((help.code, help.stderr.as_str()), (Some(0), ""), "{name}");
            for line in help.text().lines() {
                assert!(line.chars().count() <= 80, "{name}: {line}");
            }
        }
    }
}

#[test]
fn a_folder_keeps_computed_prompts() {
    let files = Files::new();
    let folder = files.path("prefixes");
    let prompt = "A prompt of some length. ".repeat(3);
    let run = format!(
        "run --model '{}' --backend cpu --raw -n 3 --stats --prefix-cache '{}' '{prompt}'",
        TINY,
        folder.display()
    );
    let reused = |run: &Run| {
        let line = run.stderr.lines().find_map(|line| line.strip_prefix("prefix cache "));
        line.and_then(|line| line.split(' ').next()?.parse::<usize>().ok()).expect("a number of tokens")
    };
    let first = weft(&run);
    assert_eq!((first.code, reused(&first)), (Some(0), 0), "{}", first.stderr);
    let file = std::fs::read_dir(&folder).expect("a folder").next().expect("a page").expect("a page").path();
    let second = weft(&run);
    assert!(reused(&second) >= 32, "{}", second.stderr);
    assert_eq!(second.stdout, first.stdout);
    std::fs::write(&file, "WEFTPAGE").expect("a damaged file");
    let damaged = weft(&run);
    assert_eq!((damaged.code, &damaged.stdout), (Some(0), &first.stdout));
    assert!(damaged.stderr.contains("is not used"), "{}", damaged.stderr);
    let unusable =
        format!("run --model '{TINY}' --backend cpu --json --raw --prefix-cache '{}' Hello", file.display());
    assert_eq!(weft(&unusable).failed()["kind"], "folder");
    assert_eq!(weft(format!("{unusable} --lora x")).refused()["kind"], "usage");
}
