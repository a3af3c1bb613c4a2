//! Builds GGUF files from parts, so that a test can make exactly one thing invalid.
#![allow(dead_code, reason = "each test binary uses a part of this")]
#![allow(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

use std::path::PathBuf;
use std::sync::Arc;

use weft_formats::gguf::{Gguf, GgufError, TensorInfo};
use weft_platform::storage::{MemorySource, Source};

/// Returns the path of a golden file.
pub(crate) fn golden(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "..", "assets", "golden", name].iter().collect()
}

/// Reads a golden file.
pub(crate) fn golden_bytes(name: &str) -> Vec<u8> {
    let path = golden(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Makes a source in memory.
pub(crate) fn memory(name: &str, bytes: Vec<u8>) -> Arc<dyn Source> {
    Arc::new(MemorySource::new(name, bytes))
}

/// Reads one file called `test.gguf`.
pub(crate) fn read(bytes: Vec<u8>) -> Result<Gguf, GgufError> {
    Gguf::read(&[memory("test.gguf", bytes)])
}

/// Encodes a string: its length and its bytes.
pub(crate) fn string(text: impl AsRef<[u8]>) -> Vec<u8> {
    let text = text.as_ref();
    [&(text.len() as u64).to_le_bytes(), text].concat()
}

/// Encodes a metadata entry. `payload` is the value after the type id.
pub(crate) fn entry(key: &str, id: u32, payload: &[u8]) -> Vec<u8> {
    [&string(key), &id.to_le_bytes()[..], payload].concat()
}

/// Encodes a metadata entry of type u32.
pub(crate) fn entry_u32(key: &str, value: u32) -> Vec<u8> {
    entry(key, 4, &value.to_le_bytes())
}

/// Encodes a metadata entry of type string.
pub(crate) fn entry_string(key: &str, value: &str) -> Vec<u8> {
    entry(key, 8, &string(value))
}

/// Encodes an array: element type, count and contents.
pub(crate) fn array(id: u32, count: u64, payload: &[u8]) -> Vec<u8> {
    [&id.to_le_bytes(), &count.to_le_bytes()[..], payload].concat()
}

/// Encodes an entry of the tensor table.
pub(crate) fn tensor(name: &str, shape: &[u64], id: u32, offset: u64) -> Vec<u8> {
    let mut out = string(name);
    out.extend((shape.len() as u32).to_le_bytes());
    for dimension in shape {
        out.extend(dimension.to_le_bytes());
    }
    out.extend(id.to_le_bytes());
    out.extend(offset.to_le_bytes());
    out
}

/// A file under construction.
#[derive(Clone, Debug)]
pub(crate) struct File {
    pub(crate) magic: [u8; 4],
    pub(crate) version: u32,
    /// Stated instead of the actual count.
    pub(crate) entry_count: Option<u64>,
    /// Stated instead of the actual count.
    pub(crate) tensor_count: Option<u64>,
    pub(crate) entries: Vec<Vec<u8>>,
    pub(crate) tensors: Vec<Vec<u8>>,
    /// Alignment of the start of the data, in bytes.
    pub(crate) alignment: usize,
    pub(crate) data: Vec<u8>,
}

impl Default for File {
    fn default() -> Self {
        Self {
            magic: *b"GGUF",
            version: 3,
            entry_count: None,
            tensor_count: None,
            entries: vec![],
            tensors: vec![],
            alignment: 32,
            data: vec![],
        }
    }
}

impl File {
    /// Returns the file's header.
    pub(crate) fn header(&self) -> Vec<u8> {
        let mut out = self.magic.to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend(self.tensor_count.unwrap_or(self.tensors.len() as u64).to_le_bytes());
        out.extend(self.entry_count.unwrap_or(self.entries.len() as u64).to_le_bytes());
        out.extend(self.entries.concat());
        out.extend(self.tensors.concat());
        out
    }

    /// Returns the file's bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = self.header();
        if !self.data.is_empty() {
            out.resize(out.len().next_multiple_of(self.alignment), 0);
            out.extend(&self.data);
        }
        out
    }

    /// Reads the file as `test.gguf`.
    pub(crate) fn read(&self) -> Result<Gguf, GgufError> {
        read(self.bytes())
    }
}

/// Uses everything that the reader returns, as a program that loads the model does.
pub(crate) fn walk(gguf: &Gguf, sources: &[Arc<dyn Source>]) {
    for (key, value) in gguf.metadata.iter() {
        assert_eq!(gguf.metadata.get(key).map(|found| found.value_type()), Some(value.value_type()));
        let _ = value.to_string().len();
    }
    for info in &gguf.tensors {
        check_tensor(info, sources);
        assert_eq!(gguf.tensor(&info.name), Some(info));
    }
}

/// Checks the reader's guarantees for a tensor.
pub(crate) fn check_tensor(info: &TensorInfo, sources: &[Arc<dyn Source>]) {
    let bytes = sources[info.source].read(info.range.clone()).unwrap();
    assert_eq!(bytes.len() as u64, info.bytes());
    let blocks = info.elements() / info.format.block() as u64;
    assert_eq!(blocks * info.format.block() as u64, info.elements());
    assert_eq!(blocks * info.format.block_bytes() as u64, info.bytes());
    assert!((1..=4).contains(&info.shape.len()));
}
