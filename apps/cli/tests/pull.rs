//! Hub models: pulled from a server on the loopback interface, then found, listed, repaired and removed without it.

#[allow(dead_code, clippy::unwrap_used, reason = "the server of the unit tests, of which these use a part")]
#[path = "../src/pull/tests/server.rs"]
mod server;

use crate::support::{Files, Run, TINY, command, items, run_of};
use serde_json::{Value, json};
use server::{Answer, Server};
use sha2::{Digest, Sha256};
use std::path::Path;

/// Files of the repository `some/repo` on the server.
const LISTED: [&str; 6] = [
    "README.md",
    "model-BF16.gguf",
    "model-F16.gguf",
    "q/model-q8_0.gguf",
    "split/model-Q2_K-00001-of-00003.gguf",
    "model.gguf",
];
const SPLIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/golden/gguf");

/// A cache folder for one test, and a hub that can be switched off.
struct Hub {
    files: Files,
    server: Option<Server>,
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of a file: a part of a split model, or the tiny model.
fn body(path: &str) -> Vec<u8> {
    let file = match path.rsplit_once("-Q2_K-") {
        Some((_, part)) => format!("{SPLIT}/split-{part}"),
        None => TINY.to_owned(),
    };
    std::fs::read(file).expect("a model")
}

fn answer(path: &str, from: Option<usize>) -> Answer {
    if path == "/api/models/some/repo/revision/main" {
        let siblings: Vec<Value> = LISTED.iter().map(|file| json!({ "rfilename": file })).collect();
        return Answer::file(json!({ "id": "some/repo", "siblings": siblings }).to_string().as_bytes(), None);
    }
    if path == "/api/models/some/tree/tree/main?recursive=true" {
        let entries = json!([{"type": "directory", "path": "q"}, {"type": "file", "path": "q/a-Q4_0.gguf"}]);
        return Answer::file(entries.to_string().as_bytes(), None);
    }
    if !path.contains("/resolve/") || path.contains("missing") {
        return Answer::status("404 Not Found");
    }
    let bytes = body(path);
    let mut answer = Answer::file(&bytes, from);
    answer.headers.push(("X-Linked-ETag", format!("\"{}\"", sha256(&bytes))));
    answer.headers.push(("X-Linked-Size", bytes.len().to_string()));
    answer
}

impl Hub {
    fn new() -> Self {
        let server = Server::start(|asked| answer(&asked.path, asked.from));
        Self { files: Files::new(), server: Some(server) }
    }

    /// Switches the hub off.
    fn gone(&mut self) {
        self.server = None;
    }

    fn cache(&self) -> std::path::PathBuf {
        self.files.path("cache")
    }

    fn weft(&self, line: &str) -> Run {
        let nowhere = "http://127.0.0.1:9".to_owned();
        let url = self.server.as_ref().map_or(nowhere, |server| server.url.clone());
        let mut command = command(line);
        run_of(command.env("WEFT_CACHE", self.cache()).env("HF_ENDPOINT", url), "")
    }

    /// The names that `weft list` prints, with their aliases.
    fn listed(&self) -> Vec<(String, Value)> {
        let list = self.weft("list --json").done();
        let here = items(&list["models"]).iter().filter(|model| !model["file"].is_null());
        here.map(|model| (model["name"].as_str().expect("a name").to_owned(), model["aliases"].clone()))
            .collect()
    }

    fn asked(&self) -> usize {
        self.server.as_ref().map_or(0, |server| server.asked().len())
    }
}

const RUN: &str = "--raw --max-tokens 2 --json hi --model";

#[test]
fn a_file_of_the_hub_is_a_model_by_its_name() {
    let mut hub = Hub::new();
    let name = "some/repo/q/model.gguf";
    let error = hub.weft(&format!("run {RUN} {name}")).failed();
    assert_eq!(error["kind"], "not_pulled");
    let message = error["message"].as_str().expect("a message");
    assert!(message.contains(&format!("`weft pull {name}`")), "{message}");
    assert_eq!(hub.asked(), 0, "nothing is downloaded without being asked for");
    let pulled = hub.weft(&format!("pull {name} --json")).done();
    assert_eq!((&pulled["model"], &pulled["checked"]), (&json!(name), &json!(true)));
    hub.gone();
    hub.weft(&format!("run {RUN} {name}")).done();
    hub.weft(&format!("inspect --json {name}")).done();
    assert_eq!(hub.listed(), [(name.to_owned(), json!([]))]);
    assert!(hub.weft("list").text().contains(name));
    let removed = hub.weft(&format!("rm {name} --json")).done();
    assert_eq!(removed["removed"], json!([pulled["file"]]));
    assert_eq!(removed["bytes"], body(name).len());
    assert!(!hub.cache().join("hub").exists(), "nothing is left");
    let error = hub.weft(&format!("rm {name} --json")).failed();
    assert_eq!(error["kind"], "not_here");
    assert_eq!(hub.weft(&format!("run {RUN} {name}")).failed()["kind"], "not_pulled");
}

#[test]
fn a_quantization_stands_for_a_file() {
    let mut hub = Hub::new();
    for (name, file) in [
        ("some/repo", "q/model-q8_0.gguf"),
        ("some/repo:q8_0", "q/model-q8_0.gguf"),
        ("some/repo:f16", "model-F16.gguf"),
    ] {
        let pulled = hub.weft(&format!("pull {name} --json")).done();
        assert!(Path::new(pulled["file"].as_str().expect("a path")).ends_with(file), "{name}: {pulled}");
    }
    let asked = hub.asked();
    hub.weft("pull some/repo").done_text();
    assert_eq!(hub.asked(), asked, "a complete file is not requested again");
    let error = hub.weft("pull some/repo:Q5_1 --json").failed();
    assert_eq!((&error["kind"], &error["quant"]), (&json!("no_such_quant"), &json!("Q5_1")));
    assert!(error["there"].to_string().contains("model-F16.gguf"), "{error}");
    // A mirror that has only the tree endpoint.
    let pulled = hub.weft("pull some/tree:Q4_0 --json").done();
    assert!(pulled["file"].as_str().is_some_and(|file| file.ends_with("a-Q4_0.gguf")), "{pulled}");
    hub.gone();
    for name in ["some/repo", "some/repo:Q8_0", "some/repo:q8_0", "some/repo:F16", "some/repo/model-F16.gguf"]
    {
        hub.weft(&format!("run {RUN} {name}")).done();
    }
    assert_eq!(hub.weft(&format!("run {RUN} some/repo:Q5_1")).failed()["kind"], "not_pulled");
    let names = [
        ("some/repo/model-F16.gguf", json!(["some/repo:F16"])),
        ("some/repo/q/model-q8_0.gguf", json!(["some/repo", "some/repo:Q8_0"])),
        ("some/tree/q/a-Q4_0.gguf", json!(["some/tree:Q4_0"])),
    ];
    assert_eq!(hub.listed(), names.map(|(name, aliases)| (name.to_owned(), aliases)));
    hub.weft("rm some/repo some/tree/q/a-Q4_0.gguf").done_text();
    assert_eq!(hub.listed(), [("some/repo/model-F16.gguf".to_owned(), json!(["some/repo:F16"]))]);
}

#[test]
fn only_the_model_that_is_named_is_removed() {
    let mut hub = Hub::new();
    for file in ["model-BF16.gguf", "model-Q4_K_M.gguf", "other-Q4_K_M.gguf"] {
        hub.weft(&format!("pull some/repo/{file}")).done_text();
    }
    hub.gone();
    for name in ["F16", "16", "K_M", "Q4_K", "Q8_0", "model"] {
        assert_eq!(hub.weft(&format!("rm --json some/repo:{name}")).failed()["kind"], "not_here", "{name}");
    }
    // Names that match more than one model, one of them the repository alone.
    for (name, count) in [("some/repo:Q4_K_M", 2), ("some/repo", 3)] {
        let error = hub.weft(&format!("rm --json {name}")).failed();
        assert_eq!(
            (&error["kind"], items(&error["there"]).len()),
            (&json!("several_here"), count),
            "{error}"
        );
    }
    assert_eq!(hub.listed().len(), 3);
    hub.weft("rm some/repo/other-Q4_K_M.gguf some/repo:q4_k_m").done_text();
    assert_eq!(hub.listed(), [("some/repo/model-BF16.gguf".to_owned(), json!([]))]);
    hub.weft("rm some/repo").done_text();
    assert!(!hub.cache().join("hub").exists());
}

#[test]
fn an_interrupted_pull_is_listed_and_removed() {
    let mut hub = Hub::new();
    hub.server = Some(Server::start(|asked| {
        let answer = answer(&asked.path, asked.from);
        if asked.path.starts_with("/api/") { answer } else { answer.cut(1000) }
    }));
    // The server breaks off each request after some thousand bytes.
    let whole = body("model.gguf").len();
    assert!(whole > 150_000, "the file needs more attempts than are made");
    for name in ["some/repo", "some/repo:q8_0"] {
        assert_eq!(hub.weft(&format!("pull {name} --json")).failed()["kind"], "all_failed");
    }
    let asked = hub.asked();
    assert_eq!(hub.weft(&format!("run {RUN} some/repo")).failed()["kind"], "not_pulled");
    let list = hub.weft("list --json").done();
    let begun: Vec<&Value> =
        items(&list["models"]).iter().filter(|one| one["partial_bytes"].is_u64()).collect();
    assert_eq!(begun.len(), 1);
    assert_eq!(
        (&begun[0]["name"], &begun[0]["aliases"], &begun[0]["file"]),
        (&json!("some/repo/q/model-q8_0.gguf"), &json!(["some/repo", "some/repo:Q8_0"]), &Value::Null)
    );
    assert!(begun[0]["partial_bytes"].as_u64().is_some_and(|bytes| bytes > 0 && bytes < whole as u64));
    assert!(hub.weft("list").text().contains("`weft rm some/repo/q/model-q8_0.gguf`"));
    assert_eq!(hub.asked(), asked);
    let removed = hub.weft("rm --json some/repo").done();
    assert_eq!(items(&removed["removed"]).len(), 1);
    assert_eq!(removed["bytes"], begun[0]["partial_bytes"]);
    assert!(!hub.cache().join("hub").exists());
    // A partial file as an older version left it, without a recorded name.
    let part = hub.cache().join("hub/some--repo/m-Q8_0.gguf.part");
    for name in ["some/repo:q8_0", "some/repo", "some/repo/m-Q8_0.gguf"] {
        std::fs::create_dir_all(part.parent().expect("a folder")).expect("a folder");
        std::fs::write(&part, b"begun").expect("a file");
        hub.weft(&format!("rm {name}")).done_text();
        assert!(!part.exists(), "{name}");
    }
}

#[test]
fn all_parts_of_a_split_model_are_pulled_and_removed() {
    let mut hub = Hub::new();
    let pulled = hub.weft("pull some/repo:Q2_K --json").done();
    let files = items(&pulled["files"]);
    assert_eq!((files.len(), &files[0]), (3, &pulled["file"]));
    hub.gone();
    let report = hub.weft("inspect --json some/repo:q2_k").done();
    assert_eq!(report["parts"], 3);
    assert_eq!(hub.listed()[0].1, json!(["some/repo:Q2_K"]));
    let removed = hub.weft("rm --json some/repo/split/model-Q2_K-00002-of-00003.gguf").done();
    assert_eq!(items(&removed["removed"]).len(), 3);
    assert!(hub.listed().is_empty());
}

#[test]
fn a_damaged_model_says_what_mends_it() {
    let hub = Hub::new();
    let name = "some/repo/model.gguf";
    let pulled = hub.weft(&format!("pull {name} --json")).done();
    let path = pulled["file"].as_str().expect("a path").to_owned();
    let whole = body(name);
    let mut not_a_number = whole.clone();
    let at = not_a_number.len() - 6000;
    not_a_number[at..at + 4096].fill(0xff);
    let advice = format!("weft pull --verify {name}");
    for damaged in [not_a_number, whole[..whole.len() / 2].to_vec(), b"<html>".to_vec()] {
        // By name and by path, with damage in different places of the file.
        for model in [name, &path] {
            std::fs::write(&path, &damaged).expect("the model");
            let error = hub.weft(&format!("run {RUN} '{model}'")).failed();
            assert_eq!(error["advice"], *advice, "{error}");
            assert_ne!(error["kind"], "of_model");
            assert!(error["message"].as_str().is_some_and(|text| text.contains(&advice)), "{error}");
        }
        let mended = hub.weft(&format!("pull {name} --verify --json"));
        assert!(mended.stderr.contains("is damaged"), "{}", mended.stderr);
        assert_eq!(mended.done()["checked"], true);
        assert_eq!(std::fs::read(&path).expect("the model"), whole);
        hub.weft(&format!("run {RUN} {name}")).done();
    }
    // A truncated file is detected by its size alone.
    std::fs::write(&path, &whole[..9]).expect("the model");
    hub.weft(&format!("pull {name}")).done_text();
    assert_eq!(std::fs::read(&path).expect("the model"), whole);
    // A complete file is not downloaded again.
    let asked = hub.asked();
    assert_eq!(hub.weft(&format!("pull --verify {name} --json")).done()["checked"], true);
    assert_eq!(hub.asked(), asked);
    // A damaged file outside the cache has no name to pull.
    let own = hub.files.write("own.gguf", &whole[..whole.len() / 2]);
    assert_eq!(hub.weft(&format!("run {RUN} '{own}'")).failed()["advice"], Value::Null);
}

#[test]
fn names_that_are_none_are_refused() {
    let hub = Hub::new();
    for name in ["some", "some/repo/../../x.gguf", "some/repo/x.bin", "some/re--po", "a/b:c d"] {
        let error = hub.weft(&format!("pull '{name}' --json")).failed();
        assert_eq!(error["kind"], "reference", "{name}: {error}");
    }
    assert_eq!(hub.asked(), 0);
    let error = hub.weft("pull some/missing/m.gguf --json").failed();
    assert_eq!(error["kind"], "all_failed");
    assert_eq!(hub.weft("pull some/missing --json").failed()["kind"], "all_failed");
}
