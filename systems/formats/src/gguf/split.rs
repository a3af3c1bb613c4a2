//! Models that are split into several files.
//!
//! The parts are named `NAME-00001-of-0000N.gguf`. Each is a GGUF file with a table of its own tensors and the keys
//! `split.no` (from 0), `split.count` and `split.tensors.count` (of all parts together). All other metadata are in the
//! first part. Source: `llama-gguf-split` and the writer of the `gguf` Python package.

#[cfg(not(target_family = "wasm"))]
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

#[cfg(not(target_family = "wasm"))]
use weft_platform::storage::{FileSource, Source, StorageError};

use super::{GgufError, Metadata};

const NUMBER: &str = "split.no";
const COUNT: &str = "split.count";
const TENSORS: &str = "split.tensors.count";

/// Checks that the first part states a model of `given` files.
pub(super) fn check_count(metadata: &Metadata, given: usize) -> Result<(), GgufError> {
    // Merging tools keep the keys in the merged file and set the count to 0.
    let stated = metadata.opt_u64(COUNT)?.unwrap_or(0);
    let given = given as u64;
    if given > 1 && stated == 0 {
        return Err(GgufError::NotAPart { file: metadata.file().to_owned(), part: 1, key: COUNT });
    }
    if stated.max(1) != given {
        return Err(GgufError::PartCount {
            file: metadata.file().to_owned(),
            expected: stated.max(1),
            given,
        });
    }
    Ok(())
}

/// Checks that the file with these `metadata` is part `index`, from 0, of the model whose first part has the metadata
/// `first`.
pub(super) fn check_part(first: &Metadata, metadata: &Metadata, index: usize) -> Result<(), GgufError> {
    let expected = index as u64;
    for key in [NUMBER, COUNT] {
        if metadata.get(key).is_none() {
            let file = metadata.file().to_owned();
            return Err(GgufError::NotAPart { file, part: expected.saturating_add(1), key });
        }
    }
    for key in [COUNT, TENSORS] {
        let (here, there) = (metadata.opt_u64(key)?, first.opt_u64(key)?);
        if here != there {
            let show = |value: Option<u64>| value.map_or("nothing".to_owned(), |value| value.to_string());
            return Err(foreign(first, metadata, key, show(here), show(there)));
        }
    }
    // Tools either repeat these keys in every part or write them to the first part only.
    for key in ["general.architecture", "general.name"] {
        if let (Some(here), Some(there)) = (metadata.get(key), first.get(key))
            && here != there
        {
            return Err(foreign(first, metadata, key, here.to_string(), there.to_string()));
        }
    }
    let found = metadata.u64(NUMBER)?;
    if found != expected {
        return Err(GgufError::PartOrder {
            file: metadata.file().to_owned(),
            found: found.saturating_add(1),
            expected: expected.saturating_add(1),
        });
    }
    Ok(())
}

fn foreign(
    first: &Metadata,
    part: &Metadata,
    key: &'static str,
    found: String,
    expected: String,
) -> GgufError {
    let (file, first) = (part.file().to_owned(), first.file().to_owned());
    GgufError::PartForeign { file, key, found, expected, first }
}

/// Checks that the parts together have the number of tensors that the first part states.
pub(super) fn check_tensor_count(first: &Metadata, found: usize) -> Result<(), GgufError> {
    let found = found as u64;
    match first.opt_u64(TENSORS)? {
        Some(expected) if expected != found => {
            Err(GgufError::TensorCount { file: first.file().to_owned(), expected, found })
        }
        _ => Ok(()),
    }
}

/// Opens the file at `path`, or all parts of a split model if `path` is one of them.
///
/// Only the name decides: parts end in `-00001-of-0000N.gguf`, with numbers of five digits.
///
/// # Errors
/// [`GgufError::PartMissing`] for the first part that is not in the folder, or [`GgufError::Storage`].
#[cfg(not(target_family = "wasm"))]
pub fn open_files(path: &Path) -> Result<Vec<Arc<dyn Source>>, GgufError> {
    let Some((stem, parts)) = split_name(path) else {
        return Ok(vec![Arc::new(FileSource::open(path)?)]);
    };
    let mut sources: Vec<Arc<dyn Source>> = Vec::new();
    for part in 1..=parts {
        let file = part_path(path, stem, part, parts);
        let source = FileSource::open(&file).map_err(|error| match error {
            StorageError::Open { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                GgufError::PartMissing { file: file.display().to_string(), part, parts }
            }
            error => error.into(),
        })?;
        sources.push(Arc::new(source));
    }
    Ok(sources)
}

/// Returns the text before `-00001-of-0000N.gguf` in a part's name, and N; `None` for other names.
#[cfg(not(target_family = "wasm"))]
fn split_name(path: &Path) -> Option<(&str, u64)> {
    let number = |text: &str| {
        let five_digits = text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
        five_digits.then(|| text.parse::<u64>().ok()).flatten()
    };
    let name = path.file_name()?.to_str()?.strip_suffix(".gguf")?;
    let (rest, parts) = name.rsplit_once("-of-")?;
    let (stem, part) = rest.rsplit_once('-')?;
    let (part, parts) = (number(part)?, number(parts)?);
    (1..=parts).contains(&part).then_some((stem, parts))
}

/// Returns the path of part `part`, from 1, in the folder of `path`.
#[cfg(not(target_family = "wasm"))]
fn part_path(path: &Path, stem: &str, part: u64, parts: u64) -> PathBuf {
    path.with_file_name(format!("{stem}-{part:05}-of-{parts:05}.gguf"))
}

#[cfg(all(test, not(target_family = "wasm")))]
mod tests {
    use super::*;

    #[test]
    fn names_of_parts() {
        for (name, expected) in [
            ("dir/big-00002-of-00003.gguf", Some(("big", 3))),
            ("a-00001-of-00002-00003-of-00009.gguf", Some(("a-00001-of-00002", 9))),
            ("-00001-of-00001.gguf", Some(("", 1))),
            ("big.gguf", None),
            ("big-00004-of-00003.gguf", None),
            ("big-00000-of-00003.gguf", None),
            ("big-0002-of-00003.gguf", None),
            ("big-00002-of-+0003.gguf", None),
            ("big-00002-of-00003.GGUF", None),
            ("big-00002-of-00003", None),
            ("", None),
        ] {
            assert_eq!(split_name(Path::new(name)), expected, "{name}");
        }
        let path = part_path(Path::new("dir/big-00002-of-00003.gguf"), "big", 1, 3);
        assert_eq!(path, Path::new("dir/big-00001-of-00003.gguf"));
    }
}
