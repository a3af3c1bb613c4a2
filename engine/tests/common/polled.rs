//! Sources that have to be polled, and what a program with one thread does with them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use weft::storage::{FedSource, Feeder, FileSource, Source, StorageError};
use weft::{Engine, LoadOptions, ModelId, ModelSource, OpenModel, PreparedModel, PreparedModelReader};

/// A source that is pending on every second poll and hands out at most `most` bytes.
pub struct Dripping {
    inner: Arc<dyn Source>,
    most: usize,
    polls: AtomicU64,
}

impl Source for Dripping {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn poll_read(
        &self,
        cx: &mut Context<'_>,
        offset: u64,
        buffer: &mut [u8],
    ) -> Poll<Result<usize, StorageError>> {
        StorageError::check_piece(self.name(), offset, buffer.len(), self.len())?;
        if self.polls.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let most = buffer.len().min(self.most);
        self.inner.poll_read(cx, offset, &mut buffer[..most])
    }

    fn is_polled(&self) -> bool {
        true
    }
}

/// The model of `source` with all of its files behind [`Dripping`].
pub fn dripping(source: impl Into<ModelSource>, most: usize) -> ModelSource {
    let open = source.into().open().expect("a model");
    let drip = |inner| Arc::new(Dripping { inner, most, polls: AtomicU64::new(0) }) as Arc<dyn Source>;
    let sources = open.sources.into_iter().map(drip).collect();
    ModelSource::Open(OpenModel { sources, ..open })
}

/// Reads a model up to its weights by polling. Calls `wait` wherever a poll is pending.
pub fn prepared(source: ModelSource, options: &LoadOptions, mut wait: impl FnMut()) -> PreparedModel {
    let mut reader = PreparedModelReader::new(source, options).expect("a source");
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        match reader.poll(&mut cx) {
            Poll::Ready(prepared) => return prepared.expect("a model"),
            Poll::Pending => wait(),
        }
    }
}

/// Loads a whole model by polling alone.
pub fn load(engine: &mut Engine, source: ModelSource, options: &LoadOptions) -> ModelId {
    let model = engine.load_prepared(prepared(source, options, || {})).expect("a model");
    engine.wait_loaded(model).expect("a whole model");
    model
}

/// A file whose bytes are fed, and its feeder.
pub fn fed(file: &FileSource) -> (ModelSource, Feeder) {
    let (source, feeder) = FedSource::new(file.name(), file.len());
    (ModelSource::Parts(vec![Arc::new(source)]), feeder)
}

/// Feeds all ranges that are wanted, in pieces, as a web page's `fetch` brings them.
pub fn feed(feeder: &Feeder, file: &FileSource) {
    const PIECE: u64 = 60_000;
    while let Some(range) = feeder.wanted() {
        let mut at = range.start;
        while at < range.end {
            let end = range.end.min(at + PIECE);
            let bytes = file.read(at..end).expect("bytes").to_vec();
            feeder.feed(at, bytes).expect("a range inside the file");
            at = end;
        }
    }
}
