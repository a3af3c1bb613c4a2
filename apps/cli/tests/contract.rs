//! What scripts rely on: forms, exit codes and errors of every command, on a tiny model.

mod support;

use serde_json::{Value, json};
use std::io::Read;
use std::process::Stdio;
use support::{Files, TINY, coloured, command, weft, weft_with};

const TEMPLATE: &str = "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}\
    {% if add_generation_prompt %}<assistant>{% endif %}";

fn keys(value: &Value) -> Vec<&str> {
    value
        .as_object()
        .expect("an object")
        .keys()
        .map(String::as_str)
        .collect()
}

fn floats(value: &Value) -> Vec<f64> {
    value
        .as_array()
        .expect("an array")
        .iter()
        .map(|value| value.as_f64().expect("a number"))
        .collect()
}

/// What llama.cpp gave for the tiny model.
fn golden() -> Value {
    let json = std::fs::read_to_string(TINY.replace(".gguf", ".json")).expect("golden data");
    serde_json::from_str(&json).expect("JSON")
}

fn id_list(tokens: &Value) -> String {
    tokens
        .as_array()
        .expect("ids")
        .iter()
        .map(Value::to_string)
        .collect::<Vec<_>>()
        .join(",")
}

#[test]
fn run_answers_a_raw_prompt() {
    let run = [
        "run",
        "--model",
        TINY,
        "--raw",
        "--json",
        "--max-tokens",
        "5",
        "--temperature",
        "0",
        "Hello",
    ];
    let answer = weft(&run).done();
    assert_eq!(
        keys(&answer),
        ["text", "tokens", "prompt_tokens", "finish", "timings"]
    );
    assert_eq!(
        keys(&answer["timings"]),
        ["load_s", "first_token_s", "prompt_tok_s", "generate_tok_s"]
    );
    assert_eq!(answer["finish"], "length");
    assert_eq!(answer["tokens"].as_array().map(Vec::len), Some(5));
    let prompt = weft_with(&["tokenize", "--model", TINY, "--special", "--json"], "Hello").done();
    assert_eq!(
        answer["prompt_tokens"].as_u64(),
        prompt["tokens"].as_array().map(|ids| ids.len() as u64)
    );
    // Text and tokens agree.
    let text = weft(&[
        "detokenize",
        "--model",
        TINY,
        "--json",
        &id_list(&answer["tokens"]),
    ])
    .done();
    assert_eq!(text["text"], answer["text"]);
    // The same again, from stdin in both ways, and with the scalar kernels.
    let piped = ["run", "--model", TINY, "--raw", "--json", "--max-tokens", "5"];
    assert_eq!(weft_with(&piped, "Hello").done()["tokens"], answer["tokens"]);
    assert_eq!(
        weft_with(&[&piped[..], &["-"]].concat(), "Hello").done()["tokens"],
        answer["tokens"]
    );
    // Without --json the text, and timings on stderr.
    let plain = weft(&[
        "run",
        "--model",
        TINY,
        "--raw",
        "--max-tokens",
        "5",
        "--stats",
        "Hello",
    ]);
    assert_eq!(plain.code, Some(0));
    assert_eq!(
        plain.text().trim_end_matches('\n'),
        answer["text"].as_str().expect("text").trim_end_matches('\n')
    );
    assert!(plain.stderr.contains("tok/s"), "{}", plain.stderr);
    assert!(!coloured(plain.text()) && !coloured(&plain.stderr));
}

#[test]
fn run_samples_by_its_seed() {
    let run = |seed: &str| {
        let args = [
            "run",
            "-m",
            TINY,
            "--raw",
            "--json",
            "-n",
            "12",
            "--temperature",
            "1.5",
            "--top-k",
            "40",
        ];
        weft(&[&args[..], &["--seed", seed, "Hello"]].concat()).done()["tokens"].clone()
    };
    assert_eq!(run("1"), run("1"));
    assert_ne!(run("1"), run("2"));
    let args = [
        "run",
        "-m",
        TINY,
        "--raw",
        "--json",
        "-n",
        "3",
        "--logit-bias",
        "65=1000",
        "Hello",
    ];
    assert_eq!(weft(&args).done()["tokens"], json!([65, 65, 65]));
    let args = [
        "run",
        "-m",
        TINY,
        "--raw",
        "--json",
        "--logit-bias",
        "284=1000",
        "Hello",
    ];
    let ended = weft(&args).done();
    assert_eq!(
        (&ended["finish"], &ended["tokens"], &ended["text"]),
        (&json!("stop"), &json!([]), &json!(""))
    );
    let args = [
        "run",
        "-m",
        TINY,
        "--raw",
        "--json",
        "--logit-bias",
        "65=1000",
        "--context",
        "9",
        "Hello",
    ];
    assert_eq!(weft(&args).done()["finish"], "context");
}

#[test]
fn run_renders_the_models_template() {
    let files = Files::new();
    let model = files.with_template(TEMPLATE);
    let args = [
        "run",
        "--model",
        &model,
        "--json",
        "--max-tokens",
        "3",
        "--system",
        "Be brief.",
        "Hello",
    ];
    let answer = weft(&args).done();
    let raw = "<system>Be brief.\n<user>Hello\n<assistant>";
    let args = [
        "run",
        "--model",
        &model,
        "--json",
        "--max-tokens",
        "3",
        "--raw",
        raw,
    ];
    let same = weft(&args).done();
    assert_eq!(
        (&answer["tokens"], &answer["prompt_tokens"]),
        (&same["tokens"], &same["prompt_tokens"])
    );
    assert_eq!(
        weft(&["run", "--model", TINY, "--json", "Hello"]).failed()["kind"],
        "no_template"
    );
}

#[test]
fn logits_are_the_references_and_no_chunk_or_neighbour_changes_a_bit() {
    let golden = golden();
    let tokens = id_list(&golden["tokens"]);
    let positions = id_list(&golden["logit_positions"]);
    let args = [
        "logits",
        "--model",
        TINY,
        "--tokens",
        &tokens,
        "--positions",
        &positions,
        "--json",
    ];
    let whole = weft(&args);
    let logits = whole.done()["logits"].as_array().expect("rows").clone();
    assert_eq!(logits.len(), 3);
    for (row, reference) in logits.iter().zip(golden["logits"].as_array().expect("rows")) {
        let (row, reference) = (floats(row), floats(reference));
        assert_eq!(row.len(), reference.len());
        // llama.cpp rounds activations as it goes: the reference's notes allow a divergence of 1e-4.
        assert!(divergence(&reference, &row) < 1e-4);
    }
    for more in [
        &["--chunk", "5"][..],
        &["--beside", "3"],
        &["--chunk", "7", "--beside", "6"],
        &["--threads", "1"],
    ] {
        assert_eq!(weft(&[&args[..], more].concat()).text(), whole.text(), "{more:?}");
    }
    // The last position where none is asked; any order, and twice.
    let last = weft(&["logits", "--model", TINY, "--tokens", &tokens, "--json"]).done();
    assert_eq!(last["logits"], json!([logits[2]]));
    let args = [
        "logits",
        "--model",
        TINY,
        "--tokens",
        &tokens,
        "--positions",
        "23,0,23",
        "--json",
    ];
    assert_eq!(
        weft(&args).done()["logits"],
        json!([logits[2], logits[0], logits[2]])
    );
    // Digits read back to the same 32-bit float, and no longer than that takes.
    let text = serde_json::to_string(&logits[0][0]).expect("a number");
    let value: f32 = text.parse().expect("a float");
    assert_eq!(value.to_string(), text);
}

/// Kullback-Leibler divergence of two rows of logits.
fn divergence(p: &[f64], q: &[f64]) -> f64 {
    let normalizer = |row: &[f64]| row.iter().map(|x| x.exp()).sum::<f64>().ln();
    let (zp, zq) = (normalizer(p), normalizer(q));
    p.iter()
        .zip(q)
        .map(|(p, q)| (p - zp).exp() * ((p - zp) - (q - zq)))
        .sum()
}

#[test]
fn logits_refuse_what_is_not_there() {
    let error = weft(&["logits", "--model", TINY, "--tokens", "1,320", "--json"]).failed();
    assert_eq!(
        (&error["kind"], &error["token"], &error["vocabulary"]),
        (&json!("unknown_token"), &json!(320), &json!(320))
    );
    let error = weft(&[
        "logits",
        "--model",
        TINY,
        "--tokens",
        "1,2",
        "--positions",
        "2",
        "--json",
    ])
    .failed();
    assert_eq!(
        (&error["kind"], &error["position"], &error["tokens"]),
        (&json!("bad_position"), &json!(2), &json!(2))
    );
}

#[test]
fn tokenizing_reads_the_vocabulary_alone() {
    let files = Files::new();
    let model = files.vocabulary_only();
    for text in [
        "Hello, world!\n  two  spaces",
        "",
        "naïve 🙂 文字",
        "<|im_start|>user",
    ] {
        let tokens = weft_with(&["tokenize", "--model", &model, "--json"], text).done();
        assert_eq!(keys(&tokens), ["tokens"]);
        let back = weft(&[
            "detokenize",
            "--model",
            &model,
            "--json",
            &id_list(&tokens["tokens"]),
        ])
        .done();
        assert_eq!(back, json!({"text": text}));
        let plain = weft(&["detokenize", "--model", &model, &id_list(&tokens["tokens"])]);
        assert_eq!((plain.code, plain.text()), (Some(0), text));
    }
    let plain = weft_with(&["tokenize", "--model", &model], "abc");
    let json = weft_with(&["tokenize", "--model", &model, "--no-bos", "--json"], "abc").done();
    assert_eq!(plain.text().trim_end(), id_list(&json["tokens"]));
    let error = weft_with(&["tokenize", "--model", &model, "--json"], [b'a', 0xff]).failed();
    assert_eq!(
        (&error["kind"], &error["offset"]),
        (&json!("not_utf8"), &json!(1))
    );
    let error = weft(&["detokenize", "--model", &model, "--json", "1,320"]).failed();
    assert_eq!(error["kind"], "unknown_token");
    // No weights, no answer.
    assert!(weft(&["run", "--model", &model, "--raw", "--json", "Hello"]).failed()["file"].is_string());
}

#[test]
fn templates_come_from_a_model_or_a_file() {
    let files = Files::new();
    let messages = r#"[{"role": "user", "content": "Hé <b>"}]"#;
    let model = files.with_template(TEMPLATE);
    let rendered = weft_with(&["template", "--model", &model, "--json"], messages).done();
    assert_eq!(rendered, json!({"text": "<user>Hé <b>\n<assistant>"}));
    let args = ["template", "--model", &model, "--no-generation-prompt"];
    assert_eq!(weft_with(&args, messages).text(), "<user>Hé <b>\n");
    let file = files.write(
        "t.jinja",
        "{{ bos_token }}{{ messages[0].content }}{{ add_generation_prompt }}{{ n }}",
    );
    let vars = r#"{"bos_token": "<s>", "n": 3}"#;
    let args = ["template", "--file", &file, "--vars", vars, "--json"];
    assert_eq!(
        weft_with(&args, messages).done(),
        json!({"text": "<s>Hé <b>True3"})
    );
    let bad = files.write("bad.jinja", "{% for %}");
    assert!(weft_with(&["template", "--file", &bad, "--json"], messages).failed()["kind"].is_string());
    assert_eq!(
        weft_with(&["template", "--file", &file, "--json"], "{}").failed()["kind"],
        "bad_json"
    );
    assert_eq!(
        weft_with(&["template", "--model", TINY, "--json"], messages).failed()["kind"],
        "no_template"
    );
}

#[test]
fn inspect_shows_metadata_tensors_and_memory() {
    let report = weft(&["inspect", TINY, "--json"]).done();
    assert_eq!(
        (&report["architecture"], &report["supported"]),
        (&json!("llama"), &json!(true))
    );
    assert_eq!(report["metadata"]["llama.embedding_length"], 64);
    assert_eq!(
        report["metadata"]["tokenizer.ggml.tokens"]
            .as_array()
            .map(Vec::len),
        Some(320)
    );
    let tensors = report["tensors"].as_array().expect("tensors");
    assert_eq!(tensors.len(), 30);
    assert_eq!(
        keys(&tensors[0]),
        ["name", "format", "shape", "part", "offset", "bytes"]
    );
    let embedding = tensors
        .iter()
        .find(|tensor| tensor["name"] == "token_embd.weight")
        .expect("an embedding");
    assert_eq!(
        (&embedding["format"], &embedding["shape"]),
        (&json!("F16"), &json!([64, 320]))
    );
    assert_eq!(embedding["bytes"], 64 * 320 * 2);
    let weights: u64 = tensors.iter().filter_map(|tensor| tensor["bytes"].as_u64()).sum();
    assert_eq!(report["memory"]["weights"], weights);
    // 3 layers of 2 heads of 16 keys and 16 values in 2 bytes.
    assert_eq!(
        report["memory"]["kv_cache"]["bytes_per_token"],
        3 * 2 * (16 + 16) * 2
    );
    let plain = weft(&["inspect", TINY]);
    assert_eq!(plain.code, Some(0));
    assert!(plain.text().contains("token_embd.weight") && !coloured(plain.text()));
    // A vocabulary is a valid file that cannot be run.
    let files = Files::new();
    let report = weft(&["inspect", &files.vocabulary_only(), "--json"]).done();
    assert_eq!(report["supported"], false);
    assert!(
        report["unsupported"]
            .as_str()
            .is_some_and(|why| why.contains("token_embd.weight"))
    );
}

#[test]
fn tensor_gives_floats_and_nothing_else() {
    let report = weft(&["inspect", TINY, "--json"]).done();
    let norm = report["tensors"]
        .as_array()
        .expect("tensors")
        .iter()
        .find(|tensor| tensor["format"] == "F32");
    let norm = norm.expect("a norm");
    let run = weft(&["tensor", TINY, norm["name"].as_str().expect("a name")]);
    assert_eq!(run.code, Some(0));
    let file = std::fs::read(TINY).expect("the tiny model");
    let offset = norm["offset"].as_u64().expect("an offset") as usize;
    let bytes = norm["bytes"].as_u64().expect("a size") as usize;
    assert_eq!(run.stdout, file[offset..offset + bytes]);
    assert_eq!(
        weft(&["tensor", TINY, "token_embd.weight"]).stdout.len(),
        64 * 320 * 4
    );
    let missing = weft(&["tensor", TINY, "blk.9.attn_q.weight"]);
    assert_eq!((missing.code, missing.stdout.len()), (Some(1), 0));
    assert!(
        missing.stderr.contains("blk.0.attn_q.weight"),
        "{}",
        missing.stderr
    );
}

#[test]
fn a_reader_that_goes_ends_the_command_quietly() {
    let mut child = command(&["inspect", TINY, "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts");
    drop(child.stdout.take());
    let mut stderr = String::new();
    child
        .stderr
        .take()
        .expect("a pipe")
        .read_to_string(&mut stderr)
        .expect("text");
    assert_eq!(
        (child.wait().expect("an end").code(), stderr.as_str()),
        (Some(0), "")
    );
}

#[test]
fn perplexity_is_that_of_the_logits() {
    let files = Files::new();
    let text = "The quick brown fox jumps over the lazy dog. ".repeat(4);
    let file = files.write("text.txt", &text);
    let args = [
        "perplexity",
        "--model",
        TINY,
        "--file",
        &file,
        "--context",
        "32",
        "--json",
    ];
    let run = weft(&args);
    let report = run.done();
    assert_eq!(keys(&report), ["perplexity", "error", "tokens"]);
    assert!(run.stderr.contains("[1/"), "running values: {}", run.stderr);
    // The same from the logits.
    let tokens = weft_with(&["tokenize", "--model", TINY, "--json"], &text).done();
    let tokens: Vec<usize> = tokens["tokens"]
        .as_array()
        .expect("ids")
        .iter()
        .map(|id| id.as_u64().expect("an id") as usize)
        .collect();
    let mut losses = Vec::new();
    for chunk in tokens.chunks_exact(32) {
        let ids = chunk.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        let positions = (16..31)
            .map(|position: usize| position.to_string())
            .collect::<Vec<_>>()
            .join(",");
        let args = [
            "logits",
            "--model",
            TINY,
            "--tokens",
            &ids,
            "--positions",
            &positions,
            "--json",
        ];
        let rows = weft(&args).done();
        for (row, position) in rows["logits"].as_array().expect("rows").iter().zip(16..) {
            let row = floats(row);
            losses.push(row.iter().map(|x| x.exp()).sum::<f64>().ln() - row[chunk[position + 1]]);
        }
    }
    let n = losses.len() as f64;
    let mean = losses.iter().sum::<f64>() / n;
    let deviation = (losses.iter().map(|loss| (loss - mean).powi(2)).sum::<f64>() / n / (n - 1.0)).sqrt();
    assert_eq!(report["tokens"], losses.len());
    // Losses are sums in 32-bit floats there and 64-bit ones here.
    assert!(
        (report["perplexity"].as_f64().expect("a number") / mean.exp() - 1.0).abs() < 1e-4,
        "{report}"
    );
    assert!(
        (report["error"].as_f64().expect("a number") / (deviation * mean.exp()) - 1.0).abs() < 1e-3,
        "{report}"
    );
    let short = files.write("short.txt", "Hello");
    let error = weft(&["perplexity", "--model", TINY, "--file", &short, "--json"]).failed();
    assert_eq!(
        (&error["kind"], &error["context"]),
        (&json!("text_too_short"), &json!(512))
    );
}

#[test]
fn bench_has_the_keys_of_the_peers_script() {
    let args = [
        "bench",
        "--model",
        TINY,
        "--threads",
        "1",
        "--prompt",
        "24",
        "--generate",
        "8",
        "--sessions",
        "1,3",
    ];
    let more = ["--repeat", "1", "--json"];
    let figures = weft(&[&args[..], &more].concat()).done();
    let wanted = [
        "engine",
        "model",
        "threads",
        "prompt_tok_s",
        "generate_tok_s",
        "batch_tok_s",
        "load_s",
        "peak_rss_mb",
    ];
    assert_eq!(keys(&figures), wanted);
    assert_eq!(
        (&figures["engine"], &figures["threads"]),
        (&json!("weft"), &json!(1))
    );
    assert_eq!(figures["model"], "tiny-llama.gguf");
    assert_eq!(keys(&figures["batch_tok_s"]), ["1", "3"]);
    for key in ["prompt_tok_s", "generate_tok_s"] {
        assert!(figures[key].as_f64().is_some_and(|rate| rate > 0.0), "{key}");
    }
    let deep = weft(&[&args[..], &more, &["--depth", "40"]].concat()).done();
    assert_eq!(keys(&deep), wanted);
    let files = Files::new();
    let peer = files.write("peer.json", figures.to_string());
    let table = weft(&[&args[..], &["--repeat", "1", "--peer-json", &peer]].concat());
    assert_eq!(table.code, Some(0), "{}", table.stderr);
    assert!(
        table.text().contains("3 together") && table.text().contains('×'),
        "{}",
        table.text()
    );
}

#[test]
fn bench_profiles_a_decode_tick() {
    let profile = weft(&["bench", "--profile", "--model", TINY, "--generate", "16"]);
    assert_eq!(profile.code, Some(0), "{}", profile.stderr);
    assert!(
        profile.text().contains("ECS (everything that is not a kernel): "),
        "{}",
        profile.text()
    );
    let json = weft(&[
        "bench",
        "--profile",
        "--model",
        TINY,
        "--generate",
        "16",
        "--json",
    ])
    .done();
    let spans = json["spans"].as_array().expect("spans");
    assert!(spans.iter().any(|span| span["name"] == "tick"));
    assert!(spans.iter().any(|span| span["kernel"] == true), "{json}");
    assert!(
        json["ecs_share"]
            .as_f64()
            .is_some_and(|share| share > 0.0 && share < 1.0),
        "{json}"
    );
}

#[test]
fn chat_takes_turns_and_commands_from_a_pipe() {
    let files = Files::new();
    let model = files.with_template(TEMPLATE);
    let saved = files.path("saved.json");
    let saved = saved.to_str().expect("a path in UTF-8");
    let chat = [
        "chat",
        "--model",
        &model,
        "--max-tokens",
        "4",
        "--system",
        "Be brief.",
    ];
    let script = format!(
        "/help\nHello\n\n/save {saved}\n/stats\nAnd now?\n/reset\n/nonsense\n/load {saved}\n/quit\nno"
    );
    let run = weft_with(&chat, script);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(
        run.text().contains("/system TEXT") && run.text().contains("context    "),
        "{}",
        run.text()
    );
    assert!(
        run.stderr.contains("/nonsense") && run.stderr.contains("3 messages loaded"),
        "{}",
        run.stderr
    );
    assert!(!coloured(run.text()) && !coloured(&run.stderr));
    let file: Value = serde_json::from_str(&std::fs::read_to_string(saved).expect("a file")).expect("JSON");
    let roles: Vec<_> = file["messages"]
        .as_array()
        .expect("messages")
        .iter()
        .map(|m| m["role"].clone())
        .collect();
    assert_eq!(roles, ["system", "user", "assistant"]);
    // The first answer is that of `run`, and a conversation goes on from a file as it went on by itself.
    let args = [
        "run",
        "--model",
        &model,
        "--json",
        "--max-tokens",
        "4",
        "--system",
        "Be brief.",
        "Hello",
    ];
    assert_eq!(weft(&args).done()["text"], file["messages"][2]["content"]);
    let by_itself = weft_with(&chat, "Hello\nAnd now?\n");
    let from_file = weft_with(
        &["chat", "--model", &model, "--max-tokens", "4", "--load", saved],
        "And now?\n",
    );
    assert!(
        by_itself.text().ends_with(from_file.text()),
        "{} / {}",
        by_itself.text(),
        from_file.text()
    );
    // A turn that does not fit is refused and the conversation goes on.
    let long = format!("{}\nHello\n", "word ".repeat(600));
    let run = weft_with(
        &[
            "chat",
            "--model",
            &model,
            "--max-tokens",
            "4",
            "--system",
            "Be brief.",
        ],
        long,
    );
    assert_eq!(run.code, Some(0));
    assert!(run.stderr.contains("do not fit"), "{}", run.stderr);
    assert!(
        by_itself.text().starts_with(run.text().trim_end_matches('\n')),
        "{} / {}",
        by_itself.text(),
        run.text()
    );
}

#[test]
fn list_shows_the_catalogue() {
    let list = weft(&["list", "--json"]).done();
    let models = list["models"].as_array().expect("models");
    assert_eq!(models.iter().filter(|model| model["default"] == true).count(), 1);
    assert!(
        models.iter().all(|model| model["file"].is_null()),
        "nothing has been fetched"
    );
    assert!(weft(&["list"]).text().contains("(default)"));
}

#[test]
fn failures_exit_with_1_and_say_what_to_do() {
    let files = Files::new();
    let error = weft(&["run", "--model", "no-such-model", "--json", "Hello"]).failed();
    assert_eq!(
        (&error["kind"], &error["model"]),
        (&json!("unknown_model"), &json!("no-such-model"))
    );
    assert!(
        error["message"]
            .as_str()
            .is_some_and(|message| message.contains("weft list"))
    );
    let error = weft(&[
        "run",
        "--model",
        TINY,
        "--backend",
        "gpu",
        "--raw",
        "--json",
        "Hello",
    ])
    .failed();
    assert_eq!(error["kind"], "backend_missing");
    let error = weft(&["run", "--model", TINY, "--kv", "q8_0", "--raw", "--json", "Hello"]).failed();
    assert_eq!(
        (&error["kind"], &error["format"]),
        (&json!("unsupported_kv_format"), &json!("q8_0"))
    );
    let error = weft(&[
        "run",
        "--model",
        TINY,
        "--context",
        "9999",
        "--raw",
        "--json",
        "Hello",
    ])
    .failed();
    assert_eq!(
        (&error["kind"], &error["model"]),
        (&json!("context_too_large"), &json!(512))
    );
    let error = weft(&[
        "run", "--isa", "sse9", "--model", TINY, "--raw", "--json", "Hello",
    ])
    .failed();
    assert_eq!(
        (&error["kind"], &error["name"]),
        (&json!("unknown_isa"), &json!("sse9"))
    );
    let error = weft(&["run", "--model", TINY, "--raw", "--json", &"word ".repeat(2000)]).failed();
    assert_eq!(
        (&error["kind"], &error["limit"]),
        (&json!("context_overflow"), &json!(512))
    );
    let damaged = files.write("damaged.gguf", "not a model");
    let error = weft(&["inspect", &damaged, "--json"]).failed();
    assert_eq!(
        (&error["kind"], &error["file"]),
        (&json!("not_gguf"), &json!(damaged))
    );
    let cut = std::fs::read(TINY).expect("the tiny model");
    let cut = files.write("cut.gguf", &cut[..cut.len() / 2]);
    assert_eq!(
        weft(&["run", "--model", &cut, "--raw", "--json", "Hello"]).failed()["file"],
        json!(cut)
    );
}

#[test]
fn wrong_usage_exits_with_2() {
    for args in [
        &["run", "--no-such-option"][..],
        &["no-such-command"],
        &[],
        &["run", "--model", TINY, "--temperature", "warm", "Hello"],
        &["run", "--model", TINY, "--logit-bias", "7", "Hello"],
        &["run", "--model", TINY, "--backend", "abacus", "--raw", "Hello"],
        &["logits", "--model", TINY, "--tokens", "1,x"],
        &["logits", "--model", TINY, "--tokens", ""],
        &["bench", "--model", TINY, "--sessions", "0"],
        &["template", "--model", TINY, "--file", "x"],
    ] {
        let run = weft(args);
        assert_eq!((run.code, run.text()), (Some(2), ""), "{args:?} {}", run.stderr);
        assert!(!run.stderr.is_empty() && !coloured(&run.stderr), "{args:?}");
    }
}

#[test]
fn a_throttled_model_answers_the_same() {
    let args = ["run", "--model", TINY, "--raw", "--json", "-n", "6", "Hello"];
    let slow = weft(&[&args[..], &["--throttle", "2000000"]].concat()).done();
    assert_eq!(slow["tokens"], weft(&args).done()["tokens"]);
    // 275,872 bytes at that rate.
    assert!(
        slow["timings"]["load_s"]
            .as_f64()
            .is_some_and(|seconds| seconds > 0.1),
        "{slow}"
    );
}

#[test]
fn both_kv_formats_answer() {
    for kv in ["f16", "f32"] {
        let args = [
            "run", "--model", TINY, "--raw", "--json", "-n", "4", "--kv", kv, "Hello",
        ];
        assert_eq!(weft(&args).done()["tokens"].as_array().map(Vec::len), Some(4));
    }
}
