//! Weights as kernels read them: quantized as in the file, in two planes.
//!
//! A matrix of `rows` × `columns` is a plane of codes, row by row in *packets* of 16 bytes, and, where the layout has them, a
//! plane of scales, row by row in blocks of 32 weights. What a packet and a scale hold, the layout's `decode_*.wgsl` says.
//! A matrix that is larger than a binding may be is cut into *segments* of whole rows.

use crate::device::Gpu;
use crate::error::GpuError;
use crate::shader::{KernelSpec, Part, parts};
use core::ops::Range;
use weft_components::{TensorFormat, TileLayout};

/// Weights that share a scale; rows are multiples of it.
pub const BLOCK: usize = 32;

/// How one layout lies in the device's memory.
struct Plane {
    #[cfg_attr(not(test), expect(dead_code, reason = "a test holds the table to the order of layouts"))]
    layout: TileLayout,
    decode: Part,
    /// Bytes of 32 codes.
    codes: usize,
    /// Bytes of one block's scale, and of its minimum where there is one.
    scale: usize,
}

const PLANES: [Plane; 6] = [
    Plane { layout: TileLayout::F32, decode: parts::DECODE_F32, codes: 128, scale: 0 },
    Plane { layout: TileLayout::F16, decode: parts::DECODE_F16, codes: 64, scale: 0 },
    Plane { layout: TileLayout::Bf16, decode: parts::DECODE_BF16, codes: 64, scale: 0 },
    Plane { layout: TileLayout::U4, decode: parts::DECODE_U4, codes: 16, scale: 2 },
    Plane { layout: TileLayout::U4Min, decode: parts::DECODE_U4MIN, codes: 16, scale: 4 },
    Plane { layout: TileLayout::U8, decode: parts::DECODE_U8, codes: 32, scale: 2 },
];

fn plane(layout: TileLayout) -> &'static Plane {
    &PLANES[layout.index()]
}

/// The layout that a format takes on a GPU.
///
/// # Errors
/// A format that is not computed with, or rows that are no multiple of [`BLOCK`].
pub fn layout_of(what: &str, format: TensorFormat, columns: usize) -> Result<TileLayout, GpuError> {
    let multiple = BLOCK;
    match format.codec() {
        Some(codec) if columns.is_multiple_of(multiple) => Ok(codec.layout),
        _ => Err(GpuError::Columns { what: what.to_owned(), columns, multiple }),
    }
}

/// Bytes of `rows` × `columns` weights on the device.
pub fn device_bytes(layout: TileLayout, rows: usize, columns: usize) -> u64 {
    plane_bytes(layout, rows, columns).into_iter().sum()
}

/// Bytes of the planes of codes and of scales of `rows` × `columns` weights; a layout without scales has 0 of them.
pub fn plane_bytes(layout: TileLayout, rows: usize, columns: usize) -> [u64; 2] {
    let plane = plane(layout);
    let blocks = (rows as u64) * (columns as u64 / BLOCK as u64);
    [plane.codes, plane.scale].map(|bytes| blocks * bytes as u64)
}

/// Rows of a tensor in the device's layout.
pub struct PackedRows {
    /// Plane of codes.
    pub codes: Vec<u8>,
    /// Plane of scales; empty where the layout has none.
    pub scales: Vec<u8>,
}

/// Lays whole rows of a tensor out. `bytes` are as the file holds them; what is no whole block is left out.
pub fn pack(format: TensorFormat, bytes: &[u8]) -> PackedRows {
    let Some(codec) = format.codec() else {
        return PackedRows { codes: Vec::new(), scales: Vec::new() };
    };
    if !codec.layout.is_quantized() {
        return PackedRows { codes: bytes.to_vec(), scales: Vec::new() };
    }
    let plane = plane(codec.layout);
    let blocks = bytes.len() / format.block_bytes();
    let mut packed = PackedRows {
        codes: Vec::with_capacity(blocks * plane.codes),
        scales: Vec::with_capacity(blocks * plane.scale),
    };
    for block in bytes.chunks_exact(format.block_bytes()) {
        let block = (codec.codes)(block, 0);
        let [scale, min] = [block.scale, block.min].map(|x| half::f16::from_f32(x).to_le_bytes());
        packed.scales.extend_from_slice(&scale);
        match codec.layout {
            TileLayout::U8 => {
                packed.codes.extend(block.codes.iter().map(|code| code.wrapping_sub(codec.zero_point)))
            }
            _ => {
                // Eight elements a word: the first four in the low halves of its bytes, the others in the high ones.
                let words = block.codes.as_chunks::<8>().0.iter();
                packed.codes.extend(words.flat_map(|e| [0, 1, 2, 3].map(|i| e[i] | (e[i + 4] << 4))));
                if plane.scale == 4 {
                    packed.scales.extend_from_slice(&min);
                }
            }
        }
    }
    packed
}

/// Whole rows of a matrix in buffers of their own.
pub struct Segment {
    /// Rows of the matrix that it holds.
    pub rows: Range<usize>,
    /// Plane of codes.
    pub codes: wgpu::Buffer,
    /// Plane of scales, where the layout has one.
    pub scales: Option<wgpu::Buffer>,
}

/// A matrix on the device, `[rows, columns]`.
pub struct GpuMatrix {
    /// How its weights lie.
    pub layout: TileLayout,
    /// Output features.
    pub rows: usize,
    /// Input features.
    pub columns: usize,
    /// Its parts, in order.
    pub segments: Vec<Segment>,
}

impl GpuMatrix {
    /// Takes memory for a matrix.
    ///
    /// # Errors
    /// The device has none left.
    pub fn new(
        gpu: &Gpu,
        what: &str,
        layout: TileLayout,
        rows: usize,
        columns: usize,
    ) -> Result<Self, GpuError> {
        let plane = plane(layout);
        let blocks = columns / BLOCK;
        let row_bytes = (blocks * plane.codes) as u64;
        let limit = gpu.capabilities.max_binding.min(gpu.capabilities.max_buffer);
        // Whole tiles of rows, so that a kernel's tile never spans two segments.
        const TILE: usize = 256;
        let fit = usize::try_from(limit / row_bytes.max(1)).unwrap_or(usize::MAX);
        let each = if fit >= rows { rows } else { (fit / TILE * TILE).max(1) };
        let mut segments = Vec::new();
        let mut first = 0;
        while first < rows {
            let rows = first..(first + each).min(rows);
            let codes = gpu.storage(what, row_bytes * rows.len() as u64)?;
            let scales = match plane.scale {
                0 => None,
                scale => Some(gpu.storage(what, (blocks * scale * rows.len()) as u64)?),
            };
            first = rows.end;
            segments.push(Segment { rows, codes, scales });
        }
        Ok(Self { layout, rows, columns, segments })
    }

    /// Uploads packed rows that start at row `first` of the matrix.
    pub fn write(&self, gpu: &Gpu, first: usize, packed: &PackedRows) {
        let plane = plane(self.layout);
        let blocks = self.columns / BLOCK;
        let (code_row, scale_row) = (blocks * plane.codes, blocks * plane.scale);
        let count = packed.codes.len().checked_div(code_row).unwrap_or(0);
        for segment in &self.segments {
            let start = segment.rows.start.max(first);
            let end = segment.rows.end.min(first + count);
            if start >= end {
                continue;
            }
            let put = |buffer: &wgpu::Buffer, bytes: &[u8], row: usize| {
                let part = &bytes[(start - first) * row..(end - first) * row];
                upload(gpu, buffer, ((start - segment.rows.start) * row) as u64, part);
            };
            put(&segment.codes, &packed.codes, code_row);
            if let Some(scales) = &segment.scales {
                put(scales, &packed.scales, scale_row);
            }
        }
    }

    /// Packets of codes of a row.
    pub fn row_packets(&self) -> usize {
        self.columns / BLOCK * plane(self.layout).codes / 16
    }

    /// The decode functions of the matrix's layout.
    pub fn decode(&self) -> Part {
        plane(self.layout).decode
    }

    /// A kernel that reads a segment: its shape as constants `K`, `N` and `ROW_BASE`.
    pub fn shape(&self, spec: KernelSpec, segment: &Segment) -> KernelSpec {
        spec.with("K", self.columns as u32)
            .with("N", segment.rows.len() as u32)
            .with("ROW_BASE", segment.rows.start as u32)
    }
}

/// Bindings of the planes of codes and of scales.
pub(crate) const PLANE_BINDINGS: [u32; 2] = [10, 11];

impl Segment {
    /// What a kernel's decode part binds.
    pub fn buffers(&self) -> impl Iterator<Item = (u32, wgpu::Buffer)> {
        let [codes, scales] = PLANE_BINDINGS;
        let scales = self.scales.clone().map(|buffer| (scales, buffer));
        core::iter::once((codes, self.codes.clone())).chain(scales)
    }
}

/// Copies bytes into a buffer; a write's size must be a multiple of four, so a last odd half is written with zeros behind
/// it, which only ever lie behind the last row.
fn upload(gpu: &Gpu, buffer: &wgpu::Buffer, at: u64, bytes: &[u8]) {
    let whole = bytes.len() / 4 * 4;
    gpu.queue.write_buffer(buffer, at, &bytes[..whole]);
    if whole < bytes.len() {
        let mut last = [0; 4];
        last[..bytes.len() - whole].copy_from_slice(&bytes[whole..]);
        gpu.queue.write_buffer(buffer, at + whole as u64, &last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_are_in_the_order_of_layouts() {
        for layout in TileLayout::ALL.into_iter().take(PLANES.len()) {
            assert_eq!(plane(layout).layout, layout);
        }
    }
}
