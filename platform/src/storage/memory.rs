//! A source that lies in memory: a downloaded buffer, a test's bytes.

use std::ops::Range;

use super::{Bytes, Source, StorageError, view};

/// Bytes in memory under a name. Reads share them.
#[derive(Clone, Debug)]
pub struct MemorySource {
    name: String,
    bytes: Bytes,
}

impl MemorySource {
    /// A source of `bytes`, a `Vec<u8>`, an `Arc<[u8]>` or other [`Bytes`]; messages call it `name`.
    pub fn new(name: impl Into<String>, bytes: impl Into<Bytes>) -> Self {
        Self { name: name.into(), bytes: bytes.into() }
    }
}

impl Source for MemorySource {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read(&self, range: Range<u64>) -> Result<Bytes, StorageError> {
        view(&self.name, &self.bytes, range)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::check_contract;
    use super::*;

    #[test]
    fn keeps_the_contract() {
        for content in [&b""[..], b"x", b"some bytes of a file that is longer than forty"] {
            check_contract(&MemorySource::new("memory", content.to_vec()), content);
        }
    }
}
