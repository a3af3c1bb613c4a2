//! Words that the host writes for a wave, and that are often those of the wave before: block tables until a page is full, what
//! a greedy session asks for for ever. A write costs the device a copy and a wait before the wave's first kernel.

use weft_gpu::{Gpu, wgpu};

/// What one buffer was told last.
#[derive(Default)]
pub(super) struct Upload {
    told: Vec<u32>,
}

impl Upload {
    /// Writes words to the start of a buffer, unless it holds them already. Nobody else writes to it.
    pub(super) fn write(&mut self, gpu: &Gpu, buffer: &wgpu::Buffer, words: &[u32]) {
        if self.told.starts_with(words) {
            return;
        }
        gpu.write(buffer, 0, bytemuck::cast_slice(words));
        // What the buffer holds behind them is no longer looked at.
        self.told.clear();
        self.told.extend_from_slice(words);
    }
}
