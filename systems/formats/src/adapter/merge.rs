//! Merging: writes a model with an adapter's changes in its matrices, as a new GGUF file.
//!
//! A matrix that the adapter changes is decoded, `scale · B A` is added in f32, and it is encoded again. All other
//! tensors are copied. Rows pass through in batches, so memory does not grow with the model.

use super::{AdapterBase, AdapterError, AdapterFile, AdapterFiles, AdapterMatrices, AdapterPair};
use crate::ModelFile;
use crate::gguf::{Gguf, GgufError, GgufHeader, GgufWriteError, GgufWriter, Metadata, TensorInfo};
use crate::manifest::dimensions;
use crate::quantize::{EncodeError, quantize_rows, quantized_formats};
use crate::{ModelError, ShardSpec};
use std::collections::HashMap;
use std::io::Write;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use weft_components::formats::F16;
use weft_components::{AdapterSite, BlockFormat, ModelConfig, TensorFormat};
use weft_platform::storage::{Source, StorageError};
use weft_platform::{Kernels, Pool, PoolError};

/// Bytes of output that are computed and written at once.
const BATCH: usize = 16 << 20;

/// A model could not be merged with an adapter.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MergeError {
    /// The adapter cannot be used.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// The model cannot be read.
    #[error(transparent)]
    Load(#[from] ModelError),
    /// The model's container is damaged.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// The model's bytes cannot be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The output cannot be planned or written.
    #[error(transparent)]
    Write(#[from] GgufWriteError),
    /// Threads could not be started.
    #[error(transparent)]
    Threads(#[from] PoolError),
    /// The adapter changes the head, but the head is the embedding.
    #[error(
        "{file}: the adapter changes the head, which in this model is the embedding too; use it beside the model instead"
    )]
    TiedHead {
        /// Name of the adapter.
        file: String,
    },
    /// Merged matrices cannot be stored in this format.
    #[error("merged matrices cannot be stored in format `{format}`; supported: {supported}")]
    Format {
        /// Name of the format.
        format: String,
        /// Names of supported formats.
        supported: String,
    },
    /// A merged matrix contains values that the format cannot represent.
    #[error("tensor `{tensor}`: {source}")]
    Encode {
        /// Name of the tensor.
        tensor: String,
        /// Cause.
        source: EncodeError,
    },
    /// The scale is NaN or infinity.
    #[error("the adapter's scale is {scale}, not a finite number")]
    Scale {
        /// The scale.
        scale: f32,
    },
    /// The progress callback stopped the work.
    #[error("{file}: stopped before the file was complete")]
    Stopped {
        /// Name of the output file.
        file: String,
    },
}

/// How merged matrices are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// In their own format, or in F16 if there is no encoder for it.
    Same,
    /// In this format.
    As(TensorFormat),
}

impl Stored {
    /// Returns the format called `name`, in upper or lower case.
    ///
    /// # Errors
    /// [`MergeError::Format`].
    pub fn from_name(name: &str) -> Result<Self, MergeError> {
        let found = quantized_formats().find(|format| format.name().eq_ignore_ascii_case(name));
        found.map(Self::As).ok_or_else(|| {
            let names = quantized_formats().map(TensorFormat::name);
            MergeError::Format { format: name.to_owned(), supported: names.collect::<Vec<_>>().join(", ") }
        })
    }

    fn format(self, base: TensorFormat) -> TensorFormat {
        match self {
            Self::As(format) => format,
            Self::Same if quantized_formats().any(|format| format == base) => base,
            Self::Same => TensorFormat::from_ggml(F16::GGML_TYPE).unwrap_or(base),
        }
    }
}

/// What a pair adds to the rows of a tensor, with A decoded to floats.
struct Change<'a> {
    part: Overlap<'a>,
    /// Matrix A, `[rank, inputs]`.
    down: Vec<f32>,
}

impl<'a> Change<'a> {
    fn new(part: Overlap<'a>, cols: usize) -> Self {
        let mut down = vec![0.0; part.pair.down.rows() * cols];
        for (row, out) in down.chunks_exact_mut(cols.max(1)).enumerate() {
            part.pair.down.row(row, out);
        }
        Self { part, down }
    }

    /// Adds the change to one row of the tensor. `up` is scratch space for a row of B.
    fn add(&self, row: usize, scale: f32, up: &mut Vec<f32>, values: &mut [f32]) {
        let Overlap { pair, first, skip, rows } = &self.part;
        let Some(at) = row.checked_sub(*first).filter(|at| at < rows) else { return };
        up.clear();
        up.resize(pair.up.cols(), 0.0);
        pair.up.row(skip + at, up);
        for (up, down) in up.iter().zip(self.down.chunks_exact(values.len().max(1))) {
            let factor = up * (pair.scale * scale);
            values.iter_mut().zip(down).for_each(|(value, down)| *value += factor * down);
        }
    }
}

/// A model's tensors and the adapter's pairs.
struct Base {
    config: ModelConfig,
    shards: Vec<ShardSpec>,
    /// The indices of each tensor's shards.
    by_name: HashMap<String, Range<usize>>,
    matrices: AdapterMatrices,
}

/// The rows of a pair that are added to rows of a tensor.
struct Overlap<'a> {
    pair: &'a AdapterPair,
    /// First row of the tensor that is changed.
    first: usize,
    /// First output of the pair that is added.
    skip: usize,
    rows: usize,
}

impl Base {
    fn new(config: ModelConfig, shards: Vec<ShardSpec>, matrices: AdapterMatrices) -> Self {
        let mut by_name: HashMap<String, Range<usize>> = HashMap::new();
        for (index, spec) in shards.iter().enumerate() {
            match by_name.get_mut(&spec.shard.name) {
                Some(range) => range.end = index + 1,
                None => _ = by_name.insert(spec.shard.name.clone(), index..index + 1),
            }
        }
        Self { config, shards, by_name, matrices }
    }

    /// Returns the changes of a tensor's rows.
    fn overlaps(&self, tensor: &str) -> Vec<Overlap<'_>> {
        let mut overlaps = Vec::new();
        let mut first = 0;
        let shards = self.by_name.get(tensor).and_then(|range| self.shards.get(range.clone()));
        for spec in shards.unwrap_or_default() {
            let (role, rows) = (spec.shard.role, spec.shard.rows);
            if let Some(site) = AdapterSite::of(role) {
                // The outputs of the product that precede the shard's rows.
                let before = site.roles().iter().take_while(|found| **found != role);
                let column: usize = before.map(|found| dimensions(*found, &self.config).0.unwrap_or(0)).sum();
                for pair in self.matrices.pairs(spec.owner.layer(), site) {
                    let start = pair.first.max(column);
                    let end = (pair.first + pair.up.rows()).min(column + rows);
                    if start < end {
                        let (first, skip) = (first + start - column, start - pair.first);
                        overlaps.push(Overlap { pair, first, skip, rows: end - start });
                    }
                }
            }
            first += rows;
        }
        overlaps
    }
}

/// A planned merge. [`Merge::write`] writes its file.
pub struct Merge {
    sources: Vec<Arc<dyn Source>>,
    base: Base,
    scale: f32,
    /// The model's tensors. The flag is true if the adapter changes the tensor.
    tensors: Vec<(TensorInfo, bool)>,
    header: GgufHeader,
}

impl Merge {
    /// Plans the merge of an adapter, multiplied by `scale`, into the model in `sources`. `file` is the name of the
    /// output in error messages.
    ///
    /// # Errors
    /// A model or an adapter that cannot be read, an adapter that does not fit the model or changes a tied head, or a
    /// scale that is NaN or infinity.
    pub fn new(
        file: &str,
        sources: Vec<Arc<dyn Source>>,
        adapter: &AdapterFiles,
        scale: f32,
        stored: Stored,
    ) -> Result<Self, MergeError> {
        if !scale.is_finite() {
            return Err(MergeError::Scale { scale });
        }
        let gguf = Gguf::read(&sources)?;
        let ModelFile { sources, config, shards, .. } = ModelFile::read(sources)?;
        let base = AdapterBase { config: &config, shards: &shards };
        let AdapterFile { adapter, matrices } = AdapterFile::read(adapter, &base)?;
        if config.tied && adapter.pairs.iter().any(|pair| pair.site == AdapterSite::Head) {
            return Err(MergeError::TiedHead { file: adapter.name });
        }
        let base = Base::new(config, shards, matrices);
        // The parts of a split model become one file.
        let entries = gguf.metadata.iter().filter(|(key, _)| !key.starts_with("split."));
        let entries = entries.map(|(key, value)| (key.to_owned(), value.clone())).collect();
        let mut header = GgufHeader::new(&Metadata::new(file, entries)?)?;
        let mut tensors = Vec::with_capacity(gguf.tensors.len());
        for tensor in gguf.tensors {
            let changed = !base.overlaps(&tensor.name).is_empty();
            let format = if changed { stored.format(tensor.format) } else { tensor.format };
            header.tensor(&tensor.name, format, &tensor.shape)?;
            tensors.push((tensor, changed));
        }
        Ok(Self { sources, base, scale, tensors, header })
    }

    /// Returns the size of the output in bytes.
    pub fn bytes(&self) -> u64 {
        self.header.file_bytes()
    }

    /// Returns the number of tensors in the output.
    pub fn tensors(&self) -> usize {
        self.tensors.len()
    }

    /// Returns the number of tensors that the adapter changes.
    pub fn changed(&self) -> usize {
        self.tensors.iter().filter(|(_, changed)| *changed).count()
    }

    /// Merges on `threads` threads, or one for each core if 0, and writes the file to `out`. `progress` is called with
    /// the bytes written so far and may stop the work.
    ///
    /// # Errors
    /// [`MergeError::Write`] if `out` fails, [`MergeError::Stopped`], [`MergeError::Threads`], [`MergeError::Encode`],
    /// and errors of reading the model.
    pub fn write<W: Write>(
        &self,
        out: W,
        threads: usize,
        mut progress: impl FnMut(u64) -> ControlFlow<()>,
    ) -> Result<W, MergeError> {
        let pool = Pool::new(threads)?;
        let mut writer = GgufWriter::new(out, &self.header)?;
        let start = self.header.data_start();
        let mut buffer = Vec::new();
        for ((tensor, changed), planned) in self.tensors.iter().zip(self.header.tensors()) {
            let source = self.sources.get(tensor.source).ok_or(GgufError::NoSources)?;
            let mut written = 0;
            let mut put = |bytes: &[u8]| {
                writer.data(bytes)?;
                written += bytes.len() as u64;
                match progress(start + planned.offset + written) {
                    ControlFlow::Continue(()) => Ok(()),
                    ControlFlow::Break(()) => {
                        Err(MergeError::Stopped { file: self.header.file().to_owned() })
                    }
                }
            };
            if *changed {
                self.merged(&pool, tensor, planned.format, &**source, &mut put)?;
                continue;
            }
            for range in batches(tensor, BATCH as u64) {
                put(source.read_into(range, &mut buffer)?)?;
            }
        }
        Ok(writer.finish()?)
    }

    /// Writes the rows of a tensor with the adapter's changes added.
    fn merged(
        &self,
        pool: &Pool,
        tensor: &TensorInfo,
        format: TensorFormat,
        source: &dyn Source,
        put: &mut impl FnMut(&[u8]) -> Result<(), MergeError>,
    ) -> Result<(), MergeError> {
        let cols = tensor.shape.first().and_then(|cols| usize::try_from(*cols).ok()).unwrap_or(0);
        let unsupported = |format: TensorFormat| ModelError::UnsupportedFormat {
            file: source.name().to_owned(),
            name: tensor.name.clone(),
            format: format.to_string(),
            known: "those of matrices".to_owned(),
        };
        let row_bytes = tensor.format.row_bytes(cols).filter(|bytes| *bytes > 0);
        let from = row_bytes.ok_or_else(|| unsupported(tensor.format))?;
        let overlaps = self.base.overlaps(&tensor.name).into_iter();
        let changes: Vec<_> = overlaps.map(|part| Change::new(part, cols)).collect();
        let cpu = pool.cpu(Kernels::detect());
        let rows = (BATCH / (4 * cols)).max(1);
        let (mut buffer, mut values, mut made) = (Vec::new(), Vec::new(), Vec::new());
        for (batch, range) in batches(tensor, (rows * from) as u64).enumerate() {
            let bytes = source.read_into(range, &mut buffer)?;
            values.clear();
            values.resize(bytes.len() / from * cols, 0.0);
            made.clear();
            let encoded = pool.install(|| {
                cpu.for_each_part(&mut values, cols, 16, |row, values| {
                    let mut up = Vec::new();
                    // A format that cannot be decoded was refused when the model was read.
                    let _ = tensor.format.dequantize(&bytes[row * from..][..from], values);
                    changes.iter().for_each(|change| {
                        change.add(batch * rows + row, self.scale, &mut up, values);
                    });
                });
                quantize_rows(cpu, format, &values, cols, &mut made)
            });
            encoded.map_err(|source| MergeError::Encode { tensor: tensor.name.clone(), source })?;
            put(&made)?;
        }
        Ok(())
    }
}

/// Splits a tensor's byte range into ranges of at most `size` bytes.
fn batches(tensor: &TensorInfo, size: u64) -> impl Iterator<Item = Range<u64>> + use<> {
    let Range { start, end } = tensor.range;
    let step = usize::try_from(size).unwrap_or(usize::MAX).max(1);
    (start..end).step_by(step).map(move |start| start..end.min(start.saturating_add(size)))
}
