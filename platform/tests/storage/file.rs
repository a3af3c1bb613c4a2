//! Files of the machine as sources.

use super::check_contract;
use std::fs::{self, File};
use weft_platform::storage::{FileSource, Source, StorageError};

#[test]
fn keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    for content in [vec![], b"x".to_vec(), (0..10_000).map(|i| i as u8).collect()] {
        let path = dir.path().join("model.gguf");
        fs::write(&path, &content).unwrap();
        let source = FileSource::open(&path).unwrap();
        assert_eq!(source.name(), path.display().to_string());
        check_contract(&source, &content);
    }
}

#[test]
fn a_file_that_is_cut_short_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    fs::write(&path, [5; 10_000]).unwrap();
    let source = FileSource::open(&path).unwrap();
    let whole = source.read(0..10_000).unwrap();
    File::options().write(true).open(&path).unwrap().set_len(4096).unwrap();
    assert_eq!(&*whole, [5; 10_000], "what has been read stays");
    assert_eq!(&*source.read(4000..4096).unwrap(), [5; 96]);
    let error = source.read(4000..5000).unwrap_err();
    assert!(matches!(error, StorageError::CutShort { len: 10_000, found: 4096, .. }), "{error}");
    assert!(error.to_string().contains("model.gguf"), "{error}");
}

#[test]
fn what_is_no_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(FileSource::open(dir.path()), Err(StorageError::NotAFile { .. })));
    let missing = dir.path().join("missing.gguf");
    let error = FileSource::open(&missing).unwrap_err();
    assert!(matches!(error, StorageError::Open { .. }));
    assert!(error.to_string().contains("missing.gguf"), "{error}");
}
