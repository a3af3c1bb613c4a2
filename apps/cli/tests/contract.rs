//! The output forms that scripts rely on, of every command, on a tiny model.

use crate::support::{
    Files, ON, TEMPLATE, TINY, coloured, command, divergence, floats, id_list, items, keys, normalizer, weft,
    weft_with,
};
use serde_json::{Value, json};
use std::io::Read;
use std::process::Stdio;

#[test]
fn run_answers_a_raw_prompt() {
    let run = format!("run --model '{TINY}' --raw --max-tokens 5 --temperature 0 {ON}");
    let answer = weft(format!("{run} --json Hello")).done();
    let names = ["text", "tokens", "prompt_tokens", "finish", "seed", "backend", "timings"];
    assert_eq!(keys(&answer), names);
    let names = ["load_s", "first_token_s", "prompt_tok_s", "generate_tok_s"];
    assert_eq!(keys(&answer["timings"]), names);
    assert_eq!(answer["finish"], "length");
    assert_eq!(items(&answer["tokens"]).len(), 5);
    let tokenize = format!("tokenize --model '{TINY}' --special --json");
    let prompt = weft_with(tokenize, "Hello").done();
    assert_eq!(answer["prompt_tokens"], items(&prompt["tokens"]).len());
    // Text and tokens agree.
    let ids = id_list(&answer["tokens"]);
    let text = weft(format!("detokenize --model '{TINY}' --json {ids}")).done();
    assert_eq!(text["text"], answer["text"]);
    // The same prompt from stdin, in both ways.
    for prompt in ["", "-"] {
        let piped = weft_with(format!("{run} --json {prompt}"), "Hello").done();
        assert_eq!(piped["tokens"], answer["tokens"]);
    }
    // Without --json, stdout has the text and stderr the timings.
    let plain = weft(format!("{run} --stats Hello"));
    assert_eq!(plain.code, Some(0));
    let text = answer["text"].as_str().expect("text");
    assert_eq!(plain.text().trim_end_matches('\n'), text.trim_end_matches('\n'));
    assert!(plain.stderr.contains("tok/s"), "{}", plain.stderr);
    // Only stderr is checked: stdout is the model's text, which may contain anything.
    assert!(!coloured(&plain.stderr));
}

#[test]
fn run_samples_by_its_seed_and_ends_for_a_reason() {
    let run = format!("run -m '{TINY}' --raw --json Hello");
    let seeded = |seed: u32| {
        let settings = format!("-n 12 --temperature 1.5 --top-k 40 --seed {seed} {ON}");
        weft(format!("{run} {settings}")).done()["tokens"].clone()
    };
    assert_eq!(seeded(1), seeded(1));
    assert_ne!(seeded(1), seeded(2));
    let biased = weft(format!("{run} -n 3 --logit-bias 65=1000")).done();
    assert_eq!(biased["tokens"], json!([65, 65, 65]));
    // The end-of-generation token is neither in the text nor among the tokens.
    let ended = weft(format!("{run} --logit-bias 284=1000")).done();
    assert_eq!((&ended["finish"], &ended["tokens"]), (&json!("stop"), &json!([])));
    assert_eq!(ended["text"], "");
    // Token 65 is the byte A.
    let stopped = weft(format!("{run} --logit-bias 65=1000 --stop AA")).done();
    assert_eq!((&stopped["finish"], &stopped["text"]), (&json!("stop"), &json!("")));
    let full = weft(format!("{run} --logit-bias 65=1000 --context 9")).done();
    assert_eq!(full["finish"], "context");
}

#[test]
fn run_renders_the_models_template() {
    let files = Files::new();
    let run = format!("run --model '{}' --json -n 3 {ON}", files.with_template());
    let answer = weft(format!("{run} --system 'Be brief.' Hello")).done();
    let raw = "<system>Be brief.\n<user>Hello\n<assistant>";
    let same = weft(format!("{run} --raw '{raw}'")).done();
    assert_eq!(answer["tokens"], same["tokens"]);
    assert_eq!(answer["prompt_tokens"], same["prompt_tokens"]);
}

#[test]
fn kv_formats_and_every_speed_of_arrival_answer() {
    let run = format!("run --model '{TINY}' --raw --json -n 6 {ON} Hello");
    let answer = weft(&run).done();
    for kv in ["f32", "bf16", "q8_0", "q4_0"] {
        let other = weft(format!("{run} --kv {kv}")).done();
        assert_eq!(items(&other["tokens"]).len(), 6);
    }
    let slow = weft(format!("{run} --throttle 2000000")).done();
    assert_eq!(slow["tokens"], answer["tokens"]);
    // At that rate, 275,872 bytes take 0.14 s.
    let load = slow["timings"]["load_s"].as_f64();
    assert!(load.is_some_and(|seconds| seconds > 0.1), "{slow}");
}

#[test]
fn logits_are_the_references_and_no_chunk_or_neighbour_changes_a_bit() {
    // llama.cpp's output for the tiny model.
    let golden = std::fs::read_to_string(TINY.replace(".gguf", ".json")).expect("golden data");
    let golden: Value = serde_json::from_str(&golden).expect("JSON");
    let tokens = id_list(&golden["tokens"]);
    let positions = id_list(&golden["logit_positions"]);
    let ask = format!("logits --model '{TINY}' --tokens {tokens} --json");
    let ask_all = format!("{ask} --positions {positions}");
    let whole = weft(&ask_all);
    let answer = whole.done();
    let logits = items(&answer["logits"]);
    assert_eq!(logits.len(), 3);
    for (row, reference) in logits.iter().zip(items(&golden["logits"])) {
        let (row, reference) = (floats(row), floats(reference));
        assert_eq!(row.len(), reference.len());
        // llama.cpp rounds activations; the notes of the reference data allow a divergence of 1e-4.
        assert!(divergence(&reference, &row) < 1e-4);
    }
    for more in ["--chunk 5", "--beside 3", "--chunk 7 --beside 6", "--threads 1"] {
        let other = weft(format!("{ask_all} {more}"));
        assert_eq!(other.text(), whole.text(), "{more} {}", other.stderr);
    }
    // Without positions, the last one. Positions may be given in any order and repeatedly.
    assert_eq!(weft(&ask).done()["logits"], json!([logits[2]]));
    let shuffled = weft(format!("{ask} --positions 23,0,23")).done();
    assert_eq!(shuffled["logits"], json!([logits[2], logits[0], logits[2]]));
    // The digits parse to the same 32-bit float, and are as few as that needs.
    let digits = logits[0][0].to_string();
    let value: f32 = digits.parse().expect("a float");
    assert_eq!(value.to_string(), digits);
}

#[test]
fn tokenizing_reads_the_vocabulary_alone() {
    let files = Files::new();
    let model = files.vocabulary_only();
    let texts = ["Hello, world!\n  two  spaces", "", "naïve 🙂 文字", "<|im_start|>user"];
    for text in texts {
        let tokens = weft_with(format!("tokenize --model '{model}' --json"), text).done();
        assert_eq!(keys(&tokens), ["tokens"]);
        let ids = id_list(&tokens["tokens"]);
        let back = weft(format!("detokenize --model '{model}' --json '{ids}'")).done();
        assert_eq!(back, json!({"text": text}));
        let plain = weft(format!("detokenize --model '{model}' '{ids}'"));
        assert_eq!((plain.code, plain.text()), (Some(0), text));
    }
    let plain = weft_with(format!("tokenize --model '{model}'"), "abc");
    let json = weft_with(format!("tokenize --model '{model}' --no-bos --json"), "abc").done();
    assert_eq!(plain.text().trim_end(), id_list(&json["tokens"]));
}

#[test]
fn templates_come_from_a_model_or_a_file() {
    let files = Files::new();
    let messages = r#"[{"role": "user", "content": "Hé <b>"}]"#;
    let model = files.with_template();
    let rendered = weft_with(format!("template --model '{model}' --json"), messages).done();
    assert_eq!(rendered, json!({"text": "<user>Hé <b>\n<assistant>"}));
    let line = format!("template --model '{model}' --no-generation-prompt");
    assert_eq!(weft_with(line, messages).text(), "<user>Hé <b>\n");
    // A file without a template uses the built-in one that matches its vocabulary's control tokens.
    let rendered = weft_with(format!("template --model '{TINY}' --json"), messages).done();
    assert_eq!(rendered["text"], "<|im_start|>user\nHé <b><|im_end|>\n<|im_start|>assistant\n");
    let template = "{{ bos_token }}{{ messages[0].content }}{{ add_generation_prompt }}{{ n }}";
    let file = files.write("t.jinja", template);
    let line = format!(r#"template --file '{file}' --json --vars '{{"bos_token": "<s>", "n": 3}}'"#);
    // Jinja2 in Python prints True.
    assert_eq!(weft_with(line, messages).done(), json!({"text": "<s>Hé <b>True3"}));
    let file = files.write("all.jinja", TEMPLATE);
    let line = format!("template --file '{file}'");
    assert_eq!(weft_with(line, "[]").text(), "<assistant>");
}

#[test]
fn inspect_shows_metadata_tensors_and_memory() {
    let report = weft(format!("inspect '{TINY}' --json")).done();
    assert_eq!(report["architecture"], "llama");
    assert_eq!(report["supported"], true);
    assert_eq!(report["metadata"]["llama.embedding_length"], 64);
    assert_eq!(items(&report["metadata"]["tokenizer.ggml.tokens"]).len(), 320);
    let tensors = items(&report["tensors"]);
    assert_eq!(tensors.len(), 30);
    let names = ["name", "format", "shape", "part", "offset", "bytes"];
    assert_eq!(keys(&tensors[0]), names);
    let embedding = tensors.iter().find(|tensor| tensor["name"] == "token_embd.weight");
    let embedding = embedding.expect("an embedding");
    assert_eq!(embedding["format"], "F16");
    assert_eq!(embedding["shape"], json!([64, 320]));
    assert_eq!(embedding["bytes"], 64 * 320 * 2);
    let sizes = tensors.iter().filter_map(|tensor| tensor["bytes"].as_u64());
    assert_eq!(report["memory"]["weights"], sizes.sum::<u64>());
    // 3 layers of 2 heads with 16 keys and 16 values of 2 bytes each.
    let kv = &report["memory"]["kv_cache"];
    assert_eq!(kv["bytes_per_token"], 3 * 2 * (16 + 16) * 2);
    let plain = weft(format!("inspect '{TINY}'"));
    assert_eq!(plain.code, Some(0));
    assert!(plain.text().contains("token_embd.weight") && !coloured(plain.text()));
    // A file with only a vocabulary is valid but cannot be run.
    let files = Files::new();
    let report = weft(format!("inspect '{}' --json", files.vocabulary_only())).done();
    assert_eq!(report["supported"], false);
    let why = report["unsupported"].as_str();
    assert!(why.is_some_and(|why| why.contains("token_embd.weight")), "{why:?}");
}

#[test]
fn tensor_gives_floats_and_nothing_else() {
    let report = weft(format!("inspect '{TINY}' --json")).done();
    let tensors = items(&report["tensors"]);
    let norm = tensors.iter().find(|tensor| tensor["format"] == "F32").expect("a norm");
    let name = norm["name"].as_str().expect("a name");
    let run = weft(format!("tensor '{TINY}' {name}"));
    assert_eq!(run.code, Some(0));
    let file = std::fs::read(TINY).expect("the tiny model");
    let size = |key: &str| norm[key].as_u64().expect("a number") as usize;
    assert_eq!(run.stdout, file[size("offset")..][..size("bytes")]);
    let embedding = weft(format!("tensor '{TINY}' token_embd.weight"));
    assert_eq!(embedding.stdout.len(), 64 * 320 * 4);
}

#[test]
fn a_reader_that_goes_ends_the_command_quietly() {
    let mut child = command(&format!("inspect '{TINY}' --json"));
    let child = child.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = child.spawn().expect("the command starts");
    drop(child.stdout.take());
    let mut stderr = String::new();
    let mut pipe = child.stderr.take().expect("a pipe");
    pipe.read_to_string(&mut stderr).expect("text");
    let code = child.wait().expect("an end").code();
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
}

#[test]
fn perplexity_is_that_of_the_logits() {
    let files = Files::new();
    let text = "The quick brown fox jumps over the lazy dog. ".repeat(4);
    let file = files.write("text.txt", &text);
    let run = weft(format!("perplexity --model '{TINY}' --file '{file}' --context 32 --json"));
    let report = run.done();
    assert_eq!(keys(&report), ["perplexity", "error", "tokens"]);
    assert!(run.stderr.contains("[1/"), "running values: {}", run.stderr);
    // The same figure from the logits: of each chunk of 32, tokens 17 to 31 are predicted.
    let tokens = weft_with(format!("tokenize --model '{TINY}' --json"), &text).done();
    let positions: Vec<String> = (16..31).map(|position: usize| position.to_string()).collect();
    let positions = positions.join(",");
    let mut losses = Vec::new();
    for chunk in items(&tokens["tokens"]).chunks_exact(32) {
        let ids = id_list(&json!(chunk));
        let ask = format!("logits --model '{TINY}' --tokens {ids} --positions {positions} --json");
        for (row, position) in items(&weft(ask).done()["logits"]).iter().zip(16..) {
            let next = chunk[position + 1].as_u64().expect("an id") as usize;
            let row = floats(row);
            losses.push(normalizer(&row) - row[next]);
        }
    }
    let n = losses.len() as f64;
    let mean = losses.iter().sum::<f64>() / n;
    let variance = losses.iter().map(|loss| (loss - mean).powi(2)).sum::<f64>() / n;
    let error = (variance / (n - 1.0)).sqrt() * mean.exp();
    assert_eq!(report["tokens"], losses.len());
    // Both losses come from 32-bit logits but are summed in another order.
    let off_by = |key: &str, wanted: f64| (report[key].as_f64().expect("a number") / wanted - 1.0).abs();
    assert!(off_by("perplexity", mean.exp()) < 1e-5, "{report}");
    assert!(off_by("error", error) < 1e-4, "{report}");
}

#[test]
fn bench_has_the_keys_of_the_peers_script() {
    let bench =
        format!("bench --model '{TINY}' --threads 1 --prompt 24 --generate 8 --sessions 1,3 --repeat 1");
    let figures = weft(format!("{bench} --json")).done();
    let names = [
        "engine",
        "model",
        "threads",
        "prompt_tok_s",
        "generate_tok_s",
        "batch_tok_s",
        "load_s",
        "first_token_process_s",
        "peak_rss_mb",
        "weights_mb",
        "kv_mb",
    ];
    assert_eq!(keys(&figures), names);
    assert_eq!(figures["engine"], "weft");
    assert_eq!(figures["threads"], 1);
    assert_eq!(figures["model"], "tiny-llama.gguf");
    assert_eq!(keys(&figures["batch_tok_s"]), ["1", "3"]);
    for key in ["prompt_tok_s", "generate_tok_s", "first_token_process_s", "peak_rss_mb"] {
        assert!(figures[key].as_f64().is_some_and(|rate| rate > 0.0), "{key}");
    }
    let deep = weft(format!("{bench} --json --depth 40")).done();
    assert_eq!(keys(&deep), names);
    let files = Files::new();
    let peer = files.write("peer.json", figures.to_string());
    let table = weft(format!("{bench} --peer-json '{peer}'"));
    assert_eq!(table.code, Some(0), "{}", table.stderr);
    let both = table.text().contains("3 together") && table.text().contains('×');
    assert!(both, "{}", table.text());
}

#[test]
fn bench_profiles_a_decode_tick() {
    let bench = format!("bench --profile --model '{TINY}' --generate 16");
    let profile = weft(&bench);
    assert_eq!(profile.code, Some(0), "{}", profile.stderr);
    let line = "ECS (everything that is not a kernel): ";
    assert!(profile.text().contains(line), "{}", profile.text());
    let json = weft(format!("{bench} --json")).done();
    assert_eq!(json["ticks"], 15, "{json}");
    let spans = items(&json["spans"]);
    assert!(spans.iter().any(|span| span["name"] == "tick"));
    assert!(spans.iter().any(|span| span["kernel"] == true), "{json}");
    let share = json["ecs_share"].as_f64();
    assert!(share.is_some_and(|share| share > 0.0 && share < 1.0), "{json}");
}

#[test]
fn list_shows_the_catalogue() {
    let list = weft("list --json").done();
    let models = items(&list["models"]);
    let defaults = models.iter().filter(|model| model["default"] == true);
    assert_eq!(defaults.count(), 1);
    // Nothing has been downloaded.
    assert!(models.iter().all(|model| model["file"].is_null()));
    assert!(weft("list").text().contains("(default)"));
}

#[test]
fn embed_gives_vectors_of_length_one_for_each_text() {
    let embed = format!("embed --model '{TINY}' --json");
    let both = weft(format!("{embed} Hello 'Hello again'")).done();
    assert_eq!(keys(&both), ["embeddings", "tokens"]);
    let vectors: Vec<Vec<f64>> = items(&both["embeddings"]).iter().map(floats).collect();
    assert_eq!(vectors.len(), 2);
    assert!(vectors[0].len() == vectors[1].len() && vectors[0] != vectors[1]);
    for vector in &vectors {
        let length = vector.iter().map(|x| x.powi(2)).sum::<f64>().sqrt();
        assert!((length - 1.0).abs() < 1e-6, "{length}");
    }
    let count = |text: &str| {
        items(&weft_with(format!("tokenize --model '{TINY}' --json"), text).done()["tokens"]).len()
    };
    assert_eq!(both["tokens"], count("Hello") + count("Hello again"));
    // The same text alone, from a file, and in chunks.
    let files = Files::new();
    let path = files.write("texts", "Hello\nHello again\n");
    assert_eq!(weft(format!("{embed} --file '{path}' --chunk 2")).done(), both);
    assert_eq!(weft(format!("{embed} Hello")).done()["embeddings"][0], both["embeddings"][0]);
    // The pooled vector, by default the last token's, is one of the tokens' vectors.
    let each = weft(format!("{embed} --pooling none Hello")).done();
    let rows: Vec<Vec<f64>> = items(&each["embeddings"][0]).iter().map(floats).collect();
    assert_eq!((rows.len(), rows.last()), (count("Hello"), vectors.first()));
    assert_eq!(
        weft(format!("{embed} --pooling cls Hello")).done()["embeddings"][0],
        each["embeddings"][0][0]
    );
    let raw = weft(format!("{embed} --pooling mean --no-normalize Hello")).done();
    assert_ne!(raw["embeddings"], weft(format!("{embed} --pooling mean Hello")).done()["embeddings"]);
    let plain = weft(format!("embed --model '{TINY}' Hello"));
    let line: Vec<f64> = plain.text().split_whitespace().map(|x| x.parse().expect("a float")).collect();
    assert_eq!(line, vectors[0]);
    assert_eq!(weft(format!("embed --model '{TINY}'")).code, Some(2));
}
