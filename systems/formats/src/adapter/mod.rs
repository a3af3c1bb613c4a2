//! LoRA adapters: GGUF files, and folders that PEFT saves.
//!
//! Both contain pairs of matrices, each named after a matrix of the model. The model's architecture determines which
//! product a pair adds to (`target`). Every shape is checked against the model's hyperparameters before memory is
//! allocated for it.

mod error;
mod gguf;
mod matrices;
pub mod merge;
mod peft;
mod target;

pub use error::AdapterError;
pub use matrices::{AdapterMatrices, AdapterPair};
pub use merge::{Merge, MergeError, Stored};
pub use target::AdapterBase;

use crate::hugging_face::RowOrder;
use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;
use target::{MOST_RANK, Target};
use weft_components::formats::F32;
use weft_components::{Adapter, BlockFormat, LowRank, TensorFormat};
use weft_platform::CpuMatrix;
use weft_platform::storage::{Bytes, Source};

/// The files of an adapter.
#[derive(Clone)]
pub enum AdapterFiles {
    /// A GGUF file, or all parts of a split one.
    Gguf(Vec<Arc<dyn Source>>),
    /// A folder that PEFT saved.
    Peft {
        /// `adapter_config.json`.
        config: Arc<dyn Source>,
        /// `adapter_model.safetensors`.
        weights: Arc<dyn Source>,
    },
}

impl AdapterFiles {
    /// Returns the names of the files that the adapter is read from.
    pub fn files(&self) -> Vec<PathBuf> {
        match self {
            Self::Gguf(sources) => sources.iter().map(|source| source.name().into()).collect(),
            Self::Peft { config, weights } => vec![config.name().into(), weights.name().into()],
        }
    }

    /// Opens a GGUF file, or a folder that PEFT saved.
    ///
    /// # Errors
    /// A file that is missing or cannot be read.
    #[cfg(not(target_family = "wasm"))]
    pub fn open(path: &std::path::Path) -> Result<Self, AdapterError> {
        use weft_platform::storage::FileSource;
        if !path.is_dir() {
            return Ok(Self::Gguf(super::gguf::open_files(path)?));
        }
        let open = |file: &'static str| {
            let whole = path.join(file);
            if !whole.is_file() {
                return Err(AdapterError::NoFile { folder: path.display().to_string(), file });
            }
            Ok(Arc::new(FileSource::open(whole)?))
        };
        Ok(Self::Peft { config: open("adapter_config.json")?, weights: open("adapter_model.safetensors")? })
    }
}

/// An adapter that has been read and checked against its model.
pub struct AdapterFile {
    /// Its name, and which products of the model each pair changes.
    pub adapter: Adapter,
    /// The matrices of the pairs.
    pub matrices: AdapterMatrices,
}

impl AdapterFile {
    /// Reads a whole adapter.
    ///
    /// # Errors
    /// A damaged file, an adapter for another model or for an encoder, or an adapter with features that the engine does
    /// not support.
    pub fn read(files: &AdapterFiles, base: &AdapterBase<'_>) -> Result<Self, AdapterError> {
        if !base.config.causal {
            let file = match files {
                AdapterFiles::Gguf(sources) => sources.first().map_or("", |source| source.name()),
                AdapterFiles::Peft { config, .. } => config.name(),
            };
            let architecture = base.config.architecture.clone();
            return Err(AdapterError::Encoder { file: file.to_owned(), architecture });
        }
        match files {
            AdapterFiles::Gguf(sources) => gguf::read(sources, base),
            AdapterFiles::Peft { config, weights } => peft::read(&**config, &**weights, base),
        }
    }
}

/// A matrix of a pair, as stored in a file.
struct Half {
    name: String,
    format: TensorFormat,
    rows: u64,
    cols: u64,
    bytes: Bytes,
}

/// Collects the pairs of an adapter while it is read.
struct Reader<'a> {
    file: &'a str,
    base: &'a AdapterBase<'a>,
    pairs: Vec<(LowRank, CpuMatrix, CpuMatrix)>,
}

impl<'a> Reader<'a> {
    fn new(file: &'a str, base: &'a AdapterBase<'a>) -> Self {
        Self { file, base, pairs: Vec::new() }
    }

    fn unknown(&self, tensor: &str) -> AdapterError {
        AdapterError::UnknownTensor { file: self.file.to_owned(), tensor: tensor.to_owned() }
    }

    fn missing(&self, tensor: String) -> AdapterError {
        AdapterError::MissingHalf { file: self.file.to_owned(), tensor }
    }

    fn no_such(&self, tensor: &str) -> AdapterError {
        AdapterError::NoSuchTensor {
            file: self.file.to_owned(),
            tensor: tensor.to_owned(),
            architecture: self.base.config.architecture.clone(),
        }
    }

    /// Checks the shapes of a pair and packs it. `scale` computes the factor from the rank; `order` maps the rows of B
    /// in the model to those in the file.
    fn pair(
        &mut self,
        target: &Target<'_>,
        [down, up]: [&Half; 2],
        order: RowOrder,
        scale: impl FnOnce(usize) -> f32,
    ) -> Result<(), AdapterError> {
        let rank = usize::try_from(down.rows).ok().filter(|rank| (1..=MOST_RANK).contains(rank));
        let rank = rank.ok_or_else(|| AdapterError::Rank {
            file: self.file.to_owned(),
            tensor: down.name.clone(),
            rank: down.rows,
            most: MOST_RANK,
        })?;
        let pair = self.base.place(self.file, target, rank, scale(rank))?;
        if !pair.scale.is_finite() {
            return Err(AdapterError::BadField {
                file: self.file.to_owned(),
                field: "alpha".to_owned(),
                value: format!("{} times the rank", pair.scale),
                wanted: "a finite 32-bit number",
            });
        }
        for (half, wanted) in [(down, [rank, pair.inputs]), (up, [pair.outputs, rank])] {
            let (found, wanted) = ([half.rows, half.cols], wanted.map(|n| n as u64));
            if found != wanted {
                let (file, tensor) = (self.file.to_owned(), half.name.clone());
                return Err(AdapterError::Shape { file, tensor, found, wanted });
            }
        }
        let a = self.matrix(down, rank, pair.inputs, &down.bytes)?;
        let b = self.matrix(up, pair.outputs, rank, &self.ordered(up, pair.outputs, order)?)?;
        self.pairs.push((pair, a, b));
        Ok(())
    }

    /// Returns the bytes of B with its rows in the model's order.
    fn ordered<'b>(&self, up: &'b Half, rows: usize, order: RowOrder) -> Result<Cow<'b, [u8]>, AdapterError> {
        if order == RowOrder::Same {
            return Ok(Cow::Borrowed(&up.bytes));
        }
        let row_bytes = usize::try_from(up.cols).ok().and_then(|cols| up.format.row_bytes(cols));
        let row_bytes = row_bytes.ok_or_else(|| self.format(up))?;
        let mut ordered = Vec::with_capacity(up.bytes.len());
        for row in 0..rows as u64 {
            let start = usize::try_from(order.source(row)).unwrap_or(usize::MAX).saturating_mul(row_bytes);
            let bytes = up.bytes.get(start..start.saturating_add(row_bytes));
            ordered.extend_from_slice(bytes.ok_or_else(|| self.format(up))?);
        }
        Ok(Cow::Owned(ordered))
    }

    fn format(&self, half: &Half) -> AdapterError {
        AdapterError::Format {
            file: self.file.to_owned(),
            tensor: half.name.clone(),
            format: half.format.to_string(),
        }
    }

    /// Packs a matrix. Floats keep their format; quantized matrices are decoded to F32.
    fn matrix(&self, half: &Half, rows: usize, cols: usize, bytes: &[u8]) -> Result<CpuMatrix, AdapterError> {
        let codec = half.format.codec().ok_or_else(|| self.format(half))?;
        let pack = |format, bytes: &[u8]| {
            CpuMatrix::pack(format, rows, cols, bytes).map_err(|source| AdapterError::Pack {
                file: self.file.to_owned(),
                tensor: half.name.clone(),
                source,
            })
        };
        if !codec.layout.is_quantized() {
            return pack(half.format, bytes);
        }
        // `rank` is bounded and the other dimension is the model's, so the model needs more memory than this.
        let mut values = vec![0.0f32; rows * cols];
        let single = TensorFormat::from_ggml(F32::GGML_TYPE).ok_or_else(|| self.format(half))?;
        if !half.format.dequantize(bytes, &mut values) {
            return Err(self.format(half));
        }
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        pack(single, &bytes)
    }

    /// Returns the complete adapter.
    fn finish(mut self, name: &str) -> Result<AdapterFile, AdapterError> {
        if self.pairs.is_empty() {
            return Err(AdapterError::Empty { file: self.file.to_owned() });
        }
        // With a fixed order of pairs, a row's sums do not depend on the order in the file.
        self.pairs.sort_by_key(|(pair, ..)| (pair.layer.unwrap_or(usize::MAX), pair.site, pair.first));
        for neighbours in self.pairs.windows(2) {
            if let [(pair, ..), (next, ..)] = neighbours
                && (next.layer, next.site) == (pair.layer, pair.site)
                && next.first < pair.first + pair.outputs
            {
                let (file, tensor, other) = (self.file.to_owned(), pair.name.clone(), next.name.clone());
                return Err(AdapterError::Twice { file, tensor, other });
            }
        }
        let mut matrices = AdapterMatrices::new(self.base.config.layers);
        let mut pairs = Vec::with_capacity(self.pairs.len());
        for (pair, down, up) in self.pairs {
            matrices.push(&pair, down, up);
            pairs.push(pair);
        }
        Ok(AdapterFile { adapter: Adapter { name: name.to_owned(), pairs }, matrices })
    }
}
