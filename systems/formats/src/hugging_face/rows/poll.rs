//! Rows that are polled: no call waits, and what a source has sent of an element is kept until the rest of it arrives.

use super::{Rows, Values, floats};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use weft_platform::storage::{Source, StorageError};

/// Bytes of a file that are converted at once: they lie on the stack.
const SCRATCH: usize = 8 << 10;

/// Bytes that one poll sums up before it lets others run.
const SUMMED: u64 = 1 << 20;

/// Begun elements that are kept: one for each reader. Where one is dropped its bytes are read again.
const BEGUN: usize = 32;

/// The first bytes of an element, whose others had not arrived.
#[derive(Debug)]
struct Begun {
    /// Index of the file, and where in it the element begins.
    file: usize,
    offset: u64,
    bytes: [u8; 4],
    len: usize,
}

/// What polls leave for the next ones.
#[derive(Debug, Default)]
pub(super) struct PollState {
    begun: Mutex<VecDeque<Begun>>,
    sum: Mutex<Sum>,
}

/// The sum of the values' sizes up to a place.
#[derive(Debug, Default)]
struct Sum {
    piece: u64,
    /// Bytes of the piece that were summed up.
    at: u64,
    sum: f64,
}

/// A state is changed in single steps: what a thread that panicked left is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Rows {
    /// [`Source::poll_read`] of the tensor. `buffer` is not empty and ends inside the tensor.
    pub(in crate::hugging_face) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        files: &[Arc<dyn Source>],
        offset: u64,
        buffer: &mut [u8],
    ) -> Poll<Result<usize, StorageError>> {
        let width = self.to.block_bytes() as u64;
        let row = self.cols * width;
        let (index, at) = (offset / row, offset % row);
        let (piece, line) = (index / self.rows, self.order.source(index % self.rows));
        if self.values == Values::Same && self.from == self.to {
            // As far as the file has them in the same order.
            let run =
                if self.order == super::RowOrder::Same { row * (self.rows - line) - at } else { row - at };
            let len = buffer.len().min(usize::try_from(run).unwrap_or(usize::MAX));
            let (source, _, start) = self.place(files, piece, line * row + at)?;
            return source.poll_read(cx, start, buffer.get_mut(..len).unwrap_or_default());
        }
        let scale = match self.values {
            Values::Ternary => ready!(self.poll_scale(cx, files))?,
            Values::Same | Values::AddOne => 1.0,
        };
        let (element, skipped) = (at / width, usize::try_from(at % width).unwrap_or_default());
        let wanted = (skipped as u64 + buffer.len() as u64).div_ceil(width).min(self.cols - element);
        let mut raw = [0; SCRATCH];
        let from = self.from.block_bytes() as u64;
        let whole = self.poll_raw(cx, files, piece, (line * self.cols + element) * from, wanted, &mut raw);
        let whole = ready!(whole)?;
        let mut values = Vec::with_capacity(whole.len() / self.from.block_bytes() * self.to.block_bytes());
        self.convert_row(raw.get(whole).unwrap_or_default(), scale, &mut values);
        let mut read = 0;
        for (to, from) in buffer.iter_mut().zip(values.iter().skip(skipped)) {
            *to = *from;
            read += 1;
        }
        Poll::Ready(Ok(read))
    }

    /// The file of a matrix, its index, and where in it byte `at` of the matrix lies.
    fn place<'a>(
        &self,
        files: &'a [Arc<dyn Source>],
        piece: u64,
        at: u64,
    ) -> Result<(&'a Arc<dyn Source>, usize, u64), StorageError> {
        let piece = usize::try_from(piece).ok().and_then(|piece| self.pieces.get(piece));
        let found = piece.and_then(|(file, start)| Some((files.get(*file)?, *file, start + at)));
        found.ok_or_else(|| StorageError::out_of_range("", at..at, 0))
    }

    /// Polls at most `wanted` elements of a matrix from byte `at` on, where one begins, into `raw`. Gives the range of those that
    /// have arrived whole, at least one.
    fn poll_raw(
        &self,
        cx: &mut Context<'_>,
        files: &[Arc<dyn Source>],
        piece: u64,
        at: u64,
        wanted: u64,
        raw: &mut [u8; SCRATCH],
    ) -> Poll<Result<Range<usize>, StorageError>> {
        let width = self.from.block_bytes();
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX).min(SCRATCH / width) * width;
        let (source, file, start) = self.place(files, piece, at)?;
        let mut have = self.take_begun(file, start, raw);
        loop {
            let rest = raw.get_mut(have..wanted).unwrap_or_default();
            let read = source.poll_read(cx, start + have as u64, rest);
            match read {
                Poll::Ready(Ok(0)) => {
                    let range = start..start + wanted as u64;
                    let error = std::io::ErrorKind::UnexpectedEof.into();
                    return Poll::Ready(Err(StorageError::read(source.name(), range, error)));
                }
                Poll::Ready(Ok(read)) => have = (have + read).min(wanted),
                other => {
                    self.keep_begun(file, start, raw.get(..have).unwrap_or_default());
                    return other.map_ok(|_| 0..0);
                }
            }
            let whole = have / width * width;
            if whole > 0 {
                self.keep_begun(file, start + whole as u64, raw.get(whole..have).unwrap_or_default());
                return Poll::Ready(Ok(0..whole));
            }
        }
    }

    /// Puts the bytes that have arrived of the element at `offset` into `raw`; gives how many there are.
    fn take_begun(&self, file: usize, offset: u64, raw: &mut [u8; SCRATCH]) -> usize {
        let mut all = lock(&self.polls.begun);
        let index = all.iter().position(|begun| (begun.file, begun.offset) == (file, offset));
        let Some(begun) = index.and_then(|index| all.remove(index)) else { return 0 };
        for (to, from) in raw.iter_mut().zip(begun.bytes) {
            *to = from;
        }
        begun.len
    }

    fn keep_begun(&self, file: usize, offset: u64, part: &[u8]) {
        if part.is_empty() {
            return;
        }
        let mut bytes = [0; 4];
        for (to, from) in bytes.iter_mut().zip(part) {
            *to = *from;
        }
        let mut all = lock(&self.polls.begun);
        if all.len() >= BEGUN {
            all.pop_front();
        }
        all.push_back(Begun { file, offset, bytes, len: part.len() });
    }

    /// [`Rows::scale`], in as many polls as it takes. Several readers sum up together.
    fn poll_scale(&self, cx: &mut Context<'_>, files: &[Arc<dyn Source>]) -> Poll<Result<f32, StorageError>> {
        if let Some(scale) = self.scale.get() {
            return Poll::Ready(Ok(*scale));
        }
        let width = self.from.block_bytes() as u64;
        let matrix = self.rows * self.cols * width;
        let mut sum = lock(&self.polls.sum);
        let mut raw = [0; SCRATCH];
        let mut summed = 0;
        while sum.piece < self.pieces.len() as u64 {
            if summed >= SUMMED {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let wanted = (matrix - sum.at) / width;
            let whole = ready!(self.poll_raw(cx, files, sum.piece, sum.at, wanted, &mut raw))?;
            summed += whole.len() as u64;
            sum.at += whole.len() as u64;
            sum.sum = self.add_sizes(sum.sum, raw.get(whole).unwrap_or_default());
            if sum.at >= matrix {
                (sum.piece, sum.at) = (sum.piece + 1, 0);
            }
        }
        Poll::Ready(Ok(*self.scale.get_or_init(|| self.mean(sum.sum))))
    }

    /// `sum` and the sizes of the values in `bytes`, one after the other: the sum is the same whatever pieces they come in.
    pub(super) fn add_sizes(&self, sum: f64, bytes: &[u8]) -> f64 {
        floats(self.from, bytes).fold(sum, |sum, value| sum + f64::from(value.abs()))
    }
}
