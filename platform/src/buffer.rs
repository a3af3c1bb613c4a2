//! Large allocations for weights and the KV cache: zeroed, aligned to 64 bytes, with an error if memory runs out.
//!
//! Natively a buffer is an anonymous mapping. Its pages take no memory until they are written, and large buffers can
//! use huge pages, which avoid the address translations that streaming weights would otherwise wait for.

/// The machine has too little memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no memory for {bytes} bytes: close other programs, or take a smaller model, context or batch")]
pub struct MemoryError {
    /// Bytes that were requested. `usize::MAX` if the size itself overflows.
    pub bytes: usize,
}

/// Product of `factors`, or an error if it overflows.
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

/// A type whose alignment is 64 bytes.
#[cfg(target_family = "wasm")]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

impl Buffer {
    /// Allocates `len` zeroed bytes, all of which will be used.
    ///
    /// # Errors
    /// The machine has too little memory.
    #[cfg(not(target_family = "wasm"))]
    pub fn zeroed(len: usize) -> Result<Self, MemoryError> {
        /// Below this size, huge pages waste more memory than they save time.
        #[cfg(target_os = "linux")]
        const HUGE: usize = 4 << 20;
        let buffer = Self::sparse(len)?;
        #[cfg(target_os = "linux")]
        if len >= HUGE {
            // This is advice. A kernel without huge pages rejects it, which does no harm.
            let _ = buffer.map.advise(memmap2::Advice::HugePage);
        }
        Ok(buffer)
    }

    /// Allocates `len` zeroed bytes, of which few may be used. Memory is taken in small pages as they are first
    /// written.
    ///
    /// # Errors
    /// The machine has too little memory.
    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn sparse(len: usize) -> Result<Self, MemoryError> {
        let map = memmap2::MmapMut::map_anon(len.max(1)).map_err(|_| MemoryError { bytes: len })?;
        Ok(Self { map, len })
    }

    /// Allocates `len` zeroed bytes.
    ///
    /// # Errors
    /// The machine has too little memory.
    #[cfg(target_family = "wasm")]
    pub(crate) fn sparse(len: usize) -> Result<Self, MemoryError> {
        Self::zeroed(len)
    }

    /// Allocates `len` zeroed bytes.
    ///
    /// # Errors
    /// The machine has too little memory.
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

    /// The bytes, writable.
    #[inline]
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        #[cfg(not(target_family = "wasm"))]
        let bytes = &mut self.map[..];
        #[cfg(target_family = "wasm")]
        let bytes = bytemuck::cast_slice_mut(&mut self.lines);
        &mut bytes[..self.len]
    }

    /// Number of bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}
