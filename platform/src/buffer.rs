//! Large memory for weights and the KV cache: zeroed, aligned to 64 bytes, and an error where there is not enough.
//!
//! Natively it is an anonymous mapping, so that pages cost nothing until touched and large ones can be huge pages,
//! which spare the address translation that streaming weights would otherwise wait for.

/// The machine did not give the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no memory for {bytes} bytes: close other programs, or take a smaller model, context or batch")]
pub struct MemoryError {
    /// What was asked for. `usize::MAX` where the size itself overflows.
    pub bytes: usize,
}

/// Product of `factors`, or the error that says that no machine has that much.
pub fn checked_size(factors: &[usize]) -> Result<usize, MemoryError> {
    factors
        .iter()
        .try_fold(1usize, |size, factor| size.checked_mul(*factor))
        .filter(|size| isize::try_from(*size).is_ok())
        .ok_or(MemoryError { bytes: usize::MAX })
}

/// Zeroed bytes, aligned to 64.
pub struct Buffer {
    #[cfg(not(target_family = "wasm"))]
    map: memmap2::MmapMut,
    #[cfg(target_family = "wasm")]
    lines: Vec<Line>,
    len: usize,
}

/// What aligns a vector to 64 bytes.
#[cfg(target_family = "wasm")]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

impl Buffer {
    /// `len` zeroed bytes, all of which will be used.
    ///
    /// # Errors
    /// Where the machine does not give them.
    #[cfg(not(target_family = "wasm"))]
    pub fn zeroed(len: usize) -> Result<Self, MemoryError> {
        /// Below this, huge pages waste more than they save.
        #[cfg(target_os = "linux")]
        const HUGE: usize = 4 << 20;
        let buffer = Self::sparse(len)?;
        #[cfg(target_os = "linux")]
        if len >= HUGE {
            // Advice: a kernel without huge pages refuses, and nothing is lost.
            let _ = buffer.map.advise(memmap2::Advice::HugePage);
        }
        Ok(buffer)
    }

    /// `len` zeroed bytes, of which few may ever be used: memory is taken by small pages as they are first written.
    ///
    /// # Errors
    /// Where the machine does not give them.
    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn sparse(len: usize) -> Result<Self, MemoryError> {
        let map = memmap2::MmapMut::map_anon(len.max(1)).map_err(|_| MemoryError { bytes: len })?;
        Ok(Self { map, len })
    }

    /// `len` zeroed bytes.
    ///
    /// # Errors
    /// Where the machine does not give them.
    #[cfg(target_family = "wasm")]
    pub(crate) fn sparse(len: usize) -> Result<Self, MemoryError> {
        Self::zeroed(len)
    }

    /// `len` zeroed bytes.
    ///
    /// # Errors
    /// Where the machine does not give them.
    #[cfg(target_family = "wasm")]
    pub fn zeroed(len: usize) -> Result<Self, MemoryError> {
        let count = len.div_ceil(64);
        let mut lines = Vec::new();
        lines.try_reserve_exact(count).map_err(|_| MemoryError { bytes: len })?;
        lines.resize(count, Line([0; 64]));
        Ok(Self { lines, len })
    }

    /// The bytes.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        #[cfg(not(target_family = "wasm"))]
        let bytes = &self.map[..];
        #[cfg(target_family = "wasm")]
        let bytes = bytemuck::cast_slice(&self.lines);
        &bytes[..self.len]
    }

    /// The bytes.
    #[inline]
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        #[cfg(not(target_family = "wasm"))]
        let bytes = &mut self.map[..];
        #[cfg(target_family = "wasm")]
        let bytes = bytemuck::cast_slice_mut(&mut self.lines);
        &mut bytes[..self.len]
    }

    /// Bytes held.
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}
