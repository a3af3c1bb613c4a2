//! Models whose bytes arrive in pieces: what is polled is what is read.

use crate::gguf_support::{File, array, entry, entry_string, golden, golden_bytes, memory, string};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use tempfile::TempDir;
use weft_formats::gguf::{GgufError, open_files};
use weft_formats::hugging_face::HuggingFaceFolder;
use weft_formats::{ModelError, ModelFile, ModelReader, OpenModel};
use weft_platform::storage::{FileSource, Source, StorageError};

/// Most bytes of a read.
const MOST: usize = 1000;

/// A source that is pending on every other poll and sends at most [`MOST`] bytes. It cannot be read otherwise.
struct Halting {
    inner: Arc<dyn Source>,
    polls: AtomicU64,
    sent: AtomicU64,
    /// Polls that fail with a lost connection, after the first one.
    failures: AtomicU64,
}

fn halting(inner: Arc<dyn Source>, failures: u64) -> Arc<Halting> {
    Arc::new(Halting { inner, polls: 0.into(), sent: 0.into(), failures: failures.into() })
}

impl Source for Halting {
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
        to: &mut [u8],
    ) -> Poll<Result<usize, StorageError>> {
        StorageError::check_piece(self.name(), offset, to.len(), self.len())?;
        if self.polls.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok() {
            let error = io::ErrorKind::ConnectionReset.into();
            return Poll::Ready(Err(StorageError::read(self.name(), offset..offset + 1, error)));
        }
        let most = to.len().min(MOST);
        let Poll::Ready(read) = self.inner.poll_read(cx, offset, &mut to[..most]) else {
            return Poll::Pending;
        };
        let read = read?;
        self.sent.fetch_add(read as u64, Ordering::Relaxed);
        Poll::Ready(Ok(read))
    }

    fn is_polled(&self) -> bool {
        true
    }
}

/// Polls until there is a result; gives how often that was.
fn finish(mut reader: ModelReader) -> (Result<ModelFile, ModelError>, u64) {
    let mut cx = Context::from_waker(Waker::noop());
    for polls in 0.. {
        if let Poll::Ready(result) = reader.poll(&mut cx) {
            return (result, polls);
        }
    }
    unreachable!()
}

/// The same model, whose sources have to be polled.
fn slowed(model: &OpenModel) -> OpenModel {
    let sources = model.sources.iter().map(|source| halting(Arc::clone(source), 0) as Arc<dyn Source>);
    OpenModel { sources: sources.collect(), ..model.clone() }
}

/// What a model file says, or why it cannot be used.
fn told(file: Result<ModelFile, ModelError>) -> Result<Vec<String>, String> {
    let file = file.map_err(|error| error.to_string())?;
    let tokens = file.tokenizer.as_ref().map(|tokenizer| tokenizer.vocab_size());
    let mut told = vec![
        format!("{:?}", file.config),
        format!("{:?}", file.sampling),
        format!("{tokens:?} {} {}", file.template.is_some(), file.sources.len()),
    ];
    told.extend(file.shards.iter().map(|shard| format!("{shard:?}")));
    Ok(told)
}

/// Files below a golden folder whose names end so.
fn files(folder: &Path, end: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, end, found);
        } else if path.to_str().is_some_and(|path| path.ends_with(end)) {
            found.push(path);
        }
    }
}

fn golden_files(end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    files(&golden(""), end, &mut found);
    found.sort();
    found
}

fn unpacked(zip: &Path) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    zip::ZipArchive::new(fs::File::open(zip).unwrap()).unwrap().extract(folder.path()).unwrap();
    folder
}

#[test]
fn a_polled_model_is_the_model_that_is_read() {
    let (mut whole, mut broken) = (0, 0);
    let mut check = |model: OpenModel, path: &Path| {
        let wanted = told(ModelFile::read(model.clone()));
        let (found, polls) = finish(ModelReader::new(slowed(&model)));
        assert!(polls > 0, "{}: the source was not polled", path.display());
        assert_eq!(told(found), wanted, "{}", path.display());
        *if wanted.is_ok() { &mut whole } else { &mut broken } += 1;
    };
    for path in golden_files(".gguf") {
        check(open_files(&path).unwrap().into(), &path);
    }
    for path in golden_files(".zip") {
        let folder = unpacked(&path);
        check(OpenModel::open(folder.path()).unwrap(), &path);
    }
    println!("{whole} models, {broken} files that are none");
    assert!(whole >= 60, "{whole}");
}

#[test]
fn a_folder_whose_weights_arrive_in_pieces_has_the_same_bytes() {
    let zips: Vec<_> =
        golden_files(".zip").into_iter().filter(|path| path.to_str().unwrap().contains("hf")).collect();
    assert!(zips.len() >= 22, "{zips:?}");
    for zip in zips {
        let folder = unpacked(&zip);
        let config = fs::read(folder.path().join("config.json")).unwrap();
        let mut weights = Vec::new();
        files(folder.path(), ".safetensors", &mut weights);
        weights.sort();
        let open = |path: &PathBuf| Arc::new(FileSource::open(path).unwrap()) as Arc<dyn Source>;
        let view =
            |weights: Vec<_>| HuggingFaceFolder::from_files("hf", &config, None, weights).unwrap().source();
        let wanted = view(weights.iter().map(open).collect());
        let polled = view(weights.iter().map(|path| halting(open(path), 0) as Arc<dyn Source>).collect());
        assert!(polled.is_polled() && !wanted.is_polled());
        let wanted = wanted.read(0..wanted.len()).unwrap();
        let mut bytes = vec![0; wanted.len()];
        let mut filled = 0;
        let mut cx = Context::from_waker(Waker::noop());
        while filled < bytes.len() {
            let end = bytes.len().min(filled + 10_001);
            if let Poll::Ready(read) = polled.poll_read(&mut cx, filled as u64, &mut bytes[filled..end]) {
                filled += read.unwrap();
            }
        }
        assert!(bytes == *wanted, "{}", zip.display());
    }
}

/// The tiny model's bytes, cut or with others in them.
#[test]
fn damaged_files_have_the_same_errors() {
    let bytes = golden_bytes("tiny/tiny-llama.gguf");
    let cuts = [0, 3, 4, 23, 24, 25, 1000, 5000, 60_000, bytes.len() - 1];
    let mut files: Vec<Vec<u8>> = cuts.iter().map(|cut| bytes[..*cut.min(&bytes.len())].to_vec()).collect();
    for at in (0..2000).step_by(13) {
        let mut file = bytes.clone();
        file[at] ^= 0x81;
        files.push(file);
    }
    for file in files {
        let model = OpenModel::from(vec![memory("damaged.gguf", file)]);
        let wanted = told(ModelFile::read(model.clone()));
        assert_eq!(told(finish(ModelReader::new(slowed(&model))).0), wanted);
    }
}

#[test]
fn no_more_than_twice_a_long_header_is_polled() {
    let words: Vec<u8> = (0..40_000).flat_map(|word| string(format!("word {word}"))).collect();
    let header = File {
        entries: vec![
            entry_string("general.architecture", "none"),
            entry("words", 9, &array(8, 40_000, &words)),
        ],
        ..File::default()
    }
    .header();
    let len = header.len() as u64;
    let mut file = header;
    file.resize(10_000_000, 0);
    let source = halting(memory("long.gguf", file), 0);
    let (result, _) = finish(ModelReader::new(vec![Arc::clone(&source) as Arc<dyn Source>]));
    let error = result.err().unwrap();
    assert!(matches!(error, ModelError::UnknownArchitecture { .. }), "{error}");
    let sent = source.sent.load(Ordering::Relaxed);
    assert!((len..=2 * len).contains(&sent), "{sent} bytes of {len}");
}

#[test]
fn a_read_that_fails_is_repeated_a_few_times() {
    let tiny = || memory("tiny.gguf", golden_bytes("tiny/tiny-llama.gguf"));
    let read = |failures| {
        let source = halting(tiny(), failures);
        finish(ModelReader::new(vec![source as Arc<dyn Source>])).0
    };
    assert!(read(3).is_ok());
    let error = read(4).err().unwrap();
    let ModelError::Gguf(GgufError::Storage(error)) = error else { panic!("{error}") };
    assert!(error.is_transient() && error.to_string().contains("tiny.gguf"), "{error}");
}

#[test]
fn a_reader_gives_one_result() {
    let mut reader = ModelReader::new(vec![memory("tiny.gguf", golden_bytes("tiny/tiny-llama.gguf"))]);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(
        matches!(reader.poll(&mut cx), Poll::Ready(Ok(_))),
        "a source that is not polled is read at once"
    );
    let again = reader.poll(&mut cx);
    assert!(matches!(again, Poll::Ready(Err(ModelError::Gguf(GgufError::NoSources)))));
}
