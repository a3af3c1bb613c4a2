//! A cache of prefixes on disk: the whole pages of a model's prefix tree as files, so that a system prompt outlives the
//! program, or its model while another one is loaded.
//!
//! There is one file for each page. It is found by what its keys and values depend on, and by nothing else: the model's
//! hyperparameters and weights, the format of the KV cache, and all tokens up to the page's end. So any number of models and
//! processes can share a folder. Private contexts are never written, nor those that were computed with an adapter. A page
//! that has left the window of some layers is saved without those layers; a context can be continued only where its last
//! window is whole.
//!
//! `identity` says what keys and values depend on, `page_file` what is in a file, `folder` which files there are, this
//! module what a world does with them. All of it reads and writes files on the calling thread, between ticks.

mod folder;
mod identity;
mod page_file;

pub use page_file::PageFileError;

use crate::error::Error;
use crate::world::ModelId;
use bevy_ecs::prelude::*;
use folder::Found;
use identity::{Hash, Identity, key};
use page_file::PageHead;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use weft_platform::PAGE;
use weft_platform::storage::{NewFile, NewFileError};
use weft_systems::kv::{
    Room, SealedRun, import_prefix, is_quiet, only_backend, read_slots, sealed_runs, touch, write_slots,
};

/// Why prefixes cannot be saved or loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PrefixFolderError {
    /// A layer of the model is not on the CPU.
    #[error("prefixes are saved and loaded only for models that are wholly on the CPU")]
    NotOnCpu,
    /// A weight of the model is not in memory.
    #[error("prefixes need all weights of the model to tell it from others; wait until it has been loaded")]
    NotLoaded,
    /// Rows of the model are being computed.
    #[error("prefixes cannot be loaded while the model computes; finish the ticks of its requests first")]
    Computing,
    /// The folder cannot be made, listed or cleaned up.
    #[error("{folder}: {source}; name a folder that can be written")]
    Folder {
        /// The folder.
        folder: String,
        /// The operating system's error.
        source: io::Error,
    },
    /// A file cannot be created or renamed.
    #[error("{0}")]
    Create(#[from] NewFileError),
    /// A file cannot be written.
    #[error("{file}: {source}; make room, or choose another folder")]
    Write {
        /// The file.
        file: String,
        /// The operating system's error.
        source: io::Error,
    },
}

/// What [`save_prefixes`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SavedPrefixes {
    /// Pages of the model's prefix tree that the folder has now.
    pub pages: usize,
    /// Of these, pages that were written. The others were there.
    pub written: usize,
    /// Files that were removed, because the folder took more than its limit.
    pub removed: usize,
}

/// What [`load_prefixes`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadedPrefixes {
    /// Pages that were added to the model's prefix tree.
    pub pages: usize,
    /// Files of the model that are not usable, and why.
    pub skipped: Vec<(PathBuf, PageFileError)>,
}

/// Saves the whole pages of a model's prefix tree, those of open sessions too, in a folder, which is made if it does not
/// exist. A page that is there already is not written again. If `most_bytes` is given, the folder's page files, those of
/// other models included, take no more than that: what was saved the longest ago is removed, and of the tree only what was
/// used last is saved.
///
/// A page is written under another name and renamed, so that a file is whole or not there. Private contexts and those of
/// sessions with an adapter are not saved.
///
/// # Errors
/// The model has been unloaded. [`Error::PrefixFolder`]: it is not wholly on the CPU, or not loaded; the folder or a file
/// cannot be written.
pub fn save_prefixes(
    world: &mut World,
    model: ModelId,
    folder: &Path,
    most_bytes: Option<u64>,
) -> Result<SavedPrefixes, Error> {
    let identity = Identity::of(world, model)?;
    let of_folder = |source| PrefixFolderError::Folder { folder: folder.display().to_string(), source };
    fs::create_dir_all(folder).map_err(of_folder)?;
    let backend = only_backend(world, model.0).ok_or(PrefixFolderError::NotOnCpu)?;
    let runs = sealed_runs(world, model.0);
    let (most, now) = (most_bytes.unwrap_or(u64::MAX), SystemTime::now());
    let mut saved = SavedPrefixes::default();
    let (mut bytes, mut values) = (0u64, Vec::new());
    for page in by_use(&identity, &runs) {
        let path = folder.join(folder::name(&identity, &page.head.key));
        let there = saved_bytes(&identity, &path, &page.head);
        let mut file = Vec::new();
        if there.is_none() {
            values.clear();
            if !read_slots(&*backend, world, model.0, &page.slots, &mut values) {
                break;
            }
            file = page_file::encode(&identity, &page.head, &values);
        }
        bytes = bytes.saturating_add(there.unwrap_or(file.len() as u64));
        if bytes > most {
            break;
        }
        if there.is_none() {
            write(&path, &file)?;
            saved.written += 1;
        }
        // The page before another is the younger one, so that it is not removed first.
        let age = Duration::from_micros(saved.pages as u64);
        folder::stamp(&path, now.checked_sub(age).unwrap_or(now));
        saved.pages += 1;
    }
    saved.removed = folder::trim(folder, most).map_err(of_folder)?;
    Ok(saved)
}

/// A page to save.
struct TreePage {
    head: PageHead,
    /// Its slot of each class.
    slots: Vec<Option<u32>>,
    /// When it was last used.
    used: u64,
    /// Its number in its contexts.
    number: usize,
}

/// The pages of runs, the last used first, and each after the page before it.
fn by_use(identity: &Identity, runs: &[SealedRun]) -> Vec<TreePage> {
    let mut pages = Vec::new();
    // The key of the last page of each run.
    let mut ends: Vec<Hash> = Vec::with_capacity(runs.len());
    for run in runs {
        let mut before = run.parent.and_then(|parent| ends.get(parent).copied()).unwrap_or(identity.root);
        for (number, tokens) in run.tokens.chunks_exact(PAGE).enumerate() {
            let slots: Vec<Option<u32>> =
                run.pages.iter().map(|class| class.get(number).copied().flatten()).collect();
            let present = slots.iter().map(Option::is_some).collect();
            let head = PageHead { key: key(&before, tokens), before, tokens: tokens.to_vec(), present };
            before = head.key;
            pages.push(TreePage { head, slots, used: run.used, number: run.first + number });
        }
        ends.push(before);
    }
    pages.sort_by_key(|page| (core::cmp::Reverse(page.used), page.number));
    pages
}

/// Bytes of a page's file, if it is there, undamaged, and has keys and values of all the layers that the page has, or of more.
/// They are those of the page, because its key stands for all that they depend on.
fn saved_bytes(identity: &Identity, path: &Path, page: &PageHead) -> Option<u64> {
    let data = fs::metadata(path).ok()?;
    let found = Found { path: path.to_owned(), bytes: data.len(), saved: SystemTime::UNIX_EPOCH };
    folder::head(identity, &found).ok()?;
    let mut buffer = Vec::new();
    let (old, _) = folder::page(identity, &found, &mut buffer).ok()?;
    let has_all = old.present.iter().zip(&page.present).all(|(old, new)| *old || !new);
    has_all.then_some(found.bytes)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), PrefixFolderError> {
    let mut file = NewFile::replace(path)?;
    let write = |source| PrefixFolderError::Write { file: path.display().to_string(), source };
    file.write_all(bytes).and_then(|()| file.flush()).map_err(write)?;
    Ok(file.commit()?)
}

/// Adds the pages that a folder has for a model to its prefix tree, as contexts that nobody holds: those that were saved
/// last, as far as there are free pages, and bytes in [`LoadOptions::prefix_cache`](crate::LoadOptions::prefix_cache).
/// Nothing is dropped for them. Sessions with these beginnings then compute only their tails, with the same bits.
///
/// A file that is damaged, of a newer version or not of this model is skipped and reported; so are those of the pages after
/// it. A folder that does not exist has no pages.
///
/// # Errors
/// The model has been unloaded. [`Error::PrefixFolder`]: it is not wholly on the CPU, not loaded, or computes; the folder
/// cannot be listed.
pub fn load_prefixes(world: &mut World, model: ModelId, folder: &Path) -> Result<LoadedPrefixes, Error> {
    let identity = Identity::of(world, model)?;
    if !is_quiet(world, model.0) {
        return Err(PrefixFolderError::Computing.into());
    }
    let backend = only_backend(world, model.0).ok_or(PrefixFolderError::NotOnCpu)?;
    let of_folder = |source| PrefixFolderError::Folder { folder: folder.display().to_string(), source };
    let mut files = Files::read(&identity, folder).map_err(of_folder)?;
    let (mut pages, mut runs, mut buffer) = (0, Vec::new(), Vec::new());
    for chain in files.contexts(identity.root) {
        let heads = chain.iter().map(|at| &files.heads[*at].1);
        let tokens: Vec<u32> = heads.clone().flat_map(|head| head.tokens.iter().copied()).collect();
        let present: Vec<Vec<bool>> = heads.map(|head| head.present.clone()).collect();
        let added = import_prefix(world, model.0, &tokens, &present, Room::Budget, |world, number, slots| {
            let (file, head) = &files.heads[chain[number]];
            if files.damaged.contains(&head.key) {
                return false;
            }
            // It may have been replaced since its head was read.
            let read = folder::page(&identity, file, &mut buffer)
                .and_then(|(page, values)| if page == *head { Ok(values) } else { Err(PageFileError::Name) });
            match read {
                Ok(values) => write_slots(&*backend, world, model.0, slots, values),
                Err(error) => {
                    files.damaged.insert(head.key);
                    files.skipped.push((file.path.clone(), error));
                    false
                }
            }
        });
        pages += added.pages;
        runs.extend(added.run);
    }
    // Contexts that were saved last are the last to be dropped.
    runs.into_iter().rev().for_each(|run| touch(world, run));
    Ok(LoadedPrefixes { pages, skipped: files.skipped })
}

/// The page files of a model.
struct Files {
    /// Files and what they say about their pages, the last saved first.
    heads: Vec<(Found, PageHead)>,
    skipped: Vec<(PathBuf, PageFileError)>,
    /// Keys of pages whose files turned out to be damaged.
    damaged: HashSet<Hash>,
}

impl Files {
    fn read(identity: &Identity, folder: &Path) -> io::Result<Self> {
        let (mut heads, mut skipped) = (Vec::new(), Vec::new());
        for file in folder::list(folder, Some(identity))? {
            match folder::head(identity, &file) {
                Ok(head) => heads.push((file, head)),
                Err(error) => skipped.push((file.path, error)),
            }
        }
        Ok(Self { heads, skipped, damaged: HashSet::new() })
    }

    /// The contexts that the pages form, each as indices of its pages from its beginning on, the last saved first. A context
    /// that is the beginning of another is not listed. Pages without a beginning are skipped.
    fn contexts(&mut self, root: Hash) -> Vec<Vec<usize>> {
        let by_key: HashMap<Hash, usize> =
            self.heads.iter().enumerate().map(|(at, (_, head))| (head.key, at)).collect();
        let continued: HashSet<Hash> = self.heads.iter().map(|(_, head)| head.before).collect();
        let mut contexts = Vec::new();
        for (at, (file, head)) in self.heads.iter().enumerate() {
            if head.before != root && !by_key.contains_key(&head.before) {
                self.skipped.push((file.path.clone(), PageFileError::NoBeginning));
            }
            if continued.contains(&head.key) {
                continue;
            }
            // Keys are hashes of what comes before, so that no chain returns to itself.
            let before = |at: &usize| by_key.get(&self.heads[*at].1.before).copied();
            let mut chain: Vec<usize> = core::iter::successors(Some(at), before).collect();
            chain.reverse();
            if self.heads[chain[0]].1.before == root {
                contexts.push(chain);
            }
        }
        contexts
    }
}

impl From<PrefixFolderError> for Error {
    fn from(error: PrefixFolderError) -> Self {
        Self::PrefixFolder(Arc::new(error))
    }
}
