//! Reads the rows of a GGUF tensor from rows of the folder's files.

mod poll;

use half::{bf16, f16};
use poll::PollState;
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use weft_components::formats::{Bf16, F16, F32};
use weft_components::{BlockFormat, TensorFormat};
use weft_platform::storage::{Bytes, Source, StorageError};

/// The order of a tensor's rows in the GGUF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowOrder {
    /// As in the folder.
    Same,
    /// In each head, rows `i` and `i + head / 2` of the folder are adjacent in the GGUF. Rotary embedding turns
    /// adjacent rows there, and rows of the two halves in the folder.
    Paired {
        /// Rows of a head, an even number.
        head: u64,
    },
}

impl RowOrder {
    /// Returns the row of the folder that is row `row` of the GGUF.
    pub fn source(self, row: u64) -> u64 {
        match self {
            Self::Same => row,
            Self::Paired { head } => {
                let (first, at) = (row / head * head, row % head);
                first + at / 2 + at % 2 * (head / 2)
            }
        }
    }
}

/// How values are changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Values {
    /// They are unchanged.
    Same,
    /// 1 is added.
    AddOne,
    /// They are rounded to -1, 0 or 1 times the mean of their magnitudes (arXiv 2402.17764, section 2).
    Ternary,
}

/// The rows of a tensor.
#[derive(Debug)]
pub(super) struct Rows {
    /// File index and first byte of each matrix.
    pieces: Vec<(usize, u64)>,
    /// Rows and columns of a matrix.
    rows: u64,
    cols: u64,
    from: TensorFormat,
    to: TensorFormat,
    order: RowOrder,
    values: Values,
    /// The scale of ternary values, computed when it is first needed.
    scale: OnceLock<f32>,
    polls: PollState,
}

/// Bytes that are read at once when a whole tensor is read to compute its scale.
const CHUNK: u64 = 1 << 20;

impl Rows {
    /// Makes the rows of a tensor. `shape` is rows and columns of a matrix; `formats` are those of the file and of the
    /// GGUF, both floats of at most 32 bits.
    pub(super) fn new(
        pieces: Vec<(usize, u64)>,
        shape: (u64, u64),
        formats: (TensorFormat, TensorFormat),
        order: RowOrder,
        values: Values,
    ) -> Self {
        let ((rows, cols), (from, to)) = (shape, formats);
        Self {
            pieces,
            rows,
            cols,
            from,
            to,
            order,
            values,
            scale: OnceLock::new(),
            polls: PollState::default(),
        }
    }

    /// Reads `range` of the tensor, which must not be empty and must be inside it.
    pub(super) fn read(&self, files: &[Arc<dyn Source>], range: Range<u64>) -> Result<Bytes, StorageError> {
        let row = self.cols * self.to.block_bytes() as u64;
        let matrix = row * self.rows;
        let as_they_are = self.values == Values::Same && self.from == self.to && self.order == RowOrder::Same;
        if as_they_are && range.start / matrix == (range.end - 1) / matrix {
            let first = range.start / matrix * matrix;
            return self.file_bytes(files, range.start / matrix, range.start - first..range.end - first);
        }
        let (first, last) = (range.start / row, (range.end - 1) / row);
        let skipped = usize::try_from(range.start - first * row).unwrap_or(usize::MAX);
        let len = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let mut out = Vec::with_capacity(len);
        let mut line = Vec::new();
        for index in first..=last {
            line.clear();
            self.row(files, index, &mut line)?;
            let begun = if index == first { skipped } else { 0 };
            let room = len - out.len();
            out.extend(line.get(begun..).unwrap_or_default().iter().take(room));
        }
        Ok(out.into())
    }

    /// Appends row `index` of the tensor.
    fn row(&self, files: &[Arc<dyn Source>], index: u64, out: &mut Vec<u8>) -> Result<(), StorageError> {
        let row = self.cols * self.from.block_bytes() as u64;
        let start = self.order.source(index % self.rows) * row;
        let bytes = self.file_bytes(files, index / self.rows, start..start + row)?;
        let scale = match self.values {
            Values::Ternary => self.scale(files)?,
            Values::Same | Values::AddOne => 1.0,
        };
        self.convert_row(&bytes, scale, out);
        Ok(())
    }

    /// Appends values of the file as the GGUF has them.
    fn convert_row(&self, bytes: &[u8], scale: f32, out: &mut Vec<u8>) {
        match self.values {
            Values::Same if self.from == self.to => out.extend_from_slice(bytes),
            Values::Same => self.convert(bytes, out, |value| value),
            Values::AddOne => self.convert(bytes, out, |value| value + 1.0),
            Values::Ternary => {
                let inverse = 1.0 / scale;
                self.convert(bytes, out, |value| {
                    (value * inverse).round_ties_even().clamp(-1.0, 1.0) / inverse
                });
            }
        }
    }

    /// Reads bytes of matrix `piece`, unchanged.
    fn file_bytes(
        &self,
        files: &[Arc<dyn Source>],
        piece: u64,
        range: Range<u64>,
    ) -> Result<Bytes, StorageError> {
        let piece = usize::try_from(piece).ok().and_then(|piece| self.pieces.get(piece));
        match piece.and_then(|(file, start)| Some((files.get(*file)?, start))) {
            Some((file, start)) => file.read(start + range.start..start + range.end),
            None => Err(StorageError::out_of_range("", range, 0)),
        }
    }

    fn convert(&self, bytes: &[u8], out: &mut Vec<u8>, change: impl Fn(f32) -> f32) {
        for value in floats(self.from, bytes).map(change) {
            match self.to.ggml_type() {
                F16::GGML_TYPE => out.extend(f16::from_f32(value).to_le_bytes()),
                Bf16::GGML_TYPE => out.extend(bf16::from_f32(value).to_le_bytes()),
                _ => out.extend(value.to_le_bytes()),
            }
        }
    }

    /// Returns the mean magnitude of the values. It reads the whole tensor once.
    fn scale(&self, files: &[Arc<dyn Source>]) -> Result<f32, StorageError> {
        if let Some(scale) = self.scale.get() {
            return Ok(*scale);
        }
        let matrix = self.rows * self.cols * self.from.block_bytes() as u64;
        let mut sum = 0.0;
        for piece in 0..self.pieces.len() as u64 {
            for start in (0..matrix).step_by(CHUNK as usize) {
                let bytes = self.file_bytes(files, piece, start..(start + CHUNK).min(matrix))?;
                sum = self.add_sizes(sum, &bytes);
            }
        }
        Ok(*self.scale.get_or_init(|| self.mean(sum)))
    }

    /// The mean of all values' sizes, whose sum is `sum`.
    fn mean(&self, sum: f64) -> f32 {
        /// What the model's authors divide by at least.
        const LEAST: f32 = 1e-5;
        let count = self.pieces.len() as u64 * self.rows * self.cols;
        ((sum / count as f64) as f32).max(LEAST)
    }
}

/// Converts float bytes to f32 values.
fn floats(format: TensorFormat, bytes: &[u8]) -> impl Iterator<Item = f32> {
    let (width, id) = (format.block_bytes(), format.ggml_type());
    bytes.chunks_exact(width).map(move |bytes| match (id, bytes) {
        (F32::GGML_TYPE, &[a, b, c, d]) => f32::from_le_bytes([a, b, c, d]),
        (F16::GGML_TYPE, &[a, b]) => f16::from_le_bytes([a, b]).to_f32(),
        (Bf16::GGML_TYPE, &[a, b]) => bf16::from_le_bytes([a, b]).to_f32(),
        _ => f32::NAN,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Poll, Waker};
    use weft_platform::storage::MemorySource;

    fn format(name: &str) -> TensorFormat {
        TensorFormat::from_name(name).unwrap()
    }

    /// A file that sends a byte at a time, on every other poll.
    struct Halting(Arc<dyn Source>, AtomicUsize);

    impl Source for Halting {
        fn name(&self) -> &str {
            self.0.name()
        }

        fn len(&self) -> u64 {
            self.0.len()
        }

        fn poll_read(
            &self,
            cx: &mut Context<'_>,
            at: u64,
            to: &mut [u8],
        ) -> Poll<Result<usize, StorageError>> {
            if self.1.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
                return Poll::Pending;
            }
            self.0.poll_read(cx, at, &mut to[..1])
        }
    }

    /// All bytes of a tensor, polled five at a time from `Halting` files.
    fn polled(rows: &Rows, files: &[Arc<dyn Source>], bytes: u64) -> Vec<u8> {
        let halting = |file: &Arc<dyn Source>| -> Arc<dyn Source> {
            Arc::new(Halting(Arc::clone(file), AtomicUsize::new(0)))
        };
        let files: Vec<_> = files.iter().map(halting).collect();
        let rows = Rows::new(
            rows.pieces.clone(),
            (rows.rows, rows.cols),
            (rows.from, rows.to),
            rows.order,
            rows.values,
        );
        let mut cx = Context::from_waker(Waker::noop());
        let mut out = Vec::new();
        let mut buffer = [0; 5];
        while (out.len() as u64) < bytes {
            let most = (bytes as usize - out.len()).min(5);
            if let Poll::Ready(read) = rows.poll_read(&mut cx, &files, out.len() as u64, &mut buffer[..most])
            {
                out.extend_from_slice(&buffer[..read.unwrap()]);
            }
        }
        out
    }

    #[test]
    fn pairs_lie_side_by_side() {
        let order = RowOrder::Paired { head: 6 };
        let rows: Vec<_> = (0..12).map(|row| order.source(row)).collect();
        assert_eq!(rows, [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]);
    }

    #[test]
    fn any_range_of_a_tensor_is_what_all_of_it_has_there() {
        let values: Vec<u8> =
            (0..96u32).flat_map(|i| bf16::from_f32(i as f32 - 40.5).to_le_bytes()).collect();
        let files: Vec<Arc<dyn Source>> =
            vec![Arc::new(MemorySource::new("a", values.clone())), Arc::new(MemorySource::new("b", values))];
        for (to, order, values) in [
            ("BF16", RowOrder::Same, Values::Same),
            ("BF16", RowOrder::Paired { head: 4 }, Values::Same),
            ("F32", RowOrder::Same, Values::AddOne),
            ("F16", RowOrder::Paired { head: 2 }, Values::Ternary),
        ] {
            let to = format(to);
            let pieces = vec![(1, 16), (0, 0)];
            let rows = Rows::new(pieces, (4, 6), (format("BF16"), to), order, values);
            let bytes = 2 * 4 * 6 * to.block_bytes() as u64;
            let all = rows.read(&files, 0..bytes).unwrap();
            assert_eq!(all.len() as u64, bytes);
            assert_eq!(polled(&rows, &files, bytes), all.to_vec());
            for start in 0..bytes {
                for end in start + 1..=bytes {
                    let part = rows.read(&files, start..end).unwrap();
                    assert_eq!(&*part, &all[start as usize..end as usize], "{start} to {end}");
                }
            }
        }
    }

    #[test]
    fn ternary_values_are_the_mean_size_or_nothing() {
        let values = [0.25f32, -0.5, 0.75, -0.5, 0.0, 1.0];
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let files: Vec<Arc<dyn Source>> = vec![Arc::new(MemorySource::new("a", bytes))];
        let rows =
            Rows::new(vec![(0, 0)], (2, 3), (format("F32"), format("F32")), RowOrder::Same, Values::Ternary);
        let found = rows.read(&files, 0..24).unwrap();
        assert_eq!(floats(format("F32"), &found).collect::<Vec<_>>(), [0.0, -0.5, 0.5, -0.5, 0.0, 0.5]);
    }
}
