//! Reading a model up to its weights without waiting for its bytes.

use super::error::ModelError;
use super::file::ModelFile;
use super::gguf::GgufReader;
use super::open::OpenModel;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use weft_text::Vocabulary;

/// Reads what [`ModelFile::read`] reads, from sources that are polled. It never waits.
///
/// The front of each part is kept in memory until its header has been parsed, at most twice the header's length. Sources
/// that are not polled are read at once.
pub struct ModelReader {
    gguf: GgufReader,
    /// What the model consists of, beside its header.
    sources: Vec<Arc<dyn weft_platform::storage::Source>>,
    vocabulary: Option<Arc<Vocabulary>>,
}

impl ModelReader {
    /// A reader of a model whose files are open: parts of a GGUF, in order, or a Hugging Face folder.
    pub fn new(model: impl Into<OpenModel>) -> Self {
        let OpenModel { sources, vocabulary, .. } = model.into();
        Self { gguf: GgufReader::new(sources.clone()), sources, vocabulary }
    }

    /// Goes on reading. Pending: bytes have not arrived; the waker of `cx` is woken when it is worth polling again.
    ///
    /// A read that fails for a reason that may pass is repeated, three times in a row.
    ///
    /// # Errors
    /// As [`ModelFile::read`]. A reader that is polled after its result has no file left to read
    /// ([`GgufError::NoSources`](super::gguf::GgufError::NoSources)).
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<ModelFile, ModelError>> {
        let gguf = ready!(self.gguf.poll(cx));
        let sources = std::mem::take(&mut self.sources);
        Poll::Ready(
            gguf.map_err(ModelError::from)
                .and_then(|gguf| ModelFile::of_header(&gguf, sources, self.vocabulary.take())),
        )
    }
}
