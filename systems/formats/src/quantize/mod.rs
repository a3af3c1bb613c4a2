//! Quantization: [`quantize_rows`] for arrays of floats, [`Quantize`] for model files.
//!
//! A file is read through its sources and written as a stream, one band of a tensor at a time, so memory does not grow
//! with the model. Tensors that already have the chosen format are copied. All others are decoded exactly to F32 and
//! encoded again.
//!
//! Invariant: the output does not depend on the number of threads.

mod choose;
mod encode;
mod error;

pub use choose::QuantizeOptions;
pub use encode::{EncodeError, quantize_rows, quantized_formats};
pub use error::QuantizeError;

use choose::Choice;
use std::collections::BTreeMap;
use std::io::Write;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::gguf::{Gguf, GgufHeader, GgufWriter, Metadata, PlannedTensor, TensorInfo, Value};
use weft_components::TensorFormat;
use weft_platform::storage::Source;
use weft_platform::{Cpu, Kernels, Pool};

/// Elements of a band: a whole number of blocks in every format.
const BAND: usize = 1 << 21;

/// Elements that a thread decodes at once.
const PART: usize = 1 << 12;

/// Prefix of the keys of a split model. The output is one file and does not have them.
const SPLIT_KEYS: &str = "split.";

/// The key of the mix that a file's matrices are stored in.
const FILE_TYPE: &str = "general.file_type";

/// The key and the value of the version of the formats. There has been no other since 2023.
const VERSION: (&str, u32) = ("general.quantization_version", 2);

/// A planned quantization: the input files and the header of the output. [`Quantize::write`] writes the output.
pub struct Quantize<'a> {
    sources: &'a [Arc<dyn Source>],
    /// Tensors of the input, in the order of the header.
    tensors: Vec<TensorInfo>,
    header: GgufHeader,
}

impl<'a> Quantize<'a> {
    /// Plans the output. `file` is its name in error messages; `sources` are the input, as for [`Gguf::read`].
    ///
    /// # Errors
    /// A [`QuantizeError`] for an input that is not a valid GGUF file, a tensor that cannot be decoded, or rows that
    /// are not whole blocks of a requested format.
    pub fn new(
        file: &str,
        sources: &'a [Arc<dyn Source>],
        options: &QuantizeOptions,
    ) -> Result<Self, QuantizeError> {
        let gguf = Gguf::read(sources)?;
        let metadata = metadata(file, &gguf.metadata, options)?;
        let mut header = GgufHeader::new(&metadata)?;
        let choice = Choice::new(&gguf, options)?;
        for tensor in &gguf.tensors {
            let format = choice.format(tensor);
            if format != tensor.format && tensor.format.codec().is_none() {
                let file = sources.get(tensor.source).map_or("", |source| source.name()).to_owned();
                let (tensor, format) = (tensor.name.clone(), tensor.format.name());
                return Err(QuantizeError::UnreadableTensor { file, tensor, format });
            }
            header.tensor(&tensor.name, format, &tensor.shape)?;
        }
        Ok(Self { sources, tensors: gguf.tensors, header })
    }

    /// Returns the header of the output: names, formats and offsets of its tensors.
    pub fn header(&self) -> &GgufHeader {
        &self.header
    }

    /// Returns the size of the output in bytes.
    pub fn bytes(&self) -> u64 {
        self.header.file_bytes()
    }

    /// Returns the number of tensors in each format, by the format's name.
    pub fn formats(&self) -> BTreeMap<&'static str, usize> {
        let mut formats = BTreeMap::new();
        for tensor in self.header.tensors() {
            *formats.entry(tensor.format.name()).or_default() += 1;
        }
        formats
    }

    /// Returns the number of tensors that were quantized before and get another quantized format. They lose more
    /// accuracy than if they were quantized from floats.
    pub fn requantized(&self) -> usize {
        let again = |(from, to): (&TensorInfo, &PlannedTensor)| {
            from.format.block() > 1 && to.format.block() > 1 && from.format != to.format
        };
        self.tensors.iter().zip(self.header.tensors()).filter(|pair| again(*pair)).count()
    }

    /// Quantizes on `threads` threads, or one for each core if 0, and writes the file to `out`. `progress` is called
    /// every few megabytes with the bytes written so far and may stop the work.
    ///
    /// # Errors
    /// [`QuantizeError::Encode`] for values that are NaN, infinite or too large, [`QuantizeError::Storage`],
    /// [`QuantizeError::Write`] if `out` fails, [`QuantizeError::Stopped`], [`QuantizeError::Threads`].
    pub fn write<W: Write>(
        &self,
        out: W,
        threads: usize,
        mut progress: impl FnMut(u64) -> ControlFlow<()>,
    ) -> Result<W, QuantizeError> {
        let pool = Pool::new(threads)?;
        let cpu = pool.cpu(Kernels::detect());
        let mut writer = GgufWriter::new(out, &self.header)?;
        let (mut values, mut blocks) = (Vec::new(), Vec::new());
        let start = self.header.data_start();
        for (from, to) in self.tensors.iter().zip(self.header.tensors()) {
            let Some(source) = self.sources.get(from.source) else { continue };
            let (mut read, mut written) = (from.range.start, 0);
            let band = BAND / from.format.block() * from.format.block_bytes();
            while read < from.range.end {
                let end = from.range.end.min(read + band as u64);
                let bytes = source.read(read..end)?;
                if from.format == to.format {
                    writer.data(&bytes)?;
                    written += bytes.len() as u64;
                } else {
                    blocks.clear();
                    let made = pool.install(|| {
                        dequantize(cpu, from.format, &bytes, &mut values);
                        // Rows are whole blocks, so their boundaries do not matter.
                        quantize_rows(cpu, to.format, &values, values.len(), &mut blocks)
                    });
                    let first = (read - from.range.start) / from.format.block_bytes() as u64
                        * from.format.block() as u64;
                    made.map_err(|error| QuantizeError::Encode {
                        file: source.name().to_owned(),
                        tensor: from.name.clone(),
                        source: error.after(first),
                    })?;
                    writer.data(&blocks)?;
                    written += blocks.len() as u64;
                }
                read = end;
                if progress(start + to.offset + written).is_break() {
                    return Err(QuantizeError::Stopped { file: self.header.file().to_owned() });
                }
            }
        }
        Ok(writer.finish()?)
    }
}

/// Decodes whole blocks to their exact values.
fn dequantize(cpu: Cpu, format: TensorFormat, bytes: &[u8], values: &mut Vec<f32>) {
    values.clear();
    values.resize(bytes.len() / format.block_bytes() * format.block(), 0.0);
    let part_bytes = PART / format.block() * format.block_bytes();
    let part = |index: usize, values: &mut [f32]| {
        let start = index * part_bytes;
        let end = bytes.len().min(start + part_bytes);
        // Formats without a codec were refused, and the lengths match.
        format.dequantize(bytes.get(start..end).unwrap_or_default(), values);
    };
    cpu.for_each_part(values, PART, 1, part);
    let whole = values.chunks_exact_mut(PART);
    part(whole.len(), whole.into_remainder());
}

/// Returns the metadata of the output.
fn metadata(file: &str, read: &Metadata, options: &QuantizeOptions) -> Result<Metadata, QuantizeError> {
    if let Some(key) = read.lossy_keys().find(|key| key.starts_with("tokenizer.")) {
        return Err(QuantizeError::NotUtf8 { file: read.file().to_owned(), key: key.to_owned() });
    }
    let set = [options.mix.file_type().map(|number| (FILE_TYPE, number)), Some(VERSION)];
    let set: Vec<_> = set.into_iter().flatten().collect();
    let kept = read
        .iter()
        .filter(|(key, _)| !key.starts_with(SPLIT_KEYS) && !set.iter().any(|(other, _)| key == other));
    let mut entries: Vec<_> = kept.map(|(key, value)| (key.to_owned(), value.clone())).collect();
    entries.extend(set.iter().map(|(key, number)| ((*key).to_owned(), Value::U32(*number))));
    Ok(Metadata::new(file, entries)?)
}
