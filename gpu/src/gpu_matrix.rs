//! Matrices in device memory. Weights stay quantized as in the file, in the planes that `planes` describes. A matrix
//! larger than the largest binding is cut into *segments* of whole rows.

use crate::device::Gpu;
use crate::error::GpuError;
use crate::plane_packing::PackedRows;
use crate::planes::{Encoding, PLANE_BINDINGS, PLANES, packet, plane_bytes};
use crate::shader::{KernelSpec, Part};
use core::ops::Range;

/// Whole rows of a matrix, in buffers of their own.
pub struct Segment {
    /// The rows of the matrix that it contains.
    pub rows: Range<usize>,
    /// The planes of the layout.
    pub planes: [Option<wgpu::Buffer>; PLANES],
}

/// A matrix in device memory, `[rows, columns]`.
pub struct GpuMatrix {
    /// The meaning and layout of its codes.
    pub encoding: Encoding,
    /// Output features.
    pub rows: usize,
    /// Input features.
    pub columns: usize,
    /// Its segments, in order.
    pub segments: Vec<Segment>,
}

impl GpuMatrix {
    /// Allocates memory for a matrix.
    ///
    /// # Errors
    /// The device has too little free memory.
    pub fn new(
        gpu: &Gpu,
        what: &str,
        encoding: Encoding,
        rows: usize,
        columns: usize,
    ) -> Result<Self, GpuError> {
        let bytes = plane_bytes(encoding.layout, 1, columns);
        let most = bytes.into_iter().max().unwrap_or(0);
        let limit = gpu.capabilities.max_binding.min(gpu.capabilities.max_buffer);
        // Segments are whole tiles of rows, so that a kernel's tile never spans two segments.
        const TILE: usize = 256;
        // Kernels address weights with 32-bit numbers.
        let addressed = u64::from(u32::MAX) / columns.max(1) as u64;
        let fit = usize::try_from((limit / most.max(1)).min(addressed)).unwrap_or(usize::MAX);
        let each = if fit >= rows { rows } else { (fit / TILE * TILE).max(1) };
        let mut segments = Vec::new();
        let mut first = 0;
        while first < rows {
            let rows = first..(first + each).min(rows);
            let mut planes = [const { None }; PLANES];
            for (plane, bytes) in planes.iter_mut().zip(bytes).filter(|(_, bytes)| *bytes > 0) {
                *plane = Some(gpu.storage(what, bytes * rows.len() as u64)?);
            }
            first = rows.end;
            segments.push(Segment { rows, planes });
        }
        Ok(Self { encoding, rows, columns, segments })
    }

    /// Uploads packed rows that start at row `first` of the matrix.
    pub fn write(&self, gpu: &Gpu, first: usize, packed: &PackedRows) {
        let bytes = plane_bytes(self.encoding.layout, 1, self.columns).map(|bytes| bytes as usize);
        let count = packed.planes[0].len().checked_div(bytes[0]).unwrap_or(0);
        for segment in &self.segments {
            let start = segment.rows.start.max(first);
            let end = segment.rows.end.min(first + count);
            if start >= end {
                continue;
            }
            for ((buffer, packed), row) in segment.planes.iter().zip(&packed.planes).zip(bytes) {
                if let Some(buffer) = buffer {
                    let part = &packed[(start - first) * row..(end - first) * row];
                    upload(gpu, buffer, ((start - segment.rows.start) * row) as u64, part);
                }
            }
        }
    }

    /// Packets of codes in a row.
    pub fn row_packets(&self) -> usize {
        self.columns / packet(self.encoding.layout)
    }

    /// Shader parts that decode the matrix.
    pub fn decode(&self) -> [Part; 3] {
        self.encoding.decode()
    }

    /// Adds to a kernel that reads `segment` its shape, as constants `K`, `N` and `ROW_BASE`, and the constants of the
    /// encoding.
    pub fn shape(&self, spec: KernelSpec, segment: &Segment) -> KernelSpec {
        self.encoding
            .constants(spec)
            .with("K", self.columns as u32)
            .with("N", segment.rows.len() as u32)
            .with("ROW_BASE", segment.rows.start as u32)
    }
}

impl Segment {
    /// Buffers that the decode parts bind, with their binding numbers.
    pub fn buffers(&self) -> impl Iterator<Item = (u32, wgpu::Buffer)> {
        let planes = PLANE_BINDINGS.into_iter().zip(&self.planes);
        planes.filter_map(|(binding, buffer)| Some((binding, buffer.clone()?)))
    }
}

/// Copies bytes into a buffer. The size of a write must be a multiple of four, so a remaining half word is written with
/// zeros after it. This only happens behind the last row.
fn upload(gpu: &Gpu, buffer: &wgpu::Buffer, at: u64, bytes: &[u8]) {
    let whole = bytes.len() / 4 * 4;
    gpu.write(buffer, at, &bytes[..whole]);
    if whole < bytes.len() {
        let mut last = [0; 4];
        last[..bytes.len() - whole].copy_from_slice(&bytes[whole..]);
        gpu.write(buffer, at + whole as u64, &last);
    }
}
