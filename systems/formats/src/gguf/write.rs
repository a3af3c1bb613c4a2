//! Writes a GGUF file: first the header, then the tensors' data as a stream, in the order of the header.
//!
//! Nothing is buffered here. Data may come in pieces of any size and are passed to the output unchanged.

use std::io::{self, Write};

use super::header::write_zeros;
use super::{GgufHeader, GgufWriteError, PlannedTensor};

/// Writes one file. The data of the tensors must be given in order; the padding between them is added.
#[derive(Debug)]
pub struct GgufWriter<'a, W> {
    out: W,
    header: &'a GgufHeader,
    /// Index of the current tensor, whose data come next.
    next: usize,
    /// Bytes of its data that have been written.
    written: u64,
}

impl<'a, W: Write> GgufWriter<'a, W> {
    /// Writes the header.
    ///
    /// # Errors
    /// [`GgufWriteError::Io`].
    pub fn new(mut out: W, header: &'a GgufHeader) -> Result<Self, GgufWriteError> {
        header.write_to(&mut out).map_err(failed(header))?;
        Ok(Self { out, header, next: 0, written: 0 })
    }

    /// Returns the tensor whose data come next; `None` if all are complete.
    pub fn current(&self) -> Option<&'a PlannedTensor> {
        self.header.tensors().get(self.next)
    }

    /// Appends to the data of the current tensor. If they are complete, the next tensor becomes current.
    ///
    /// # Errors
    /// [`GgufWriteError::Data`] if more bytes are given than the tensor needs; none of them is written.
    /// [`GgufWriteError::Io`].
    pub fn data(&mut self, bytes: &[u8]) -> Result<(), GgufWriteError> {
        let given = bytes.len() as u64;
        let missing = self.current().map_or(0, |tensor| tensor.bytes - self.written);
        if given > missing {
            let tensor = self.current().map_or_else(String::new, |tensor| tensor.name.clone());
            let file = self.header.file().to_owned();
            return Err(GgufWriteError::Data { file, tensor, given, missing });
        }
        self.out.write_all(bytes).map_err(failed(self.header))?;
        self.written += given;
        if given == missing && given > 0 {
            let padding = self.written.next_multiple_of(self.header.alignment()) - self.written;
            write_zeros(&mut self.out, padding).map_err(failed(self.header))?;
            self.next += 1;
            self.written = 0;
        }
        Ok(())
    }

    /// Finishes the file, flushes the output and returns it.
    ///
    /// # Errors
    /// [`GgufWriteError::Unfinished`] if data are missing; [`GgufWriteError::Io`].
    pub fn finish(mut self) -> Result<W, GgufWriteError> {
        if let Some(tensor) = self.current() {
            let (file, tensor, missing) =
                (self.header.file().to_owned(), tensor.name.clone(), tensor.bytes - self.written);
            return Err(GgufWriteError::Unfinished { file, tensor, missing });
        }
        self.out.flush().map_err(failed(self.header))?;
        Ok(self.out)
    }
}

fn failed(header: &GgufHeader) -> impl FnOnce(io::Error) -> GgufWriteError {
    |source| GgufWriteError::Io { file: header.file().to_owned(), source }
}
