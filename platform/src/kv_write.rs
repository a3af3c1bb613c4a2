//! Writes the keys and values of a wave's rows to their pages in the KV cache.
//!
//! Keys and values of a head are in separate parts of every page (see [`crate::kv_arena`]). Work is divided by head and
//! by keys or values; each thread writes all rows of its share. Invariant: the result depends neither on how work is
//! divided nor on the instruction set.

use crate::kernels::Kernels;
use crate::kv_arena::{KV_BLOCK, KvArena, KvFormat, KvShape, MAX_HEAD_DIM, PAGE};
use crate::shared::Shared;
use crate::simd::LANES;
use crate::threads::Cpu;
use core::ops::Range;

/// Rows of keys and values, and where to write them.
#[derive(Clone, Copy, Debug)]
pub struct KvRows<'a> {
    /// The slot of each row.
    pub slots: &'a [u32],
    /// Each row's position in its context, as many as slots.
    pub positions: &'a [u32],
    /// Keys of all KV heads, row after row.
    pub keys: &'a [f32],
    /// Values of all KV heads, row after row.
    pub values: &'a [f32],
    /// Floats from one row to the next, in `keys` and in `values`.
    pub stride: usize,
}

/// Fewest floats for which a fork pays.
const GRAIN: usize = 8 * 1024;

/// Bytes of a group of codes of 4 bits, and lanes in the low halves of these bytes.
const HALF: usize = LANES / 2;

impl KvArena {
    /// Stores the keys and values of one token. `k_row` contains every KV head's key, `v_row` every value.
    ///
    /// # Panics
    /// As [`KvArena::write_rows`], and if `offset` is past the page.
    pub fn write(
        &mut self,
        kernels: &'static Kernels,
        layer: usize,
        slot: u32,
        offset: usize,
        k_row: &[f32],
        v_row: &[f32],
    ) {
        assert!(offset < PAGE, "no such place in a page");
        let rows = KvRows {
            slots: &[slot],
            positions: &[offset as u32],
            keys: k_row,
            values: v_row,
            stride: k_row.len(),
        };
        self.write_rows(&Cpu { kernels, threads: 1 }, layer, &rows);
    }

    /// Stores keys and values of rows. Each row goes to its slot, at its position within the page.
    ///
    /// # Panics
    /// If the layer or a slot is out of range, keys or values are too short, or the arena has sealed pages
    /// ([`KvFormat::is_sealed`]).
    #[expect(unsafe_code, reason = "threads get disjoint parts of the arena")]
    pub fn write_rows(&mut self, cpu: &Cpu, layer: usize, rows: &KvRows<'_>) {
        let shape = self.shape();
        let KvShape { layers, slots, kv_heads, k_dim, v_dim, format, .. } = shape;
        let count = rows.slots.len();
        assert!(!format.is_sealed(), "tokens are not written to sealed pages");
        assert!(layer < layers, "no such layer of the KV cache");
        assert!(rows.slots.iter().all(|slot| (*slot as usize) < slots), "no such page of the KV cache");
        assert!(rows.positions.len() == count, "as many positions as slots");
        let long_enough = |floats: &[f32], dim: usize| {
            count == 0 || (count - 1) * rows.stride + kv_heads * dim <= floats.len()
        };
        assert!(long_enough(rows.keys, k_dim) && long_enough(rows.values, v_dim), "row too short");
        let (page, slot_stride, v_pad) = (shape.page_bytes(), self.slot_stride(), shape.v_pad());
        let halves = shape.halves();
        let memory = Shared(self.layer_mut(layer).as_mut_ptr());
        let grain = GRAIN.div_ceil((count * k_dim.max(v_dim)).max(1));
        cpu.for_each_chunk(2 * kv_heads, grain, |range| {
            // Borrows the wrapper itself, not its field: the closure must capture the wrapper.
            let memory = &memory;
            for part in range {
                let (head, half) = (part / 2, &halves[part % 2]);
                for (row, (slot, position)) in rows.slots.iter().zip(rows.positions).enumerate() {
                    let start = *slot as usize * slot_stride + head * page;
                    let bytes = |range: &Range<usize>| {
                        // SAFETY: the slot was checked and the head is one of the page's, so the range is inside the
                        // layer's memory, which is borrowed for the call. Each part belongs to one thread, and the
                        // ranges of different parts, like those of elements and of scales, do not overlap.
                        unsafe {
                            core::slice::from_raw_parts_mut(memory.0.add(start + range.start), range.len())
                        }
                    };
                    let (elements, scales) = (bytes(&half.elements), bytes(&half.scales));
                    let offset = *position as usize % PAGE;
                    if part.is_multiple_of(2) {
                        let key = &rows.keys[row * rows.stride + head * k_dim..][..k_dim];
                        store_key(cpu.kernels, format, elements, scales, offset, key);
                    } else {
                        let value = &rows.values[row * rows.stride + head * v_dim..][..v_dim];
                        store_value(cpu.kernels, format, elements, scales, offset, v_pad, value);
                    }
                }
            }
        });
    }
}

/// Writes each of `values` to a plane of its own, all at the same offset.
fn scatter<T: bytemuck::Pod>(memory: &mut [u8], offset: usize, values: &[T]) {
    let (planes, _) = bytemuck::cast_slice_mut::<u8, T>(memory).as_chunks_mut::<PAGE>();
    for (plane, value) in planes.iter_mut().zip(values) {
        plane[offset] = *value;
    }
}

/// The same for codes of 4 bits. The other half of each byte belongs to another token and stays.
fn scatter_nibbles(memory: &mut [u8], offset: usize, codes: &[i8]) {
    let (planes, _) = memory.as_chunks_mut::<{ PAGE / 2 }>();
    let (group, lane) = (offset / LANES, offset % LANES);
    let (byte, shift) = (group * HALF + lane % HALF, lane / HALF * 4);
    for (plane, code) in planes.iter_mut().zip(codes) {
        plane[byte] = plane[byte] & !(15 << shift) | to_nibble(*code) << shift;
    }
}

/// Packs the codes of one token, padded with zeros to a whole group.
fn pack_nibbles(row: &mut [u8], codes: &[i8]) {
    let (groups, _) = row.as_chunks_mut::<HALF>();
    for (group, codes) in groups.iter_mut().zip(codes.chunks(LANES)) {
        let code = |i: usize| to_nibble(codes.get(i).copied().unwrap_or(0));
        *group = core::array::from_fn(|i| code(i) | code(i + HALF) << 4);
    }
}

/// The four bits of a code of -8 to 7.
fn to_nibble(code: i8) -> u8 {
    (code + 8).cast_unsigned() & 15
}

/// Writes one head's key: `[key dimension][32 tokens]`.
fn store_key(
    kernels: &Kernels,
    format: KvFormat,
    elements: &mut [u8],
    scales: &mut [u8],
    offset: usize,
    key: &[f32],
) {
    match format {
        KvFormat::F16 => {
            let mut half = [0u16; MAX_HEAD_DIM];
            kernels.to_f16(key, &mut half);
            scatter(elements, offset, &half[..key.len()]);
        }
        KvFormat::F32 => scatter(elements, offset, key),
        KvFormat::Bf16 => {
            let mut half = [0u16; MAX_HEAD_DIM];
            kernels.to_bf16(key, &mut half);
            scatter(elements, offset, &half[..key.len()]);
        }
        KvFormat::Q8_0 => {
            let codes = Codes::new(kernels, key, Kernels::kv_codes_8);
            scatter(elements, offset, codes.codes());
            scatter(scales, offset, codes.scales());
        }
        KvFormat::Q4_0 => {
            let codes = Codes::new(kernels, key, Kernels::kv_codes_4);
            scatter_nibbles(elements, offset, codes.codes());
            scatter(scales, offset, codes.scales());
        }
        // Refused by the caller.
        KvFormat::Kivi2 => {}
    }
}

/// Writes one head's value: `[32 tokens][value dimension, padded]`.
fn store_value(
    kernels: &Kernels,
    format: KvFormat,
    elements: &mut [u8],
    scales: &mut [u8],
    offset: usize,
    v_pad: usize,
    value: &[f32],
) {
    let place = offset * v_pad..offset * v_pad + value.len();
    match format {
        KvFormat::F16 => kernels.to_f16(value, &mut bytemuck::cast_slice_mut(elements)[place]),
        KvFormat::F32 => bytemuck::cast_slice_mut(elements)[place].copy_from_slice(value),
        KvFormat::Bf16 => kernels.to_bf16(value, &mut bytemuck::cast_slice_mut(elements)[place]),
        KvFormat::Q8_0 => {
            let codes = Codes::new(kernels, value, Kernels::kv_codes_8);
            bytemuck::cast_slice_mut(elements)[place].copy_from_slice(codes.codes());
            scatter(scales, offset, codes.scales());
        }
        KvFormat::Q4_0 => {
            let codes = Codes::new(kernels, value, Kernels::kv_codes_4);
            pack_nibbles(&mut elements[offset * v_pad / 2..][..v_pad / 2], codes.codes());
            scatter(scales, offset, codes.scales());
        }
        // Refused by the caller.
        KvFormat::Kivi2 => {}
    }
}

/// One head, rotated: a code for each element and a scale for each block.
struct Codes {
    len: usize,
    codes: [i8; MAX_HEAD_DIM],
    scales: [u16; MAX_HEAD_DIM / KV_BLOCK],
}

impl Codes {
    fn new(kernels: &Kernels, head: &[f32], convert: fn(&Kernels, &[f32], &mut [i8], &mut [u16])) -> Self {
        let mut turned = [0.0; MAX_HEAD_DIM];
        let turned = &mut turned[..head.len()];
        turned.copy_from_slice(head);
        kernels.hadamard(turned);
        let mut out =
            Self { len: head.len(), codes: [0; MAX_HEAD_DIM], scales: [0; MAX_HEAD_DIM / KV_BLOCK] };
        convert(kernels, turned, &mut out.codes, &mut out.scales);
        out
    }

    fn codes(&self) -> &[i8] {
        &self.codes[..self.len]
    }

    fn scales(&self) -> &[u16] {
        &self.scales[..self.len.div_ceil(KV_BLOCK)]
    }
}
