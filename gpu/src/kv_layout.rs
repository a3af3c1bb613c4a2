//! How keys and values are stored on a GPU: the shader parts of a format, and its sizes.
//!
//! A cache is `[slot][KV head]`, then a page. Plain formats store `[offset in the page][dimension]`, each pair of
//! elements by itself, so that any kernel that computes a pair stores it. Formats with blocks store codes, and behind
//! the page's codes an f16 scale for every 32 elements of a head. Their heads are rotated by a Hadamard matrix first,
//! because a few elements of a head are far larger than the others. A whole head has to be in one workgroup for both.

use crate::shader::{Part, parts};
use core::fmt;

/// Elements that share a scale.
const BLOCK: usize = 32;

/// A format of keys and values.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KvLayout {
    /// Name, as in the formats of weights.
    pub name: &'static str,
    /// Bits of an element, without scales.
    bits: usize,
    /// Bytes of an element in the workgroup memory of attention.
    staged: usize,
    /// True if blocks of elements have scales.
    blocks: bool,
    /// True if whole pages are converted to it, and the newest tokens are f16 behind them.
    sealed: bool,
    /// The parts that load eight elements.
    pub(crate) load: &'static [Part],
    /// The parts that store elements.
    store: &'static [Part],
}

impl fmt::Debug for KvLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl KvLayout {
    /// 32-bit floats.
    pub const F32: Self = Self::plain("F32", 32, &[parts::KV_F32], &[parts::KV_F32_STORE]);
    /// 16-bit floats (f16).
    pub const F16: Self = Self::plain("F16", 16, &[parts::KV_HALVES, parts::KV_F16], &[parts::KV_F16_STORE]);
    /// bfloat16.
    pub const BF16: Self =
        Self::plain("BF16", 16, &[parts::KV_HALVES, parts::KV_BF16], &[parts::KV_BF16_STORE]);
    /// Signed bytes, rotated, with an f16 scale for each block.
    pub const Q8_0: Self =
        Self::blocks("Q8_0", 8, &[parts::KV_BLOCKS, parts::KV_Q8_0], &[parts::KV_Q8_0_STORE]);
    /// Codes of 4 bits, rotated, with an f16 scale for each block.
    pub const Q4_0: Self =
        Self::blocks("Q4_0", 4, &[parts::KV_BLOCKS, parts::KV_Q4_0], &[parts::KV_Q4_0_STORE]);

    /// Codes of 2 bits with an f16 scale and an f16 minimum for each block. Pages are converted when they are complete;
    /// the pages of the newest tokens ([`RecentPages`](crate::RecentPages)) are behind them, as f16.
    pub const KIVI2: Self = Self {
        name: "KIVI2",
        bits: 2,
        staged: 2,
        blocks: false,
        sealed: true,
        load: &[parts::KV_KIVI2_PAGE, parts::KV_KIVI2, parts::KV_F16],
        store: &[parts::KV_KIVI2_PAGE, parts::KV_KIVI2_STORE],
    };

    /// All formats that tokens are stored in one by one.
    pub const ALL: [Self; 5] = [Self::F32, Self::F16, Self::BF16, Self::Q8_0, Self::Q4_0];

    const fn plain(name: &'static str, bits: usize, load: &'static [Part], store: &'static [Part]) -> Self {
        Self { name, bits, staged: bits / 8, blocks: false, sealed: false, load, store }
    }

    const fn blocks(name: &'static str, bits: usize, load: &'static [Part], store: &'static [Part]) -> Self {
        // Eight codes and their scale are one vector of workgroup memory.
        Self { name, bits, staged: 2, blocks: true, sealed: false, load, store }
    }

    /// Returns true if whole pages are converted to this format.
    pub const fn is_sealed(&self) -> bool {
        self.sealed
    }

    /// Bytes of one head's key or value of `dim` elements, a multiple of 8. Scales are a whole number of words. If pages are
    /// sealed, of a token of a sealed page on average.
    pub const fn head_bytes(&self, dim: usize) -> usize {
        if self.sealed {
            return 4 * (dim.div_ceil(16) + dim.div_ceil(BLOCK));
        }
        let scales = if self.blocks { 4 * dim.div_ceil(2 * BLOCK) } else { 0 };
        dim * self.bits / 8 + scales
    }

    /// Returns true if heads of `dim` elements are stored rotated.
    pub const fn rotates(&self, dim: usize) -> bool {
        self.blocks && dim.is_multiple_of(16)
    }

    /// Bytes of `elements` elements in the workgroup memory of attention.
    pub(crate) const fn staged_bytes(&self, elements: usize) -> usize {
        elements * self.staged
    }

    /// The parts that define `store_pair`, with which a kernel stores pairs of elements. `None` if only `rope_heads`
    /// can store this format.
    pub fn pairs(&self) -> Option<Vec<Part>> {
        (!self.blocks).then(|| self.storing(&[parts::ROPE_PAIRS]))
    }

    /// The parts with which `rope_heads` stores heads.
    pub fn heads(&self) -> Vec<Part> {
        match self.blocks {
            false => self.storing(&[parts::ROPE_PAIRS, parts::HEADS_PAIRS]),
            true => self.storing(&[parts::HADAMARD, parts::HEADS_BLOCKS]),
        }
    }

    fn storing(&self, others: &[Part]) -> Vec<Part> {
        self.store.iter().chain(others).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_what_the_format_says() {
        let bits = |layout: KvLayout| layout.head_bytes(128) as f64 * 8.0 / 128.0;
        assert_eq!(KvLayout::ALL.map(bits), [32.0, 16.0, 16.0, 8.5, 4.5]);
        // Three scales take two words.
        assert_eq!(KvLayout::Q8_0.head_bytes(96), 96 + 8);
        assert_eq!(KvLayout::Q4_0.head_bytes(40), 20 + 4);
    }
}
