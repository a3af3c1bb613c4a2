//! The words that describe a wave to kernels. `wave.wgsl` reads this layout.

/// Words before the lists.
const HEADER: usize = 16;
/// Number of lists. The words of one index are adjacent, so that a wave of few rows takes few words.
const LISTS: usize = 10;

/// Largest number of classes of layers, each with pages of its own.
pub const KV_CLASSES: usize = 4;

/// Flag in a token's word: the id is on the device, in `sampled`, at the index in the lower bits.
pub use weft_components::DEVICE_TOKEN;

/// Positions of the counts in the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Count {
    /// Rows of the wave.
    Rows = 0,
    /// Rows whose logits are computed.
    LogitRows = 1,
}

/// Bytes of the buffer for waves of up to `max_rows`.
pub const fn wave_bytes(max_rows: usize) -> u64 {
    4 * (HEADER + LISTS * max_rows) as u64
}

/// The rows of a wave.
#[derive(Clone, Copy, Debug, Default)]
pub struct WaveData<'a> {
    /// Token of each row, or [`DEVICE_TOKEN`] with an index.
    pub tokens: &'a [u32],
    /// Position of each row.
    pub positions: &'a [u32],
    /// Slot of each row in the KV cache: page slot times page length plus offset. For each class of layers; empty for a
    /// class that the model does not have.
    pub kv: [&'a [u32]; KV_CLASSES],
    /// Start of each row's block table among those of a class.
    pub tables: &'a [u32],
    /// Rows whose logits are computed.
    pub logit_rows: &'a [u32],
    /// Tiles of neighbouring rows of one session: first row times 256 plus count.
    pub tiles: &'a [u32],
    /// Last position that each row attends to; if empty, each row's own position.
    pub seen: &'a [u32],
    /// Number of splits of each row's context.
    pub splits: u32,
}

impl WaveData<'_> {
    /// Writes the wave into `words`, which is reused and keeps its memory.
    pub fn encode(&self, words: &mut Vec<u32>) {
        let seen = if self.seen.is_empty() { self.positions } else { self.seen };
        let lists: [_; LISTS] = [
            self.tokens,
            self.positions,
            self.kv[0],
            self.tables,
            self.logit_rows,
            self.tiles,
            seen,
            self.kv[1],
            self.kv[2],
            self.kv[3],
        ];
        let longest = lists.iter().map(|list| list.len()).max().unwrap_or(0);
        words.clear();
        words.resize(HEADER + LISTS * longest, 0);
        words[Count::Rows as usize] = self.tokens.len() as u32;
        words[Count::LogitRows as usize] = self.logit_rows.len() as u32;
        words[2] = self.splits;
        words[3] = self.tiles.len() as u32;
        for (n, list) in lists.into_iter().enumerate() {
            for (word, value) in words[HEADER..].iter_mut().skip(n).step_by(LISTS).zip(list) {
                *word = *value;
            }
        }
    }
}
