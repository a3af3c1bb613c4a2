//! Models of the hub that are in the cache: finding them by name, listing and removing them.
//!
//! Beside the files of a repository lies `names.json`, which notes the file that each quantization stands for from when its pull
//! begins: the same name then finds the same file without a network, whatever the repository holds by now. A note counts while
//! something of its file is there.

use super::cache::{Lock, beside, remove};
use super::error::{DiskError, PullError};
use super::hub::{self, HubReference};
use super::name::{HubName, HubQuant, begins_gguf, is_model};
use super::progress::Silent;
use super::split::Split;
use super::{Places, noted};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What is noted of a repository: quantization to file; the usual one is the empty name.
type Names = BTreeMap<String, String>;

/// The file of the names.
const NAMES: &str = "names.json";
/// Folders within a repository that are looked into.
const DEPTH: usize = 8;

/// A model of the hub that is in the cache, whole or begun.
#[derive(Clone, Debug)]
pub(crate) struct Here {
    /// `OWNER/REPO/FILE.gguf`.
    pub(crate) name: String,
    /// Shorter names that were pulled and stand for it.
    pub(crate) aliases: Vec<String>,
    /// Its file, or the first part, where all of it is here.
    pub(crate) file: Option<PathBuf>,
    /// Files it consists of.
    pub(crate) parts: usize,
    /// Bytes of all parts, as far as they are here.
    pub(crate) bytes: u64,
    /// Of the file when it was pulled, where noted.
    pub(crate) sha256: Option<String>,
}

impl Places {
    /// The file of a model of the hub, or its first part, where all of it is in the cache.
    pub(crate) fn here(&self, name: &HubName) -> Option<PathBuf> {
        let reference = self.reference_here(name)?;
        let mut files = reference.parts().into_iter().map(|part| self.folder.join(part.cache_path()));
        let first = files.next().filter(|file| file.is_file())?;
        files.all(|file| file.is_file()).then_some(first)
    }

    /// The file that a name stands for in the cache.
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

    /// The file that a name stands for and no other: what it stood for when it was pulled, or the only one in the cache of exactly
    /// that quantization.
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

    /// The file that a quantization stood for when it was pulled, where something of it is in the cache.
    pub(super) fn noted_reference(&self, quant: &HubQuant) -> Option<HubReference> {
        let names = names(&self.repository(quant));
        let reference = names.get(quant.key()).map(|file| quant.file(file))?;
        let begun = reference.parts().iter().any(|part| is_begun(&self.folder.join(part.cache_path())));
        begun.then_some(reference)
    }

    /// Notes which file a quantization stands for.
    pub(crate) fn note(&self, quant: &HubQuant, file: &str) -> Result<(), DiskError> {
        let folder = self.repository(quant);
        let _lock = Lock::wait(&folder.join(NAMES), &Silent)?;
        let mut names = names(&folder);
        names.insert(quant.key().to_owned(), file.to_owned());
        write_names(&folder, &names)
    }

    /// Forgets the names that stand for a file of the folder.
    fn forget(folder: &Path, files: &[HubReference]) -> Result<(), DiskError> {
        let lock = Lock::wait(&folder.join(NAMES), &Silent)?;
        let mut names = names(folder);
        names.retain(|_, file| !files.iter().any(|known| known.file == *file));
        write_names(folder, &names)?;
        if names.is_empty() { lock.remove() } else { Ok(()) }
    }

    /// The folder of a repository.
    fn repository(&self, quant: &HubQuant) -> PathBuf {
        self.folder.join(hub::folder(&quant.repo, &quant.revision))
    }

    /// The models of the hub that are in the cache, by name.
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

    /// Removes a model of the hub, with what was begun of it. Gives the files and their bytes.
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
        // Folders that are empty now, that of all repositories as well.
        let file = self.folder.join(reference.cache_path());
        let root = self.folder.join(hub::HUB);
        for folder in file.ancestors().skip(1).take_while(|folder| folder.starts_with(&root)) {
            if fs::remove_dir(folder).is_err() {
                break;
            }
        }
        Ok(removed)
    }

    /// The name by which the model in a file of the cache is pulled again, where it is one of the hub.
    pub(super) fn name_on_hub(&self, path: &Path) -> Option<String> {
        let within = path.strip_prefix(&self.folder).ok()?;
        let reference = HubReference::of_cache_path(within)?;
        reference.parts().first().map(HubReference::name)
    }
}

/// What was removed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Removed {
    /// Models' files.
    pub(crate) files: Vec<PathBuf>,
    /// Their bytes.
    pub(crate) bytes: u64,
}

impl Removed {
    /// Removes those of these files of the cache that are there, with what lies beside them; none if one is being pulled.
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

/// Whether anything of a file of the cache is there: itself, a part of it, or its checksum.
fn is_begun(path: &Path) -> bool {
    path.exists() || beside(path, ".part").exists() || beside(path, ".sha256").exists()
}

fn names(folder: &Path) -> Names {
    // Where it cannot be read the rule finds the file.
    let text = fs::read(folder.join(NAMES)).unwrap_or_default();
    let names: Names = serde_json::from_slice(&text).unwrap_or_default();
    names
        .into_iter()
        .filter(|(_, file)| is_model(file) && !file.split('/').any(|part| part == ".."))
        .collect()
}

/// Writes the names anew; none leave no file.
fn write_names(folder: &Path, names: &Names) -> Result<(), DiskError> {
    let path = folder.join(NAMES);
    if names.is_empty() {
        return remove(&path);
    }
    let text = serde_json::to_vec_pretty(names).unwrap_or_default();
    let new = beside(&path, ".part");
    fs::write(&new, text).map_err(DiskError::at("write", &new))?;
    fs::rename(&new, &path).map_err(DiskError::at("rename", &new))
}

fn folders(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut folders: Vec<_> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

/// Paths of the GGUF files within a repository's folder that are there or begun, with `/` between names, in order. A split model
/// counts by its first part.
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
