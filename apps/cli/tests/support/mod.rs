//! Runs the built command on a tiny model, and makes variants of that model's file.

use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A llama model of random weights: see `assets/golden`.
pub const TINY: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../assets/golden/tiny/tiny-llama.gguf"
);

/// What a run of the command gave.
pub struct Run {
    pub code: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Run {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("stdout is text")
    }

    /// Stdout as one JSON value on one line.
    pub fn json(&self) -> Value {
        assert_eq!(
            self.text().lines().count(),
            1,
            "one line: {} {}",
            self.text(),
            self.stderr
        );
        serde_json::from_str(self.text()).expect("stdout is JSON")
    }

    /// The value of a run that worked.
    pub fn done(&self) -> Value {
        assert_eq!(self.code, Some(0), "{} {}", self.text(), self.stderr);
        self.json()
    }

    /// The error of a run that failed.
    pub fn failed(&self) -> Value {
        assert_eq!(self.code, Some(1), "{} {}", self.text(), self.stderr);
        let error = self.json()["error"].clone();
        let message = error["message"].as_str().expect("a message");
        assert!(
            self.stderr.contains(message),
            "stderr tells people as well: {}",
            self.stderr
        );
        error
    }
}

/// The command with a cache folder of its own that stays empty.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weft"));
    command
        .args(args)
        .env("WEFT_CACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache"));
    command.env_remove("WEFT_ISA").env_remove("WEFT_LOG");
    command
}

/// Runs the command with nothing on stdin.
pub fn weft(args: &[&str]) -> Run {
    weft_with(args, "")
}

/// Runs the command with text on stdin.
pub fn weft_with(args: &[&str], stdin: impl AsRef<[u8]>) -> Run {
    let mut child = command(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts");
    let mut pipe = child.stdin.take().expect("a pipe");
    // A command that reads no stdin may be gone already.
    let _ = pipe.write_all(stdin.as_ref());
    drop(pipe);
    let Output {
        status,
        stdout,
        stderr,
    } = child.wait_with_output().expect("the command ends");
    Run {
        code: status.code(),
        stdout,
        stderr: String::from_utf8(stderr).expect("stderr is text"),
    }
}

/// Space for one metadata entry at the beginning of a GGUF: after magic word, version and two counts.
const FIRST_ENTRY: usize = 24;
const TENSOR_COUNT: usize = 8;
const ENTRY_COUNT: usize = 16;
/// Inserting a multiple of it leaves the tensors aligned.
const ALIGNMENT: usize = 32;

/// A folder with variants of the tiny model.
pub struct Files(tempfile::TempDir);

impl Files {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        std::fs::write(&path, bytes).expect("a file");
        path.to_str().expect("a path in UTF-8").to_owned()
    }

    /// The tiny model without a tensor: its header says that there are none.
    pub fn vocabulary_only(&self) -> String {
        let mut bytes = std::fs::read(TINY).expect("the tiny model");
        bytes[TENSOR_COUNT..TENSOR_COUNT + 8].fill(0);
        self.write("vocabulary.gguf", bytes)
    }

    /// The tiny model with a chat template.
    pub fn with_template(&self, template: &str) -> String {
        const KEY: &str = "tokenizer.chat_template";
        let mut bytes = std::fs::read(TINY).expect("the tiny model");
        bytes[ENTRY_COUNT] += 1;
        let fixed = 8 + KEY.len() + 4 + 8 + template.len() + "{##}".len();
        let padded = format!(
            "{{#{}#}}{template}",
            " ".repeat(fixed.next_multiple_of(ALIGNMENT) - fixed)
        );
        let mut entry = (KEY.len() as u64).to_le_bytes().to_vec();
        entry.extend(KEY.as_bytes());
        entry.extend(8u32.to_le_bytes());
        entry.extend((padded.len() as u64).to_le_bytes());
        entry.extend(padded.as_bytes());
        bytes.splice(FIRST_ENTRY..FIRST_ENTRY, entry);
        self.write("templated.gguf", bytes)
    }
}

/// Whether the text holds an escape sequence.
pub fn coloured(text: &str) -> bool {
    text.contains('\x1b')
}
