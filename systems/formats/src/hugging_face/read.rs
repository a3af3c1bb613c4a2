//! Reading the files that describe a model: its configuration, tokenizer, index and modules.

use super::HuggingFaceError;
use std::path::Path;
use weft_platform::storage::{Bytes, FileSource, Source};

/// Longest description that is read. Tokenizers of large vocabularies are the longest, at some 30 MB.
const MAX_BYTES: u64 = 256 << 20;

/// All of a description.
pub(super) fn read_all(path: &Path) -> Result<Bytes, HuggingFaceError> {
    let source = FileSource::open(path)?;
    let (file, bytes) = (path.display().to_string(), source.len());
    if bytes > MAX_BYTES {
        return Err(HuggingFaceError::FileTooLarge { file, bytes, limit: MAX_BYTES });
    }
    Ok(source.read(0..bytes)?)
}
