//! Encoders from floats to blocks, the inverse of the decoders in `weft-components`.
//!
//! No importance matrix is used. For each block a search finds the scale, or the scale and the minimum, with the least
//! weighted squared error. Elements are weighted as in llama.cpp's quantizer. The scales of super-blocks are then
//! rounded, and codes are chosen for the rounded scales. Q4_0, Q5_0 and Q8_0 keep the largest element exact. F32, F16
//! and BF16 only round.
//!
//! Invariant: a block depends only on its own elements, so the output does not depend on how the work is split.

mod bits;
mod blocks;
mod floats;
mod k_mins;
mod k_scales;
mod search;
mod supers;
mod tables;
mod ternary;

use std::sync::atomic::{AtomicUsize, Ordering};
use weft_components::formats::{
    Bf16, F16, F32, Iq4Nl, Iq4Xs, Mxfp4, Q2K, Q3K, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0, Tq1_0, Tq2_0,
};
use weft_components::{BlockFormat, TensorFormat};
use weft_platform::Cpu;

/// Encodes one block, or any number of values of a float format. `None` if a value exceeds the format's range.
type Encoder = fn(&[f32], &mut [u8]) -> Option<()>;

/// A format and its encoder.
struct Row {
    ggml_type: u32,
    encode: Encoder,
}

const fn row<F: BlockFormat>(encode: Encoder) -> Row {
    Row { ggml_type: F::GGML_TYPE, encode }
}

/// All formats that floats can be encoded to.
static ENCODERS: [Row; 18] = [
    row::<F32>(floats::f32),
    row::<F16>(floats::f16),
    row::<Bf16>(floats::bf16),
    row::<Q4_0>(blocks::q4_0),
    row::<Q4_1>(blocks::q4_1),
    row::<Q5_0>(blocks::q5_0),
    row::<Q5_1>(blocks::q5_1),
    row::<Q8_0>(blocks::q8_0),
    row::<Q2K>(k_mins::q2_k),
    row::<Q3K>(k_scales::q3_k),
    row::<Q4K>(k_mins::q4_k),
    row::<Q5K>(k_mins::q5_k),
    row::<Q6K>(k_scales::q6_k),
    row::<Iq4Nl>(tables::iq4_nl),
    row::<Iq4Xs>(tables::iq4_xs),
    row::<Tq1_0>(ternary::tq1_0),
    row::<Tq2_0>(ternary::tq2_0),
    row::<Mxfp4>(tables::mxfp4),
];

/// Elements that a thread encodes at once: a whole number of blocks in every format.
const PART: usize = 4096;

/// Floats could not be encoded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The format has no encoder.
    #[error("quantizing to {format} is not supported; choose one of: {supported}")]
    Unsupported {
        /// Name of the format.
        format: String,
        /// Names of supported formats.
        supported: String,
    },
    /// The row length is not a multiple of the block.
    #[error(
        "rows of {cols} elements are not whole blocks of {format}, which have {block} elements; choose a format with smaller blocks, such as F16"
    )]
    Columns {
        /// Elements of a row.
        cols: usize,
        /// Name of the format.
        format: &'static str,
        /// Elements of its blocks.
        block: usize,
    },
    /// The elements are not whole rows.
    #[error("{elements} elements are not whole rows of {cols} elements; give whole rows")]
    Rows {
        /// Number of elements.
        elements: usize,
        /// Elements of a row.
        cols: usize,
    },
    /// A value is NaN or infinity.
    #[error(
        "element {index} is {value}, which cannot be quantized; the model is damaged, fetch or convert it again"
    )]
    NotFinite {
        /// Index of the element.
        index: usize,
        /// Its value.
        value: f32,
    },
    /// A value exceeds the format's range.
    #[error(
        "element {index} is {value}, which exceeds the range of {format}; choose another format, such as BF16"
    )]
    TooLarge {
        /// Index of the element.
        index: usize,
        /// Its value, the largest magnitude of its block.
        value: f32,
        /// Name of the format.
        format: &'static str,
    },
}

impl EncodeError {
    /// Returns the error with `elements` added to its index.
    pub(super) fn after(self, elements: u64) -> Self {
        let later = |index: usize| index.saturating_add(usize::try_from(elements).unwrap_or(usize::MAX));
        match self {
            Self::NotFinite { index, value } => Self::NotFinite { index: later(index), value },
            Self::TooLarge { index, value, format } => Self::TooLarge { index: later(index), value, format },
            other => other,
        }
    }
}

/// Returns the formats that floats can be encoded to.
pub fn quantized_formats() -> impl Iterator<Item = TensorFormat> {
    ENCODERS.iter().filter_map(|row| TensorFormat::from_ggml(row.ggml_type))
}

fn encoder(format: TensorFormat) -> Result<Encoder, EncodeError> {
    let row = ENCODERS.iter().find(|row| row.ggml_type == format.ggml_type());
    row.map(|row| row.encode).ok_or_else(|| EncodeError::Unsupported {
        format: format.name().to_owned(),
        supported: quantized_formats().map(TensorFormat::name).collect::<Vec<_>>().join(", "),
    })
}

/// Encodes `rows`, consecutive rows of `cols` elements, to blocks of `format` and appends them to `out`. The work is
/// split over the threads of `cpu`, which only run inside [`weft_platform::Pool::install`]. The output does not depend
/// on the number of threads.
///
/// # Errors
/// [`EncodeError`]. `out` is then unchanged.
pub fn quantize_rows(
    cpu: Cpu,
    format: TensorFormat,
    rows: &[f32],
    cols: usize,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let encode = encoder(format)?;
    let block = format.block();
    let row_bytes = format.row_bytes(cols).filter(|_| cols > 0);
    let row_bytes = row_bytes.ok_or(EncodeError::Columns { cols, format: format.name(), block })?;
    if !rows.len().is_multiple_of(cols) {
        return Err(EncodeError::Rows { elements: rows.len(), cols });
    }
    // Cannot overflow: the result is not larger than the floats.
    let bytes = rows.len() / cols * row_bytes;
    let old = out.len();
    out.resize(old + bytes, 0);
    let failed = AtomicUsize::new(usize::MAX);
    let part = |index: usize, bytes: &mut [u8]| {
        let start = index * PART;
        let elements = bytes.len() / format.block_bytes() * block;
        if let Err(at) = encode_part(encode, format, &rows[start..start + elements], bytes) {
            failed.fetch_min(start + at, Ordering::Relaxed);
        }
    };
    let part_bytes = PART / block * format.block_bytes();
    let new = &mut out[old..];
    cpu.for_each_part(new, part_bytes, 1, part);
    let whole = new.chunks_exact_mut(part_bytes);
    part(whole.len(), whole.into_remainder());
    let index = failed.into_inner();
    let Some(&value) = rows.get(index) else { return Ok(()) };
    out.truncate(old);
    Err(match value.is_finite() {
        true => EncodeError::TooLarge { index, value, format: format.name() },
        false => EncodeError::NotFinite { index, value },
    })
}

/// Encodes a part of the elements. On failure returns the index of the element that cannot be encoded.
fn encode_part(encode: Encoder, format: TensorFormat, x: &[f32], out: &mut [u8]) -> Result<(), usize> {
    if let Some(at) = x.iter().position(|value| !value.is_finite()) {
        return Err(at);
    }
    // Float formats have no blocks; all values are encoded together.
    let (block, bytes) = match format.block() {
        1 => (PART, PART * format.block_bytes()),
        block => (block, format.block_bytes()),
    };
    for (index, (x, out)) in x.chunks(block).zip(out.chunks_mut(bytes)).enumerate() {
        if encode(x, out).is_none() {
            let largest = (0..x.len()).max_by(|a, b| x[*a].abs().total_cmp(&x[*b].abs()));
            return Err(index * block + largest.unwrap_or(0));
        }
    }
    Ok(())
}
