//! Reads the files that describe a model: configuration, tokenizer, index and modules.

use super::HuggingFaceError;
use std::path::Path;
use weft_platform::storage::{Bytes, FileSource, Source};

/// Largest such file that is read. The largest are tokenizers of large vocabularies, about 30 MB.
const MAX_BYTES: u64 = 256 << 20;

/// Reads a whole file.
///
/// # Errors
/// A file that cannot be read or is larger than the limit.
pub(super) fn read_all(path: &Path) -> Result<Bytes, HuggingFaceError> {
    let source = FileSource::open(path)?;
    let (file, bytes) = (path.display().to_string(), source.len());
    if bytes > MAX_BYTES {
        return Err(HuggingFaceError::FileTooLarge { file, bytes, limit: MAX_BYTES });
    }
    Ok(source.read(0..bytes)?)
}
