//! Words that the host uploads for a wave. They often equal those of the wave before: block tables change only when a
//! page is full, and the settings of a greedy session never do. Each write costs the device a copy and a wait before
//! the wave's first kernel, so equal words are not written again.

use weft_gpu::{Gpu, KV_CLASSES, wgpu};

/// The last written words of one buffer.
#[derive(Default)]
pub(super) struct Upload {
    written: Vec<u32>,
}

impl Upload {
    /// Writes words to the start of a buffer, unless the buffer holds them already. Nothing else may write to the
    /// buffer.
    pub(super) fn write(&mut self, gpu: &Gpu, buffer: &wgpu::Buffer, words: &[u32]) {
        self.write_at(gpu, buffer, 0, words);
    }

    /// Writes words to a buffer, from word `at` on, which is always the same.
    pub(super) fn write_at(&mut self, gpu: &Gpu, buffer: &wgpu::Buffer, at: usize, words: &[u32]) {
        if self.written.starts_with(words) {
            return;
        }
        gpu.write(buffer, 4 * at as u64, bytemuck::cast_slice(words));
        // Later words of the buffer are no longer compared.
        self.written.clear();
        self.written.extend_from_slice(words);
    }
}

/// Arrays with one entry for each row, kept for their memory.
#[derive(Default)]
pub(super) struct RowWords {
    pub(super) kv: [Vec<u32>; KV_CLASSES],
    pub(super) tables: Vec<u32>,
    pub(super) tiles: Vec<u32>,
    pub(super) seen: Vec<u32>,
}

/// Buffers that the host writes for each wave, with their last written words.
#[derive(Default)]
pub(super) struct Uploads {
    pub(super) wave: Upload,
    /// For each class of layers.
    pub(super) tables: [Upload; KV_CLASSES],
    pub(super) sample_rows: Upload,
    pub(super) adjustments: Upload,
}
