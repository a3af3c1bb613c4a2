//! Seals pages of the KV cache: converts them from the arena that they are written in to the one that keeps them.

use crate::kernels::SealPage;
use crate::kv_arena::{KvArena, KvFormat, KvShape};
use crate::shared::Shared;
use crate::threads::Cpu;

impl KvArena {
    /// Converts whole pages of layer `from_layer` of `from`, whose format is [`KvFormat::F16`], to pages of `layer` here,
    /// whose format is [`KvFormat::Kivi2`]. `pages` are slots `(there, here)`.
    ///
    /// # Panics
    /// If a layer or slot is out of range, or the shapes or formats do not fit.
    #[expect(unsafe_code, reason = "threads get disjoint parts of the arena")]
    pub fn seal(&mut self, cpu: &Cpu, layer: usize, from: &Self, from_layer: usize, pages: &[(u32, u32)]) {
        let (shape, source) = (self.shape(), from.shape());
        assert!(
            (source.format, shape.format) == (KvFormat::F16, KvFormat::Kivi2),
            "pages are sealed from F16 to Kivi2"
        );
        let heads = |shape: KvShape| (shape.kv_heads, shape.k_dim, shape.v_dim);
        assert!(heads(shape) == heads(source), "arenas of different heads");
        assert!(layer < shape.layers && from_layer < source.layers, "no such layer of the KV cache");
        let exist =
            |(there, here): &(u32, u32)| (*there as usize) < source.slots && (*here as usize) < shape.slots;
        assert!(pages.iter().all(exist), "no such page of the KV cache");
        let KvShape { kv_heads, k_dim, v_dim, .. } = shape;
        let (page, stride, source_page) = (shape.page_bytes(), self.slot_stride(), source.page_bytes());
        let memory = Shared(self.layer_mut(layer).as_mut_ptr());
        // A page of a head takes several µs.
        let grain = 2usize.div_ceil(pages.len().max(1));
        cpu.for_each_chunk(if pages.is_empty() { 0 } else { kv_heads }, grain, |range| {
            // Borrows the wrapper itself, not its field: the closure must capture the wrapper.
            let memory = &memory;
            for (head, (there, here)) in range.flat_map(|head| pages.iter().map(move |page| (head, *page))) {
                // SAFETY: the slot was checked and the head is one of the page's, so the range is inside the layer's
                // memory, which is borrowed for the call. Each head belongs to one thread, which writes one page after
                // another.
                let to = unsafe {
                    core::slice::from_raw_parts_mut(memory.0.add(here as usize * stride + head * page), page)
                };
                let from = &from.slot(from_layer, there)[head * source_page..][..source_page];
                cpu.kernels.seal(&mut SealPage { from, to, k_dim, v_dim, v_pad: shape.v_pad() });
            }
        });
    }
}
