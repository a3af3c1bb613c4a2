//! Hugging Face folders: `config.json` and safetensors files, presented as the GGUF that a conversion would produce.
//!
//! The configuration becomes GGUF metadata and the tensors get their GGUF names. Where a conversion changes rows or
//! values, the change is made while they are read. All code outside this module sees only a GGUF:
//! [`HuggingFaceFolder::source`] returns its bytes, in the folder's own tensor formats. The whole GGUF is never in
//! memory or on disk.
//!
//! Keys and layout follow llama.cpp's converter, so other programs can read the result.

mod config;
mod describe;
pub(crate) mod error;
mod families;
#[cfg(not(target_family = "wasm"))]
mod files;
mod keys;
mod matters;
#[cfg(not(target_family = "wasm"))]
mod modules;
mod names;
mod plan;
#[cfg(not(target_family = "wasm"))]
mod read;
mod rope;
mod rows;
mod tokens;
mod view;

pub use error::HuggingFaceError;
#[cfg(not(target_family = "wasm"))]
pub use files::{folder_of, folder_vocabulary};
pub use names::{NamedTensor, gguf_names, is_other_part};
pub use plan::row_order;
pub use rows::RowOrder;

use super::gguf::{GgufHeader, Metadata, Value};
use super::safetensors::SafetensorsHeader;
use super::sampling::sampling_entries;
use super::sentence;
use super::vocabulary_entries::{no_vocabulary_entry, vocabulary_entries};
use config::Config;
use describe::Described;
use plan::{Plan, PlannedRows};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use view::{Content, View};
use weft_components::formats::F32;
use weft_components::{BlockFormat, Pooling, SentenceConfig, TensorFormat, TensorRole};
use weft_platform::storage::Source;
use weft_text::{HuggingFaceFiles, Vocabulary};

/// The token embedding.
const EMBEDDING: &str = "token_embd.weight";

/// The origin of a tensor of the GGUF.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorOrigin {
    /// Its name in the GGUF.
    pub name: String,
    /// Files and names of the tensors that it is made of. Empty if it is computed from the configuration.
    pub tensors: Vec<(String, String)>,
}

/// A model folder whose headers have been read and checked. It presents the model as a GGUF.
pub struct HuggingFaceFolder {
    source: Arc<dyn Source>,
    vocabulary: Option<Arc<Vocabulary>>,
    origins: Vec<TensorOrigin>,
    /// Paths of the files that were read, if they have paths.
    files: Vec<PathBuf>,
}

/// The folder's settings for embeddings.
#[derive(Default)]
struct Embeddings {
    pooling: Option<Pooling>,
    sentence: SentenceConfig,
}

impl HuggingFaceFolder {
    /// Reads the headers of the model in `folder`, but not its weights.
    ///
    /// # Errors
    /// A [`HuggingFaceError`] that names the file, the field or tensor, and what to do.
    #[cfg(not(target_family = "wasm"))]
    pub fn open(folder: &Path) -> Result<Self, HuggingFaceError> {
        let files = files::FolderFiles::open(folder)?;
        let headers = read_headers(&files.weights)?;
        files.check_index(&headers)?;
        let (config_file, config) = &files.config;
        let config = Config::parse(config_file.clone(), config)?;
        let embeddings = Embeddings { pooling: files.pooling, sentence: files.sentence.clone() };
        let folder =
            Self::new(&files.name, config, files.tokens(), embeddings, files.weights.clone(), &headers)?;
        Ok(Self { files: files.paths, ..folder })
    }

    /// Reads a model from files that are not in a folder: the contents of `config.json`, the tokenizer's files, and the
    /// files of weights. `name` is used in place of the folder's path.
    ///
    /// # Errors
    /// As [`HuggingFaceFolder::open`].
    pub fn from_files(
        name: &str,
        config: &[u8],
        tokens: Option<HuggingFaceFiles<'_>>,
        weights: Vec<Arc<dyn Source>>,
    ) -> Result<Self, HuggingFaceError> {
        let headers = read_headers(&weights)?;
        let config = Config::parse(format!("{name}/{}", config::CONFIG), config)?;
        Self::new(name, config, tokens, Embeddings::default(), weights, &headers)
    }

    fn new(
        name: &str,
        mut config: Config,
        tokens: Option<HuggingFaceFiles<'_>>,
        embeddings: Embeddings,
        weights: Vec<Arc<dyn Source>>,
        headers: &[SafetensorsHeader],
    ) -> Result<Self, HuggingFaceError> {
        let (family, arch) = families::find(&mut config)?;
        let title = Path::new(name).file_name().and_then(|name| name.to_str()).unwrap_or(name);
        let Embeddings { pooling, sentence: of_texts } = embeddings;
        let Described { mut entries, hyperparameters, rope } =
            describe::describe(&config, family, arch, title, pooling)?;
        let plan =
            Plan { folder: name, family, arch, hyperparameters, other_parts: config.has_other_parts() };
        // Quantized weights have other dtypes or names. The error should name the quantization.
        let quantized = |error: HuggingFaceError| match error {
            HuggingFaceError::UnknownTensor { .. } | HuggingFaceError::Dtype { .. } => {
                config.quantized().unwrap_or(error)
            }
            error => error,
        };
        let tensors = plan.tensors(headers).map_err(quantized)?;
        let head = tensors.iter().any(|tensor| tensor.name == plan::HEAD);
        if hyperparameters.tied == Some(false) && !head && arch.may_have(TensorRole::Output) {
            entries.push((sentence::NO_HEAD.to_owned(), Value::Bool(true)));
        }
        entries.extend(sentence::entries(&of_texts));
        if let Some(generation) = tokens.as_ref().and_then(|tokens| tokens.generation_config) {
            entries.extend(sampling_entries(generation));
        }
        let vocabulary = tokens.map(|tokens| tokens::read(&tokens, hyperparameters.vocabulary)).transpose();
        let vocabulary =
            vocabulary.map_err(|source| HuggingFaceError::Tokenize { folder: name.to_owned(), source })?;
        let rows = tensors.iter().find(|tensor| tensor.name == EMBEDDING);
        let rows = rows.and_then(|tensor| tensor.shape.get(1)).and_then(|rows| usize::try_from(*rows).ok());
        match &vocabulary {
            Some(vocabulary) => entries.extend(vocabulary_entries(vocabulary, rows.unwrap_or(0))),
            None => entries.push(no_vocabulary_entry()),
        }
        let mut header = GgufHeader::new(&Metadata::new(name, entries)?)?;
        let (mut contents, mut origins) = (Vec::new(), Vec::new());
        let single = TensorFormat::from_ggml(F32::GGML_TYPE);
        for ((tensor, factors), format) in rope.factors.into_iter().zip(single.into_iter().cycle()) {
            header.tensor(tensor, format, &[factors.len() as u64])?;
            let bytes: Vec<u8> = factors.iter().flat_map(|factor| factor.to_le_bytes()).collect();
            contents.push(Content::Bytes(bytes.into()));
            origins.push(TensorOrigin { name: tensor.to_owned(), tensors: Vec::new() });
        }
        for PlannedRows { name, format, shape, rows, origins: from } in tensors {
            header.tensor(&name, format, &shape)?;
            contents.push(Content::Rows(rows));
            let file = |file: usize| headers.get(file).map_or_else(String::new, |header| header.file.clone());
            let tensors = from.into_iter().map(|(index, tensor)| (file(index), tensor)).collect();
            origins.push(TensorOrigin { name, tensors });
        }
        let source = Arc::new(View::new(&header, contents, weights)?);
        Ok(Self { source, vocabulary: vocabulary.map(Arc::new), origins, files: Vec::new() })
    }

    /// Returns the model as the bytes of a GGUF of version 3.
    pub fn source(&self) -> Arc<dyn Source> {
        Arc::clone(&self.source)
    }

    /// Returns the vocabulary, if the folder has one. It may contain rules that GGUF has no keys for.
    pub fn vocabulary(&self) -> Option<&Arc<Vocabulary>> {
        self.vocabulary.as_ref()
    }

    /// Returns the paths of the files that the model is read from, if they have paths.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Returns the origin of each tensor, in the order of the GGUF.
    pub fn origins(&self) -> &[TensorOrigin] {
        &self.origins
    }
}

fn read_headers(weights: &[Arc<dyn Source>]) -> Result<Vec<SafetensorsHeader>, HuggingFaceError> {
    let headers = weights.iter().map(|source| SafetensorsHeader::read(source));
    Ok(headers.collect::<Result<_, _>>()?)
}
