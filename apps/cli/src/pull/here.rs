//! Hub models in the cache: finds them by name, lists them and removes them.
//!
//! The file `names.json` in a repository's folder records which file each quantization resolved to. The entry is
//! written when a pull begins. Later the same name resolves to the same file without a network, whatever the repository
//! contains by then. An entry is valid as long as any part of its file exists.

use super::cache::{Lock, beside, remove};
use super::error::{DiskError, PullError};
use super::hub::{self, HubReference};
use super::name::{HubName, HubQuant, begins_gguf, is_model};
use super::progress::Silent;
use super::split::Split;
use super::{Places, noted};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use weft::storage::NewFile;

/// Maps quantization to file; the empty name stands for the default quantization.
type Names = BTreeMap<String, String>;

/// Name of the file that holds [`Names`].
const NAMES: &str = "names.json";
/// Maximum depth of folders to search within a repository.
const DEPTH: usize = 8;

/// A hub model in the cache, complete or partly downloaded.
#[derive(Clone, Debug)]
pub(crate) struct Here {
    /// Full name, `OWNER/REPO/FILE.gguf`.
    pub(crate) name: String,
    /// Shorter names that it was pulled by.
    pub(crate) aliases: Vec<String>,
    /// Path of its file or first part, if the model is complete.
    pub(crate) file: Option<PathBuf>,
    /// Number of files of the model.
    pub(crate) parts: usize,
    /// Bytes of all parts on this machine.
    pub(crate) bytes: u64,
    /// SHA-256 of the file when it was pulled, if recorded.
    pub(crate) sha256: Option<String>,
}

impl Places {
    /// Path of a hub model's file or first part, if the model is complete in the cache.
    pub(crate) fn here(&self, name: &HubName) -> Option<PathBuf> {
        let reference = self.reference_here(name)?;
        let mut files = reference.parts().into_iter().map(|part| self.folder.join(part.cache_path()));
        let first = files.next().filter(|file| file.is_file())?;
        files.all(|file| file.is_file()).then_some(first)
    }

    /// Resolves a name to a file, from the cache alone.
    pub(super) fn reference_here(&self, name: &HubName) -> Option<HubReference> {
        let quant = match name {
            HubName::File(reference) => return Some(reference.clone()),
            HubName::Quant(quant) => quant,
        };
        if let Some(reference) = self.noted_reference(quant) {
            return Some(reference);
        }
        let files = files_in(&self.repository(quant));
        let whole = |file: &&str| {
            quant.file(file).parts().iter().all(|part| self.folder.join(part.cache_path()).is_file())
        };
        quant
            .choose(&files.iter().map(String::as_str).filter(whole).collect::<Vec<_>>())
            .map(|file| quant.file(file))
    }

    /// Resolves a name to exactly one file: the one it resolved to when it was pulled, or the only file in the cache
    /// with exactly that quantization.
    fn exact_reference(&self, name: &HubName, text: &str) -> Result<HubReference, PullError> {
        let quant = match name {
            HubName::File(reference) => return Ok(reference.clone()),
            HubName::Quant(quant) => quant,
        };
        if let Some(reference) = self.noted_reference(quant) {
            return Ok(reference);
        }
        let mut found: Vec<HubReference> = files_in(&self.repository(quant))
            .iter()
            .filter(|file| quant.is_of(file))
            .map(|file| quant.file(file))
            .collect();
        match found.pop() {
            None => Err(PullError::NotHere { name: text.to_owned() }),
            Some(one) if found.is_empty() => Ok(one),
            Some(last) => {
                found.push(last);
                let there = found.iter().map(HubReference::name).collect();
                Err(PullError::SeveralHere { name: text.to_owned(), there })
            }
        }
    }

    /// The file that a quantization resolved to when it was pulled, if any part of it is in the cache.
    pub(super) fn noted_reference(&self, quant: &HubQuant) -> Option<HubReference> {
        let names = names(&self.repository(quant));
        let reference = names.get(quant.key()).map(|file| quant.file(file))?;
        let begun = reference.parts().iter().any(|part| is_begun(&self.folder.join(part.cache_path())));
        begun.then_some(reference)
    }

    /// Records which file a quantization resolves to.
    pub(crate) fn note(&self, quant: &HubQuant, file: &str) -> Result<(), DiskError> {
        let folder = self.repository(quant);
        let _lock = Lock::wait(&folder.join(NAMES), &Silent)?;
        let mut names = names(&folder);
        names.insert(quant.key().to_owned(), file.to_owned());
        write_names(&folder, &names)
    }

    /// Removes the recorded names that resolve to one of these files of the folder.
    fn forget(folder: &Path, files: &[HubReference]) -> Result<(), DiskError> {
        let lock = Lock::wait(&folder.join(NAMES), &Silent)?;
        let mut names = names(folder);
        names.retain(|_, file| !files.iter().any(|known| known.file == *file));
        write_names(folder, &names)?;
        if names.is_empty() { lock.remove() } else { Ok(()) }
    }

    /// The cache folder of a repository's revision.
    fn repository(&self, quant: &HubQuant) -> PathBuf {
        self.folder.join(hub::folder(&quant.repo, &quant.revision))
    }

    /// All hub models in the cache, sorted by name.
    pub(crate) fn pulled(&self) -> Vec<Here> {
        let root = self.folder.join(hub::HUB);
        let mut found = Vec::new();
        for folder in folders(&root) {
            let names = names(&folder);
            for file in files_in(&folder) {
                let path = folder.join(&file);
                let reference = path.strip_prefix(&self.folder).ok().and_then(HubReference::of_cache_path);
                if let Some(reference) = reference {
                    found.extend(self.describe(&reference, &names));
                }
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found
    }

    fn describe(&self, reference: &HubReference, names: &Names) -> Option<Here> {
        let files: Vec<PathBuf> =
            reference.parts().iter().map(|part| self.folder.join(part.cache_path())).collect();
        let size = |path: &Path| fs::metadata(path).ok().map(|found| found.len());
        let whole = files.iter().map(|file| size(file)).sum::<Option<u64>>();
        let begun = files.iter().flat_map(|file| [size(file), size(&beside(file, ".part"))]);
        let bytes = whole.unwrap_or_else(|| begun.flatten().sum());
        let aliases = names.iter().filter(|(_, file)| **file == reference.file);
        let alias = |(quant, _): (&String, _)| {
            let quant = if quant.is_empty() { String::new() } else { format!(":{quant}") };
            format!("{}{quant}{}", reference.repo, reference.at())
        };
        let first = files.first()?.clone();
        let sha256 = noted(&first).map(|noted| noted.sha256);
        let aliases = aliases.map(alias).collect();
        let file = whole.map(|_| first);
        Some(Here { name: reference.name(), aliases, parts: files.len(), bytes, sha256, file })
    }

    /// Removes a hub model and its partial downloads. Returns the removed files and their size.
    ///
    /// # Errors
    /// [`PullError::NotHere`], [`PullError::SeveralHere`], [`PullError::BeingPulled`], [`PullError::Disk`].
    pub(crate) fn remove_reference(&self, name: &HubName, text: &str) -> Result<Removed, PullError> {
        let reference = self.exact_reference(name, text)?;
        let parts = reference.parts();
        let files: Vec<PathBuf> = parts.iter().map(|part| self.folder.join(part.cache_path())).collect();
        let removed = Removed::all(&files)?;
        if removed.files.is_empty() {
            return Err(PullError::NotHere { name: text.to_owned() });
        }
        Self::forget(&self.folder.join(hub::folder(&reference.repo, &reference.revision)), &parts)?;
        // Removes folders that are empty now, up to the folder of all repositories.
        let file = self.folder.join(reference.cache_path());
        let root = self.folder.join(hub::HUB);
        for folder in file.ancestors().skip(1).take_while(|folder| folder.starts_with(&root)) {
            if fs::remove_dir(folder).is_err() {
                break;
            }
        }
        Ok(removed)
    }

    /// The name that pulls the model in a cache file again, if it is a hub model.
    pub(super) fn name_on_hub(&self, path: &Path) -> Option<String> {
        let within = path.strip_prefix(&self.folder).ok()?;
        let reference = HubReference::of_cache_path(within)?;
        reference.parts().first().map(HubReference::name)
    }
}

/// Files that were removed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Removed {
    /// Paths of the models' files.
    pub(crate) files: Vec<PathBuf>,
    /// Their total size in bytes.
    pub(crate) bytes: u64,
}

impl Removed {
    /// Removes the given cache files that exist, with their parts, checksums and locks. Removes none if another process
    /// is pulling one of them.
    ///
    /// # Errors
    /// [`PullError::BeingPulled`], [`PullError::Disk`].
    pub(super) fn all(paths: &[PathBuf]) -> Result<Self, PullError> {
        let mut locked = Vec::new();
        for path in paths.iter().filter(|path| is_begun(path) || beside(path, ".lock").exists()) {
            let held = || PullError::BeingPulled { path: path.clone() };
            locked.push((path, Lock::attempt(path)?.ok_or_else(held)?));
        }
        let mut removed = Self::default();
        for (path, lock) in locked {
            for path in [path.clone(), beside(path, ".part")] {
                if let Ok(found) = fs::metadata(&path) {
                    remove(&path)?;
                    removed.bytes += found.len();
                    removed.files.push(path);
                }
            }
            remove(&beside(path, ".sha256"))?;
            lock.remove()?;
        }
        Ok(removed)
    }
}

/// Returns true if any trace of a cache file exists: itself, its part, or its checksum.
fn is_begun(path: &Path) -> bool {
    path.exists() || beside(path, ".part").exists() || beside(path, ".sha256").exists()
}

fn names(folder: &Path) -> Names {
    // If the file cannot be read, names are resolved by the rule instead.
    let text = fs::read(folder.join(NAMES)).unwrap_or_default();
    let names: Names = serde_json::from_slice(&text).unwrap_or_default();
    names
        .into_iter()
        .filter(|(_, file)| is_model(file) && !file.split('/').any(|part| part == ".."))
        .collect()
}

/// Writes the names; removes the file if there are none.
fn write_names(folder: &Path, names: &Names) -> Result<(), DiskError> {
    let path = folder.join(NAMES);
    if names.is_empty() {
        return remove(&path);
    }
    let text = serde_json::to_vec_pretty(names).unwrap_or_default();
    let write = || {
        let mut new = NewFile::replace(&path).map_err(io::Error::other)?;
        new.write_all(&text)?;
        new.commit().map_err(io::Error::other)
    };
    write().map_err(DiskError::at("write", &path))
}

fn folders(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut folders: Vec<_> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

/// Paths of the complete or partly downloaded GGUF files in a repository's folder, sorted, with `/` as separator. A
/// split model is listed by its first part.
fn files_in(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    collect(folder, "", DEPTH, &mut found);
    let mut files: Vec<String> = found
        .iter()
        .map(|file| file.strip_suffix(".part").unwrap_or(file))
        .map(|file| Split::of(file).and_then(|split| split.files().next()).unwrap_or_else(|| file.to_owned()))
        .filter(|file| begins_gguf(file))
        .collect();
    files.sort();
    files.dedup();
    files
}

fn collect(folder: &Path, before: &str, depth: usize, files: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = entry.path();
        if path.is_file() {
            files.push(format!("{before}{name}"));
        } else if depth > 0 && path.is_dir() {
            collect(&path, &format!("{before}{name}/"), depth - 1, files);
        }
    }
}
