//! Runs the built command on a tiny model, and makes variants of that model's file.

#![allow(dead_code, reason = "each test program uses a part of this")]
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

#[cfg(target_os = "linux")]
pub(crate) mod terminal;

use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A Llama model with random weights; see `assets/golden`.
pub(crate) const TINY: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/golden/tiny/tiny-llama.gguf");

/// The tiny model ends its answer to most prompts at once. This option forbids its end-of-generation token.
pub(crate) const ON: &str = "--logit-bias 284=-1000";

/// A chat template that shows everything it is given.
pub(crate) const TEMPLATE: &str = "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}\
    {% if add_generation_prompt %}<assistant>{% endif %}";

/// The result of a run of the command.
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Run {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("stdout is text")
    }

    /// Parses stdout as one JSON value on one line.
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.text().lines().count(), 1, "one line: {} {}", self.text(), self.stderr);
        serde_json::from_str(self.text()).expect("stdout is JSON")
    }

    /// The JSON value of a run that must have succeeded.
    pub(crate) fn done(&self) -> Value {
        assert_eq!(self.code, Some(0), "{} {}", self.text(), self.stderr);
        self.json()
    }

    /// The text of a run that must have succeeded.
    pub(crate) fn done_text(&self) -> &str {
        assert_eq!(self.code, Some(0), "{} {}", self.text(), self.stderr);
        self.text()
    }

    /// The JSON error of a run that must have failed with exit code 1.
    pub(crate) fn failed(&self) -> Value {
        self.error(1)
    }

    /// The JSON error of a run that must have failed with exit code 2.
    pub(crate) fn refused(&self) -> Value {
        self.error(2)
    }

    fn error(&self, code: i32) -> Value {
        assert_eq!(self.code, Some(code), "{} {}", self.text(), self.stderr);
        let error = self.json()["error"].clone();
        let message = error["message"].as_str().expect("a message");
        assert!(self.stderr.contains(message), "stderr tells people as well: {}", self.stderr);
        error
    }
}

/// Splits a command line into words; single quotes group any text.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (part, text) in line.split('\'').enumerate() {
        if part % 2 == 1 {
            words.push(text.to_owned());
        } else {
            words.extend(text.split_whitespace().map(str::to_owned));
        }
    }
    words
}

/// The command with an empty cache folder.
pub(crate) fn command(line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weft"));
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
    command.args(words(line)).env("WEFT_CACHE", cache);
    command.env_remove("WEFT_ISA").env_remove("WEFT_LOG").env_remove("WEFT_BACKEND");
    command
}

/// Runs the command with an empty stdin.
pub(crate) fn weft(line: impl AsRef<str>) -> Run {
    weft_with(line, "")
}

/// Runs the command with text on stdin.
pub(crate) fn weft_with(line: impl AsRef<str>, stdin: impl AsRef<[u8]>) -> Run {
    run_of(&mut command(line.as_ref()), stdin)
}

/// Runs a command from [`command`] with text on stdin.
pub(crate) fn run_of(command: &mut Command, stdin: impl AsRef<[u8]>) -> Run {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts");
    let mut pipe = child.stdin.take().expect("a pipe");
    // A command that does not read stdin may have exited already.
    let _ = pipe.write_all(stdin.as_ref());
    drop(pipe);
    let Output { status, stdout, stderr } = child.wait_with_output().expect("the command ends");
    Run { code: status.code(), stdout, stderr: String::from_utf8(stderr).expect("stderr is text") }
}

/// Offset of the metadata in a GGUF: after the magic number, the version and two counts.
const FIRST_ENTRY: usize = 24;
const TENSOR_COUNT: usize = 8;
const ENTRY_COUNT: usize = 16;
/// Inserting a multiple of this many bytes keeps the tensors aligned.
const ALIGNMENT: usize = 32;

/// A folder with variants of the tiny model, removed at the end of the test.
pub(crate) struct Files(tempfile::TempDir);

impl Files {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        std::fs::write(&path, bytes).expect("a file");
        path.to_str().expect("a path in UTF-8").to_owned()
    }

    /// The tiny model without tensors: its header says that there are none.
    pub(crate) fn vocabulary_only(&self) -> String {
        let mut bytes = std::fs::read(TINY).expect("the tiny model");
        bytes[TENSOR_COUNT..TENSOR_COUNT + 8].fill(0);
        self.write("vocabulary.gguf", bytes)
    }

    /// The tiny model with [`TEMPLATE`] as its chat template.
    pub(crate) fn with_template(&self) -> String {
        self.with_template_and("templated.gguf", &[])
    }

    /// Like [`with_template`](Self::with_template), with further metadata: keys, type ids and the values' bytes.
    pub(crate) fn with_template_and(&self, name: &str, more: &[(&str, u32, &[u8])]) -> String {
        const KEY: &str = "tokenizer.chat_template";
        const STRING: u32 = 8;
        let mut entries = Vec::new();
        for (key, kind, value) in more {
            entries.extend((key.len() as u64).to_le_bytes());
            entries.extend(key.as_bytes());
            entries.extend(kind.to_le_bytes());
            entries.extend(*value);
        }
        let fixed = entries.len() + 8 + KEY.len() + 4 + 8 + "{##}".len() + TEMPLATE.len();
        let padding = " ".repeat(fixed.next_multiple_of(ALIGNMENT) - fixed);
        let template = format!("{{#{padding}#}}{TEMPLATE}");
        entries.extend((KEY.len() as u64).to_le_bytes());
        entries.extend(KEY.as_bytes());
        entries.extend(STRING.to_le_bytes());
        entries.extend((template.len() as u64).to_le_bytes());
        entries.extend(template.as_bytes());
        let mut bytes = std::fs::read(TINY).expect("the tiny model");
        bytes[ENTRY_COUNT] += 1 + more.len() as u8;
        bytes.splice(FIRST_ENTRY..FIRST_ENTRY, entries);
        self.write(name, bytes)
    }
}

impl Files {
    /// The same model with another context length in its metadata.
    pub(crate) fn with_context(&self, tokens: u32) -> String {
        const KEY: &[u8] = b"llama.context_length";
        let path = self.with_template();
        let mut bytes = std::fs::read(path).expect("the tiny model");
        let key = bytes.windows(KEY.len()).position(|window| window == KEY).expect("a context");
        // The type id follows the key.
        let value = key + KEY.len() + 4;
        bytes[value..value + 4].copy_from_slice(&tokens.to_le_bytes());
        self.write("context.gguf", bytes)
    }
}

/// Returns true if the text contains an escape sequence.
pub(crate) fn coloured(text: &str) -> bool {
    text.contains('\x1b')
}

/// The keys of an object, in order.
pub(crate) fn keys(value: &Value) -> Vec<&str> {
    let object = value.as_object().expect("an object");
    object.keys().map(String::as_str).collect()
}

/// The items of an array.
pub(crate) fn items(value: &Value) -> &[Value] {
    value.as_array().expect("an array")
}

/// The numbers of an array.
pub(crate) fn floats(value: &Value) -> Vec<f64> {
    let number = |value: &Value| value.as_f64().expect("a number");
    items(value).iter().map(number).collect()
}

/// Formats token ids as the command line takes them.
pub(crate) fn id_list(tokens: &Value) -> String {
    let ids: Vec<String> = items(tokens).iter().map(Value::to_string).collect();
    ids.join(",")
}

/// Kullback-Leibler divergence of two rows of logits.
pub(crate) fn divergence(p: &[f64], q: &[f64]) -> f64 {
    let (zp, zq) = (normalizer(p), normalizer(q));
    let terms = p.iter().zip(q).map(|(p, q)| (p - zp).exp() * ((p - zp) - (q - zq)));
    terms.sum()
}

pub(crate) fn normalizer(row: &[f64]) -> f64 {
    row.iter().map(|x| x.exp()).sum::<f64>().ln()
}

/// Unpacks a folder of the golden data among the files, and returns its path.
pub(crate) fn folder(files: &Files, name: &str) -> String {
    let golden = format!("{}/../../assets/golden/hf/folders/{name}.zip", env!("CARGO_MANIFEST_DIR"));
    let archive = std::fs::File::open(golden).expect("a folder");
    let path = files.path(name);
    zip::ZipArchive::new(archive).expect("an archive").extract(&path).expect("its files");
    path.to_str().expect("a path in UTF-8").to_owned()
}
