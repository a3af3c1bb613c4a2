//! The files of a model folder: the configuration, the tokenizer, and the weights, which an index may list.

use super::HuggingFaceError;
use super::config::CONFIG;
use super::modules::Modules;
use super::read::read_all;
use crate::safetensors::SafetensorsHeader;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use weft_components::{Pooling, SentenceConfig};
use weft_platform::storage::{Bytes, FileSource, Source};
use weft_text::{HuggingFaceFiles, Vocabulary};

/// The file of weights, if there is only one.
const WEIGHTS: &str = "model.safetensors";
/// Maps each tensor to its file, if there are several files of weights.
const INDEX: &str = "model.safetensors.index.json";
const SUFFIX: &str = ".safetensors";

/// The tokenizer's files. The first one is required, the others are optional.
const TOKENS: [&str; 5] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
    "chat_template.jinja",
];

/// The opened files of a folder.
pub(super) struct FolderFiles {
    pub(super) name: String,
    pub(super) config: (String, Bytes),
    pub(super) weights: Vec<Arc<dyn Source>>,
    tokens: TokenFiles,
    /// The path of the index, and the file of each tensor.
    pub(super) index: Option<(String, BTreeMap<String, String>)>,
    pub(super) pooling: Option<Pooling>,
    pub(super) sentence: SentenceConfig,
    /// Paths of all files that are read.
    pub(super) paths: Vec<PathBuf>,
}

/// Returns the model folder that `path` names: the folder itself, or the folder of the weights or the index. `None` for
/// any other file.
pub fn folder_of(path: &Path) -> Option<PathBuf> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let parent = || match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    if path.is_dir() {
        return Some(path.to_owned());
    }
    (name.ends_with(SUFFIX) || name == INDEX).then(parent)
}

impl FolderFiles {
    /// Opens the files in `folder`.
    ///
    /// # Errors
    /// A file that is missing, cannot be read, or is damaged.
    pub(super) fn open(folder: &Path) -> Result<Self, HuggingFaceError> {
        let name = folder.display().to_string();
        let Modules { model, pooling, sentence, .. } = Modules::read(folder)?;
        let folder = model.as_deref().unwrap_or(folder);
        let config_path = folder.join(CONFIG);
        let lacks = |wanted| HuggingFaceError::NotAModel { folder: name.clone(), wanted };
        if !config_path.is_file() {
            return Err(lacks(CONFIG));
        }
        let config = (config_path.display().to_string(), read_all(&config_path)?);
        let mut paths = vec![config_path];
        let tokens = TokenFiles::read(folder, &mut paths)?;
        let (single, index) = (folder.join(WEIGHTS), folder.join(INDEX));
        let mut files = Self {
            name: name.clone(),
            config,
            weights: Vec::new(),
            tokens,
            index: None,
            pooling,
            sentence,
            paths,
        };
        if single.is_file() {
            files.weights.push(Arc::new(FileSource::open(&single)?));
            files.paths.push(single);
            return Ok(files);
        }
        if !index.is_file() {
            return Err(lacks("model.safetensors, nor an index of several such files"));
        }
        let map = read_index(&index)?;
        let mut names: Vec<&String> = map.values().collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            let path = folder.join(name);
            if !path.is_file() {
                let (file, index) = (path.display().to_string(), index.display().to_string());
                return Err(HuggingFaceError::MissingFile { file, index });
            }
            files.weights.push(Arc::new(FileSource::open(&path)?));
            files.paths.push(path);
        }
        files.index = Some((index.display().to_string(), map));
        files.paths.push(index);
        Ok(files)
    }

    /// Returns the tokenizer's files; `None` if the folder has no tokenizer.
    pub(super) fn tokens(&self) -> Option<HuggingFaceFiles<'_>> {
        self.tokens.files(Some(&self.config.1))
    }

    /// Checks that every tensor is in the file that the index states.
    pub(super) fn check_index(&self, headers: &[SafetensorsHeader]) -> Result<(), HuggingFaceError> {
        let Some((_, map)) = &self.index else { return Ok(()) };
        let by_name: BTreeMap<&str, &SafetensorsHeader> =
            headers.iter().map(|header| (file_name(&header.file), header)).collect();
        let lacks = |(tensor, file): &(&String, &String)| {
            by_name.get(file.as_str()).is_none_or(|header| header.tensor(tensor).is_none())
        };
        match map.iter().find(lacks) {
            Some((tensor, file)) => Err(HuggingFaceError::MissingTensor {
                folder: format!("{}/{file}", self.name),
                tensor: tensor.clone(),
            }),
            None => Ok(()),
        }
    }
}

/// Contents of the tokenizer's files.
struct TokenFiles {
    /// File names and contents of those that exist.
    files: Vec<(&'static str, Bytes)>,
    /// Names and sources of additional chat templates.
    templates: Vec<(String, Vec<u8>)>,
}

/// The folder of additional chat templates, and the suffix of its files.
const TEMPLATES: &str = "additional_chat_templates";
const TEMPLATE_SUFFIX: &str = ".jinja";

impl TokenFiles {
    /// Reads the files in `folder`, and adds their paths to `paths`.
    fn read(folder: &Path, paths: &mut Vec<PathBuf>) -> Result<Self, HuggingFaceError> {
        let mut files = Vec::new();
        for name in TOKENS {
            let path = folder.join(name);
            if path.is_file() {
                files.push((name, read_all(&path)?));
                paths.push(path);
            }
        }
        let mut templates = Vec::new();
        for entry in std::fs::read_dir(folder.join(TEMPLATES)).into_iter().flatten().flatten() {
            let name = entry.file_name().into_string().unwrap_or_default();
            if let Some(name) = name.strip_suffix(TEMPLATE_SUFFIX) {
                templates.push((name.to_owned(), read_all(&entry.path())?.to_vec()));
                paths.push(entry.path());
            }
        }
        templates.sort_unstable();
        Ok(Self { files, templates })
    }

    /// Returns the files as input for a vocabulary; `None` if there is no tokenizer.
    fn files<'a>(&'a self, config: Option<&'a [u8]>) -> Option<HuggingFaceFiles<'a>> {
        let file =
            |name: &str| self.files.iter().find(|(found, _)| *found == name).map(|(_, bytes)| &**bytes);
        let [tokenizer, tokenizer_config, special_tokens_map, generation_config, chat_template] =
            TOKENS.map(file);
        Some(HuggingFaceFiles {
            tokenizer: tokenizer?,
            tokenizer_config,
            special_tokens_map,
            generation_config,
            config,
            chat_template,
            named_templates: &self.templates,
        })
    }
}

/// Reads the vocabulary of a folder, which need not contain a model; `None` if it has no tokenizer.
///
/// # Errors
/// Files that cannot be read, are damaged, or are of an unsupported kind.
pub fn folder_vocabulary(folder: &Path) -> Result<Option<Vocabulary>, HuggingFaceError> {
    let files = TokenFiles::read(folder, &mut Vec::new())?;
    let config = folder.join(CONFIG);
    let config = if config.is_file() { Some(read_all(&config)?) } else { None };
    let vocabulary =
        files.files(config.as_deref()).map(|files| Vocabulary::from_hugging_face(&files)).transpose();
    vocabulary.map_err(|source| HuggingFaceError::Tokenize { folder: folder.display().to_string(), source })
}

/// Returns the last component of a path.
fn file_name(path: &str) -> &str {
    Path::new(path).file_name().and_then(|name| name.to_str()).unwrap_or(path)
}

/// Reads the file of each tensor from an index.
fn read_index(path: &Path) -> Result<BTreeMap<String, String>, HuggingFaceError> {
    const MAP: &str = "weight_map";
    let file = || path.display().to_string();
    let index: Value = serde_json::from_slice(&read_all(path)?)
        .map_err(|error| HuggingFaceError::Json { file: file(), reason: error.to_string() })?;
    let missing = || HuggingFaceError::MissingField { file: file(), field: MAP.to_owned() };
    let map = index.get(MAP).and_then(Value::as_object).ok_or_else(missing)?;
    let mut files = BTreeMap::new();
    for (tensor, name) in map {
        let beside = name.as_str().filter(|name| is_file_beside(name));
        let Some(name) = beside else {
            let name = name.as_str().map_or_else(|| name.to_string(), str::to_owned);
            return Err(HuggingFaceError::ForeignFile { file: file(), tensor: tensor.clone(), name });
        };
        files.insert(tensor.clone(), name.to_owned());
    }
    match files.is_empty() {
        true => Err(missing()),
        false => Ok(files),
    }
}

/// Returns true if a name is that of a file in the same folder, on every operating system.
fn is_file_beside(name: &str) -> bool {
    name.len() > SUFFIX.len() && name.ends_with(SUFFIX) && !name.contains(['/', '\\', ':', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_beside_the_index_are_taken() {
        assert!(is_file_beside("model-00001-of-00002.safetensors"));
        for name in ["../x.safetensors", "/x.safetensors", "a/x.safetensors", "..", "", ".safetensors"] {
            assert!(!is_file_beside(name), "{name}");
        }
        for name in ["..\\x.safetensors", "C:x.safetensors", "x.bin", "x\0.safetensors"] {
            assert!(!is_file_beside(name), "{name}");
        }
    }

    #[test]
    fn a_folder_is_named_by_itself_or_its_weights() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(folder_of(folder.path()).as_deref(), Some(folder.path()));
        for name in [WEIGHTS, INDEX, "model-00001-of-00002.safetensors"] {
            assert_eq!(folder_of(&folder.path().join(name)).as_deref(), Some(folder.path()));
        }
        assert_eq!(folder_of(Path::new(WEIGHTS)).as_deref(), Some(Path::new(".")));
        assert!(folder_of(Path::new("model.gguf")).is_none());
    }
}
