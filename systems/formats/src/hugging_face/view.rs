//! Presents a folder as the bytes of its GGUF.

use super::rows::Rows;
use crate::gguf::{GgufHeader, GgufWriteError};
use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Poll};
use weft_platform::storage::{Bytes, Source, StorageError};

/// The source of a tensor's bytes.
#[derive(Debug)]
pub(super) enum Content {
    /// Rows of the folder's files.
    Rows(Rows),
    /// Bytes in memory.
    Bytes(Bytes),
}

/// A GGUF that is produced while it is read. Its header is in memory, its data are in the folder's files.
///
/// A tensor whose rows are unchanged is read without copying.
pub(super) struct View {
    name: String,
    header: Bytes,
    /// Byte ranges of the tensors in the GGUF, ascending, without the padding between them.
    data: Vec<(Range<u64>, Content)>,
    len: u64,
    files: Vec<Arc<dyn Source>>,
}

impl View {
    /// Makes the GGUF of `header`. `contents` are in the order of the header's tensors.
    pub(super) fn new(
        header: &GgufHeader,
        contents: Vec<Content>,
        files: Vec<Arc<dyn Source>>,
    ) -> Result<Self, GgufWriteError> {
        let mut bytes = Vec::new();
        header
            .write_to(&mut bytes)
            .map_err(|source| GgufWriteError::Io { file: header.file().to_owned(), source })?;
        let start = header.data_start();
        let places =
            header.tensors().iter().map(|tensor| start + tensor.offset..start + tensor.offset + tensor.bytes);
        let data = places.zip(contents).collect();
        Ok(Self {
            name: header.file().to_owned(),
            header: bytes.into(),
            data,
            len: header.file_bytes(),
            files,
        })
    }

    /// Reads `range` of the GGUF, which is inside tensor `index`.
    fn read_one(&self, index: usize, range: Range<u64>) -> Result<Bytes, StorageError> {
        let outside = || StorageError::out_of_range(&self.name, range.clone(), self.len);
        let (place, content) = self.data.get(index).ok_or_else(outside)?;
        let inner = range.start - place.start..range.end - place.start;
        match content {
            Content::Rows(rows) => rows.read(&self.files, inner),
            Content::Bytes(bytes) => {
                let ends = (usize::try_from(inner.start), usize::try_from(inner.end));
                let (Ok(start), Ok(end)) = ends else { return Err(outside()) };
                bytes.slice(start..end).ok_or_else(outside)
            }
        }
    }
}

impl Source for View {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> u64 {
        self.len
    }

    /// Polls the file that holds the bytes at `offset`, up to the end of the header, tensor or padding that they are in.
    fn poll_read(
        &self,
        cx: &mut Context<'_>,
        offset: u64,
        buffer: &mut [u8],
    ) -> Poll<Result<usize, StorageError>> {
        StorageError::check_piece(&self.name, offset, buffer.len(), self.len)?;
        let header = usize::try_from(offset).ok().and_then(|start| self.header.get(start..));
        if let Some(header) = header.filter(|header| !header.is_empty()) {
            return Poll::Ready(Ok(copy(header, buffer)));
        }
        let next = self.data.partition_point(|(place, _)| place.end <= offset);
        let (place, content) = match self.data.get(next) {
            Some((place, content)) if place.start <= offset => (place, content),
            next => {
                let end = next.map_or(self.len, |(place, _)| place.start);
                let padding = up_to(end - offset, buffer);
                padding.fill(0);
                return Poll::Ready(Ok(padding.len()));
            }
        };
        let buffer = up_to(place.end - offset, buffer);
        let inner = offset - place.start;
        match content {
            _ if buffer.is_empty() => Poll::Ready(Ok(0)),
            Content::Rows(rows) => rows.poll_read(cx, &self.files, inner, buffer),
            Content::Bytes(bytes) => {
                let start = usize::try_from(inner).unwrap_or(usize::MAX);
                Poll::Ready(Ok(copy(bytes.get(start..).unwrap_or_default(), buffer)))
            }
        }
    }

    fn is_polled(&self) -> bool {
        self.files.iter().any(|file| file.is_polled())
    }

    fn read(&self, range: Range<u64>) -> Result<Bytes, StorageError> {
        let outside = || StorageError::out_of_range(&self.name, range.clone(), self.len);
        if range.start > range.end || range.end > self.len {
            return Err(outside());
        }
        let header = self.header.len() as u64;
        if range.end <= header {
            return self.header.slice(range.start as usize..range.end as usize).ok_or_else(outside);
        }
        let first = self.data.partition_point(|(place, _)| place.end <= range.start);
        if let Some((place, _)) = self.data.get(first)
            && place.start <= range.start
            && range.end <= place.end
            && !range.is_empty()
        {
            return self.read_one(first, range);
        }
        // The range crosses the bounds of tensors. It is assembled piece by piece, with the padding between them.
        let len = usize::try_from(range.end - range.start).map_err(|_| outside())?;
        let mut out = Vec::new();
        out.try_reserve_exact(len).map_err(|_| outside())?;
        if range.start < header {
            out.extend_from_slice(self.header.get(range.start as usize..).unwrap_or_default());
        }
        for (index, (place, _)) in self.data.iter().enumerate().skip(first) {
            let part = place.start.max(range.start)..place.end.min(range.end);
            if part.is_empty() {
                break;
            }
            out.resize((part.start - range.start) as usize, 0);
            out.extend_from_slice(&self.read_one(index, part)?);
        }
        out.resize(len, 0);
        Ok(out.into())
    }
}

/// The front of `buffer`, at most `most` bytes.
fn up_to(most: u64, buffer: &mut [u8]) -> &mut [u8] {
    let len = buffer.len().min(usize::try_from(most).unwrap_or(usize::MAX));
    buffer.get_mut(..len).unwrap_or_default()
}

/// Copies as much as there is and fits; gives how much.
fn copy(from: &[u8], to: &mut [u8]) -> usize {
    let len = from.len().min(to.len());
    if let (Some(from), Some(to)) = (from.get(..len), to.get_mut(..len)) {
        to.copy_from_slice(from);
    }
    len
}
