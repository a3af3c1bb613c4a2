//! Files that are mapped.

use super::check_contract;
use std::fs::{self, File};
use weft_platform::storage::{MmapSource, Source, StorageError};

#[test]
fn keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    for content in [vec![], b"x".to_vec(), (0..10_000).map(|i| i as u8).collect()] {
        let path = dir.path().join("model.gguf");
        fs::write(&path, &content).unwrap();
        let source = MmapSource::open(&path).unwrap();
        assert_eq!(source.name(), path.display().to_string());
        check_contract(&source, &content);
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn reads_share_the_mapping_and_outlive_the_source() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    fs::write(&path, [7; 5000]).unwrap();
    let source = MmapSource::open(&path).unwrap();
    let (whole, part) = (source.read(0..5000).unwrap(), source.read(4000..4100).unwrap());
    assert_eq!(part.as_ptr(), whole[4000..].as_ptr());
    drop((source, whole));
    assert_eq!(&*part, [7; 100]);
}

#[test]
fn a_file_that_is_cut_short_is_an_error_before_it_is_touched() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    fs::write(&path, [5; 10_000]).unwrap();
    let source = MmapSource::open(&path).unwrap();
    File::options().write(true).open(&path).unwrap().set_len(4096).unwrap();
    for range in [0..10, 9000..10_000] {
        let error = source.read(range).unwrap_err();
        assert!(matches!(error, StorageError::CutShort { len: 10_000, found: 4096, .. }), "{error}");
    }
}

#[test]
fn what_is_no_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(MmapSource::open(dir.path()), Err(StorageError::NotAFile { .. })));
    let error = MmapSource::open(dir.path().join("missing.gguf")).unwrap_err();
    assert!(matches!(error, StorageError::Open { .. }) && error.to_string().contains("missing.gguf"));
}
