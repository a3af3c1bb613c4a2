//! Pages of the newest tokens, where the pages before are converted to a narrower format once they are complete.

use crate::attention_kernels::{AttentionShape, PAGE};
use crate::shader::{KernelSpec, parts};

/// Lanes of a workgroup that converts a page.
const SEAL_LANES: u32 = 64;

/// Pages of the newest tokens of contexts, which are behind the sealed pages ([`KvLayout::KIVI2`](crate::KvLayout::KIVI2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecentPages {
    /// A row attends to the pages of this many tokens up to itself there. A multiple of [`PAGE`].
    pub tokens: usize,
    /// First word of their block tables.
    pub tables: usize,
    /// Slots of sealed pages before them.
    pub sealed_slots: usize,
}

impl RecentPages {
    /// The constants of a kernel that reads or writes them; zeros if there are none.
    pub fn constants(pages: Option<Self>, spec: KernelSpec) -> KernelSpec {
        let Self { tokens, tables, sealed_slots } =
            pages.unwrap_or(Self { tokens: 0, tables: 0, sealed_slots: 0 });
        spec.with("RECENT", tokens as u32)
            .with("RECENT_TABLES", tables as u32)
            .with("SEALED_SLOTS", sealed_slots as u32)
    }
}

impl AttentionShape {
    /// The kernel that seals the pages that rows of a wave complete, and its workgroups for the wave's first `rows` rows.
    /// `None` unless the layer's pages are sealed.
    ///
    /// Bindings: 0 wave, 4 block tables, 7 keys, 8 values.
    pub fn seal(&self, rows: usize) -> Option<(KernelSpec, [u32; 3])> {
        let pages = self.recent.filter(|_| self.kv.is_sealed())?;
        let spec = KernelSpec::new("kv_seal", [parts::WAVE, parts::KV_KIVI2_PAGE, parts::KV_KIVI2_SEAL])
            .with("KV_HEADS", self.kv_heads as u32)
            .with("KEY", self.key as u32)
            .with("VALUE", self.value as u32)
            .with("TABLES", self.tables as u32)
            .with("PAGE", PAGE as u32)
            .with("WG", SEAL_LANES);
        Some((RecentPages::constants(Some(pages), spec), [self.kv_heads as u32, rows as u32, 1]))
    }
}
